"""Counts verdicts by route and tenant, and changes by their kind, with a bounded list of examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from vmgw_core.base import quoted

from .judge import Difference, Verdict, compare, essence
from .record import Captured, Outcome

MAX_GROUPS: Final = 10_000
OTHER: Final = "other"
NO_ROUTE: Final = "(no route)"
NO_TENANT: Final = "-"

_TELLING: Final = (
    Difference.NEWLY_ADMITTED, Difference.OTHER_TENANT, Difference.OTHER_UPSTREAM, Difference.NEWLY_REFUSED,
    Difference.OTHER_REFUSAL,
)  # fmt: skip
"""What may show one tenant another's data comes first."""
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

    @property
    def story(self) -> str:
        """What the decisions were, apart from their wording. Changes with one story are of one kind."""
        before, after = self.before, self.after
        if self.difference is Difference.OTHER_TENANT:
            return f"{before.tenant} -> {after.tenant}"
        if self.difference is Difference.OTHER_UPSTREAM:
            return _other_upstream(before, after)
        return f"{before} -> {after}"


def _other_upstream(before: Outcome, after: Outcome) -> str:
    """Say which parts of the request to the backend differ: the address, arguments, form or headers."""
    assert before.sent is not None
    assert after.sent is not None
    old, new = before.sent, after.sent
    if (old.method, old.url) == (new.method, new.url):
        return "another form" if old.body != new.body else "other header fields"
    was, now = urlsplit(old.url), urlsplit(new.url)
    place, other = was._replace(query="").geturl(), now._replace(query="").geturl()
    left, came = Counter(was.query.split("&")), Counter(now.query.split("&"))
    parts = [f"{place} -> {other}"] if place != other else []
    parts += [f"-{pair}" for pair in sorted(left - came)] + [f"+{pair}" for pair in sorted(came - left)]
    return shown(" ".join(parts) or f"{old.method} -> {new.method}, or another order of arguments")


@dataclass(slots=True)
class Class:
    """All changes with one difference and story, on one route and for one tenant."""

    route: str
    tenant: str
    example: Change
    """The first of them."""
    story: str
    requests: int = 0
    digest: int = 0
    """Over every request and both decisions on it, whatever their order."""

    @property
    def line(self) -> str:
        """The line of a file of approved changes. It is the same only for the same requests and decisions."""
        what = f"{self.example.difference}: {shown(self.route)}: tenant {shown(self.tenant)}: {self.story}"
        return f"{what}: {self.requests} requests, digest {self.digest:032x}"


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
        self.classes: dict[tuple[str, ...], Class] = {}
        """The changes by their kind; more than ``MAX_GROUPS`` kinds are counted together."""
        self.refusals: list[str] = []
        """A line for each refused request that has nothing to be compared with, ``listed`` at most."""
        self.approved: frozenset[str] = frozenset()
        """The lines of changes that are intended."""
        self.not_chosen = 0
        """Requests that were left out on the user's wish."""
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
        """Whether there is a change that is not approved."""
        return bool(self.unapproved) or (self.strict and any(group.doubtful for group in self.groups.values()))

    def approve(self, lines: Iterable[str]) -> None:
        """Take the lines of a file of approved changes; those that are empty or begin with # are comments."""
        self.approved = frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))

    @property
    def outdated(self) -> int:
        """How many approved changes did not occur."""
        return len(self.approved - {each.line for each in self.classes.values()})

    @property
    def unapproved(self) -> list[Class]:
        """The changes that are not approved, the most telling first."""
        found = (each for each in self.classes.values() if each.line not in self.approved)
        return sorted(found, key=lambda each: (_TELLING.index(each.example.difference), -each.requests, each.line))

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
        if before is None and not after.admitted and len(self.refusals) < self.listed:
            target = shown(captured.head.target)
            self.refusals.append(f"{place} {captured.head.method} {target}: {after}: {shown(after.reason)}")
        if before is None or difference is None:
            return
        change = Change(
            place=place,
            method=captured.head.method,
            target=shown(captured.head.target),
            difference=difference,
            before=before,
            after=after,
            doubt=verdict.doubt,
        )
        if len(self.changes) < self.listed:
            self.changes.append(change)
        if not verdict.doubt:
            self._classify(change, captured)

    def _classify(self, change: Change, captured: Captured) -> None:
        route, tenant = self.key(change.after, change.before)
        story = change.story
        if len(self.classes) >= MAX_GROUPS and (change.difference, route, tenant, story) not in self.classes:
            route = tenant = story = OTHER
        found = self.classes.setdefault((change.difference, route, tenant, story), Class(route, tenant, change, story))
        found.requests += 1
        both = [essence(each, any_backend=self.any_backend) for each in (change.before, change.after)]
        decided = repr((change.method, captured.head.target, captured.at, captured.form, both)).encode()
        found.digest = (found.digest + int.from_bytes(sha256(decided).digest()[:16])) % (1 << 128)

    def key(self, after: Outcome, before: Outcome | None) -> tuple[str, str]:
        """Return the route and tenant that a request is counted under, or ``other`` if there are too many."""
        old = after if before is None else before
        key = (after.route or old.route or NO_ROUTE, after.tenant or old.tenant or NO_TENANT)
        return key if key in self.groups or len(self.groups) < MAX_GROUPS else (OTHER, OTHER)


def shown(text: str) -> str:
    """Return a client's text as reports show it."""
    return quoted(text, _SHOWN)[1:-1]
