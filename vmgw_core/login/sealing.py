"""Sealed texts: what a cookie holds, encrypted and authenticated (AES-256-GCM, NIST SP 800-38D).

Rules of this file:

- Each key of ``-login.cookieKeyFile`` gives one AES key for each purpose (HKDF, RFC 5869), so that a text that was
  sealed for one purpose cannot be opened for another.
- The first key seals, and all open: a new key goes to the top, and an old one stays for as long as its cookies should.
- The caller gives the nonce: 12 random bytes, never the same twice.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from enum import Enum
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vmgw_core.errors import ConfigurationError

NONCE_BYTES: Final = 12
MAX_KEYS: Final = 8
"""A cookie that no key opens costs an attempt with each."""

_FLAG: Final = "-login.cookieKeyFile"
_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
_TO_URL_ALPHABET: Final = str.maketrans("+/", "-_")


class Purpose(Enum):
    """What a sealed text is for; the value is bound to it."""

    SESSION = b"vmgateway session 1"
    LOGIN = b"vmgateway login 1"


class CookieKeys:
    """The keys that seal cookies, in the order of the file. The repr shows none."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {purpose: [_cipher(key, purpose) for key in keys] for purpose in Purpose}

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read the keys of a file: one a line, base64 of at least 32 bytes. Empty lines and those with # are skipped.

        Raises ``ConfigurationError``, which names the line but shows nothing of it.
        """
        keys = []
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.strip()
            if not line or line.startswith(b"#"):
                continue
            try:
                encoded = line.decode("ascii").translate(_TO_URL_ALPHABET).rstrip("=")
                key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars="-_", validate=True)
            except (binascii.Error, ValueError):
                raise ConfigurationError(f"{_FLAG}: line {number} is not base64") from None
            if len(key) < _KEY_BYTES:
                raise ConfigurationError(
                    f"{_FLAG}: the key in line {number} has {len(key)} bytes, but needs at least {_KEY_BYTES}"
                )
            keys.append(key)
        if not keys:
            raise ConfigurationError(f"{_FLAG}: the file has no key; openssl rand -base64 32 makes one")
        if len(keys) > MAX_KEYS:
            raise ConfigurationError(f"{_FLAG}: the file has more than {MAX_KEYS} keys")
        return cls(keys)

    def seal(self, purpose: Purpose, content: bytes, nonce: bytes) -> str:
        """Return ``content`` encrypted with the first key, as base64url."""
        sealed = nonce + self._ciphers[purpose][0].encrypt(nonce, content, purpose.value)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, purpose: Purpose, text: str) -> bytes | None:
        """Return the content of a sealed text; None if no key has sealed exactly this text for this purpose."""
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        nonce, content = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        if len(nonce) < NONCE_BYTES:
            return None
        for cipher in self._ciphers[purpose]:
            try:
                return cipher.decrypt(nonce, content, purpose.value)
            except InvalidTag:
                continue
        return None


def sealed_length(content: bytes) -> int:
    """Return the number of characters of ``content`` when it is sealed."""
    return -(-(NONCE_BYTES + len(content) + _TAG_BYTES) * 4 // 3)


def _cipher(key: bytes, purpose: Purpose) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.value).derive(key))
