"""Tokens: from a header's value to a ``Token`` that holds now.

The order: read the token (``jws``), verify its signature, read its claims (RFC 7519, section 4), judge its times.
A token whose signature is good is cached by its whole text; its times are judged on every use, the rest once.

https://www.rfc-editor.org/rfc/rfc7519 and the specification, "Access Control" and "JWT signature verification".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from vmgw_core.access import VMAccessClaim
from vmgw_core.errors import InvalidClaims, MalformedToken, MissingToken, TokenExpired, TokenNotYetValid, TokenRefused
from vmgw_core.fields import FieldError, as_integer, as_list, as_text, child, get_integer, get_text, require
from vmgw_core.jwk import KeySet, VerificationKey
from vmgw_core.jws import CompactJWS, parse_compact, verify

MAX_CACHED_LENGTH: Final = 8 * 1024

_PREFIX: Final = "bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token whose signature and claims are good. ``expires_at`` and ``not_before`` are judged on every use."""

    access: VMAccessClaim
    expires_at: int
    """``exp``, unix seconds: of any size, so never make a date of it without a guard."""
    not_before: int | None
    """``nbf``, unix seconds."""
    subject: str | None
    issuer: str | None
    key: VerificationKey | None
    """What verified it; ``None`` where signatures are not verified."""
    header: Mapping[str, object] = field(repr=False, compare=False)
    """The JOSE header, to explain a decision with; read-only."""
    claims: Mapping[str, object] = field(repr=False, compare=False)
    """All claims, to explain a decision with; read-only."""


class TokenVerifier:
    """Verifies tokens, and remembers which it has verified.

    ``keys=None``: no key is configured and signatures are not verified, as the specification's quick start needs. An
    empty ``KeySet`` is something else: there will be keys, and until then no token is good.
    """

    def __init__(self, keys: KeySet | None, *, max_cached: int = 10_000) -> None:
        self._keys = keys
        self._max_cached = max_cached
        # Those whose time is not now first, then the least recently used.
        self._cache: OrderedDict[str, Token] = OrderedDict()

    @property
    def keys(self) -> KeySet | None:
        """What is verified with now."""
        return self._keys

    @property
    def cached(self) -> int:
        """How many tokens are remembered."""
        return len(self._cache)

    def replace_keys(self, keys: KeySet | None) -> None:
        """Verify with ``keys`` from now on, every token anew: a key may have been taken back."""
        self._keys = keys
        self._cache.clear()

    def verify(self, token: str, now: float) -> Token:
        """The token that ``token`` (without ``Bearer``) is. Raises ``TokenRefused`` and nothing else."""
        found = self._cache.get(token)
        if found is not None:
            # The way of nearly every request, hence the times inline: half a microsecond, against hundreds below.
            if now < found.expires_at and (found.not_before is None or now >= found.not_before):
                self._cache.move_to_end(token)
                return found
        else:
            found = self._read(token)
        try:
            judge_times(found, now)
        except TokenRefused:
            # Agents go on sending a stale token: its signature is not verified each time. It is the first to make room.
            self._remember(token, found, last=False)
            raise
        self._remember(token, found, last=True)
        return found

    def _remember(self, token: str, found: Token, *, last: bool) -> None:
        if len(token) <= MAX_CACHED_LENGTH:
            self._cache[token] = found
            self._cache.move_to_end(token, last=last)
            if len(self._cache) > self._max_cached:
                self._cache.popitem(last=False)

    def _read(self, token: str) -> Token:
        jws = parse_compact(token)
        key = None if self._keys is None else verify(jws, self._keys, jws.payload.get("iss"))
        return read_claims(jws, key)


def read_claims(jws: CompactJWS, key: VerificationKey | None) -> Token:
    """The token that ``jws``, which ``key`` has verified, makes. Raises ``InvalidClaims``."""
    try:
        return _token(jws, key)
    except FieldError as error:
        raise InvalidClaims(str(error)) from None


def _token(jws: CompactJWS, key: VerificationKey | None) -> Token:
    """Read ``vm_access`` and the claims of RFC 7519, section 4.1. Raises ``FieldError`` and ``InvalidClaims``."""
    claims = jws.payload
    expires_at = as_integer(require(claims, "exp"), "exp")
    get_integer(claims, "iat")
    if "scope" in claims:
        # It grants nothing here, but a token of the wrong form is not one that was meant for this gateway.
        _check_scope(claims["scope"])
    return Token(
        access=VMAccessClaim.from_claims(claims),
        expires_at=expires_at,
        not_before=get_integer(claims, "nbf"),
        subject=get_text(claims, "sub"),
        issuer=get_text(claims, "iss"),
        key=key,
        header=MappingProxyType(jws.header),
        claims=MappingProxyType(claims),
    )


def _check_scope(scope: object) -> None:
    if not isinstance(scope, str):
        for index, item in enumerate(as_list(scope, "scope")):
            as_text(item, child("scope", index))


def judge_times(token: Token, now: float) -> None:
    """RFC 7519, sections 4.1.4 and 4.1.5, without leeway. Written so that a ``now`` of NaN is refused too."""
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
