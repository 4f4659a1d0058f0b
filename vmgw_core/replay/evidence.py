"""What is known of a token's signature once it was taken out of a record, and judging such a token by it.

A signature that was redacted cannot be verified any more. What a capture says of it is taken at its word: whether it
was verified, with which key (RFC 7638 thumbprint), or which keys failed. With it the same token can be judged against
other keys:

- verified by a key that may still verify it: good; by any other: refused, for no two keys verify one signature;
- failed with certain keys: refused as long as there is no further key to try;
- never checked: good where nothing is verified, else in doubt.

A verdict in doubt is given as if the capture had been right about the token, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

from vmgw_core.base import BoundedCache, text_bytes
from vmgw_core.errors import (
    BadSignature,
    InternalError,
    MalformedToken,
    MissingToken,
    TokenRefused,
    UnknownKey,
    UnsupportedAlgorithm,
)
from vmgw_core.http import RequestHead
from vmgw_core.tokens import (
    DEFAULT_CACHE_BYTES,
    DEFAULT_MAX_LENGTH,
    NO_RULES,
    KeySet,
    Token,
    TokenRules,
    TokenVerifier,
    VerificationKey,
    candidates_for,
    judge_times,
    parse_compact,
    read_claims,
    token_from_header,
    verify,
)

from .redaction import MARKER

_JUDGED_BYTES: Final = 1500
"""The memory of a verdict and its evidence, beside the token and what it grants."""
_MARKED: Final = f".{MARKER}"


class Signature(StrEnum):
    """What a gateway found about the signature of a token."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"  # no key was configured, so none was asked
    BAD = "bad"
    UNREADABLE = "unreadable"  # no token that could have one


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a record says about the signature of its token."""

    signature: Signature
    token: str
    """Which token this is about: see :func:`name_of`."""
    thumbprints: tuple[str, ...] = ()
    """Of the key that verified it, or of those that did not."""
    kid: str | None = None
    issuer: str | None = None
    """``kid`` and issuer of the key that verified it, for people."""


def name_of(redacted: str) -> str:
    """A short name of a token whose signature was taken out."""
    return sha256(redacted.encode("latin-1", "replace")).hexdigest()[:16]


def token_of(head: RequestHead, header: bytes, *, allow_without_prefix: bool) -> str | None:
    """The token in a head as a gateway with these settings finds it, or None."""
    values = [value.decode("latin-1") for value in head.values(header)]
    try:
        return token_from_header(values, allow_without_prefix=allow_without_prefix)
    except (MissingToken, MalformedToken):
        return None


def examine(token: str, redacted: str, keys: KeySet | None, max_length: int = DEFAULT_MAX_LENGTH) -> Evidence:
    """What ``keys`` say about ``token``, for a record that will hold ``redacted`` in its place."""
    name = name_of(redacted)
    try:
        jws = parse_compact(token, max_length)
        if keys is None:
            return found(None, redacted)
        key = verify(jws, keys, jws.payload.get("iss"))
    except (UnsupportedAlgorithm, InternalError):
        return Evidence(signature=Signature.UNVERIFIED, token=name)
    except UnknownKey:
        return Evidence(signature=Signature.BAD, token=name)
    except BadSignature:
        assert keys is not None
        tried = candidates_for(jws, keys, jws.payload.get("iss"))
        return Evidence(signature=Signature.BAD, token=name, thumbprints=tuple(key.thumbprint for key in tried))
    except TokenRefused:
        return Evidence(signature=Signature.UNREADABLE, token=name)
    return found(key, redacted)


def found(key: VerificationKey | None, redacted: str) -> Evidence:
    """That ``key`` has verified the token; None where signatures are not verified."""
    name = name_of(redacted)
    if key is None:
        return Evidence(signature=Signature.UNVERIFIED, token=name)
    issuer = None if key.issuer is None else key.issuer.template
    return Evidence(signature=Signature.VERIFIED, token=name, thumbprints=(key.thumbprint,), kid=key.kid, issuer=issuer)


def _size(key: tuple[str, Evidence | None], judged: tuple[Token | TokenRefused, bool]) -> int:
    """How much memory a judged token takes, about."""
    found = judged[0]
    text = str(found) if isinstance(found, TokenRefused) else ""
    access = 0 if isinstance(found, TokenRefused) else found.access.memory
    return _JUDGED_BYTES + text_bytes(key[0], text) + access


class RecordedTokens(TokenVerifier):
    """Verifies the tokens of records: real signatures as ever, redacted ones by what the record says.

    Set ``evidence`` before each request; ``doubtful`` then says whether the verdict rests on more than is known.

    Args:
        trusting: whether records are believed. If not, every verdict that rests on one is in doubt.
    """

    def __init__(
        self,
        keys: KeySet | None,
        *,
        rules: TokenRules = NO_RULES,
        trusting: bool = True,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        super().__init__(keys, rules=rules, cache_bytes=cache_bytes)
        self.trusting = trusting
        self.evidence: Evidence | None = None
        self.doubtful = False
        self._judged: BoundedCache[tuple[str, Evidence | None], tuple[Token | TokenRefused, bool]] = BoundedCache(
            cache_bytes, _size
        )

    def verify(self, token: str, now: float) -> Token:
        """As of :class:`TokenVerifier`."""
        self.doubtful = False
        if not token.endswith(_MARKED):
            return super().verify(token, now)
        evidence = self.evidence
        if evidence is not None and evidence.token != name_of(token):
            evidence = None  # it is about another token: this one was in another header, or no gateway saw it
        judged = self._judged.get((token, evidence))
        if judged is None:
            judged = self._judge(token, evidence)
            self._judged.put((token, evidence), judged)
        found, self.doubtful = judged
        if isinstance(found, TokenRefused):
            raise type(found)(str(found))
        judge_times(found, now)
        return found

    def _judge(self, token: str, evidence: Evidence | None) -> tuple[Token | TokenRefused, bool]:
        """The token or its refusal, its times aside, and whether that is in doubt."""
        if evidence is not None and evidence.signature is Signature.UNREADABLE:
            return MalformedToken("the token could not be read when it was recorded"), False
        doubtful = False
        try:
            jws = parse_compact(token, self.rules.max_length)
            key = None
            if self.keys is not None:
                candidates = candidates_for(jws, self.keys, jws.payload.get("iss"))
                key, good, doubtful = _weigh(evidence, candidates)
                doubtful |= not self.trusting
                if not good:
                    raise BadSignature("no key verifies the signature, as far as the record tells")
            return read_claims(jws, key, self.rules), doubtful
        except TokenRefused as refusal:
            return refusal, doubtful


def _weigh(
    evidence: Evidence | None, candidates: Sequence[VerificationKey]
) -> tuple[VerificationKey | None, bool, bool]:
    """The key that verified the token, whether the signature counts as good, and whether that is in doubt."""
    if evidence is None or evidence.signature is Signature.UNVERIFIED:
        return None, True, True
    known = [key for key in candidates if key.thumbprint in evidence.thumbprints]
    if evidence.signature is Signature.VERIFIED:
        return (known[0], True, False) if known else (None, False, False)
    return None, False, len(known) < len(candidates)
