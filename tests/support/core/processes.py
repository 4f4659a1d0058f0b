"""Processes that share limits, the accounts that they share, and the network between: all on one clock of the test."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from tests.support.core.limiters import A
from vmgw_core.base.tenants import Access, Subject
from vmgw_core.errors import RateLimited
from vmgw_core.limits.limiter import Limiter, Question
from vmgw_core.limits.model import Limit
from vmgw_core.limits.sharing.account import Account, Reply, Want

TICK = 0.1
"""Seconds between two exchanges of a process."""

Outcome = Callable[[RateLimited | None], None]


class Process:
    """One process of the gateway."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self.limiter = Limiter(limits)
        self.published: dict[str, int] = {}
        self.connected = True
        self.alive = True
        self.epoch = -1
        self.waiting: list[Callable[[], None]] | None = []
        """Requests that came before the first exchange: until then a process does not listen. None after it."""

    def listen(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        for request in waiting:
            request()


class World:
    """Some processes, and the accounts. ``delay`` returns how long the next message takes, in seconds.

    ``begin`` is when time begins; it is Unix time too.
    """

    def __init__(
        self, number: int, *limits: Limit, delay: Callable[[], float] = lambda: 0.0, begin: float = 0.0
    ) -> None:
        self.now = begin
        self.limits = limits
        self.delay = delay
        self.accounts: dict[str, Account] = {}
        self.epoch = 0
        self.passed: list[float] = []
        """When requests were admitted."""
        self.spans: list[tuple[float, float]] = []
        """When they came, and when they were admitted."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.processes = [Process(limits) for _ in range(number)]
        for _ in range(2):  # the second time each knows of all others
            for index in range(number):
                self.tick(index)

    # --- time ------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def run(self, seconds: float, *, ticking: bool = True) -> None:
        """Let time pass; processes exchange as they do."""
        end = self.now + seconds
        if ticking:
            for index in range(len(self.processes)):
                self.later(min(TICK * (index + 1) / len(self.processes), seconds), lambda i=index: self._ticks(i, end))  # type: ignore[misc]
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end

    def _ticks(self, index: int, end: float) -> None:
        self.tick(index)
        if self.now + TICK <= end:
            self.later(TICK, lambda: self._ticks(index, end))

    # --- the accounts ----------------------------------------------------------------------------------------------

    def _send(self, process: Process, wants: Sequence[Want], done: Callable[[Sequence[Reply] | None], None]) -> None:
        """Ask over the network; the reply of a process that cannot reach the accounts is None."""

        def arrive() -> None:
            replies = None
            if process.connected and process.epoch in (-1, self.epoch):
                accounts = [self.accounts.setdefault(want.key, Account()) for want in wants]
                replies = [account.take(want, self.now) for account, want in zip(accounts, wants, strict=True)]
            elif process.connected:
                process.limiter.accounts_lost(emptied=True)
            if process.connected:
                process.epoch = self.epoch
            self._deliver(lambda: done(replies) if process.alive else None)

        self._deliver(arrive)

    def _deliver(self, event: Callable[[], None]) -> None:
        delay = self.delay()
        if delay:
            self.later(delay, event)
        else:
            event()

    # --- processes -------------------------------------------------------------------------------------------------

    def tick(self, index: int) -> None:
        """Exchange counts, and tell the accounts what they do not know."""
        process = self.processes[index]
        if not process.connected:
            process.limiter.accounts_lost()
            process.listen()
            return
        process.published = process.limiter.local_counts(self.now)
        others: Counter[str] = Counter()
        for other in self.processes:
            if other is not process:
                others.update(other.published)
        process.limiter.learn_peers(others, len(self.processes) - 1, self.now)
        notice = process.limiter.notice(self.now)
        if not notice.wants and process.limiter.asks:
            return

        def done(replies: Sequence[Reply] | None) -> None:
            process.limiter.noticed(notice, replies, self.now)
            if replies is not None:
                process.limiter.accounts_found()
            process.listen()

        self._send(process, notice.wants, done)

    def crash(self, index: int) -> None:
        """Kill a process, and start another in its place."""
        self.processes[index].alive = False
        self.processes[index] = Process(self.limits)
        self.tick(index)

    def flush(self) -> None:
        """The store is restarted empty."""
        self.accounts.clear()
        self.epoch += 1

    def request(self, index: int, outcome: Outcome, client: str = "me", rows: int = 0, subject: Subject = A) -> None:
        """Send a query, or ``rows``, to a process; ``outcome`` gets the refusal, or None, when that is known."""
        process = self.processes[index]
        if process.waiting is not None:
            process.waiting.append(lambda: self._request(process, outcome, client, rows, subject))
        else:
            self._request(process, outcome, client, rows, subject)

    def _request(self, process: Process, outcome: Outcome, client: str, rows: int, subject: Subject) -> None:
        sent = self.now

        def decided(refusal: RateLimited | None) -> None:
            if refusal is None:
                self.passed += [self.now] * (rows or 1)
                self.spans += [(sent, self.now)] * (rows or 1)
            outcome(refusal)

        def answer(question: Question, replies: Sequence[Reply] | None) -> None:
            try:
                process.limiter.answer(question, replies, self.now)
            except RateLimited as refusal:
                decided(refusal)
            else:
                decided(None)

        try:
            if rows:
                question = process.limiter.take_rows(subject, rows, self.now, client)
            else:
                question = process.limiter.admit(subject, Access.READ, self.now, client)
        except RateLimited as refusal:
            decided(refusal)
            return
        if question is None:
            decided(None)
        else:
            self._send(process, question.wants, lambda replies: answer(question, replies))

    def refused(self, index: int, client: str = "me", rows: int = 0, subject: Subject = A) -> RateLimited | None:
        """As :meth:`request`, and wait for the outcome."""
        outcomes: list[RateLimited | None] = []
        self.request(index, outcomes.append, client, rows, subject)
        while not outcomes:
            self.run(0.01, ticking=False)
        return outcomes[0]

    def admitted(self, index: int, number: int, client: str = "me") -> int:
        """How many of ``number`` queries, one after the other, are admitted."""
        return sum(self.refused(index, client) is None for _ in range(number))
