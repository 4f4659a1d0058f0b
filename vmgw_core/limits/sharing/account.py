"""The account of one limit that several processes share: what they have taken of it, and who is waiting.

A process takes from the account before it admits a request: what the request needs, and a few units more to use
without asking (a *lease*). The rules:

- What was taken counts for a window and ``LEASE_SECONDS``, because a process uses a lease within ``LEASE_SECONDS``.
  So no unit leaves the account before it has left its window, even if the process that took it dies.
- What a process does not use it gives back.
- Whoever is refused keeps a place in a queue: see :mod:`.queue`.

The account of a day or month is simpler: what was taken counts until that window ends, and nobody is kept a place, as
nothing leaves before. Its clock is Unix time, and decides which window it is.

Moments are seconds of the clock of whoever keeps the accounts. ``addons/sources/exchange/redis_accounts.py`` has the
same rules as a script; a test compares the two.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.limits.windows.calendar import holds

from .queue import Queue

GRAINS: Final = 1000
"""Parts of a window. What is taken within one of them leaves the account at the end of that part."""
LEASE_SECONDS: Final = 0.5
"""How long a process may use what it took."""
UNKNOWN_SECONDS: Final = 1.0
"""When a process may ask again whose clock is so wrong that its windows are not those of the account."""
ACCOUNT_SLACK: Final = 10
"""Seconds after the last window until nothing in an account counts any more, with room to spare."""


Spent = tuple[tuple[float, int], ...]
"""Units that were used without asking: how many seconds ago, or in the window with which end, and how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a process asks of one account."""

    key: str
    seconds: int
    """The window; of days and months the longest."""
    limit: int
    need: int = 0
    """Units for a request; 0 if none is waiting for the reply."""
    extra: int = 0
    """At most so many units more, for the lease."""
    client: str = ""
    """Who needs them: its place in the queue."""
    returned: tuple[tuple[int, int], ...] = ()
    """Units that were not used: the part of the window that they were taken in, and how many."""
    spent: Spent = ()
    ends: tuple[int, ...] = ()
    """For days and months: when the present window and the next one end, in Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    granted: bool
    extra: int
    part: int
    """The part of the window that the units were taken in; of days and months the end of the window."""
    wait: float
    """Seconds until the need fits; 0 if it was granted."""
    used: int
    """Units that are taken now."""


@dataclass(slots=True)
class Account:
    """Units taken by part of the window, and the queue."""

    parts: dict[int, int] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)

    @classmethod
    def load(cls, text: str) -> Account:
        parts, claims = json.loads(text)
        return cls(dict(parts), Queue({client: (need, until) for client, need, until in claims}))

    def dump(self) -> str:
        claims = [(client, need, until) for client, (need, until) in self.queue.claims.items()]
        return json.dumps([list(self.parts.items()), claims], separators=(",", ":"))

    def take(self, want: Want, now: float) -> Reply:
        """``now`` is Unix time for the account of a day or month."""
        if want.ends:
            return self._take_of_calendar(want, now)
        grain, life = want.seconds / GRAINS, want.seconds + LEASE_SECONDS
        part = int(now / grain)
        self._expire(now, part, grain, life)
        self._give_back(want)
        for age, number in want.spent:
            if age < life:
                self._add(int((now - max(age, 0.0)) / grain), number)
        used = sum(self.parts.values())
        need = min(want.need, want.limit)  # more than the limit fits if nothing else is counted
        excess = used + self.queue.ahead(want.client) + need - want.limit
        if excess > 0:
            due = self._due(excess, now, grain, life)
            if need:
                self.queue.keep(want.client, need, due, want.limit)
            return Reply(granted=False, extra=0, part=part, wait=due - now, used=used)
        if want.need:
            self.queue.leave(want.client)
        extra = max(0, min(want.extra, want.limit - used - want.need - self.queue.claimed))
        if want.need + extra:
            self._add(part, want.need + extra)
        return Reply(granted=True, extra=extra, part=part, wait=0.0, used=used + want.need + extra)

    def _take_of_calendar(self, want: Want, now: float) -> Reply:
        self.parts = {end: number for end, number in self.parts.items() if holds(end, now, want.seconds)}
        self._give_back(want)
        for end, number in want.spent:
            if holds(int(end), now, want.seconds):
                self._add(int(end), number)
        used = sum(self.parts.values())
        part = next((end for end in want.ends if holds(end, now, want.seconds)), 0)
        if not part:
            return Reply(granted=False, extra=0, part=0, wait=UNKNOWN_SECONDS, used=used)
        if used + min(want.need, want.limit) > want.limit:
            return Reply(granted=False, extra=0, part=part, wait=max(self.parts) - now, used=used)
        taken = want.need + max(0, min(want.extra, want.limit - used - want.need))
        if taken:
            self._add(part, taken)
        return Reply(granted=True, extra=taken - want.need, part=part, wait=0.0, used=used + taken)

    def _give_back(self, want: Want) -> None:
        for taken, number in want.returned:
            if (left := self.parts.pop(taken, 0) - number) > 0:
                self.parts[taken] = left

    def _expire(self, now: float, part: int, grain: float, life: float) -> None:
        parts, self.parts = self.parts, {}
        for taken, number in parts.items():
            if (taken + 1) * grain + life > now:
                self._add(min(taken, part), number)  # no clock is ahead of its own
        self.queue.expire(now, (part + 1) * grain + life)

    def _add(self, part: int, number: int) -> None:
        self.parts[part] = self.parts.get(part, 0) + number

    def _due(self, excess: int, now: float, grain: float, life: float) -> float:
        """Return when ``excess`` units will have left."""
        for part in sorted(self.parts):
            excess -= self.parts[part]
            if excess <= 0:
                return (part + 1) * grain + life
        return max(now + life, self.queue.end)  # others have a place before, for all that there is
