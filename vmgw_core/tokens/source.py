"""Where a client puts its token: in one of several headers, in one of several schemes, or in the cookie of a login.

``Bearer`` (RFC 6750, section 2.1), ``Token`` (InfluxDB's clients), and ``Basic`` (RFC 7617) with the token as password,
for clients that have nothing else. A cookie is looked at only if the request has none of the headers: whoever sends a
token of their own means that one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from vmgw_core.errors import BadRequest, MalformedToken, MissingToken
from vmgw_core.http import Headers

_SCHEMES: Final = ("bearer", "token")
_BASIC: Final = "basic"
_KEY_START: Final = "vmgw_"
_API_KEY: Final = re.compile(_KEY_START + r"[A-Za-z0-9_-]{43}", re.ASCII)
_KEY_IN_TEXT: Final = re.compile(_KEY_START + r"[A-Za-z0-9_-]{43,}+", re.ASCII)


class BasicCredentials(NamedTuple):
    """A user and a password (RFC 7617) that are no token."""

    user: bytes
    password: bytes


def is_api_key(text: str) -> bool:
    """Return whether ``text`` has the form of an API key: the prefix, and 32 bytes in base64url. No token has it."""
    return _API_KEY.fullmatch(text) is not None


def without_api_keys(text: str, marker: str) -> str:
    """Return ``text`` with ``marker`` in place of each API key that is in it."""
    return _KEY_IN_TEXT.sub(marker, text) if _KEY_START in text else text


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """The headers that may hold a token."""

    headers: tuple[bytes, ...] = (b"authorization",)
    """Their names in lower case."""
    allow_without_prefix: bool = False
    """Whether a value without a scheme is a token (``-auth.httpHeaderAllowWithoutPrefix``)."""
    basic_user: str | None = None
    """The user name that Basic credentials must have; None: any."""
    session: Callable[[Headers], str | None] | None = None
    """Returns the token of the login that a request's cookies hold; None without logins."""

    machines: bool = False
    """Whether API keys and Basic users are accepted (``-auth.credentialsFile``)."""

    def may_be_cookie(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether the token, if there is one, is in a cookie, which a browser sends whoever asks for the request."""
        return self.session is not None and not any(name.lower() in self.headers for name, _ in headers)

    def in_header(self, headers: Headers) -> Headers:
        """Return the headers with the token of a login as a bearer token, in place of all cookies."""
        if self.session is None or not self.may_be_cookie(headers) or (token := self.session(headers)) is None:
            return headers
        kept = tuple(field for field in headers if field[0].lower() != b"cookie")
        return (*kept, (self.headers[0], b"Bearer " + token.encode("latin-1")))

    def find(self, headers: Sequence[tuple[bytes, bytes]]) -> str | BasicCredentials:
        """Return the token or API key, or the Basic credentials of a user, in the headers of a request.

        Raises:
            MissingToken: there is none.
            MalformedToken: one header has several values: the gateway and a proxy before it might read different ones.
            BadRequest: two headers hold different tokens.
        """
        if self.session is not None and self.may_be_cookie(headers):
            if (token := self.session(tuple(headers))) is None:
                raise MissingToken("missing token")
            return token
        values: dict[bytes, list[str]] = {}
        for name, value in headers:
            if name.lower() in self.headers:
                values.setdefault(name.lower(), []).append(value.decode("latin-1"))
        missing = MissingToken("missing token")
        tokens: list[str | BasicCredentials] = []
        for name in self.headers:
            try:
                tokens.append(self._read(values.get(name, ())))
            except MissingToken as error:
                if name in values and values[name][0].strip(" \t"):
                    missing = error
        if not tokens:
            raise missing
        if len(set(tokens)) > 1:
            raise BadRequest("the request has different tokens in two headers")
        return tokens[0]

    def has_none(self, headers: Headers) -> bool:
        """Return whether none of the headers that may hold a token has a value, and no cookie holds a login."""
        if self.session is not None and self.session(headers) is not None:
            return False
        return not any(name.lower() in self.headers and value.strip() for name, value in headers)

    def _read(self, values: Sequence[str]) -> str | BasicCredentials:
        """Return the token in the values of one header. Raises ``MissingToken`` and ``MalformedToken``."""
        if len(values) > 1:
            raise MalformedToken("the request has more than one header with a token")
        value = values[0].strip(" \t") if values else ""
        scheme, space, rest = value.partition(" ")
        rest = rest.strip(" \t")
        if space and scheme.lower() in _SCHEMES:
            return rest
        if not value or scheme.lower() in _SCHEMES:
            raise MissingToken("missing token")
        if scheme.lower() == _BASIC and (token := self._password(rest)) is not None:
            return token
        if scheme.lower() == _BASIC and (user := self._user(rest)) is not None:
            return user
        if self.machines and is_api_key(value):
            return value
        if not self.allow_without_prefix or space:
            raise MissingToken("missing `Bearer ` prefix of the token")
        return value

    def _user(self, credentials: str) -> BasicCredentials | None:
        """Return Basic credentials whose password cannot be a token, if there are users."""
        try:
            user, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return None
        found = self.machines and colon and password.count(b".") != 2
        return BasicCredentials(user, password) if found else None

    def _password(self, credentials: str) -> str | None:
        """Return the password of Basic credentials if it can be a token of the right user."""
        try:
            user, colon, password = base64.b64decode(credentials, validate=True).decode("latin-1").partition(":")
        except (binascii.Error, ValueError):
            return None
        if not colon or password.count(".") != 2 or self.basic_user not in (None, user):
            return None
        return password


def as_bearer(value: bytes) -> bytes:
    """Return a header's value with the token of Basic credentials after ``Bearer``; any other as it is."""
    scheme, _, rest = value.decode("latin-1").strip(" \t").partition(" ")
    token = TokenSource()._password(rest.strip(" \t")) if scheme.lower() == _BASIC else None
    return value if token is None else b"Bearer " + token.encode("latin-1")
