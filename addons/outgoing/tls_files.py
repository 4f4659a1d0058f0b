"""The flags ``-<prefix>.tls*``: how the gateway speaks TLS to a server."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.exceptions import InsecureRequestWarning

from vmgw_core.errors import ConfigurationError

from .errors import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSFiles:
    """The five TLS settings of ``-<prefix>.tls*``; without a prefix, those of a server that has no such flags."""

    prefix: str = ""
    authorities: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    verify: bool = True

    @classmethod
    def of(cls, settings: Mapping[str, object], prefix: str) -> TLSFiles:
        """Those of ``-<prefix>.tls*``."""
        return cls(
            prefix=prefix,
            authorities=str(settings[f"{prefix}.tlsCAFile"]),
            certificate=str(settings[f"{prefix}.tlsCertFile"]),
            key=str(settings[f"{prefix}.tlsKeyFile"]),
            server_name=str(settings[f"{prefix}.tlsServerName"]),
            verify=not settings[f"{prefix}.tlsInsecureSkipVerify"],
        )

    def stamp(self) -> tuple[object, ...]:
        """A value that changes when one of the files does."""
        return tuple(_stamp(path) for path in (self.authorities, self.certificate, self.key) if path)

    def context(self, *variables: str) -> ssl.SSLContext:
        """The context they make.

        Args:
            variables: of the environment, that may name other authorities than the system's.

        Raises:
            ConfigurationError: a file cannot be used.
        """
        certificate, key = f"-{self.prefix}.tlsCertFile", f"-{self.prefix}.tlsKeyFile"
        if bool(self.certificate) != bool(self.key):
            raise ConfigurationError(f"{certificate} and {key}: set both or none")
        flag, authorities, kind = f"-{self.prefix}.tlsCAFile", self.authorities, "cafile"
        if not authorities:
            flag = next(filter(os.environ.get, variables), flag)
            authorities = os.environ.get(flag, "")
            kind = "capath" if authorities and Path(authorities).is_dir() else "cafile"
        path = authorities
        try:
            context = ssl.create_default_context(**{kind: path or None})  # type: ignore[arg-type]
            if self.certificate:
                for flag, path in ((certificate, self.certificate), (key, self.key)):  # noqa: B007
                    Path(path).open("rb").close()  # OpenSSL does not say which of the two it cannot open
                flag, path = f"{certificate}, {key}", f"{self.certificate}, {self.key}"
                context.load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            raise ConfigurationError(f"{flag}: cannot use {path}: {describe(error)}") from None
        except OSError as error:
            raise ConfigurationError(f"{flag}: cannot read {path}: {error.strerror}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # it was asked for
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _stamp(path: str) -> object:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
