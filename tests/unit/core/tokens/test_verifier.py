"""jwt: claims and their times, the cache, and the header that carries a token."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import keys
from tests.support.core.keys import NOW
from tests.support.each import each
from vmgw_core.base.tenants import TenantID
from vmgw_core.errors import InvalidClaims, TokenExpired, TokenNotYetValid, TokenRefused
from vmgw_core.tokens.claims import AccessMode
from vmgw_core.tokens.keys import KeySet, keys_from_jwks, keys_from_pem
from vmgw_core.tokens.rules import TokenRules
from vmgw_core.tokens.verifier import Token, TokenVerifier

# The specification, "Access Control" and "Rate Limiter": both HS256, both made for a gateway without keys.
_SAMPLE = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    ".eyJ2bV9hY2Nlc3MiOnsidGVuYW50X2lkIjp7fSwicm9sZSI6MX0sImV4cCI6MTkzOTM0NjIxMH0"
    ".5WUxEfdcV9hKo4CtQdtuZYOGpGXWwaqM9VuVivMMrVg"
)
_TENANT_SAMPLE = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    ".eyJleHAiOjE2MjAxNjIwMDAwMDAsInZtX2FjY2VzcyI6eyJ0ZW5hbnRfaWQiOnsiYWNjb3VudF9pZCI6MTV9fX0"
    ".PB1_KXDKPUp-40pxOGk6lt_jt9Yq80PIMpWVJqSForQ"
)


def _keys(*private: keys.PrivateKey) -> KeySet:
    return KeySet(tuple(key for each in private for key in keys_from_pem(keys.pem(each), "pem")))


def _unsigned(**members: object) -> str:
    return keys.compact({"alg": "HS256", "typ": "JWT"}, keys.claims(**members))


def _code(verifier: TokenVerifier, token: str, now: float = NOW) -> str:
    with pytest.raises(TokenRefused) as error:
        verifier.verify(token, now)
    return error.value.code


# --- the specification's tokens ------------------------------------------------------------------------------------


def test_the_first_sample() -> None:
    token = TokenVerifier(None).verify(_SAMPLE, NOW)
    assert token.expires_at == 1939346210
    assert token.key is None
    [claim] = token.grants.alternatives
    assert (claim.tenant, claim.mode) == (TenantID(0, 0), AccessMode.FULL)
    assert not claim.restricted
    assert (token.not_before, token.subject, token.issuer) == (None, None, None)


def test_the_second_sample_expires_beyond_any_date_type() -> None:
    verifier = TokenVerifier(None)
    token = verifier.verify(_TENANT_SAMPLE, NOW)
    assert token.expires_at == 1620162000000
    assert token.grants.tenants == (TenantID(15, 0),)
    assert verifier.verify(_TENANT_SAMPLE, 1620161999999) is token
    assert _code(verifier, _TENANT_SAMPLE, 1620162000000) == "expired"


def test_the_samples_are_refused_where_keys_are_configured() -> None:
    for sample in (_SAMPLE, _TENANT_SAMPLE):
        assert _code(TokenVerifier(_keys(keys.rsa_key())), sample) == "unsupported_algorithm"
        assert _code(TokenVerifier(KeySet(())), sample) == "unsupported_algorithm"


@pytest.mark.parametrize("alg", ["none", "NONE", "None"])
@pytest.mark.parametrize("keyset", [pytest.param(None, id="no keys"), pytest.param(KeySet(()), id="keys to come")])
def test_none_is_always_refused(keyset: KeySet | None, alg: str) -> None:
    for signature in (b"", b"x"):
        token = keys.compact({"alg": alg}, keys.claims(), signature)
        assert _code(TokenVerifier(keyset), token) == "unsupported_algorithm"


def test_no_key_yet_is_not_no_verification() -> None:
    token = keys.sign(keys.claims(), keys.ec_key())
    assert _code(TokenVerifier(KeySet(())), token) == "unknown_key"
    assert TokenVerifier(None).verify(token, NOW).key is None


# --- claims --------------------------------------------------------------------------------------------------------


def test_a_token_in_full() -> None:
    keyset = KeySet(keys_from_jwks(keys.jwks(keys.jwk(keys.rsa_key(), kid="k1")), "endpoint").keys)
    claims = {
        "exp": NOW + 1,
        "nbf": NOW,
        "iat": NOW - 5,
        "iss": keys.ISSUER,
        "sub": "alice",
        "aud": ["metrics"],
        "scope": "openid email",
        "vm_access": {"tenant_id": {"account_id": 1, "project_id": 5}, "extra_labels": {"team": "dev"}, "mode": 1},
    }
    header = {"alg": "PS256", "typ": "at+jwt", "kid": "k1"}
    token = TokenVerifier(keyset).verify(keys.sign(claims, keys.rsa_key(), header), NOW)
    assert token.key is keyset.keys[0]
    assert (token.expires_at, token.not_before) == (NOW + 1, NOW)
    assert (token.subject, token.issuer) == ("alice", keys.ISSUER)
    [claim] = token.grants.alternatives
    assert (claim.tenant, claim.mode) == (TenantID(1, 5), AccessMode.READ)
    assert claim.labels == token.grants.labels == (("team", "dev"),)


def test_a_token_is_read_only_and_keeps_nothing_that_no_decision_needs() -> None:
    token = TokenVerifier(None).verify(_unsigned(name="hunter2"), NOW)
    assert "hunter2" not in repr(token)
    with pytest.raises(AttributeError):
        token.expires_at = 0  # type: ignore[misc]


@each(
    "members",
    [
        pytest.param({"scope": ""}, id="scope, empty"),
        pytest.param({"scope": "a b"}, id="scope, text"),
        pytest.param({"scope": []}, id="scope, no items"),
        pytest.param({"scope": ["a", "b"]}, id="scope, list"),
        pytest.param({"iat": 0}, id="iat, zero"),
        pytest.param({"iat": NOW + 10**9}, id="iat, in the future"),
        pytest.param({"nbf": -1}, id="nbf, negative"),
        pytest.param({"sub": "", "iss": ""}, id="sub and iss, empty"),
        pytest.param({"aud": None, "jti": 5, "azp": {}}, id="claims that are not read"),
        pytest.param({"iat": None}, id="iat null"),
        pytest.param({"iat": 1699999999.25}, id="iat, with a fraction"),
        pytest.param({"exp": 10**4000}, id="exp, of four thousand digits"),
        pytest.param({"exp": 1e300, "nbf": -1e300}, id="exp and nbf, with large exponents"),
    ],
)
def test_claims_accepts(members: dict[str, object]) -> None:
    claims = keys.claims(**members)
    token = TokenVerifier(_keys(keys.ec_key())).verify(keys.sign(claims, keys.ec_key()), NOW)
    assert (token.expires_at, token.not_before) == (claims["exp"], claims.get("nbf"))


@pytest.mark.parametrize(
    ("sub", "subject"),
    [("alice", "alice"), ("", ""), (None, None), (42, "42"), (-1, "-1"), (1.5, "1.5")],
    ids=repr,
)
def test_the_subject(sub: object, subject: str | None) -> None:
    assert TokenVerifier(None).verify(_unsigned(sub=sub), NOW).subject == subject


@each(
    ("members", "message"),
    [
        pytest.param({"exp": None}, "exp: expected a number, got null", id="exp null"),
        pytest.param({"exp": True}, "exp: expected a number, got a boolean", id="exp true"),
        pytest.param({"exp": "2000000000"}, "exp: expected a number, got a string", id="exp text"),
        pytest.param({"exp": [NOW + 60]}, "exp: expected a number, got a list", id="exp list"),
        pytest.param({"nbf": None}, "nbf: expected a number, got null", id="nbf null"),
        pytest.param({"nbf": "0"}, "nbf: expected a number, got a string", id="nbf text"),
        pytest.param({"nbf": False}, "nbf: expected a number, got a boolean", id="nbf false"),
        pytest.param({"iat": "x"}, "iat: expected a number, got a string", id="iat text"),
        pytest.param({"iat": True}, "iat: expected a number, got a boolean", id="iat true"),
        pytest.param({"scope": None}, "scope: expected a list, got null", id="scope null"),
        pytest.param({"scope": 1}, "scope: expected a list, got an integer", id="scope number"),
        pytest.param({"scope": {"a": 1}}, "scope: expected a list, got an object", id="scope object"),
        pytest.param({"scope": ["a", 1]}, "scope[1]: expected a string, got an integer", id="scope list of others"),
        pytest.param({"sub": True}, "sub: expected a string, got a boolean", id="sub true"),
        pytest.param({"sub": ["x"]}, "sub: expected a string, got a list", id="sub list"),
        pytest.param({"iss": ["x"]}, "iss: expected a string, got a list", id="iss list"),
        pytest.param({"vm_access": None}, "missing `vm_access` claim", id="vm_access null"),
        pytest.param(
            {"vm_access": {"mode": 7}},
            "vm_access.mode: expected an integer of 0 to 3, got one out of range",
            id="vm_access",
        ),
    ],
)
def test_claims_rejects(members: dict[str, object], message: str) -> None:
    for verifier, token in (
        (TokenVerifier(None), _unsigned(**members)),
        (TokenVerifier(_keys(keys.ec_key())), keys.sign(keys.claims(**members), keys.ec_key())),
    ):
        with pytest.raises(InvalidClaims) as error:
            verifier.verify(token, NOW)
        assert str(error.value) == message
        assert verifier.cached == 0


@pytest.mark.parametrize("missing", ["exp", "vm_access"])
def test_missing_claims(missing: str) -> None:
    claims = {name: value for name, value in keys.claims().items() if name != missing}
    with pytest.raises(InvalidClaims, match=f"missing `{missing}`|{missing}: missing"):
        TokenVerifier(None).verify(keys.compact({"alg": "HS256"}, claims), NOW)


def test_the_signature_is_checked_before_any_claim() -> None:
    """What a claim looks like is told to nobody who cannot sign."""
    token = keys.sign({"exp": "never"}, keys.ec_key("P-256", "attacker"))
    assert _code(TokenVerifier(_keys(keys.ec_key())), token) == "bad_signature"


# --- times ---------------------------------------------------------------------------------------------------------


@each(
    ("members", "now", "code"),
    [
        pytest.param({"exp": NOW}, NOW - 1, None, id="a second before exp"),
        pytest.param({"exp": NOW}, NOW - 0.001, None, id="a millisecond before exp"),
        pytest.param({"exp": NOW}, NOW, "expired", id="at exp"),
        pytest.param({"exp": NOW}, NOW + 0.001, "expired", id="a millisecond after exp"),
        pytest.param({"exp": 0}, NOW, "expired", id="exp zero"),
        pytest.param({"exp": -(10**4000)}, NOW, "expired", id="exp far below zero"),
        pytest.param({"exp": 10**4000}, 1e300, None, id="exp beyond all floats"),
        pytest.param({"exp": 10**400}, float("inf"), "expired", id="no end of time"),
        pytest.param({}, float("nan"), "expired", id="no time"),
        pytest.param({"nbf": NOW}, NOW - 1, "not_yet_valid", id="a second before nbf"),
        pytest.param({"nbf": NOW}, NOW - 0.001, "not_yet_valid", id="a millisecond before nbf"),
        pytest.param({"nbf": NOW}, NOW, None, id="at nbf"),
        pytest.param({"nbf": 10**4000}, NOW, "not_yet_valid", id="nbf beyond all floats"),
        pytest.param({"nbf": NOW + 1, "exp": NOW}, NOW, "expired", id="both"),
        pytest.param({"exp": NOW + 0.5}, NOW + 0.499, None, id="before a fraction of exp"),
        pytest.param({"exp": NOW + 0.5}, NOW + 0.5, "expired", id="at a fraction of exp"),
        pytest.param({"nbf": NOW + 0.5}, NOW + 0.499, "not_yet_valid", id="before a fraction of nbf"),
        pytest.param({"nbf": NOW + 0.5}, NOW + 0.5, None, id="at a fraction of nbf"),
        pytest.param({"exp": 2.5e9, "nbf": 1.5e9}, NOW, None, id="exponents"),
        pytest.param({"exp": 1e308}, 1e300, None, id="a large exponent"),
        pytest.param({"exp": 1e-308}, NOW, "expired", id="a small exponent"),
    ],
)
def test_times(members: dict[str, object], now: float, code: str | None) -> None:
    fresh = TokenVerifier(_keys(keys.ec_key()))
    token = keys.sign(keys.claims(**members), keys.ec_key())
    if code is None:
        assert fresh.verify(token, now) is fresh.verify(token, now)
    else:
        assert _code(fresh, token, now) == code
        assert _code(fresh, token, now) == code


def test_times_are_judged_on_every_use() -> None:
    verifier = TokenVerifier(_keys(keys.ec_key()))
    token = keys.sign(keys.claims(nbf=NOW, exp=NOW + 10), keys.ec_key())
    first = verifier.verify(token, NOW)
    assert verifier.cached == 1
    assert verifier.verify(token, NOW + 9.999) is first
    with pytest.raises(TokenExpired, match=f"`exp` is not after {NOW + 10}$"):
        verifier.verify(token, NOW + 10)
    assert verifier.verify(token, NOW + 5) is first, "a clock that was set back"
    with pytest.raises(TokenNotYetValid, match=f"`nbf` is after {NOW - 1}$"):
        verifier.verify(token, NOW - 1)
    assert verifier.verify(token, NOW) == first


@each("number", ["1e400", "-1e400", "1" + "0" * 5000])
@each("name", ["exp", "nbf", "iat"])
def test_numbers_out_of_range(name: str, number: str) -> None:
    payload = f'{{"vm_access":{{}},"exp":{NOW + 60},"{name}":{number}}}'.replace(f'"exp":{NOW + 60},"exp"', '"exp"')
    token = keys.sign(payload.encode(), keys.ec_key())
    assert _code(TokenVerifier(_keys(keys.ec_key())), token) == "malformed_token"


@pytest.mark.parametrize(
    ("members", "now", "code"),
    [
        pytest.param({"exp": NOW}, NOW + 29.999, None, id="exp, within"),
        pytest.param({"exp": NOW}, NOW + 30, "expired", id="exp, at its end"),
        pytest.param({"exp": NOW + 0.5}, NOW + 30.5, "expired", id="exp, with a fraction"),
        pytest.param({"nbf": NOW}, NOW - 30, None, id="nbf, at its end"),
        pytest.param({"nbf": NOW}, NOW - 30.001, "not_yet_valid", id="nbf, beyond"),
        pytest.param({"exp": 10**4000, "nbf": -(10**4000)}, NOW, None, id="beyond all floats"),
        pytest.param({"exp": NOW}, float("nan"), "expired", id="no time"),
    ],
)
def test_leeway(members: dict[str, object], now: float, code: str | None) -> None:
    verifier = TokenVerifier(_keys(keys.ec_key()), rules=TokenRules(leeway=30))
    token = keys.sign(keys.claims(**members), keys.ec_key())
    for _ in range(2):
        if code is None:
            assert verifier.verify(token, now) is verifier.verify(token, now)
        else:
            assert _code(verifier, token, now) == code


# --- the cache -----------------------------------------------------------------------------------------------------


def test_only_what_was_verified_is_remembered() -> None:
    verifier = TokenVerifier(_keys(keys.ec_key()))
    for bad in ("", "x", _SAMPLE, keys.sign(keys.claims(), keys.ec_key("P-256", "attacker"))):
        for _ in range(2):
            _code(verifier, bad)
    assert verifier.cached == 0


def test_a_remembered_token_is_not_verified_again() -> None:
    verifier = TokenVerifier(_keys(keys.ec_key()))
    token = keys.sign(keys.claims(), keys.ec_key())
    first = verifier.verify(token, NOW)
    # An equal text that is another object, as every request brings one.
    again = "".join(list(token))
    assert again is not token
    assert verifier.verify(again, NOW) is first


def test_another_text_of_a_remembered_token_is_verified() -> None:
    verifier = TokenVerifier(_keys(keys.ec_key()))
    token = keys.sign(keys.claims(), keys.ec_key())
    verifier.verify(token, NOW)
    assert _code(verifier, token[:-1]) in {"bad_signature", "malformed_token"}
    assert _code(verifier, token + "A") in {"bad_signature", "malformed_token"}


def _room_for(*tokens: str) -> int:
    verifier = TokenVerifier(None)
    for token in tokens:
        verifier.verify(token, NOW - 1)
    assert verifier.cached == len(tokens)
    return verifier.cached_bytes


def test_the_least_recently_used_makes_room() -> None:
    first, second, third = (_unsigned(sub=name) for name in ("user1", "user2", "user3"))
    verifier = TokenVerifier(None, cache_bytes=_room_for(first, second))
    kept = verifier.verify(first, NOW)
    gone = verifier.verify(second, NOW)
    assert verifier.verify(first, NOW) is kept
    verifier.verify(third, NOW)
    assert verifier.cached == 2
    assert verifier.verify(first, NOW) is kept
    assert verifier.verify(second, NOW) is not gone


def test_a_token_that_is_not_good_now_is_not_verified_again_and_makes_room_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good_text, fresh_text = _unsigned(sub="good!"), _unsigned(sub="fresh")
    stale, early = _unsigned(sub="stale", exp=NOW), _unsigned(sub="early", nbf=NOW - 1)
    verifier = TokenVerifier(None, cache_bytes=_room_for(good_text, stale, early))
    good = verifier.verify(good_text, NOW)
    assert _code(verifier, stale) == "expired"
    assert _code(verifier, early, NOW - 2) == "not_yet_valid"
    assert verifier.cached == 3
    fresh = verifier.verify(fresh_text, NOW)
    monkeypatch.setattr(verifier, "_read", None)
    assert verifier.verify(good_text, NOW) is good
    assert verifier.verify(fresh_text, NOW) is fresh


def test_a_stale_token_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = TokenVerifier(_keys(keys.ec_key()))
    token = keys.sign(keys.claims(exp=NOW - 1), keys.ec_key())
    assert _code(verifier, token) == "expired"
    monkeypatch.setattr(verifier, "_read", None)
    assert _code(verifier, token) == "expired"


def test_no_cache() -> None:
    verifier = TokenVerifier(None, cache_bytes=0)
    assert verifier.verify(_SAMPLE, NOW) is not verifier.verify(_SAMPLE, NOW)
    assert (verifier.cached, verifier.cached_bytes) == (0, 0)


def test_a_token_larger_than_the_whole_cache_drops_no_other() -> None:
    small, large = _unsigned(), _unsigned(x="y" * 5000)
    verifier = TokenVerifier(None, cache_bytes=4000)
    kept = verifier.verify(small, NOW)
    verifier.verify(large, NOW)
    assert (verifier.cached, verifier.verify(small, NOW)) == (1, kept)


@pytest.mark.parametrize(("filler", "labels"), [(0, 0), (20_000, 0), (2000, 60)])
def test_the_memory_of_remembered_tokens_is_what_is_counted(filler: int, labels: int) -> None:
    """Measured: never more than is counted, and at least half of it."""
    access = {"extra_labels": {f"label{number}": "value" * 4 for number in range(labels)}}
    tokens = [
        _unsigned(sub=f"user{number}", iss=keys.ISSUER, nbf=0.5, x="y" * filler, vm_access=access)
        for number in range(200)
    ]
    verifier = TokenVerifier(None)
    verifier.verify(_SAMPLE, NOW)
    counted = verifier.cached_bytes
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for token in tokens:
            verifier.verify("".join(list(token)), NOW)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert verifier.cached == 201
    assert (verifier.cached_bytes - counted) / 2 < used <= verifier.cached_bytes - counted


def test_new_keys_drop_what_was_verified_with_the_old_ones() -> None:
    verifier = TokenVerifier(_keys(keys.ec_key(), keys.rsa_key()))
    token = keys.sign(keys.claims(), keys.ec_key())
    first = verifier.verify(token, NOW)
    verifier.replace_keys(_keys(keys.ec_key()))
    assert verifier.cached == 0
    assert verifier.verify(token, NOW) is not first
    verifier.replace_keys(_keys(keys.rsa_key()))
    assert _code(verifier, token) == "unknown_key"
    verifier.replace_keys(None)
    assert verifier.verify(token, NOW).key is None


# --- the laws ------------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_NAMES = ["exp", "nbf", "iat", "iss", "sub", "scope", "vm_access"]
_ACCESS_NAMES = ["tenant_id", "extra_labels", "extra_filters", "mode", "metrics_account_id", "metrics_extra_labels"]
_PAYLOADS = st.dictionaries(st.sampled_from(_NAMES), _JSON) | st.builds(
    lambda access: keys.claims(vm_access=access), st.dictionaries(st.sampled_from(_ACCESS_NAMES), _JSON)
)


def _verified_or_refused(token: str) -> None:
    for keyset in (None, KeySet(())):
        try:
            verified = TokenVerifier(keyset).verify(token, NOW)
        except TokenRefused:
            continue
        assert isinstance(verified, Token)
        assert keyset is None


@given(st.text(max_size=60) | st.lists(st.binary(max_size=20).map(keys.b64), max_size=4).map(".".join))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    _verified_or_refused(text)


@given(_PAYLOADS, st.dictionaries(st.sampled_from(["alg", "kid", "typ"]), _JSON))
def test_any_claims_are_a_token_or_refused(payload: dict[str, object], header: dict[str, object]) -> None:
    _verified_or_refused(keys.compact({"alg": "RS256", **header}, json.dumps(payload).encode()))
