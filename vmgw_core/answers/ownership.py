"""Which rules and alerts belong to a token: its labels and filters, matched as PromQL matches a series.

A missing label is an empty value. VictoriaMetrics' expressions are RE2's, which match the whole value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from vmgw_core.access import Expression, Steps, compile_expression
from vmgw_core.base import TenantID
from vmgw_core.errors import FiltersIgnored
from vmgw_core.routing import tenant_labels
from vmgw_core.tokens import MAX_SELECTOR, Matcher, VMAccessClaim, parse_selector

_TEMPLATE: Final = "{{"


class Belonging(IntEnum):
    """How a rule belongs to a token."""

    NONE = 0
    ABSENT = 1  # it has no label that a filter asks for, and the filter matches the empty value
    OWN = 2  # it has all labels that the token's labels and filters ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesTenant:
    """How the tenant of a rule is known in a cluster (``-vmalert.tenant``)."""

    labels: bool = False
    """From the labels ``vm_account_id`` and ``vm_project_id`` of rules and alerts."""
    always: TenantID | None = None
    """All rules are of this tenant. If it is None and ``labels`` is false, the group names its tenant."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``group``, ``labels`` or a tenant. Raises ``ValueError``."""
        if text in ("group", "labels"):
            return cls(labels=text == "labels")
        try:
            return cls(always=TenantID.parse(text))
        except ValueError:
            raise ValueError('expected "group", "labels", or a tenant such as 0:0') from None


@dataclass(frozen=True, slots=True)
class _Test:
    """One label matcher."""

    name: str
    value: str
    expression: Expression | None
    negative: bool
    steps: Steps | None = None
    """What the expression may take, if it is a client's."""

    def holds(self, value: str) -> bool:
        if self.expression is None:
            found = value == self.value
        elif self.steps is None:
            found = self.expression.fullmatch(value) is not None
        else:
            found = self.steps.matches(self.expression, value)
        return found is not self.negative


@dataclass(frozen=True, slots=True)
class _Grant:
    """One alternative of a token: a tenant, and tests of which all of one group must hold."""

    tenant: TenantID | None
    groups: tuple[tuple[_Test, ...], ...]


class Ownership:
    """What belongs to a token. One grant must allow it."""

    __slots__ = ("_grants",)

    def __init__(self, grants: tuple[_Grant, ...]) -> None:
        self._grants = grants

    def of_rule(self, labels: Mapping[str, str], tenant: TenantID | None, name: str) -> Belonging:
        """Return how a rule with these static ``labels`` belongs to the token.

        Args:
            tenant: of the rule's group, or None.
            name: the metric name that a recording rule writes, or "" for alerting rules.

        A label that is a template has no value yet, so nothing matches it.
        """
        return self._best({**labels, "__name__": name} if name else labels, tenant, templates=True)

    def has_alert(self, labels: Mapping[str, str], tenant: TenantID | None) -> bool:
        """Return whether an alert with these labels belongs to the token."""
        return self._best(labels, tenant, templates=False) is not Belonging.NONE

    def _best(self, labels: Mapping[str, str], tenant: TenantID | None, *, templates: bool) -> Belonging:
        best = Belonging.NONE
        for grant in self._grants:
            if grant.tenant is None or grant.tenant == tenant:
                for group in grant.groups:
                    found = _matched(group, labels, templates=templates)
                    if found is Belonging.OWN:
                        return found
                    best = max(best, found)
        return best


def _matched(tests: Sequence[_Test], labels: Mapping[str, str], *, templates: bool) -> Belonging:
    found = Belonging.OWN
    for test in tests:
        value = labels.get(test.name, "")
        if (templates and _TEMPLATE in value) or not test.holds(value):
            return Belonging.NONE
        if not value:
            found = Belonging.ABSENT
    return found


def ownership_of(claims: Sequence[VMAccessClaim], tenants: RulesTenant | None) -> Ownership:
    """Return what belongs to one of ``claims``.

    Args:
        tenants: how the tenant of a rule is known; None on a single node.

    Raises:
        FiltersIgnored: a filter has an expression that RE2 cannot compile.
    """
    grants = []
    for claim in claims:
        labels = claim.labels
        if tenants is not None and tenants.labels:
            labels += tenant_labels(claim.tenant)
        given = tuple(Matcher(name=name, operator="=", value=value) for name, value in labels)
        selectors = [matchers for text in claim.filters for matchers in parse_selector(text).alternatives] or [()]
        groups = tuple(tests_of((*given, *matchers), None) for matchers in selectors)
        grants.append(_Grant(None if tenants is None or tenants.labels else claim.tenant, groups))
    return Ownership(tuple(grants))


def tests_of(matchers: Sequence[Matcher], steps: Steps | None) -> tuple[_Test, ...]:
    """Compile matchers. Raises ``FiltersIgnored`` if one has an expression that RE2 cannot compile.

    ``steps``: what they may take, if they are a client's; else ``BadRequest`` is raised.
    """
    return tuple(_test(matcher, steps) for matcher in matchers)


def _test(matcher: Matcher, steps: Steps | None) -> _Test:
    expression = None
    if matcher.operator.endswith("~"):
        try:
            if steps is None:
                expression, _ = compile_expression(matcher.value, max_bytes=MAX_SELECTOR)
            else:
                expression = steps.compile(matcher.value, max_bytes=MAX_SELECTOR)
        except ValueError:
            raise FiltersIgnored(
                "a filter has a regular expression that cannot be applied to rules and alerts"
            ) from None
    return _Test(matcher.name, matcher.value, expression, matcher.operator.startswith("!"), steps)


class LabelChoice:
    """The client's own ``match[]``: one selector must match."""

    __slots__ = ("_groups",)

    def __init__(self, selectors: Sequence[str]) -> None:
        """Raises ``SelectorError``, ``FiltersIgnored`` and ``BadRequest`` for selectors that cannot be applied."""
        steps = Steps()
        self._groups = [
            tests_of(matchers, steps) for text in selectors for matchers in parse_selector(text).alternatives
        ]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether no selector was given, or one matches."""
        return not self._groups or any(
            all(test.holds(labels.get(test.name, "")) for test in group) for group in self._groups
        )
