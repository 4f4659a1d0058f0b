"""ownership: labels and filters of a token, matched against the labels of rules and alerts."""

from __future__ import annotations

import pytest

from tests.support.each import each
from vmgw_core.answers.ownership import Belonging, LabelChoice, Ownership, RulesTenant, ownership_of
from vmgw_core.base import TenantID
from vmgw_core.errors import BadRequest, FiltersIgnored
from vmgw_core.tokens import AccessMode, SelectorError, VMAccessClaim

ONE, TWO = TenantID(1, 5), TenantID(1, 6)


def claim(
    labels: dict[str, str] | None = None, *filters: str, tenant: TenantID = ONE, mode: AccessMode = AccessMode.FULL
) -> VMAccessClaim:
    return VMAccessClaim(tenant=tenant, labels=tuple((labels or {}).items()), filters=filters, mode=mode)


def owner(*claims: VMAccessClaim, tenants: RulesTenant | None = None) -> Ownership:
    return ownership_of(claims, tenants)


DEV = {"team": "dev"}


@each(
    ("claims", "labels", "expected"),
    [
        pytest.param([claim(DEV)], DEV, Belonging.OWN, id="a label"),
        pytest.param([claim(DEV)], {"team": "ops"}, Belonging.NONE, id="another label"),
        pytest.param([claim(DEV)], {}, Belonging.NONE, id="no label"),
        pytest.param([claim(DEV)], {"team": "dev2"}, Belonging.NONE, id="a longer value"),
        pytest.param([claim()], {"team": "ops"}, Belonging.OWN, id="no restriction"),
        pytest.param([claim(None, '{team=~"de.|x"}')], DEV, Belonging.OWN, id="an expression"),
        pytest.param([claim(None, '{team=~"de"}')], DEV, Belonging.NONE, id="an expression matches the whole value"),
        pytest.param([claim(None, '{team!="ops"}')], DEV, Belonging.OWN, id="not equal"),
        pytest.param([claim(None, '{team!="ops"}')], {"team": "ops"}, Belonging.NONE, id="equal"),
        pytest.param([claim(None, '{team!="ops"}')], {}, Belonging.ABSENT, id="a missing label is empty"),
        pytest.param([claim(None, '{team!~"op.*"}')], {"team": "ops"}, Belonging.NONE, id="a negative expression"),
        pytest.param([claim(None, '{team!~"op.*"}')], {"team": ""}, Belonging.ABSENT, id="an empty label is missing"),
        pytest.param([claim(None, '{a="1" or b="2"}')], {"b": "2"}, Belonging.OWN, id="or"),
        pytest.param([claim(None, '{a="1"}', '{b="2"}')], {"b": "2"}, Belonging.OWN, id="filters are alternatives"),
        pytest.param([claim(DEV, '{a="1"}')], DEV, Belonging.NONE, id="labels and filters both bind"),
        pytest.param([claim(DEV, '{a="1"}')], {**DEV, "a": "1"}, Belonging.OWN, id="both match"),
        pytest.param(
            [claim(DEV), claim({"team": "ops"})], {"team": "ops"}, Belonging.OWN, id="grants are alternatives"
        ),
        pytest.param(
            [claim(None, '{team!="ops"}'), claim({"a": "1"})], {"a": "1"}, Belonging.OWN, id="the best grant counts"
        ),
        pytest.param([claim(DEV)], {"team": "{{ $labels.team }}"}, Belonging.NONE, id="a template"),
        pytest.param(
            [claim(None, '{team!="ops"}')], {"team": "{{ $labels.team }}"}, Belonging.NONE, id="a template may be ops"
        ),
        pytest.param([claim(None, '{team=~".*"}')], {"team": "{{ 1 }}"}, Belonging.NONE, id="a template and anything"),
        pytest.param([], DEV, Belonging.NONE, id="no grant"),
    ],
)
def test_a_rule_belongs_by_its_static_labels(
    claims: list[VMAccessClaim], labels: dict[str, str], expected: Belonging
) -> None:
    assert owner(*claims).of_rule(labels, None, "") is expected


def test_the_metric_name_of_a_recording_rule_is_its_name() -> None:
    found = owner(claim(None, '{__name__=~"dev_.*"}'))
    assert found.of_rule({}, None, "dev_total") is Belonging.OWN
    assert found.of_rule({}, None, "ops_total") is Belonging.NONE
    assert found.of_rule({}, None, "") is Belonging.NONE
    assert not found.has_alert({"alertname": "dev_total"}, None)


def test_an_alert_belongs_by_its_labels() -> None:
    found = owner(claim(None, '{team!="ops"}'))
    assert found.has_alert({}, None)
    assert found.has_alert({"team": "{{ a value }}"}, None)
    assert not found.has_alert({"team": "ops"}, None)


@each(
    ("how", "group", "labels", "expected"),
    [
        pytest.param("group", ONE, {}, True, id="the tenant of the group"),
        pytest.param("group", TWO, {}, False, id="another group"),
        pytest.param("group", None, {"vm_account_id": "1", "vm_project_id": "5"}, False, id="labels do not count"),
        pytest.param("labels", None, {"vm_account_id": "1", "vm_project_id": "5"}, True, id="labels"),
        pytest.param("labels", ONE, {"vm_account_id": "1", "vm_project_id": "6"}, False, id="other labels"),
        pytest.param("labels", ONE, {"vm_account_id": "1"}, False, id="half of the labels"),
        pytest.param("1:5", ONE, {}, True, id="always"),
        pytest.param("1:6", TWO, {}, False, id="always another"),
    ],
)
def test_in_a_cluster_the_tenant_binds(
    how: str, group: TenantID | None, labels: dict[str, str], expected: bool
) -> None:
    found = owner(claim(), tenants=RulesTenant.parse(how))
    assert (found.of_rule(labels, group, "") is not Belonging.NONE) is expected
    assert found.has_alert(labels, group) is expected


def test_the_labels_of_one_tenant_do_not_open_another() -> None:
    found = owner(claim(DEV), claim({"team": "ops"}, tenant=TWO), tenants=RulesTenant())
    assert found.has_alert(DEV, ONE)
    assert not found.has_alert(DEV, TWO)
    assert found.has_alert({"team": "ops"}, TWO)


@each("text", ["", "Group", "1:", "-1", "1:5:6", "multitenant"])
def test_another_way_to_know_the_tenant_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match='expected "group", "labels", or a tenant such as 0:0'):
        RulesTenant.parse(text)


def test_a_filter_that_re2_does_not_know_is_refused() -> None:
    with pytest.raises(FiltersIgnored, match="regular expression"):
        owner(claim(None, r'{team=~"(?<!a)b"}'))
    with pytest.raises(FiltersIgnored):
        LabelChoice([r'{a=~"("}'])


def test_the_clients_choice_is_one_of_its_selectors() -> None:
    choice = LabelChoice(['{a="1"}', 'm{b!="2"}'])
    assert choice.matches({"a": "1", "b": "2"})
    assert choice.matches({"__name__": "m"})
    assert not choice.matches({"b": "2"})
    assert LabelChoice([]).matches({})
    with pytest.raises(SelectorError):
        LabelChoice(["sum(a)"])


def test_the_expressions_of_a_client_are_bounded_together() -> None:
    costly = '{host=~".*a(.{0,30}){30}c"}'
    labels = {"host": "ab" * 2000}
    assert not LabelChoice([costly]).matches(labels)
    with pytest.raises(BadRequest, match="take too long"):
        LabelChoice([costly] * 7).matches(labels)
    with pytest.raises(BadRequest, match="take too long"):
        LabelChoice([costly] * 100)
