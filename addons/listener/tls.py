"""TLS of the listener: ``-tls*`` and ``-mtls*``. Certificates are read again when their files change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mitmproxy import version

from vmgw_addons.outgoing import describe
from vmgw_addons.state import Reloads
from vmgw_addons.support import Outages, certificate_end, file_version
from vmgw_core.base import quoted
from vmgw_core.configuration import Settings
from vmgw_core.errors import Cause, ConfigurationError

logger = logging.getLogger(__name__)

_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}

# Go's names (https://pkg.go.dev/crypto/tls#pkg-constants) of the suites, and OpenSSL's.
_CIPHERS: Final = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
}
# TLS 1.3 suites are always on, in Go and in OpenSSL.
_ALWAYS_ON: Final = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))


class ListenerTLS:
    """The TLS context of the listener.

    Raises:
        ConfigurationError: a file or the value of a flag cannot be used.
    """

    def __init__(self, settings: Settings, reloads: Reloads | None = None, outages: Outages | None = None) -> None:
        self._reloads = reloads or Reloads()
        outages = outages or Outages()
        self._outage = outages.of("-tlsCertFile", logger, "the old certificate stays in use")
        self._expiry = outages.of("-tlsCertFile expiry", logger, "clients refuse it")
        self.ends: float | None = None
        """When the certificate expires, in Unix time."""
        self._certificate = _file("tlsCertFile", settings.tls_cert_file)
        self._key = _file("tlsKeyFile", settings.tls_key_file)
        if not self._certificate or not self._key:
            raise ConfigurationError("-tls needs -tlsCertFile and -tlsKeyFile")
        self._authorities = _authorities(settings)
        self._settings = settings
        self._read = self._versions()
        self.context = self._load()
        self._reloads.read()

    def refresh(self) -> None:
        """Read the files again if one has changed. Keep the old context if one cannot be used.

        Safe in a thread: the context is replaced, never changed.
        """
        versions = self._versions()
        if versions == self._read:
            return
        self._read = versions
        try:
            self.context = self._load()
        except ConfigurationError as error:
            self._reloads.failed()
            self._outage.failed(f"cannot reload the certificate: {error}", Cause.FILE)
        else:
            self._reloads.succeeded()
            self._outage.succeeded("the certificate can be read again")
            logger.info(f"reloaded the certificate: {self._certificate}")

    def check_expiry(self, now: float) -> None:
        """Log that the certificate has expired. ``now`` is the Unix time."""
        if self.ends is not None and self.ends <= now:
            at = datetime.fromtimestamp(self.ends, UTC).isoformat(timespec="seconds")
            self._expiry.failed(f"the certificate has expired at {at}: {self._certificate}", Cause.CERTIFICATE)
        elif self._expiry.reason is not None:
            self._expiry.succeeded("the certificate is valid again")

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _minimum(self._settings.tls_min_version)
        _choose_ciphers(context, self._settings.tls_cipher_suites)
        _load(context, self._certificate, self._key)
        self.ends = certificate_end(self._certificate)
        if self._authorities:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self._authorities)
            except OSError as error:  # ssl.SSLError is one too
                raise ConfigurationError(f"-mtlsCAFile: cannot use {self._authorities}: {describe(error)}") from None
        # By default HTTP/1.1 alone, as VictoriaMetrics does: HTTP/2 has no benefit here and a high cost.
        context.set_alpn_protocols(["h2", "http/1.1"] if _http2(self._settings) else ["http/1.1"])
        return context

    def _versions(self) -> list[object]:
        return [file_version(path) for path in (self._certificate, self._key, self._authorities) if path]


def _file(flag: str, path: str) -> str:
    if path and not Path(path).is_file():
        raise ConfigurationError(f"-{flag}: no such file: {path}")
    return path


def _authorities(settings: Settings) -> str:
    path = _file("mtlsCAFile", settings.mtls_ca_file)
    if settings.mtls and not path:
        raise ConfigurationError("-mtls needs -mtlsCAFile: the authorities that sign clients' certificates")
    return path if settings.mtls else ""


def _minimum(name: str) -> ssl.TLSVersion:
    if name and name.upper() not in _VERSIONS:
        raise ConfigurationError(f"-tlsMinVersion: expected one of {', '.join(_VERSIONS)}, got {quoted(name)}")
    return _VERSIONS[name.upper()] if name else ssl.TLSVersion.TLSv1_2


def _choose_ciphers(context: ssl.SSLContext, names: Iterable[str]) -> None:
    chosen = []
    for name in names:
        if name.upper() in _ALWAYS_ON:
            continue
        if name.upper() not in _CIPHERS:
            raise ConfigurationError(f"-tlsCipherSuites: no such cipher suite: {quoted(name)}")
        chosen.append(_CIPHERS[name.upper()])
    if chosen:
        try:
            context.set_ciphers(":".join(chosen))
        except ssl.SSLError:
            raise ConfigurationError("-tlsCipherSuites: this OpenSSL supports none of them") from None


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            f"-tlsCertFile, -tlsKeyFile: cannot use {certificate}, {key}: {describe(error)}"
        ) from None


def _http2(settings: Settings) -> bool:
    if settings.http_enable_http2 and int(version.VERSION.partition(".")[0]) < 12:
        raise ConfigurationError("-http.enableHTTP2 needs mitmproxy 12, which needs Python 3.12")
    return settings.http_enable_http2
