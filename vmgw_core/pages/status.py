"""``/-/status``: the state of one process of the gateway, as HTML."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vmgw_core.explain import moment
from vmgw_core.limits.model import Usage
from vmgw_core.replay import ShadowCounts

from .decisions import Decision
from .html import Html, bad, element, good, joined, meter, table
from .wording import ago, decision_rows, limit_words, scope_words

MOST_LIMITS: Final = 100
"""Limits that are shown, the fullest first."""
MOST_KEYS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendState:
    """A backend; its URL has no credentials."""

    side: str
    url: str
    up: bool
    failing: bool
    load: int
    requests: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """A key that verifies tokens."""

    kid: str | None
    algorithms: str
    issuer: str | None
    source: str
    thumbprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """An endpoint that keys come from; times are Unix seconds."""

    name: str
    keys: int
    last_success: float | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """A background task, or something else that the gateway needs. ``problem`` None: it works."""

    name: str
    failures: int
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a process at the Unix time ``now``. ``name`` is empty if there is only one process."""

    name: str
    now: float
    version: str
    lane: str
    draining: bool
    keys_in_words: str
    backends: Sequence[BackendState]
    keys: Sequence[KeyState]
    sources: Sequence[SourceState]
    usages: Iterable[Usage]
    refusals: Mapping[str, int]
    decisions: Sequence[Decision] | None
    """None: not shown, because anybody may see the page."""
    needs: Sequence[TaskState]
    tasks: Sequence[TaskState]
    shadow: ShadowCounts | None = None
    """What the candidate configuration has found; None without one."""

    def section(self) -> Html:
        """Return the part of the page that is about this process."""
        return joined(*self._parts())

    def _parts(self) -> Iterator[Html]:
        if self.name:
            yield element("h1", self.name)
        state = bad("draining") if self.draining else good("serving")
        words = f" version {self.version}, {self.lane} lane, {moment(self.now)}"
        yield element("p", joined(state, element("span", words)))
        yield element("h2", "Backends")
        yield table(
            ("Side", "URL", "State", "In flight", "Requests", "Errors"),
            ((each.side, each.url, _health(each), each.load, each.requests, each.errors) for each in self.backends),
        )
        yield element("h2", "Keys")
        yield element("p", self.keys_in_words)
        yield table(
            ("Key id", "Algorithms", "Issuer", "From", "Thumbprint"),
            ((key.kid, key.algorithms, key.issuer, key.source, key.thumbprint) for key in self.keys[:MOST_KEYS]),
        )
        if self.sources:
            yield table(("Endpoint", "Keys", "Last fetched", "Last error"), map(self._source_row, self.sources))
        yield element("h2", "Limits")
        yield from self._limits()
        yield element("h2", "Refusals")
        counted = sorted(self.refusals.items(), key=lambda pair: (-pair[1], pair[0]))
        yield table(("Reason", "Requests since the start"), counted)
        if self.decisions is None:
            yield element("p", "Set -flagsAuthKey or -httpAuth.username to see the last ones here.", "soft")
        else:
            headings = ("Time", "Client", "Tenant", "Subject", "Request", "Status", "Reason", "Explain it")
            yield table(headings, decision_rows(self.decisions, who=True))
        if self.shadow is not None:
            yield from self._shadow(self.shadow)
        yield element("h2", "What the gateway needs")
        yield table(("What", "Failures", "State"), map(_task_row, self.needs), empty="nothing has failed")
        yield element("h2", "Background tasks")
        yield table(("Task", "Failures", "Last error"), map(_task_row, self.tasks))

    def _source_row(self, source: SourceState) -> tuple[str, int, str, Html]:
        fetched = "never" if source.last_success is None else ago(self.now - source.last_success)
        return source.name, source.keys, fetched, good("none") if source.last_error is None else bad(source.last_error)

    def _shadow(self, counts: ShadowCounts) -> Iterator[Html]:
        yield element("h2", "Shadow")
        words = f"{counts.requests} requests judged, {counts.undecided} of them undecided, {counts.failures} failures"
        yield element("p", words)
        found = sorted(counts.differences.items(), key=lambda pair: (-pair[1], pair[0]))
        yield table(("Difference", "Requests since the start"), found, empty="no differences")
        if self.decisions is not None:  # else anybody may see the page
            yield table(("Time", "Last differences"), ((moment(at), line) for at, line in reversed(counts.last)))

    def _limits(self) -> Iterator[Html]:
        usages = list(self.usages)
        fullest = heapq.nlargest(MOST_LIMITS, usages, key=lambda usage: usage.usage / max(usage.limit.value, 1))
        rows = ((limit_words(usage), scope_words(usage), meter(usage.usage, usage.limit.value)) for usage in fullest)
        yield table(("What", "Of", "Usage"), rows)
        if len(usages) > len(fullest):
            yield element("p", f"and {len(usages) - len(fullest)} more, which are less used", "soft")


def _health(backend: BackendState) -> Html:
    if backend.up and not backend.failing:
        return good("up")
    return bad("the last request failed" if backend.up else "down")


def _task_row(task: TaskState) -> tuple[str, int, Html]:
    return task.name, task.failures, good("none") if task.problem is None else bad(task.problem)
