"""Tokens without signatures: judged by what the record says of them, and doubted where it says too little."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.core import keys
from tests.support.core.keys import NOW
from vmgw_core.errors import (
    BadSignature,
    InvalidClaims,
    MalformedToken,
    TokenExpired,
    TokenRefused,
    UnknownKey,
    UnsupportedAlgorithm,
)
from vmgw_core.http.head import RequestHead
from vmgw_core.replay.evidence import Evidence, RecordedTokens, Signature, examine, found, name_of, token_of
from vmgw_core.replay.redaction import MARKER
from vmgw_core.tokens.keys import IssuerPattern, KeySet, keys_from_jwks, keys_from_pem
from vmgw_core.tokens.source import TokenSource


def keyset(*private: keys.PrivateKey) -> KeySet:
    return KeySet(tuple(key for each in private for key in keys_from_pem(keys.pem(each), "test")))


FIRST, SECOND = keys.ec_key(), keys.ec_key(name="second")
RSA = keys.rsa_key()
TOKEN = keys.sign(keys.claims(), FIRST)


def without_signature(token: str) -> str:
    return f"{token.rpartition('.')[0]}.{MARKER}"


REDACTED = without_signature(TOKEN)


def recorded(keys_then: KeySet | None, token: str = TOKEN) -> Evidence:
    return examine(token, without_signature(token), keys_then)


def judge(keys_now: KeySet | None, evidence: Evidence | None, **options: Any) -> RecordedTokens:  # noqa: ANN401
    tokens = RecordedTokens(keys_now, **options)
    tokens.evidence = evidence
    return tokens


def test_what_is_recorded() -> None:
    thumbprints = tuple(key.thumbprint for key in keyset(FIRST, SECOND).keys)
    assert recorded(None).signature is Signature.UNVERIFIED
    assert recorded(keyset(FIRST)).thumbprints == thumbprints[:1]
    assert recorded(keyset(FIRST)).signature is Signature.VERIFIED
    assert recorded(keyset(SECOND)) == Evidence(
        signature=Signature.BAD, token=name_of(REDACTED), thumbprints=thumbprints[1:]
    )
    assert recorded(keyset(RSA)) == Evidence(signature=Signature.BAD, token=name_of(REDACTED))
    assert recorded(keyset(FIRST), keys.sign(keys.claims(), b"hmac")).signature is Signature.UNVERIFIED
    assert recorded(keyset(FIRST), "no.token.at-all").signature is Signature.UNREADABLE


def test_the_key_of_a_set_is_named() -> None:
    document = keys.jwks(keys.jwk(FIRST, kid="k1"))
    key = keys_from_jwks(document, "test", IssuerPattern(keys.ISSUER)).keys[0]
    evidence = found(key, REDACTED)
    assert (evidence.kid, evidence.issuer) == ("k1", keys.ISSUER)


@pytest.mark.parametrize("then", [keyset(FIRST), keyset(SECOND, FIRST)], ids=["one key", "two keys"])
@pytest.mark.parametrize("now", [None, keyset(FIRST), keyset(FIRST, SECOND), keyset(RSA, SECOND, FIRST)])
def test_a_verified_token_is_good_for_as_long_as_its_key(then: KeySet, now: KeySet | None) -> None:
    tokens = judge(now, recorded(then))
    token = tokens.verify(REDACTED, NOW)
    assert token.expires_at == NOW + 60
    assert (token.key is None) == (now is None)
    assert not tokens.doubtful


@pytest.mark.parametrize(
    ("now", "error"), [(keyset(SECOND), BadSignature), (keyset(RSA), UnknownKey), (KeySet(()), UnknownKey)]
)
def test_a_verified_token_is_refused_without_its_key(now: KeySet, error: type[TokenRefused]) -> None:
    tokens = judge(now, recorded(keyset(FIRST)))
    for _ in range(2):  # the second answer is remembered
        with pytest.raises(error):
            tokens.verify(REDACTED, NOW)
        assert not tokens.doubtful


@pytest.mark.parametrize(
    ("then", "now", "doubtful"),
    [
        (keyset(SECOND), keyset(SECOND), False),
        (keyset(SECOND), keyset(SECOND, RSA), False),
        (keyset(SECOND), keyset(FIRST, SECOND), True),
        (keyset(RSA), keyset(FIRST), True),
    ],
)
def test_a_bad_signature_stays_bad_and_is_doubted_where_there_are_new_keys(
    then: KeySet, now: KeySet, doubtful: bool
) -> None:
    tokens = judge(now, recorded(then))
    with pytest.raises(BadSignature):
        tokens.verify(REDACTED, NOW)
    assert tokens.doubtful is doubtful


def test_a_bad_signature_is_no_matter_where_none_is_verified() -> None:
    tokens = judge(None, recorded(keyset(SECOND)))
    tokens.verify(REDACTED, NOW)
    assert not tokens.doubtful


@pytest.mark.parametrize("evidence", [None, recorded(None), recorded(keyset(FIRST), keys.sign({"a": 1}, FIRST))])
def test_what_nothing_is_known_of_is_in_doubt(evidence: Evidence | None) -> None:
    tokens = judge(keyset(FIRST), evidence)
    tokens.verify(REDACTED, NOW)
    assert tokens.doubtful
    tokens = judge(None, evidence)
    tokens.verify(REDACTED, NOW)
    assert not tokens.doubtful


def test_who_trusts_no_record_doubts_all_of_them() -> None:
    tokens = judge(keyset(FIRST), recorded(keyset(FIRST)), trusting=False)
    tokens.verify(REDACTED, NOW)
    assert tokens.doubtful


def test_a_signature_that_is_there_is_verified() -> None:
    tokens = judge(keyset(FIRST), recorded(keyset(SECOND)))
    assert tokens.verify(TOKEN, NOW).key is not None
    assert not tokens.doubtful
    with pytest.raises(BadSignature):
        judge(keyset(SECOND), recorded(keyset(FIRST))).verify(TOKEN, NOW)


@pytest.mark.parametrize(
    ("token", "error"),
    [
        (keys.sign(keys.claims(exp=NOW), FIRST), TokenExpired),
        (keys.sign({"exp": NOW + 60}, FIRST), InvalidClaims),
        (keys.sign(keys.claims(), b"hmac"), UnsupportedAlgorithm),
        (keys.compact({"alg": "none"}, keys.claims()), UnsupportedAlgorithm),
        (keys.compact({"alg": "ES256", "crit": ["x"]}, keys.claims()), MalformedToken),
        (keys.compact({"alg": "ES256"}, keys.claims(), b""), MalformedToken),
    ],
)
def test_all_other_rules_hold(token: str, error: type[TokenRefused]) -> None:
    tokens = judge(keyset(FIRST), recorded(keyset(FIRST), token))
    with pytest.raises(error):
        tokens.verify(without_signature(token), NOW)
    assert not tokens.doubtful


def test_a_token_of_which_more_was_left_than_it_was_stays_unreadable() -> None:
    for now in (None, keyset(FIRST)):
        with pytest.raises(MalformedToken):
            judge(now, examine(f"{TOKEN} and more", REDACTED, keyset(FIRST))).verify(REDACTED, NOW)


def test_what_is_remembered_is_bounded() -> None:
    tokens = judge(keyset(FIRST), None, cache_bytes=5000)
    for number in range(5):
        tokens.verify(without_signature(keys.sign(keys.claims(jti=number), FIRST)), NOW)
        with pytest.raises(TokenRefused):
            tokens.verify(without_signature(keys.sign(keys.claims(jti=number, vm_access=1), FIRST)), NOW)
    assert len(tokens._judged) == 2


def test_finding_the_token() -> None:
    def found_in(*values: bytes, allow_without_prefix: bool = False) -> str | None:
        headers = tuple((b"Authorization", value) for value in values)
        head = RequestHead(method="GET", target="/", headers=headers, client="c")
        return token_of(head, TokenSource(allow_without_prefix=allow_without_prefix))

    assert found_in(b"Bearer abc") == "abc"
    assert found_in(b"abc") is None
    assert found_in(b"abc", allow_without_prefix=True) == "abc"
    assert found_in(b"Bearer abc", b"Bearer abc") is None
    assert found_in() is None
