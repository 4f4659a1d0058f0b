"""What this process has taken of one shared limit, and what the account has said about it.

Far from the limit a process takes up to a fortieth of it, shared among all processes, and asks again when that is used.
So processes that hold units and do not use them never keep more than that from the others. Moments are seconds of the
limiter's clock.
"""

from __future__ import annotations

from typing import Final

from vmgw_core.limits.windows.calendar import CalendarWindow
from vmgw_core.limits.windows.sliding_window import SlidingWindow

from .account import Reply, Spent

Window = SlidingWindow | CalendarWindow

PARTS: Final = 40
"""All processes together hold at most one part in so many of a limit without using it."""
REFUSED_SECONDS: Final = 1.0
"""How long a refusal is believed without asking again."""
MAX_REFUSED: Final = 64
"""Clients whose refusals are remembered."""


class Lease:
    """Units in hand, units to give back, and units that the account still has to be told of."""

    __slots__ = (
        "_owed", "_part", "_refused", "_returned", "_size", "_until", "_used", "_void", "asking", "heard", "others",
        "units", "used",
    )  # fmt: skip

    def __init__(self) -> None:
        self.units = 0
        self.asking = 0
        """How many questions are on their way."""
        self.used = 0
        """Units that all processes had taken, as of the last reply."""
        self.others = 0
        """Those of the other processes."""
        self.heard = float("-inf")
        """When the last reply came."""
        self._part = 0
        self._until = float("-inf")
        self._size = 1
        self._used = 0
        self._returned: dict[int, int] = {}
        self._refused: dict[str, tuple[int, float, float]] = {}
        self._owed: Window | None = None
        self._void = 0

    def covers(self, need: int, now: float) -> bool:
        return self.units >= need and now < self._until

    def use(self, need: int) -> None:
        self.units -= need
        self._used += need

    # --- questions -------------------------------------------------------------------------------------------------

    def ask(self, limit: int, processes: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return how much to ask for the lease, unless that is on its way already, and what to give back before."""
        extra, most = 0, limit // (PARTS * processes)
        if not self.asking:
            if 2 * self._used >= self._size:
                self._size *= 2
            self._size = max(1, min(self._size, most))
            extra = min(self._size, most)
        self.asking += 1
        self.give_back()
        returned, self._returned = tuple(self._returned.items()), {}
        return extra, returned

    def is_low(self) -> bool:
        """Whether half of the lease is used, so that it should be renewed before it is empty."""
        return not self.asking and self._used > self.units > 0

    def has_returns(self, now: float) -> bool:
        """Whether there are units to give back: too old to be used, or those of an earlier lease."""
        if self.units and now >= self._until:
            self._size = max(1, self._used)
            self.give_back()
        return bool(self._returned)

    def give_back(self) -> None:
        """Stop using what is in hand."""
        if self.units:
            self._returned[self._part] = self._returned.get(self._part, 0) + self.units
        self.units = self._used = 0

    def drop(self) -> None:
        """Forget all units: the account does not know them any more."""
        self.units = self._used = 0
        self._returned.clear()

    def limit_changed(self) -> None:
        """Ask again: what was taken or refused under the old limit does not hold, nor does what is on its way."""
        self._refused.clear()
        self.give_back()
        self._void = self.asking

    # --- replies, in the order of the questions --------------------------------------------------------------------

    def take(self, reply: Reply, units: int, until: float, used_here: int, now: float) -> None:
        """Put ``units`` of the reply to a question in hand, to be used before ``until``."""
        void = self._void > 0
        self.no_reply()
        self.used, self.heard = reply.used, now
        self.others = max(0, reply.used - used_here - units)
        if units:
            self.give_back()
            self.units = units
            self._part, self._until = reply.part, until
        if void:
            self.give_back()

    def no_reply(self) -> None:
        """Note that a question was not answered."""
        self.asking -= 1
        self._void = max(0, self._void - 1)

    def refuse(self, reply: Reply, need: int, client: str, now: float) -> None:
        """Remember that the account refused ``need``."""
        if len(self._refused) >= MAX_REFUSED:
            self._refused.clear()
        self._refused[client] = (need, now + reply.wait, now + REFUSED_SECONDS)

    def is_refused(self, need: int, client: str, now: float) -> bool:
        """Whether the account has refused ``need`` lately."""
        refused = self._refused.get(client)
        return refused is not None and need >= refused[0] and now < min(refused[1], refused[2])

    def due(self, client: str) -> float:
        """Return the moment that the account has promised to a client that it refused; -inf if there is none."""
        return self._refused.get(client, (0, float("-inf")))[1]

    # --- what the account does not know ----------------------------------------------------------------------------

    def owe_more(self, count: int, now: float, window: Window) -> None:
        """Note what was used without asking, and counts in a window like ``window``."""
        if self._owed is None:
            self._owed = window.fresh()
        self._owed.add(count, now)

    def owe(self, window: Window, *, anew: bool = False) -> None:
        """Note all that is in ``window``, before what was used since; ``anew``: it includes that."""
        since, self._owed = self._owed, None
        for each in (window,) if anew or since is None else (window, since):
            for moment, count in each.runs():
                self.owe_more(count, moment, window)

    def spent(self, now: float) -> Spent:
        """Return what was used without asking, and take it as told."""
        owed, self._owed = self._owed, None
        return () if owed is None else owed.spent(now)

    def untold(self, spent: Spent, at: float, window: Window) -> None:
        """Take back what :meth:`spent` returned at the moment ``at``: the account was not told."""
        earlier = window.fresh()
        for ago, count in spent:
            earlier.add(count, at - ago if isinstance(earlier, SlidingWindow) else at)
        self.owe(earlier)
