"""Counts verdicts by route and tenant, with a bounded list of changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import quoted

from .judge import Difference, Verdict, compare
from .record import Captured, Outcome

MAX_GROUPS: Final = 10_000
OTHER: Final = "other"
NO_ROUTE: Final = "(no route)"
NO_TENANT: Final = "-"

_SHOWN: Final = 300  # characters of a target or an address


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A request that would be decided differently."""

    place: str
    method: str
    target: str
    difference: Difference
    before: Outcome
    after: Outcome
    doubt: str


@dataclass(slots=True)
class Group:
    """The verdicts on the requests of one route and tenant."""

    flows: int = 0
    admitted: int = 0
    compared: int = 0
    differences: Counter[Difference] = field(default_factory=Counter)
    doubtful: int = 0
    """Verdicts in doubt; they do not count as differences."""

    def add(self, other: Group) -> None:
        self.flows += other.flows
        self.admitted += other.admitted
        self.compared += other.compared
        self.doubtful += other.doubtful
        self.differences += other.differences


class Tally:
    """All verdicts of one run. ``listed`` changes are kept, and all are counted.

    ``strict``: whether a verdict in doubt counts as a change. ``any_backend``: whether to ignore the backend's address.
    """

    def __init__(self, *, listed: int = 100, strict: bool = False, any_backend: bool = False) -> None:
        self.listed = listed
        self.any_backend = any_backend
        self.strict = strict
        self.groups: dict[tuple[str, str], Group] = {}
        self.changes: list[Change] = []
        self.doubts: Counter[str] = Counter()
        self.skipped = 0
        """Flows that are not HTTP requests or have no decision."""
        self.sampled = False

    @property
    def total(self) -> Group:
        total = Group()
        for group in self.groups.values():
            total.add(group)
        return total

    @property
    def changed(self) -> bool:
        return any(group.differences or (self.strict and group.doubtful) for group in self.groups.values())

    def add(self, place: str, captured: Captured, before: Outcome | None, verdict: Verdict) -> None:
        """Count one request, at a ``place`` such as ``flows.mitm#12``. ``before``: what to compare with."""
        after = verdict.outcome
        group = self.groups.setdefault(self.key(after, before), Group())
        group.flows += 1
        group.admitted += after.admitted
        self.sampled |= captured.sample < 1
        difference = None
        if before is not None:
            group.compared += 1
            difference = compare(before, after, any_backend=self.any_backend)
        if verdict.doubt:
            group.doubtful += 1
            self.doubts[verdict.doubt] += 1
        elif difference is not None:
            group.differences[difference] += 1
        if before is not None and difference is not None and len(self.changes) < self.listed:
            change = Change(
                place=place,
                method=captured.head.method,
                target=shown(captured.head.target),
                difference=difference,
                before=before,
                after=after,
                doubt=verdict.doubt,
            )
            self.changes.append(change)

    def key(self, after: Outcome, before: Outcome | None) -> tuple[str, str]:
        """Return the route and tenant that a request is counted under, or ``other`` if there are too many."""
        old = after if before is None else before
        key = (after.route or old.route or NO_ROUTE, after.tenant or old.tenant or NO_TENANT)
        return key if key in self.groups or len(self.groups) < MAX_GROUPS else (OTHER, OTHER)


def shown(text: str) -> str:
    """Return a client's text as reports show it."""
    return quoted(text, _SHOWN)[1:-1]
