"""Tokens: from a header's value to a ``Token`` that holds now.

The order: read the token (``jws``), verify its signature, read its claims (RFC 7519, section 4), judge its times.
A token whose signature is good is cached by its whole text; its times are judged on every use, the rest once.

https://www.rfc-editor.org/rfc/rfc7519 and the specification, "Access Control" and "JWT signature verification".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vmgw_core.base import (
    OBJECT_BYTES,
    BoundedCache,
    FieldError,
    as_list,
    as_number,
    as_text,
    get_text,
    require,
    text_bytes,
)
from vmgw_core.base.strict_json import child
from vmgw_core.errors import InvalidClaims, MalformedToken, MissingToken, TokenExpired, TokenNotYetValid, TokenRefused

from .claims import VMAccessClaim
from .keys import KeySet, VerificationKey
from .rules import NO_RULES, TokenRules
from .signature import CompactJWS, parse_compact, verify

DEFAULT_CACHE_BYTES: Final = 32 << 20

_TOKEN_BYTES: Final = 120
"""The memory of a ``Token`` without its claim and its texts."""
_PREFIX: Final = "bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token whose signature and claims are good. ``expires_at`` and ``not_before`` are judged on every use.

    It keeps what decisions need and nothing else of the token, since many are remembered.
    """

    access: VMAccessClaim
    expires_at: int | float
    """``exp`` with the leeway, unix seconds: of any size, so never make a date of it without a guard."""
    not_before: int | float | None
    """``nbf`` with the leeway, unix seconds."""
    subject: str | None
    """``sub``; a number as its text."""
    issuer: str | None
    key: VerificationKey | None
    """What verified it; ``None`` where signatures are not verified."""


def _size(text: str, token: Token) -> int:
    """How much memory a remembered token takes, about."""
    times = token.expires_at.__sizeof__() + token.not_before.__sizeof__() + 2 * OBJECT_BYTES
    return _TOKEN_BYTES + text_bytes(text, token.subject, token.issuer) + times + token.access.memory


class TokenVerifier:
    """Verifies tokens, and remembers which it has verified.

    ``keys=None``: no key is configured and signatures are not verified, as the specification's quick start needs. An
    empty ``KeySet`` is something else: there will be keys, and until then no token is good.
    """

    def __init__(
        self, keys: KeySet | None, *, rules: TokenRules = NO_RULES, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        self.rules = rules
        self._keys = keys
        # Those whose time is not now first, then the least recently used.
        self._cache: BoundedCache[str, Token] = BoundedCache(cache_bytes, _size)
        self._get, self._touch = self._cache.get, self._cache.touch

    @property
    def keys(self) -> KeySet | None:
        """What is verified with now."""
        return self._keys

    @property
    def cached(self) -> int:
        """How many tokens are remembered."""
        return len(self._cache)

    @property
    def cached_bytes(self) -> int:
        """How much memory they take, about; never more than was allowed."""
        return self._cache.used

    def replace_keys(self, keys: KeySet | None) -> None:
        """Verify with ``keys`` from now on, every token anew: a key may have been taken back."""
        self._keys = keys
        self._cache.clear()

    def verify(self, token: str, now: float) -> Token:
        """The token that ``token`` (without ``Bearer``) is.

        Raises ``TokenRefused``, and ``SignatureNotChecked`` where the library of signatures failed.
        """
        found = self._get(token)
        if found is not None:
            # Nearly every request comes this way, hence the times inline: a fraction of a microsecond, against
            # hundreds below.
            if now < found.expires_at and (found.not_before is None or now >= found.not_before):
                self._touch(token)
                return found
        else:
            found = self._read(token)
        try:
            judge_times(found, now)
        except TokenRefused:
            # Agents go on sending a stale token: its signature is not verified each time. It is the first to make room.
            self._cache.put(token, found, last=False)
            raise
        self._cache.put(token, found)
        return found

    def _read(self, token: str) -> Token:
        jws = parse_compact(token, self.rules.max_length)
        key = None if self._keys is None else verify(jws, self._keys, jws.payload.get("iss"))
        return read_claims(jws, key, self.rules)


def read_claims(jws: CompactJWS, key: VerificationKey | None, rules: TokenRules) -> Token:
    """The token that ``jws``, which ``key`` has verified, makes.

    Raises ``WrongAudience``, ``ClaimMismatch`` and ``InvalidClaims``.
    """
    rules.check(jws.payload)
    try:
        return _token(jws, key, rules.leeway)
    except FieldError as error:
        raise InvalidClaims(str(error)) from None


def _token(jws: CompactJWS, key: VerificationKey | None, leeway: int) -> Token:
    """Read ``vm_access`` and the claims of RFC 7519, section 4.1. Raises ``FieldError`` and ``InvalidClaims``."""
    claims = jws.payload
    # RFC 7519, section 2: a NumericDate may have a fraction.
    expires_at = as_number(require(claims, "exp"), "exp") + leeway
    if claims.get("iat") is not None:
        as_number(claims["iat"], "iat")  # it is not used
    if "scope" in claims:
        # It grants nothing here, but a token of the wrong form is not one that was meant for this gateway.
        _check_scope(claims["scope"])
    return Token(
        access=VMAccessClaim.from_claims(claims),
        expires_at=expires_at,
        not_before=as_number(claims["nbf"], "nbf") - leeway if "nbf" in claims else None,
        subject=_subject(claims.get("sub")),
        issuer=get_text(claims, "iss"),
        key=key,
    )


def _subject(value: object) -> str | None:
    """``sub`` as a text. Some providers write a number or null."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    return as_text(value, "sub")


def _check_scope(scope: object) -> None:
    if not isinstance(scope, str):
        for index, item in enumerate(as_list(scope, "scope")):
            as_text(item, child("scope", index))


def judge_times(token: Token, now: float) -> None:
    """RFC 7519, sections 4.1.4 and 4.1.5. Written so that a ``now`` of NaN is refused too."""
    if not now < token.expires_at:
        raise TokenExpired(f"the token has expired: `exp` is not after {now:.0f}")
    if token.not_before is not None and not now >= token.not_before:
        raise TokenNotYetValid(f"the token is not valid yet: `nbf` is after {now:.0f}")


def token_from_header(values: Sequence[str], *, allow_without_prefix: bool) -> str:
    """The token in the values of the header that carries it (RFC 6750, section 2.1).

    ``allow_without_prefix`` is ``-auth.httpHeaderAllowWithoutPrefix``. Raises ``MissingToken``, and ``MalformedToken``
    for several values: the gateway and whoever stands before it might each read another.
    """
    if len(values) > 1:
        raise MalformedToken("the token's header is given more than once")
    value = values[0].strip(" \t") if values else ""
    if value[: len(_PREFIX)].lower() == _PREFIX:
        return value[len(_PREFIX) :].strip(" \t")
    if not value or value.lower() == _PREFIX.rstrip():
        raise MissingToken("missing token")
    if not allow_without_prefix:
        raise MissingToken("missing `Bearer ` prefix of the token")
    return value
