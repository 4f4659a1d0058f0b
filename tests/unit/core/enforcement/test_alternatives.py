"""alternatives: a series is shown exactly if one of the token's grants allows it, on every kind of path."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.base import TenantID
from vmgw_core.enforcement.alternatives import claim_for
from vmgw_core.errors import AccessDenied
from vmgw_core.routing import Match, match_route
from vmgw_core.tokens import AccessMode, Grants, VMAccessClaim, parse_selector

READ, WRITE, FULL = AccessMode.READ, AccessMode.WRITE, AccessMode.FULL


def grant(tenant: str = "0:0", *filters: str, mode: AccessMode = FULL, **labels: str) -> VMAccessClaim:
    return VMAccessClaim(tenant=TenantID.parse(tenant), labels=tuple(labels.items()), filters=filters, mode=mode)


def on(path: str, *claims: VMAccessClaim, method: str = "GET") -> VMAccessClaim:
    """What the claims allow on a path of a cluster, or of a single node if it is one."""
    cluster = path.startswith(("/select/", "/insert/", "/delete/")) or path == QUERY_OF_CLUSTER
    match: Match = match_route(path, method, cluster=cluster)
    return claim_for(Grants(alternatives=claims), match, cluster=cluster)


QUERY = "/api/v1/query"
QUERY_OF_CLUSTER = "/select/1:0/prometheus/api/v1/query"
EVERYWHERE = "/select/multitenant/prometheus/api/v1/query"
IMPORT = "/api/v1/import/prometheus"


@pytest.mark.parametrize(
    ("claims", "labels", "filters"),
    [
        pytest.param([grant(a="1", b="2")], {"a": "1", "b": "2"}, [], id="one"),
        pytest.param([grant(a="1"), grant(a="2")], {}, ['{a="1"}', '{a="2"}'], id="two values"),
        pytest.param(
            [grant(a="1", b="x"), grant(b="x", a="2")], {"b": "x"}, ['{a="1"}', '{a="2"}'], id="a label of both"
        ),
        pytest.param([grant(a="1"), grant(b="1")], {}, ['{a="1"}', '{b="1"}'], id="two labels"),
        pytest.param([grant(a="1"), grant()], {}, [], id="one without restrictions"),
        pytest.param([grant(), grant(a="1")], {}, [], id="the first without restrictions"),
        pytest.param([grant(a="1", b="x"), grant(b="x")], {"b": "x"}, [], id="a wider one"),
        pytest.param(
            [grant("0:0", '{x="1"}', a="1"), grant("0:0", '{y=~"2"}', 'm{z!="3"}')],
            {},
            ['{a="1",x="1"}', '{y=~"2"}', '{__name__="m",z!="3"}'],
            id="filters",
        ),
        pytest.param(
            [grant("0:0", '{x="1" or y="2"}', a="1"), grant(a="2")],
            {},
            ['{a="1",x="1"}', '{a="1",y="2"}', '{a="2"}'],
            id="a filter with alternatives",
        ),
        pytest.param([grant("0:0", '{x="1"}', a="1"), grant(a="1")], {"a": "1"}, [], id="the second is wider"),
        pytest.param(
            [replace(grant(), labels=(("a b", '"'),)), grant(a="2")], {}, [r'{a\ b="\""}', '{a="2"}'], id="an odd name"
        ),
        pytest.param([grant(a="1"), grant(a="2", mode=WRITE)], {"a": "1"}, [], id="only those that allow reads"),
    ],
)
def test_reads(claims: list[VMAccessClaim], labels: dict[str, str], filters: list[str]) -> None:
    found = on(QUERY, *claims)
    assert (dict(found.labels), list(found.filters)) == (labels, filters)


def test_no_grant_for_this_access() -> None:
    with pytest.raises(AccessDenied, match="the token gives no write access"):
        on(IMPORT, grant(mode=READ), grant(a="1", mode=READ), method="POST")


def test_a_write_gets_the_labels_of_the_grants_if_all_have_the_same() -> None:
    found = on(IMPORT, grant("0:0", '{x="1"}', a="1", b="2"), grant(b="2", a="1"), grant(mode=READ), method="POST")
    assert dict(found.labels) == {"a": "1", "b": "2"}
    with pytest.raises(
        AccessDenied, match="several grants with different labels, and a write can get the labels of one"
    ):
        on(IMPORT, grant(a="1"), grant(a="2"), method="POST")
    with pytest.raises(AccessDenied, match="several grants with different labels"):
        on(IMPORT, grant(a="1"), grant(), method="POST")


# --- several tenants ----------------------------------------------------------------------------------------------


def test_the_path_chooses_the_tenant() -> None:
    claims = grant("1:0", a="1"), grant("2:0", a="2"), grant("1:0", a="3")
    found = on(QUERY_OF_CLUSTER, *claims)
    assert (str(found.tenant), found.labels, found.filters) == ("1:0", (), ('{a="1"}', '{a="3"}'))
    assert on("/select/2/prometheus/api/v1/query", *claims).labels == (("a", "2"),)
    assert on("/select/3/prometheus/api/v1/query", *claims).tenant != TenantID(3), "and is refused for it"


def test_a_path_without_a_tenant_needs_one_tenant() -> None:
    with pytest.raises(AccessDenied, match="several tenants: -clusterMode is not set"):
        on(QUERY, grant("1:0"), grant("2:0"))
    match = match_route(QUERY, "GET", cluster=True)
    with pytest.raises(AccessDenied, match="several tenants: the path must name one"):
        claim_for(Grants(alternatives=(grant("1:0"), grant("2:0"))), match, cluster=True)
    assert claim_for(Grants(alternatives=(grant("1:0"), grant("2:0", mode=WRITE))), match, cluster=True) == grant("1:0")


ONE, TWO = '{vm_account_id="1",vm_project_id="0"', '{vm_account_id="2",vm_project_id="5"'


@pytest.mark.parametrize(
    ("claims", "labels", "filters"),
    [
        pytest.param(
            [grant("1:0", a="1")], {"a": "1", "vm_account_id": "1", "vm_project_id": "0"}, [], id="one tenant"
        ),
        pytest.param([grant("1:0"), grant("2:5")], {}, [ONE + "}", TWO + "}"], id="two tenants"),
        pytest.param(
            [grant("1:0", a="1"), grant("2:5", a="1")], {"a": "1"}, [ONE + "}", TWO + "}"], id="the same label"
        ),
        pytest.param(
            [grant("1:0", '{x="1"}'), grant("2:5", '{x="1"}')],
            {},
            [ONE + ',x="1"}', TWO + ',x="1"}'],
            id="the same filter",
        ),
        pytest.param(
            [grant("1:0", a="1"), grant("2:5", a="2"), grant("2:5", a="1"), grant("1:0", a="2")],
            {},
            [tenant + f',a="{value}"}}' for tenant in (ONE, TWO) for value in "12"],
            id="the same alternatives",
        ),
    ],
)
def test_all_tenants_of_the_token(claims: list[VMAccessClaim], labels: dict[str, str], filters: list[str]) -> None:
    found = on(EVERYWHERE, *claims)
    assert (dict(found.labels), list(found.filters)) == (labels, filters)


@pytest.mark.parametrize(
    "claims",
    [
        [grant("1:0", a="1"), grant("2:5", a="2")],
        [grant("1:0", a="1"), grant("2:5")],
        [grant("1:0", '{x="1"}'), grant("2:5", '{x="2"}')],
    ],
)
def test_the_labels_of_one_tenant_never_widen_another(claims: list[VMAccessClaim]) -> None:
    """VictoriaMetrics would apply all alternatives to each of the tenants."""
    with pytest.raises(AccessDenied, match="the token's tenants have different labels or filters"):
        on(EVERYWHERE, *claims)


def test_too_many_filters() -> None:
    many = [grant("0:0", *(f'{{x="{i}"}}' for i in range(40)), a=str(j)) for j in range(2)]
    with pytest.raises(AccessDenied, match="more than 64 filters"):
        on(QUERY, *many)


# --- exactly the series of one grant or another --------------------------------------------------------------------

NAMES, VALUES = ("a", "b"), ("", "1", "2")
SERIES = [dict(zip(NAMES, values, strict=True)) for values in itertools.product(VALUES, repeat=len(NAMES))]

labels_of = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES[1:]))
matchers = st.builds(
    lambda name, operator, value: f'{name}{operator}"{value}"',
    *(st.sampled_from(each) for each in (NAMES, ("=", "!="), VALUES[1:])),
)
filters_of = st.lists(
    st.lists(matchers, min_size=1, max_size=2).map(lambda found: "{" + ",".join(found) + "}"), max_size=2
)
claims_of = st.lists(
    st.builds(lambda labels, filters: grant("0:0", *dict.fromkeys(filters), **labels), labels_of, filters_of),
    min_size=1,
    max_size=4,
)


def shows(claim: VMAccessClaim, series: dict[str, str]) -> bool:
    """What VictoriaMetrics does: all labels must match, and one of the filters."""
    by_filters = [
        all((series[each.name] == each.value) is (each.operator == "=") for each in found)
        for text in claim.filters
        for found in parse_selector(text).alternatives
    ]
    return all(series[name] == value for name, value in claim.labels) and (any(by_filters) or not claim.filters)


@given(claims_of)
def test_a_series_is_shown_if_one_grant_allows_it(claims: list[VMAccessClaim]) -> None:
    found = on(QUERY, *claims)
    for series in SERIES:
        assert shows(found, series) is any(shows(claim, series) for claim in claims)


# --- writes whose rows name their tenants ---------------------------------------------------------------------------

WRITE_EVERYWHERE = "/insert/multitenant/prometheus/api/v1/import/prometheus"


def test_a_write_for_several_tenants_gets_the_labels_that_all_grants_have() -> None:
    claims = [grant("1:0", a="1", b="2"), grant("2:5", '{x="1"}', b="2", a="1"), grant("3:0", mode=READ)]
    assert dict(on(WRITE_EVERYWHERE, *claims, method="POST").labels) == {"a": "1", "b": "2"}
    assert on(WRITE_EVERYWHERE, grant("1:0"), grant("2:0"), method="POST").labels == ()


@pytest.mark.parametrize("other", [grant("2:0", a="2"), grant("2:0"), grant("1:0", a="2")])
def test_a_write_for_tenants_with_different_labels_is_refused(other: VMAccessClaim) -> None:
    with pytest.raises(AccessDenied, match="a write for several tenants can get the labels of one"):
        on(WRITE_EVERYWHERE, grant("1:0", a="1"), other, method="POST")


@pytest.mark.parametrize("name", ["vm_account_id", "vm_project_id", "vm.account.id", "VictoriaMetrics_AccountID"])
def test_a_label_of_the_token_may_not_name_the_tenant_of_rows(name: str) -> None:
    claim = replace(grant("1:0"), labels=((name, "2"),))
    with pytest.raises(AccessDenied, match="a label of the token would name the tenant of each row"):
        on(WRITE_EVERYWHERE, claim, method="POST")


def test_a_write_for_all_tenants_needs_a_grant_that_allows_writes() -> None:
    with pytest.raises(AccessDenied, match="gives no write access"):
        on(WRITE_EVERYWHERE, grant("1:0", mode=READ), grant("2:0", mode=READ), method="POST")
