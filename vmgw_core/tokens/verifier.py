"""Verification of tokens: parse, verify the signature, read the claims (RFC 7519, section 4), check the times.

A token with a good signature is cached by its whole text; its times are checked on every use.

https://www.rfc-editor.org/rfc/rfc7519 and the specification, "Access Control" and "JWT signature verification".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from vmgw_core.base import OBJECT_BYTES, BoundedCache, text_bytes
from vmgw_core.base.strict_json import FieldError, as_list, as_number, as_text, child, optional, required
from vmgw_core.errors import InvalidClaims, TokenExpired, TokenNotYetValid, TokenRefused

from .grants import Grants
from .keys import KeySet, VerificationKey
from .rules import NO_RULES, TokenRules
from .signature import CompactJWS, parse_compact, verify

DEFAULT_CACHE_BYTES: Final = 32 << 20

_TOKEN_BYTES: Final = 120
"""The memory of a ``Token`` without its claim and its texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token with a good signature and good claims. Its times are checked on every use.

    It holds only what decisions need, since many are cached.
    """

    grants: Grants
    expires_at: int | float
    """``exp`` with the leeway, Unix seconds of any size: conversion to a date may fail."""
    not_before: int | float | None
    """``nbf`` with the leeway, Unix seconds."""
    subject: str | None
    """``sub``, also a number, as text."""
    issuer: str | None
    key: VerificationKey | None
    """The key that verified it; ``None`` if signatures are not verified."""
    credential: str | None = None
    """``key`` or ``user`` if it stands for a credential of ``-auth.credentialsFile``, ``certificate`` for one of
    ``-auth.mtlsClaims``; then ``subject`` is its name."""


def _size(text: str, token: Token) -> int:
    """Return the approximate memory of a cached token."""
    times = token.expires_at.__sizeof__() + token.not_before.__sizeof__() + 2 * OBJECT_BYTES
    return _TOKEN_BYTES + text_bytes(text, token.subject, token.issuer) + times + token.grants.memory


class TokenVerifier:
    """Verifies tokens and caches verified ones.

    ``keys=None``: no keys are configured and signatures are not verified, as in the specification's quick start. With
    an empty ``KeySet`` keys are expected, and no token is valid yet.
    """

    def __init__(
        self, keys: KeySet | None, *, rules: TokenRules = NO_RULES, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        self.rules = rules
        self.keys = keys
        # Tokens outside their times first, then the least recently used.
        self._cache: BoundedCache[str, Token] = BoundedCache(cache_bytes, _size)
        self._get, self._touch = self._cache.get, self._cache.touch

    @property
    def cached(self) -> int:
        return len(self._cache)

    @property
    def cached_bytes(self) -> int:
        """Their approximate memory."""
        return self._cache.used

    def replace_keys(self, keys: KeySet | None) -> None:
        """Verify every token again with ``keys``: a key may have been revoked."""
        self.keys = keys
        self._cache.clear()

    def verify(self, token: str, now: float) -> Token:
        """Verify ``token`` (without ``Bearer``).

        Raises ``TokenRefused``, and ``SignatureNotChecked`` if the library failed.
        """
        found = self._get(token)
        if found is not None:
            # The path of nearly every request, so the times are checked inline.
            if now < found.expires_at and (found.not_before is None or now >= found.not_before):
                self._touch(token)
                return found
        else:
            found = self._read(token)
        try:
            judge_times(found, now)
        except TokenRefused:
            # Agents repeat stale tokens: cache them to save the signature check, but evict them first.
            self._cache.put(token, found, last=False)
            raise
        self._cache.put(token, found)
        return found

    def _read(self, token: str) -> Token:
        jws = parse_compact(token, self.rules.max_length)
        key = None if self.keys is None else verify(jws, self.keys, jws.payload.get("iss"))
        return read_claims(jws, key, self.rules)


def read_claims(jws: CompactJWS, key: VerificationKey | None, rules: TokenRules) -> Token:
    """Read the access and the claims of RFC 7519, section 4.1, of ``jws``, which ``key`` has verified.

    Raises ``WrongAudience``, ``ClaimMismatch`` and ``InvalidClaims``.
    """
    claims = jws.payload
    rules.check(claims)
    try:
        # RFC 7519, section 2: a NumericDate may have a fraction.
        expires_at = required(claims, "exp", as_number) + rules.leeway
        not_before = optional(claims, "nbf", as_number)
        if claims.get("iat") is not None:
            as_number(claims["iat"], "iat")  # it is not used
        # It grants nothing, but a token of the wrong form is not meant for this gateway.
        optional(claims, "scope", _check_scope)
        return Token(
            grants=rules.grants(claims),
            expires_at=expires_at,
            not_before=None if not_before is None else not_before - rules.leeway,
            subject=_subject(claims.get("sub")),
            issuer=optional(claims, "iss", as_text),
            key=key,
        )
    except FieldError as error:
        raise InvalidClaims(str(error)) from None


def _subject(value: object) -> str | None:
    """Return ``sub`` as text. Some providers write a number or null."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    return as_text(value, "sub")


def _check_scope(scope: object, path: str) -> None:
    if not isinstance(scope, str):
        for index, item in enumerate(as_list(scope, path)):
            as_text(item, child(path, index))


def judge_times(token: Token, now: float) -> None:
    """Check ``exp`` and ``nbf`` (RFC 7519, sections 4.1.4 and 4.1.5). A ``now`` of NaN is refused too."""
    if not now < token.expires_at:
        raise TokenExpired(f"the token has expired: `exp` is not after {now:.0f}")
    if token.not_before is not None and not now >= token.not_before:
        raise TokenNotYetValid(f"the token is not valid yet: `nbf` is after {now:.0f}")
