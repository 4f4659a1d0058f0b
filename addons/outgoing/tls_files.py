"""The flags ``-<side>.tls*``: how the gateway speaks TLS to a server."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from urllib3.exceptions import InsecureRequestWarning

from vmgw_core.configuration import ClientTLS
from vmgw_core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The files that ``-<side>.tls*`` name; without a side, those of a server that has no such flags."""

    flags: ClientTLS = field(default_factory=ClientTLS)

    def stamp(self) -> tuple[object, ...]:
        """A value that changes when one of the files does."""
        return tuple(_stamp(path) for path in (self.flags.ca_file, self.flags.cert_file, self.flags.key_file) if path)

    def context(self, *variables: str) -> ssl.SSLContext:
        """The context they make.

        Args:
            variables: of the environment, that may name other authorities than the system's.

        Raises:
            ConfigurationError: a file cannot be used.
        """
        side = self.flags.side
        if bool(self.flags.cert_file) != bool(self.flags.key_file):
            raise ConfigurationError(f"-{side}.tlsCertFile and -{side}.tlsKeyFile: set both or none")
        flag, path = f"-{side}.tlsCAFile", self.flags.ca_file
        if not path and (flag := next(filter(os.environ.get, variables), "")):
            path = os.environ[flag]
        try:
            if path and Path(path).is_dir():
                context = ssl.create_default_context(capath=path)
            else:
                context = ssl.create_default_context(cafile=path or None)
            flag, path = f"-{side}.tlsCertFile", self.flags.cert_file
            if self.flags.cert_file:
                context.load_cert_chain(self.flags.cert_file, self.flags.key_file)
        except ssl.SSLError:
            raise ConfigurationError(f"{flag}: not a usable PEM file: {path}") from None
        except OSError as error:
            raise ConfigurationError(f"{flag}: cannot read {path}: {error.strerror}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.flags.insecure_skip_verify:
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
