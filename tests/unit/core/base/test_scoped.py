"""scoped: which rules hold whom, and that what is remembered is bounded."""

from __future__ import annotations

import pytest

from tests.support.core.limiters import limit
from vmgw_core.base import scoped
from vmgw_core.base.scoped import ScopedRules, scope_of
from vmgw_core.base.tenants import Subject, TenantID


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoped, "MAX_MATCHES", 2)
    rule = limit("queries", 1)
    rules = ScopedRules([rule])
    for number in range(5):
        assert rules.of(Subject(TenantID(number))) == (rule,)
        assert len(rules._found) <= 2


def test_labels_are_remembered_only_if_a_rule_has_some() -> None:
    dev = (("team", "dev"),)
    plain = ScopedRules([limit("queries", 1)])
    labelled = ScopedRules([limit("queries", 1, labels=dev)])
    for number in range(5):
        labels = (("a", str(number)), *dev)
        assert plain.of(Subject(TenantID(), labels)) == plain.rules
        assert labelled.of(Subject(TenantID(), labels)) == labelled.rules
    assert (len(plain._found), len(labelled._found)) == (1, 5)


def test_no_rules_hold_nobody() -> None:
    assert ScopedRules[scoped.Scoped]([]).of(Subject(TenantID())) == ()


def test_a_total_and_a_tenants_own_rule_hold_together() -> None:
    default, own, total = (limit("queries", 1, tenant=tenant, total=total)
                           for tenant, total in ((None, False), (TenantID(1), False), (None, True)))  # fmt: skip
    rules = ScopedRules([default, own, total])
    assert rules.of(Subject(TenantID(1))) == (own, total)
    assert rules.of(Subject(TenantID(2))) == (default, total)
    assert rules.of(Subject(None)) == (default, total)
    assert len({scope_of(rule) for rule in rules.rules}) == 3
