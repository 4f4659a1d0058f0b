"""Compact JSON Web Signatures (RFC 7515): their syntax and verification.

The rules:

- A token has one spelling: base64url without padding and without unused bits set (RFC 4648, section 3.5), so no bit of
  a signed token can be flipped. The standard alphabet is accepted, as in vmgateway, but not mixed.
- The header only selects among configured keys: ``jwk``, ``jku``, ``x5u``, ``x5c`` and ``x5t`` are ignored. ``crit``
  and ``b64`` are refused: their extensions are not supported (RFC 7515, section 4.1.11).
- The key determines the algorithm, not the token.
- A failure of the library is not a bad signature: the request fails with 500.
- ``none`` is always refused, even while signatures are not verified.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vmgw_core import errors
from vmgw_core.base import FieldError, as_text, load_object, optional, required, shown

from .algorithms import ALGORITHMS, verifies
from .keys import KeySet, VerificationKey
from .rules import DEFAULT_MAX_LENGTH, mismatch

MAX_CANDIDATES: Final = 64
"""Keys that one token is tried with: without ``kid`` that is every key of its algorithm."""

_REFUSED_PARAMETERS: Final = ("crit", "b64")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*|[A-Za-z0-9+/]*", re.ASCII)
_TO_URL_ALPHABET: Final = str.maketrans("+/", "-_")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactJWS:
    """A parsed token, not verified. Its repr shows nothing of it."""

    header: dict[str, object] = field(repr=False)
    payload: dict[str, object] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse_compact(token: str, max_length: int = DEFAULT_MAX_LENGTH) -> CompactJWS:
    """Read the JWS Compact Serialization (RFC 7515, section 7.1) of a JWT of at most ``max_length`` characters.

    Raises ``MalformedToken``, and ``UnsupportedAlgorithm`` for ``none``; neither quotes the token.
    """
    if len(token) > max_length:
        raise errors.MalformedToken(f"the token is longer than {max_length} characters")
    segments = token.split(".")
    if len(segments) != 3:
        raise errors.MalformedToken(f"expected three segments between dots, got {len(segments)}")
    try:
        header = load_object(_base64url(segments[0], "header"), "header")
        _check_header(header)
        payload = load_object(_base64url(segments[1], "payload"), "payload")
        signature = _base64url(segments[2], "signature")
    except FieldError as error:
        raise errors.MalformedToken(str(error)) from None
    if not signature:
        raise errors.MalformedToken("signature: empty")
    signing_input = token[: token.rindex(".")].encode("ascii")
    return CompactJWS(header=header, payload=payload, signing_input=signing_input, signature=signature)


def verify(jws: CompactJWS, keyset: KeySet, issuer: object) -> VerificationKey:
    """Return the key of ``keyset`` that verifies ``jws`` (RFC 7515, section 5.2) with the ``iss`` ``issuer``.

    Raises ``UnsupportedAlgorithm``, ``UnknownKey`` if no key may verify it, ``BadSignature``, and
    ``SignatureNotChecked`` if the library failed.
    """
    alg = _algorithm(jws.header)
    for candidate in candidates_for(jws, keyset, issuer):
        try:
            verified = verifies(candidate.key, alg, jws.signing_input, jws.signature)
        except Exception as error:
            raise errors.SignatureNotChecked("the signature of the token could not be checked") from error
        if verified:
            return candidate
    raise errors.BadSignature("no key verifies the signature")


def candidates_for(jws: CompactJWS, keyset: KeySet, issuer: object) -> Sequence[VerificationKey]:
    """Return the keys that ``jws`` is tried with, at most ``MAX_CANDIDATES``.

    Raises ``UnsupportedAlgorithm``, and ``UnknownKey`` if there is none, which says what does not match.
    """
    alg, kid = _algorithm(jws.header), optional(jws.header, "kid", as_text)
    if alg not in ALGORITHMS:
        raise errors.UnsupportedAlgorithm(mismatch("alg", alg, tuple(sorted(ALGORITHMS))))
    candidates = keyset.candidates(alg, kid, issuer)
    if not candidates:
        raise _no_candidate(keyset, alg, kid, issuer)
    return candidates[:MAX_CANDIDATES]


def _no_candidate(keyset: KeySet, alg: str, kid: str | None, issuer: object) -> errors.UnknownKey:
    """Describe which of ``alg``, ``kid`` and ``iss`` match no key."""
    keys = keyset.keys
    if not keys:
        return errors.UnknownKey("there is no key to verify tokens with")
    reasons: list[str] = []
    if not any(alg in key.algorithms for key in keys):
        reasons.append(mismatch("alg", alg, tuple(sorted({name for key in keys for name in key.algorithms}))))
    if kid is not None and not any(key.kid in (None, kid) for key in keys):
        reasons.append(mismatch("kid", kid, tuple(dict.fromkeys(key.kid for key in keys if key.kid is not None))))
    if not any(keyset.is_for_issuer(key, issuer) for key in keys):
        issuers = tuple(dict.fromkeys(each.template for key in keys for each in keyset.issuers_of(key)))
        wrong = mismatch("iss", issuer, issuers)
        if not reasons:
            return errors.WrongIssuer(wrong)
        reasons.append(wrong)
    if not reasons:
        reasons = [f"no single key is for `alg` {shown(alg)}, `kid` {shown(kid)} and `iss` {shown(issuer)} together"]
    return errors.UnknownKey("; ".join(reasons))


def _check_header(header: Mapping[str, object]) -> None:
    """Check the types of the parameters that are read, and refuse others (RFC 7515, section 4.1)."""
    alg = _algorithm(header)
    if alg.strip().lower() in ("", "none"):
        raise errors.UnsupportedAlgorithm("`alg` is none")
    for name in ("typ", "cty", "kid"):
        optional(header, name, as_text, "header")
    for name in _REFUSED_PARAMETERS:
        if name in header:
            raise FieldError(f"header.{name}", "not accepted")


def _algorithm(header: Mapping[str, object]) -> str:
    return required(header, "alg", as_text, "header")


def _base64url(segment: str, name: str) -> bytes:
    """Decode base64url (RFC 7515, section 2). Raises ``FieldError``."""
    if len(segment) % 4 == 1 or not _BASE64URL.fullmatch(segment):
        raise FieldError(name, "not base64url without padding")
    text = segment.translate(_TO_URL_ALPHABET)
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise FieldError(name, "not canonical base64url: unused bits are set")
    return data
