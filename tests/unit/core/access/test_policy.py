"""access policies: what the claims of a token grant, and that no claim grants more than the file says."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.access import read_access_policy
from vmgw_core.base import TenantID
from vmgw_core.errors import InvalidClaims, NoMatchingEntry
from vmgw_core.tokens import AccessMode, VMAccessClaim, parse_selector
from vmgw_core.tokens.selector import Matcher

Claims = dict[str, object]


def grants(text: str, claims: Claims) -> tuple[list[VMAccessClaim], tuple[str, ...]]:
    found = read_access_policy(text, "policy.yaml").grants(claims)
    return list(found.alternatives), found.sources


def claim(
    tenant: str = "0:0", mode: AccessMode = AccessMode.FULL, filters: tuple[str, ...] = (), **labels: str
) -> VMAccessClaim:
    return VMAccessClaim(tenant=TenantID.parse(tenant), labels=tuple(labels.items()), filters=filters, mode=mode)


def entry(when: str, grant: str = "{tenant: 7}") -> str:
    return f"match:\n- {{when: {when}, grant: {grant}}}\n"


HOLDS = [
    pytest.param("{iss: https://idp}", {"iss": "https://idp"}, id="text"),
    pytest.param("{org: 12}", {"org": 12}, id="integer"),
    pytest.param("{org: 12}", {"org": "12"}, id="number in a string"),
    pytest.param("{admin: true}", {"admin": True}, id="boolean"),
    pytest.param("{groups: sre}", {"groups": ["dev", "sre"]}, id="member of a list"),
    pytest.param("{groups: [a, sre]}", {"groups": ["dev", "sre"]}, id="one of several"),
    pytest.param("{groups: {contains: sre}}", {"groups": ["dev", "sre"]}, id="contains"),
    pytest.param("{groups: {contains: [a, sre]}}", {"groups": "sre"}, id="contains, of a text"),
    pytest.param("{scope: metrics}", {"scope": "openid metrics"}, id="scope"),
    pytest.param("{realm_access.roles: ops}", {"realm_access": {"roles": ["ops"]}}, id="path"),
    pytest.param(r"{a\.b: x}", {"a.b": "x"}, id="dot in a name"),
    pytest.param('{"https://a.b/c": x}', {"https://a.b/c": "x"}, id="URL as a name"),
    pytest.param('{"cognito:groups": x}', {"cognito:groups": ["x"]}, id="colon in a name"),
    pytest.param("{a: {exists: true}}", {"a": None}, id="exists"),
    pytest.param("{a.b: {exists: false}}", {"a": 1}, id="exists not"),
    pytest.param('{a: {matches: "x+"}}', {"a": "xxx"}, id="matches"),
    pytest.param('{a: {matches: "^x+$"}}', {"a": ["y", "xxx"]}, id="matches a member"),
    pytest.param("{a: x, b: y}", {"a": "x", "b": "y"}, id="all of several"),
]
HOLDS_NOT = [
    pytest.param("{iss: https://idp}", {"iss": "https://idp/"}, id="text"),
    pytest.param("{iss: https://idp}", {}, id="absent"),
    pytest.param("{org: 12}", {"org": 12.5}, id="number"),
    pytest.param("{org: 12}", {"org": True}, id="boolean"),
    pytest.param("{groups: sre}", {"groups": ["sre "]}, id="member"),
    pytest.param("{groups: sre}", {"groups": {"sre": 1}}, id="object"),
    pytest.param("{groups: sre}", {"groups": [["sre"]]}, id="nested list"),
    pytest.param("{groups: sre}", {"groups": "dev sre"}, id="no scope"),
    pytest.param("{a.b: x}", {"a.b": "x"}, id="a dot leads into an object"),
    pytest.param("{a.b: x}", {"a": "x"}, id="no object"),
    pytest.param('{"https://a.b/c": x}', {"https://a": {"b/c": "x"}}, id="URL"),
    pytest.param("{a: {exists: true}}", {"A": 1}, id="exists"),
    pytest.param("{a: {exists: false}}", {"a": None}, id="exists not"),
    pytest.param('{a: {matches: "x"}}', {"a": "xx"}, id="matches the whole text"),
    pytest.param('{a: {matches: "x|y"}}', {"a": "xz"}, id="matches the whole text, with alternatives"),
    pytest.param('{a: {matches: "x*"}}', {"a": "x" * 4097}, id="text that is too long"),
    pytest.param("{a: x, b: y}", {"a": "x", "b": "z"}, id="one of several"),
]


@pytest.mark.parametrize(("when", "claims"), HOLDS)
def test_a_condition_holds(when: str, claims: Claims) -> None:
    assert grants(entry(when), claims) == ([claim("7:0")], ("match[0]",))


@pytest.mark.parametrize(("when", "claims"), HOLDS_NOT)
def test_a_condition_does_not_hold(when: str, claims: Claims) -> None:
    with pytest.raises(NoMatchingEntry, match=r"no entry of -auth\.policy matches the token"):
        grants(entry(when), claims)


TEAMS = """
match:
- name: sre
  when: {groups: sre}
  grant: {tenant: "1:0"}
- name: teams
  when: {groups: {matches: "team-(?P<team>[a-z0-9-]+)"}, org: {matches: "(?P<org>[0-9]+)"}}
  grant:
    tenant: "{org}:5"
    labels: {team: "{team}", by: "x{team}y"}
    filters: ['{env=~"{team}-.*",team!="{team}"}']
    mode: read
- name: own
  when: {"https://example.com/vm_access": {exists: true}}
  grant: {claim: "https://example.com/vm_access"}
default: {labels: {team: nobody}, mode: write}
"""


def team(name: str, quoted: str | None = None) -> VMAccessClaim:
    filters = (f'{{env=~"{quoted or name}-.*",team!="{name}"}}',)
    return claim("12:5", AccessMode.READ, filters, team=name, by=f"x{name}y")


@pytest.mark.parametrize(
    ("claims", "alternatives", "sources"),
    [
        pytest.param({"groups": ["sre"]}, [claim("1:0")], ("sre",), id="an entry"),
        pytest.param({"groups": "team-a", "org": "12"}, [team("a")], ("teams",), id="placeholders"),
        pytest.param(
            {"groups": ["team-a", "x", "team-b", "team-a"], "org": 12},
            [team("a"), team("b")],
            ("teams",),
            id="a match each",
        ),
        pytest.param(
            {"groups": ["team-a", "sre"], "org": 12}, [claim("1:0"), team("a")], ("sre", "teams"), id="two entries"
        ),
        pytest.param(
            {"https://example.com/vm_access": {"mode": 1}}, [claim(mode=AccessMode.READ)], ("own",), id="a claim"
        ),
        pytest.param(
            {"groups": ["team-a"]}, [claim(mode=AccessMode.WRITE, team="nobody")], ("default",), id="the default"
        ),
        pytest.param(
            {"groups": ["sre"], "vm_access": {"mode": 2}},
            [claim(mode=AccessMode.WRITE)],
            (),
            id="vm_access comes first",
        ),
    ],
)
def test_what_is_granted(claims: Claims, alternatives: list[VMAccessClaim], sources: tuple[str, ...]) -> None:
    assert grants(TEAMS, claims) == (alternatives, sources)


def test_vm_access_may_be_ignored() -> None:
    text = entry("{groups: sre}") + "vm_access: ignore\n"
    assert grants(text, {"groups": "sre", "vm_access": {"tenant_id": {"account_id": 9}}})[0] == [claim("7:0")]
    with pytest.raises(NoMatchingEntry):
        grants(text, {"vm_access": {}})


def test_a_vm_access_that_cannot_be_read_is_no_reason_to_look_further() -> None:
    with pytest.raises(InvalidClaims, match="missing `vm_access` claim"):
        grants(TEAMS, {"groups": "sre", "vm_access": None})


@pytest.mark.parametrize(
    ("text", "claims", "reason"),
    [
        (
            entry('{a: {matches: "(?P<v>.*)"}}', '{tenant: "{v}"}'),
            {"a": "01"},
            "match[0].grant.tenant: a tenant is written",
        ),
        (
            entry('{a: {matches: "(?P<v>.*)"}}', '{tenant: "{v}"}'),
            {"a": "4294967296"},
            "match[0].grant.tenant: a tenant is",
        ),
        (entry('{a: {matches: "(?P<v>.*)"}}', '{labels: {team: "{v}"}}'), {"a": ""}, "a label value must not be empty"),
        (
            entry('{a: {matches: "x|(?P<v>y)"}}', '{labels: {team: "{v}"}}'),
            {"a": "x"},
            "a label value must not be empty",
        ),
        (entry('{a: {matches: "(?s)(?P<v>.*)"}}', '{labels: {team: "{v}"}}'), {"a": "a\nb"}, "must not have control"),
        (entry("{a: {exists: true}}", "{claim: b}"), {"a": 1}, "match[0].grant: the token has no claim `b`"),
        (entry("{a: {exists: true}}", "{claim: a}"), {"a": 1}, "match[0].grant: a: expected an object, got an integer"),
        (
            entry('{a: {matches: "(?P<v>.*)"}}', '{labels: {t: "{v}"}}'),
            {"a": [str(i) for i in range(65)]},
            "more than 64 values",
        ),
        (
            entry('{a: {matches: "(?P<v>.*)"}, b: {matches: "(?P<w>.*)"}}', '{labels: {t: "{v}{w}"}}'),
            {"a": [str(i) for i in range(9)], "b": [str(i) for i in range(8)]},
            "match[0] matches more than 64 times",
        ),
        (
            entry('{a: {matches: "(?P<v>.*)"}}', '{labels: {t: "{v}"}}')
            + '- {when: {a: {matches: "(?P<v>.*)"}}, grant: {labels: {u: "{v}"}}}\n',
            {"a": [str(i) for i in range(40)]},
            "the token has more than 64 grants",
        ),
    ],
)
def test_what_cannot_be_granted_refuses_the_token(text: str, claims: Claims, reason: str) -> None:
    with pytest.raises(InvalidClaims, match=re.escape(reason)):
        grants(text, claims)


@given(st.text(min_size=1).filter(lambda text: not re.search(r"[\x00-\x1f\x7f-\x9f]", text)))
def test_a_value_stays_a_value(text: str) -> None:
    """Whatever a claim has, it adds no label, no matcher and no tenant."""
    policy = entry(
        '{a: {matches: "(?s)(?P<v>.*)"}}',
        """{labels: {team: "{v}"}, filters: ['{x="{v}",y=~"a{v}|b"}']}""",
    )
    try:
        [found], _ = grants(policy, {"a": text})
    except InvalidClaims as error:
        assert "control characters" in str(error)  # noqa: PT017
        return
    assert (found.tenant, found.labels) == (TenantID(), (("team", text),))
    [selector] = found.filters
    [[x, y]] = parse_selector(selector).alternatives
    assert x == Matcher(name="x", operator="=", value=text)
    assert (y.name, y.operator) == ("y", "=~")
    literal = y.value.removeprefix("a").removesuffix("|b")
    assert re.sub(r"\\(.)", r"\1", literal, flags=re.DOTALL) == text
    assert not re.search(r"(?<!\\)(?:\\\\)*[|.*+?()\[\]{}^$]", literal)


def test_an_expression_takes_no_time() -> None:
    """RE2 does not backtrack: this text takes Python's own expressions longer than anybody waits."""
    with pytest.raises(NoMatchingEntry):
        grants(entry('{a: {matches: "(a*)*(a*)*b"}}'), {"a": "a" * 4000})


def test_a_grant_names_a_class_of_limits_and_a_claim_cannot() -> None:
    text = "match:\n- {when: {g: a}, grant: {tenant: 1, limits: bronze}}\n- {when: {g: b}, grant: {tenant: 2}}\n"
    text += "- {when: {g: c}, grant: {claim: x, limits: gold}}\n"
    granted = read_access_policy(text, "policy.yaml").grants
    of_all = granted({"g": ["a", "b", "c"], "x": {"tenant_id": {"account_id": 1}, "limits": "none"}})
    assert [each.limit_class for each in of_all.alternatives] == ["bronze", "", "gold"]
    assert of_all.limit_classes() == {"bronze", "gold"}
    assert of_all.limit_classes(TenantID(1, 0)) == {"bronze", "gold"}
    assert of_all.limit_classes(TenantID(2, 0)) == frozenset()
    assert granted({"vm_access": {"limits": "bronze", "limit_class": "bronze"}}).limit_classes() == frozenset()
    assert of_all != granted({"g": ["b", "c"], "x": {"tenant_id": {"account_id": 1}}})
