"""Hashes of passwords: scrypt (RFC 7914) in the PHC format, as in ``$scrypt$ln=15,r=8,p=1$salt$hash``.

https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final, Self

MAX_PASSWORD: Final = 1024
"""Bytes of the longest password."""

_LOG_N: Final = 15  # 32 MiB, and some 0.1 s
_BLOCK: Final = 8
_SIZE: Final = 32
_LEAST_SALT: Final = 16
_PHC: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{2}),r=8,p=([1-8])\$([A-Za-z0-9+/]{22,86})\$([A-Za-z0-9+/]{43})", re.ASCII
)
_EXPECTED: Final = "expected a line of vmgateway credentials hash, such as $scrypt$ln=15,r=8,p=1$...$..."


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordHash:
    """The hash of a password, and what it costs to compute: ``2 ** log_n`` times ``p`` blocks."""

    log_n: int
    p: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the PHC format. Raises ``ValueError``, without any part of the hash."""
        found = _PHC.fullmatch(text)
        if found is None or not 14 <= int(found[1]) <= 17:
            raise ValueError(_EXPECTED)
        salt, digest = _decoded(found[3]), _decoded(found[4])
        return cls(log_n=int(found[1]), p=int(found[2]), salt=salt, digest=digest)

    @classmethod
    def of(cls, password: bytes, salt: bytes) -> Self:
        """Hash ``password``. Raises ``ValueError`` if the gateway would not accept it."""
        check_password(password)
        if len(salt) < _LEAST_SALT:
            raise ValueError(f"the salt must have {_LEAST_SALT} bytes or more")
        return cls(log_n=_LOG_N, p=1, salt=salt, digest=_scrypt(password, salt, _LOG_N, 1))

    @property
    def cost(self) -> tuple[int, int]:
        return self.log_n, self.p

    def decoy(self, seed: bytes) -> PasswordHash:
        """Return a hash of the same cost that no password has."""
        return PasswordHash(log_n=self.log_n, p=self.p, salt=seed[:_SIZE], digest=b"")

    def matches(self, password: bytes) -> bool:
        """Compute the hash of ``password``, and compare in constant time. Takes 0.1 seconds or more."""
        return hmac.compare_digest(_scrypt(password, self.salt, self.log_n, self.p), self.digest)

    def __str__(self) -> str:
        return f"$scrypt$ln={self.log_n},r={_BLOCK},p={self.p}${_encoded(self.salt)}${_encoded(self.digest)}"


def check_password(password: bytes) -> None:
    """Raise ``ValueError`` if ``password`` cannot be one of Basic credentials (RFC 7617, section 2)."""
    if not 0 < len(password) <= MAX_PASSWORD:
        raise ValueError(f"a password must have 1 to {MAX_PASSWORD} bytes")
    try:
        text = password.decode()
    except UnicodeDecodeError:
        raise ValueError("a password must be UTF-8") from None
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise ValueError("a password must not have control characters")
    if text.count(".") == 2:
        raise ValueError("a password must not have exactly two dots: the gateway would take it for a token")


def _scrypt(password: bytes, salt: bytes, log_n: int, p: int) -> bytes:
    memory = 128 * _BLOCK * ((1 << log_n) + p + 2)
    return hashlib.scrypt(password, salt=salt, n=1 << log_n, r=_BLOCK, p=p, maxmem=memory, dklen=_SIZE)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))
