"""token_rules: audiences, required claims, and what is said of a token that has others."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import keys
from tests.support.core.keys import NOW
from tests.support.each import each
from vmgw_core.errors import ClaimMismatch, TokenRefused, WrongAudience
from vmgw_core.tokens.keys import KeySet, keys_from_pem
from vmgw_core.tokens.rules import ClaimPath, RequiredClaim, TokenRules
from vmgw_core.tokens.verifier import TokenVerifier

_KEYS = KeySet(keys_from_pem(keys.pem(keys.ec_key()), "pem"))


def _accepted(rules: TokenRules, **members: object) -> None:
    """By a gateway with keys and by one without, twice each: the second time the token is remembered."""
    token = keys.sign(keys.claims(**members), keys.ec_key())
    for verifier in (TokenVerifier(_KEYS, rules=rules), TokenVerifier(None, rules=rules)):
        assert verifier.verify(token, NOW) is verifier.verify(token, NOW)


def _refusal(rules: TokenRules, **members: object) -> TokenRefused:
    token = keys.sign(keys.claims(**members), keys.ec_key())
    for verifier in (TokenVerifier(_KEYS, rules=rules), TokenVerifier(None, rules=rules)):
        for _ in range(2):
            with pytest.raises(TokenRefused) as error:
                verifier.verify(token, NOW)
        assert verifier.cached == 0
    return error.value


# --- audience ------------------------------------------------------------------------------------------------------

_AUDIENCES = TokenRules(audiences=("metrics", "https://metrics.example.com"))


@pytest.mark.parametrize(
    "aud", ["metrics", "https://metrics.example.com", ["metrics"], ["other", "metrics"], [1, None, "metrics"]], ids=repr
)
def test_audience_accepts(aud: object) -> None:
    _accepted(_AUDIENCES, aud=aud)


@each(
    ("aud", "told"),
    [
        ("Metrics", '"Metrics"'),
        ("metrics ", '"metrics "'),
        ("", '""'),
        ("metrics,other", '"metrics,other"'),
        (["other"], '["other"]'),
        ([], "[]"),
        ([["metrics"]], "[a list]"),
        ({"metrics": "metrics"}, "an object"),
        (None, "missing"),
        (7, "7"),
        (True, "true"),
    ],
    ids=repr,
)
def test_audience_rejects(aud: object, told: str) -> None:
    refusal = _refusal(_AUDIENCES, aud=aud)
    assert isinstance(refusal, WrongAudience)
    assert refusal.code == "wrong_audience"
    assert str(refusal) == f'`aud` is {told}; expected one of "metrics", "https://metrics.example.com"'


def test_a_token_without_an_audience() -> None:
    assert str(_refusal(TokenRules(audiences=("metrics",)))) == '`aud` is missing; expected "metrics"'
    _accepted(TokenRules())


def test_audience_is_judged_after_the_signature() -> None:
    token = keys.sign(keys.claims(aud="other"), keys.ec_key("P-256", "attacker"))
    with pytest.raises(TokenRefused) as error:
        TokenVerifier(_KEYS, rules=_AUDIENCES).verify(token, NOW)
    assert error.value.code == "bad_signature"


# --- required claims -----------------------------------------------------------------------------------------------


@each(
    ("text", "path", "value"),
    [
        ("role=admin", ("role",), "admin"),
        ("a.b.c=x", ("a", "b", "c"), "x"),
        (r"https://example\.com/role=admin", ("https://example.com/role",), "admin"),
        (r"a\.b.c=x", ("a.b", "c"), "x"),
        (r"a\=b=c=d", ("a=b",), "c=d"),
        (r"a\\.b=x", ("a\\", "b"), "x"),
        ("cognito:groups=metrics", ("cognito:groups",), "metrics"),
        (r"a=b\.c", ("a",), r"b\.c"),
        ("a= x ", ("a",), " x "),
    ],
)
def test_required_claim_accepts(text: str, path: tuple[str, ...], value: str) -> None:
    claim = RequiredClaim.parse(text)
    assert claim == RequiredClaim(ClaimPath(path), value)
    assert f"{claim.path}={claim.value}" == text


@each("text", ["", "role", "=x", "role=", ".a=x", "a.=x", "a..b=x", r"a\b=x", "a\\", r"a\=x", "a.", "."])
def test_required_claim_rejects(text: str) -> None:
    with pytest.raises(ValueError, match="expected name=value"):
        RequiredClaim.parse(text)


@given(st.lists(st.text(min_size=1), min_size=1), st.text(min_size=1))
def test_every_path_can_be_written(path: list[str], value: str) -> None:
    claim = RequiredClaim(ClaimPath(tuple(path)), value)
    assert RequiredClaim.parse(f"{claim.path}={value}") == claim


def _requires(*texts: str) -> TokenRules:
    return TokenRules(required=tuple(map(RequiredClaim.parse, texts)))


@each(
    ("text", "members"),
    [
        ("role=admin", {"role": "admin"}),
        ("role=admin", {"role": ["viewer", "admin"]}),
        ("realm.roles=admin", {"realm": {"roles": ["admin", {"x": 1}, None]}}),
        (r"https://example\.com/role=admin", {"https://example.com/role": "admin"}),
        ("level=5", {"level": 5}),
        ("level=5", {"level": "5"}),
        ("level=5", {"level": [4, 5]}),
        ("level=1.5", {"level": 1.5}),
        ("email_verified=true", {"email_verified": True}),
        ("scope=metrics", {"scope": "openid metrics"}),
        ("scope=metrics", {"scope": ["openid", "metrics"]}),
        ("scp=metrics", {"scp": "openid metrics"}),
    ],
)
def test_claims_that_match(text: str, members: dict[str, object]) -> None:
    _accepted(_requires(text), **members)


@each(
    ("text", "members", "told"),
    [
        ("role=admin", {}, '`role` is missing; expected "admin"'),
        ("role=admin", {"role": None}, '`role` is null; expected "admin"'),
        ("role=admin", {"role": "Admin"}, '`role` is "Admin"; expected "admin"'),
        ("role=admin", {"role": "admin2"}, '`role` is "admin2"; expected "admin"'),
        ("role=admin", {"role": "viewer admin"}, '`role` is "viewer admin"; expected "admin"'),
        ("role=admin", {"role": {"admin": "admin"}}, '`role` is an object; expected "admin"'),
        ("role=admin", {"role": [["admin"]]}, '`role` is [a list]; expected "admin"'),
        ("role=admin", {"role": list("abcdef")}, '`role` is ["a", "b", "c", "d", ...]; expected "admin"'),
        ("a.b=x", {"a.b": "x"}, '`a.b` is missing; expected "x"'),
        ("a.b=x", {"a": "b"}, '`a.b` is missing; expected "x"'),
        ("a.b=x", {"a": [{"b": "x"}]}, '`a.b` is missing; expected "x"'),
        (r"a\.b=x", {"a": {"b": "x"}}, r'`a\.b` is missing; expected "x"'),
        ("x=1", {"x": True}, '`x` is true; expected "1"'),
        ("x=True", {"x": True}, '`x` is true; expected "True"'),
        ("x=null", {"x": None}, '`x` is null; expected "null"'),
        ("x=1", {"x": 1.0}, '`x` is 1.0; expected "1"'),
        ("a.scope=b", {"a": {"scope": "b c"}}, '`a.scope` is "b c"; expected "b"'),
    ],
)
def test_claims_that_do_not_match(text: str, members: dict[str, object], told: str) -> None:
    refusal = _refusal(_requires(text), **members)
    assert isinstance(refusal, ClaimMismatch)
    assert refusal.code == "claim_mismatch"
    assert str(refusal) == told


def test_all_required_claims_are_needed() -> None:
    rules = _requires("role=admin", "groups=a", "groups=b")
    _accepted(rules, role="admin", groups=["b", "a"])
    for members in ({"role": "admin", "groups": ["a"]}, {"role": "viewer", "groups": ["a", "b"]}, {"groups": ["a"]}):
        assert _refusal(rules, **members).code == "claim_mismatch"


@given(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.lists(st.text())), st.text(min_size=1))
def test_messages_are_short_and_printable(claims: dict[str, object], value: str) -> None:
    """What a token holds is anybody's text until a person reads it."""
    long = {name: json.loads(json.dumps(each)) for name, each in claims.items()} | {"role": value * 200}
    for rules in (_AUDIENCES, _requires("role=admin"), TokenRules(audiences=tuple(f"a{n}" for n in range(1000)))):
        with pytest.raises(TokenRefused) as error:
            rules.check({**long, "aud": value * 200})
        assert len(str(error.value)) < 500
        assert str(error.value).isascii()
        assert str(error.value).isprintable()
