"""A backend: one VictoriaMetrics address, with its base path and credentials."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from vmgw_core.errors import ConfigurationError

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A VictoriaMetrics address from ``-read.url`` or ``-write.url``.

    ``base`` is the URL's path without a trailing slash; ``authorization`` the value of the header that its
    credentials become (RFC 7617), which no repr shows.
    """

    flag: str
    scheme: str
    host: str
    port: int
    base: str
    authorization: bytes | None = field(repr=False)
    address: tuple[str, int] = field(init=False, repr=False, compare=False)
    """Host and port."""
    host_header: str = field(init=False, repr=False, compare=False)
    """The value of ``Host`` (RFC 9110, section 7.2): without the port if it is the default of the scheme."""

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        named = host if _DEFAULT_PORTS[self.scheme] == self.port else f"{host}:{self.port}"
        object.__setattr__(self, "address", (self.host, self.port))
        object.__setattr__(self, "host_header", named)

    @classmethod
    def parse(cls, url: str, flag: str) -> Backend:
        """Read an http or https URL.

        Raises ``ConfigurationError`` if the URL is malformed, or has a query or a fragment. The message does not show
        the URL, which may hold a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"-{flag}: the URL cannot be read; expected http://host:port") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == 0:
            raise ConfigurationError(f"-{flag}: expected a URL such as http://host:8428")
        if parts.query or parts.fragment or any(ord(char) <= 0x20 or ord(char) >= 0x7F for char in url):
            raise ConfigurationError(f"-{flag}: the URL must be ASCII, without a query, a fragment or a blank")
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = b"Basic " + b64encode(pair.encode())
        return cls(
            flag=flag,
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[parts.scheme],
            base=parts.path.rstrip("/"),
            authorization=authorization,
        )

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.base}"
