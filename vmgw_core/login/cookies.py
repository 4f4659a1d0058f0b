"""Cookies: the Cookie header as this gateway reads it, and Set-Cookie (RFC 6265).

Browsers keep at most 4,096 bytes of a cookie, so a longer text is split into pieces: ``NAME.0`` begins with the number
of pieces, and ``NAME.1`` and so on follow. Anything odd (a piece that is missing or there twice) makes the whole text
unreadable, never a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vmgw_core.http import Headers

PIECE_BYTES: Final = 3800
"""Characters of one cookie's value."""
MAX_PIECES: Final = 5
MAX_LENGTH: Final = MAX_PIECES * PIECE_BYTES
"""Characters of a text that is split."""

_COOKIE: Final = b"cookie"


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieStyle:
    """How this gateway's cookies are named and set.

    ``secure``: only over TLS, and with the prefix ``__Host-``, by which browsers take a cookie from this very host
    alone, not from a neighbour (RFC 6265bis, section 4.1.3.2).
    """

    secure: bool

    @property
    def prefix(self) -> str:
        return "__Host-vmgateway-" if self.secure else "vmgateway-"

    @property
    def session(self) -> str:
        return f"{self.prefix}session"

    def set(self, name: str, value: str, *, seconds: int | None = None) -> tuple[bytes, bytes]:
        """Return the header that sets a cookie, for this run of the browser or for so many seconds."""
        age = "" if seconds is None else f"; Max-Age={seconds}"
        secure = "; Secure" if self.secure else ""
        return b"Set-Cookie", f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}".encode("ascii")

    def drop(self, names: Sequence[str]) -> Headers:
        """Return the headers that remove cookies."""
        return tuple(self.set(name, "", seconds=0) for name in names)

    def read(self, headers: Headers) -> dict[str, list[str]]:
        """Return all values of this gateway's cookies, by name. HTTP/2 may split them over several headers."""
        found: dict[str, list[str]] = {}
        for name, value in _pairs(headers):
            if name.startswith(self.prefix):
                found.setdefault(name, []).append(value)
        return found


def _pairs(headers: Headers) -> Iterator[tuple[str, str]]:
    for header, text in headers:
        if header.lower() == _COOKIE:
            for pair in text.decode("latin-1").split(";"):
                name, equals, value = pair.strip(" \t").partition("=")
                if equals:
                    yield name, value


def names_of_pieces(name: str) -> list[str]:
    """Return the names that the cookies of a text may have."""
    return [f"{name}.{number}" for number in range(MAX_PIECES)]


def split(name: str, text: str) -> list[tuple[str, str]]:
    """Return the cookies that hold ``text``, which has at most ``MAX_LENGTH`` characters."""
    pieces = [text[start : start + PIECE_BYTES] for start in range(0, len(text), PIECE_BYTES)] or [""]
    assert len(pieces) <= MAX_PIECES
    pieces[0] = f"{len(pieces)}.{pieces[0]}"
    return [(f"{name}.{number}", piece) for number, piece in enumerate(pieces)]


def join(name: str, cookies: Mapping[str, Sequence[str]]) -> str | None:
    """Return the text that :func:`split` made the cookies of; None if they are not exactly its pieces."""
    first = cookies.get(f"{name}.0", ())
    count, dot, _ = (first[0] if len(first) == 1 else "").partition(".")
    if not dot or count not in [str(number) for number in range(1, MAX_PIECES + 1)]:
        return None
    found = [cookies.get(f"{name}.{number}", ()) for number in range(int(count))]
    if any(len(values) != 1 or len(values[0]) > PIECE_BYTES + 2 for values in found):
        return None
    return "".join(values[0] for values in found)[len(count) + 1 :]
