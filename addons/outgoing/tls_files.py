"""TLS to a server, as the ``-<side>.tls*`` flags set it."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from urllib3.exceptions import InsecureRequestWarning

from vmgw_addons.support import file_version
from vmgw_core.configuration import ClientTLS
from vmgw_core.errors import ConfigurationError

from .errors import describe


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The files of ``-<side>.tls*``; by default those of a server without such flags."""

    flags: ClientTLS = field(default_factory=ClientTLS)

    def stamp(self) -> tuple[object, ...]:
        """Return a value that changes when one of the files does."""
        return tuple(map(file_version, filter(None, (self.flags.ca_file, self.flags.cert_file, self.flags.key_file))))

    def described(self) -> str:
        """Return which flags set what: a hint for a certificate that one of the two sides refuses."""
        files, side = self.flags, self.flags.side
        trusted = f"-{side}.tlsCAFile {files.ca_file}" if files.ca_file else f"the system's, without -{side}.tlsCAFile"
        parts = [f"authorities: {trusted}"]
        if files.server_name:
            parts.append(f"name: -{side}.tlsServerName {files.server_name}")
        shown = f"-{side}.tlsCertFile {files.cert_file}" if files.cert_file else f"none, without -{side}.tlsCertFile"
        return "; ".join([*parts, f"client certificate: {shown}"])

    def context(self, *variables: str) -> ssl.SSLContext:
        """Build the context.

        Args:
            variables: the environment variables that may name other authorities than the system's.

        Raises:
            ConfigurationError: a file cannot be used.
        """
        files = self.flags
        certificate, key = f"-{files.side}.tlsCertFile", f"-{files.side}.tlsKeyFile"
        if bool(files.cert_file) != bool(files.key_file):
            raise ConfigurationError(f"{certificate} and {key}: set both or none")
        flag, authorities, kind = f"-{files.side}.tlsCAFile", files.ca_file, "cafile"
        if not authorities:
            flag = next(filter(os.environ.get, variables), flag)
            authorities = os.environ.get(flag, "")
            kind = "capath" if authorities and Path(authorities).is_dir() else "cafile"
        path = authorities
        try:
            context = ssl.create_default_context(**{kind: path or None})  # type: ignore[arg-type]
            if files.cert_file:
                for flag, path in ((certificate, files.cert_file), (key, files.key_file)):  # noqa: B007
                    Path(path).open("rb").close()  # OpenSSL does not say which of the two it cannot open
                flag, path = f"{certificate}, {key}", f"{files.cert_file}, {files.key_file}"
                context.load_cert_chain(files.cert_file, files.key_file)
        except ssl.SSLError as error:
            raise ConfigurationError(f"{flag}: cannot use {path}: {describe(error)}") from None
        except OSError as error:
            raise ConfigurationError(f"{flag}: cannot read {path}: {error.strerror}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.flags.insecure_skip_verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # it was asked for
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
