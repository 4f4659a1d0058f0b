"""Evidence of the signature check of a recorded token, whose signature was redacted.

A redacted signature cannot be verified again. The capture says whether it was verified, with which key (RFC 7638
thumbprint), or which keys failed. So the token can be checked against other keys:

- verified by a key that may still verify it: good; by another key: refused, since no two keys verify one signature;
- failed with some keys: refused, but in doubt if there are other keys to try;
- never checked: good if nothing is verified, otherwise in doubt.

A doubtful verdict assumes that the capture was right, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

from vmgw_core import errors
from vmgw_core.base import BoundedCache, text_bytes
from vmgw_core.errors import TokenRefused
from vmgw_core.http import RequestHead
from vmgw_core.tokens.keys import KeySet, VerificationKey
from vmgw_core.tokens.rules import DEFAULT_MAX_LENGTH, NO_RULES, TokenRules
from vmgw_core.tokens.signature import candidates_for, parse_compact, verify
from vmgw_core.tokens.source import TokenSource
from vmgw_core.tokens.verifier import (
    DEFAULT_CACHE_BYTES,
    Token,
    TokenVerifier,
    judge_times,
    read_claims,
)

from .redaction import MARKER

_JUDGED_BYTES: Final = 1500
"""The memory of a verdict and its evidence, without the token and its access."""
_MARKED: Final = f".{MARKER}"


class Signature(StrEnum):
    VERIFIED = "verified"
    UNVERIFIED = "unverified"  # no key was configured
    BAD = "bad"
    UNREADABLE = "unreadable"  # the token was malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence in a record about the signature of its token."""

    signature: Signature
    token: str
    """The name of the token, of :func:`name_of`."""
    thumbprints: tuple[str, ...] = ()
    """Of the key that verified it, or of those that failed."""
    kid: str | None = None
    issuer: str | None = None
    """``kid`` and issuer of the key that verified it, for reports."""
    credential: str | None = None
    """The kind and name of the credential of ``-auth.credentialsFile``, if that was no token."""


def of_credential(token: Token) -> Evidence:
    """Return the evidence of a request with a credential of ``-auth.credentialsFile``."""
    name = f"{token.credential} {token.subject}"
    return Evidence(signature=Signature.VERIFIED, token=name_of(name), credential=name)


def name_of(redacted: str) -> str:
    """Return a short name of a redacted token."""
    return sha256(redacted.encode("latin-1", "replace")).hexdigest()[:16]


def token_of(head: RequestHead, source: TokenSource) -> str | None:
    try:
        found = source.find(head.headers)
        return found if isinstance(found, str) else None
    except (errors.MissingToken, errors.MalformedToken, errors.BadRequest):
        return None


def examine(token: str, redacted: str, keys: KeySet | None, max_length: int = DEFAULT_MAX_LENGTH) -> Evidence:
    """Check ``token`` with ``keys``, for a record that will hold ``redacted`` instead."""
    name = name_of(redacted)
    try:
        jws = parse_compact(token, max_length)
        if keys is None:
            return found(None, redacted)
        key = verify(jws, keys, jws.payload.get("iss"))
    except (errors.UnsupportedAlgorithm, errors.InternalError):
        return Evidence(signature=Signature.UNVERIFIED, token=name)
    except errors.UnknownKey:
        return Evidence(signature=Signature.BAD, token=name)
    except errors.BadSignature:
        assert keys is not None
        tried = candidates_for(jws, keys, jws.payload.get("iss"))
        return Evidence(signature=Signature.BAD, token=name, thumbprints=tuple(key.thumbprint for key in tried))
    except TokenRefused:
        return Evidence(signature=Signature.UNREADABLE, token=name)
    return found(key, redacted)


def found(key: VerificationKey | None, redacted: str) -> Evidence:
    """Return the evidence that ``key`` verified the token; None if signatures are not verified."""
    name = name_of(redacted)
    if key is None:
        return Evidence(signature=Signature.UNVERIFIED, token=name)
    issuer = None if key.issuer is None else key.issuer.template
    return Evidence(signature=Signature.VERIFIED, token=name, thumbprints=(key.thumbprint,), kid=key.kid, issuer=issuer)


def _size(key: tuple[str, Evidence | None], judged: tuple[Token | TokenRefused, bool]) -> int:
    found = judged[0]
    text = str(found) if isinstance(found, TokenRefused) else ""
    access = 0 if isinstance(found, TokenRefused) else found.grants.memory
    return _JUDGED_BYTES + text_bytes(key[0], text) + access


class RecordedTokens(TokenVerifier):
    """Verifies the tokens of records: real signatures as usual, redacted ones by the evidence.

    Set ``evidence`` before each request; ``doubtful`` then says whether the verdict is in doubt. ``trusting``: whether
    to trust records. If not, every verdict on a redacted token is in doubt.
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
        self.doubtful = False
        if not token.endswith(_MARKED):
            return super().verify(token, now)
        evidence = self.evidence
        if evidence is not None and evidence.token != name_of(token):
            evidence = None  # of another token: this one was in another header, or no gateway saw it
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
        """Return the token or its refusal, without its times, and whether that is in doubt."""
        if evidence is not None and evidence.signature is Signature.UNREADABLE:
            return errors.MalformedToken("the token could not be read when it was recorded"), False
        doubtful = False
        try:
            jws = parse_compact(token, self.rules.max_length)
            key = None
            if self.keys is not None:
                candidates = candidates_for(jws, self.keys, jws.payload.get("iss"))
                key, good, doubtful = _weigh(evidence, candidates)
                doubtful |= not self.trusting
                if not good:
                    raise errors.BadSignature("no key verifies the signature, according to the record")
            return read_claims(jws, key, self.rules), doubtful
        except TokenRefused as refusal:
            return refusal, doubtful


def _weigh(
    evidence: Evidence | None, candidates: Sequence[VerificationKey]
) -> tuple[VerificationKey | None, bool, bool]:
    """Return the key that verified the token, whether the signature is good, and whether that is in doubt."""
    if evidence is None or evidence.signature is Signature.UNVERIFIED:
        return None, True, True
    known = [key for key in candidates if key.thumbprint in evidence.thumbprints]
    if evidence.signature is Signature.VERIFIED:
        return (known[0], True, False) if known else (None, False, False)
    return None, False, len(known) < len(candidates)
