"""Compact JSON Web Signatures (RFC 7515): their syntax, and which key verifies one.

The rules:

- One token has one spelling. Base64url without padding and without unused bits set (RFC 4648, section 3.5), so no bit
  of a signed token can be flipped. The standard alphabet is accepted, as vmgateway accepts it, but not mixed.
- The header selects a key among those that are configured and brings none: ``jwk``, ``jku``, ``x5u`` and ``x5c`` are
  refused, and so are ``crit`` and ``b64``, whose extensions this program does not have (RFC 7515, section 4.1.11).
- The key decides about the algorithm, not the token: a key says which ``alg`` it may verify.
- ``none`` is refused always, even while signatures are not verified.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from joserfc.jws import JWSRegistry

from vmgw_core.errors import BadSignature, MalformedToken, UnknownKey, UnsupportedAlgorithm
from vmgw_core.fields import FieldError, as_text, get_text, load_object, require
from vmgw_core.jwk import KeySet, VerificationKey

MAX_TOKEN_LENGTH: Final = 16 * 1024
MAX_CANDIDATES: Final = 64
"""How many keys one token may cost: a token without ``kid`` is tried with every key of its algorithm."""

ALGORITHMS: Final = frozenset(("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"))

_MODELS: Final = {name: JWSRegistry.algorithms[name] for name in ALGORITHMS}
_REFUSED_PARAMETERS: Final = ("crit", "b64", "jwk", "jku", "x5u", "x5c")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*|[A-Za-z0-9+/]*", re.ASCII)
_TO_URL_ALPHABET: Final = str.maketrans("+/", "-_")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactJWS:
    """A token that was read, and not verified. Its repr holds nothing of it."""

    header: dict[str, object] = field(repr=False)
    payload: dict[str, object] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse_compact(token: str) -> CompactJWS:
    """Read the JWS Compact Serialization (RFC 7515, section 7.1) of a JWT.

    Raises ``MalformedToken``, and ``UnsupportedAlgorithm`` for ``none``; both without a byte of the token.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise MalformedToken(f"a token of more than {MAX_TOKEN_LENGTH} characters")
    segments = token.split(".")
    if len(segments) != 3:
        raise MalformedToken(f"expected three segments between dots, got {len(segments)}")
    try:
        header = load_object(_base64url(segments[0], "header"), "header")
        _check_header(header)
        payload = load_object(_base64url(segments[1], "payload"), "payload")
        signature = _base64url(segments[2], "signature")
    except FieldError as error:
        raise MalformedToken(str(error)) from None
    if not signature:
        raise MalformedToken("signature: empty")
    signing_input = token[: token.rindex(".")].encode("ascii")
    return CompactJWS(header=header, payload=payload, signing_input=signing_input, signature=signature)


def verify(jws: CompactJWS, keyset: KeySet, issuer: object) -> VerificationKey:
    """The key of ``keyset`` that verifies ``jws`` (RFC 7515, section 5.2), for a token whose ``iss`` is ``issuer``.

    Raises ``UnsupportedAlgorithm``, ``UnknownKey`` where no key may verify it, and ``BadSignature``.
    """
    candidates = candidates_for(jws, keyset, issuer)
    model = _MODELS[_algorithm(jws.header)]
    for candidate in candidates:
        try:
            model.check_key(candidate.key)
            verified = model.verify(jws.signing_input, jws.signature, candidate.key)
        except Exception:  # Whatever a library stumbles over has verified nothing; another key may.
            verified = False
        if verified:
            return candidate
    raise BadSignature("no key verifies the signature")


def candidates_for(jws: CompactJWS, keyset: KeySet, issuer: object) -> Sequence[VerificationKey]:
    """The keys of ``keyset`` that ``jws`` is tried with, at most ``MAX_CANDIDATES``.

    Raises ``UnsupportedAlgorithm``, and ``UnknownKey`` where there is none.
    """
    alg = _algorithm(jws.header)
    if alg not in _MODELS:
        raise UnsupportedAlgorithm("`alg` is none of the supported algorithms")
    candidates = keyset.candidates(alg, get_text(jws.header, "kid"), issuer)
    if not candidates:
        raise UnknownKey("no key for the `alg`, `kid` and `iss` of the token")
    return candidates[:MAX_CANDIDATES]


def _check_header(header: Mapping[str, object]) -> None:
    """RFC 7515, section 4.1: the types of the parameters that are read, and those that are refused."""
    alg = _algorithm(header)
    if alg.strip().lower() in ("", "none"):
        raise UnsupportedAlgorithm("`alg` is none")
    for name in ("typ", "cty", "kid"):
        get_text(header, name, "header")
    for name in _REFUSED_PARAMETERS:
        if name in header:
            raise FieldError(f"header.{name}", "not accepted")


def _algorithm(header: Mapping[str, object]) -> str:
    return as_text(require(header, "alg", "header"), "header.alg")


def _base64url(segment: str, name: str) -> bytes:
    """Decode base64url as RFC 7515, section 2 defines it. Raises ``FieldError``."""
    if len(segment) % 4 == 1 or not _BASE64URL.fullmatch(segment):
        raise FieldError(name, "not base64url without padding")
    text = segment.translate(_TO_URL_ALPHABET)
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise FieldError(name, "not canonical base64url: unused bits are set")
    return data
