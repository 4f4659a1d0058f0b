"""Rules of a file that hold a tenant, all tenants together, or the tokens with given labels or of a class.

In each slot a tenant has its own rule or the default one, and the total of the slot applies too. A slot is a kind of
rule, a set of labels and a class.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

from .tenants import Labels, Subject, TenantID

MAX_MATCHES: Final = 10_000
"""Subjects whose rules are remembered."""


class Scoped(Protocol):
    """A rule. ``tenant`` None: for each tenant, or with ``total`` for all of them together."""

    @property
    def tenant(self) -> TenantID | None: ...
    @property
    def total(self) -> bool: ...
    @property
    def labels(self) -> Labels: ...
    @property
    def limit_class(self) -> str: ...
    @property
    def kind(self) -> str: ...


Rule = TypeVar("Rule", bound=Scoped)


def scope_of(rule: Scoped) -> tuple[object, ...]:
    """Return what no two rules of a file share."""
    return rule.kind, rule.labels, rule.limit_class, rule.tenant, rule.total


class ScopedRules(Generic[Rule]):
    """Rules, no two with the same scope."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_scope = {scope_of(rule): rule for rule in self.rules}
        self._slots = dict.fromkeys((rule.kind, rule.labels, rule.limit_class) for rule in self.rules)
        self._by_token = any(rule.labels or rule.limit_class for rule in self.rules)
        self._found: dict[Subject, tuple[Rule, ...]] = {}

    def of(self, subject: Subject) -> tuple[Rule, ...]:
        """Return the rules that hold a request of ``subject``."""
        if not self._by_token:
            subject = Subject(subject.tenant)
        found = self._found.get(subject)
        if found is None:
            if len(self._found) >= MAX_MATCHES:
                self._found.clear()
            found = self._found[subject] = tuple(self._find(subject))
        return found

    def _find(self, subject: Subject) -> Iterable[Rule]:
        carried = frozenset(subject.labels)
        for slot in self._slots:
            _, labels, limit_class = slot
            if not carried.issuperset(labels) or (limit_class and limit_class not in subject.classes):
                continue
            own = None if subject.tenant is None else self._by_scope.get((*slot, subject.tenant, False))
            for rule in (own or self._by_scope.get((*slot, None, False)), self._by_scope.get((*slot, None, True))):
                if rule is not None:
                    yield rule
