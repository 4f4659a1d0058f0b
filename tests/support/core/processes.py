"""Processes that share limits, the accounts that they share, and the network between: all on one clock of the test."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from tests.support.core.limiters import A
from vmgw_core.base.tenants import Access, Subject
from vmgw_core.errors import RateLimited
from vmgw_core.limits.limiter import Limiter, Question
from vmgw_core.limits.model import Limit
from vmgw_core.limits.sharing.account import Account, Reply, Want

TICK = 0.1
"""Seconds between two exchanges of a process."""

TELL = 1.0
"""Seconds after which a process looks at the clock of the machine again."""
DAY = 86400

Outcome = Callable[[RateLimited | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A query or row that was admitted."""

    sent: float
    at: float
    day: tuple[int, float] | None
    """The day of Unix time, and how far that was ahead; None if one of them changed while it was under way."""
    allowed: int
    """The limit in force meanwhile: the highest that a process had."""


class Process:
    """One process of the gateway."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self.limiter = Limiter(limits)
        self.published: dict[str, int] = {}
        self.connected = True
        self.alive = True
        self.epoch = -1
        self.asking = False
        self.unsent: list[tuple[Sequence[Want], Callable[[Sequence[Reply] | None], None]]] = []
        self.told = float("-inf")
        """When it last looked at the clock of the machine."""
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
        self.ahead = 0.0
        """Seconds that Unix time is ahead."""
        self.admissions: list[Admission] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.processes = [Process(limits) for _ in range(number)]
        self.most = number
        """The most processes at a time."""
        for _ in range(2):  # the second time each knows of all others
            for index in range(number):
                self.tick(index)

    # --- time ------------------------------------------------------------------------------------------------------

    @property
    def unix(self) -> float:
        return self.now + self.ahead

    def skip(self, seconds: float) -> None:
        """Let time pass in which nothing happens."""
        self.run(min(seconds, 1.0))
        self.now += max(0.0, seconds - 1.0)
        self.run(0.2)

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def run(self, seconds: float, *, ticking: bool = True) -> None:
        """Let time pass; processes exchange as they do."""
        end = self.now + seconds
        if ticking:
            for index in range(len(self.processes)):
                self.later(min(TICK * (index + 1) / len(self.processes), seconds), lambda i=index: self._ticks(i, end))  # type: ignore[misc]
        while self._events and self._events[0][0] <= end:
            moment, _, event = heapq.heappop(self._events)
            self.now = max(self.now, moment)
            event()
        self.now = end

    def _ticks(self, index: int, end: float) -> None:
        self.tick(index)
        if self.now + TICK <= end:
            self.later(TICK, lambda: self._ticks(index, end))

    # --- the accounts ----------------------------------------------------------------------------------------------

    def _send(self, process: Process, wants: Sequence[Want], done: Callable[[Sequence[Reply] | None], None]) -> None:
        """Ask over the network. One message is on its way at a time, and what comes meanwhile goes with the next."""
        process.unsent.append((wants, done))
        if not process.asking:
            self._ask(process)

    def _ask(self, process: Process) -> None:
        batch, process.unsent, process.asking = process.unsent, [], True

        def arrive() -> None:
            replies = [self._replies(process, wants) for wants, _ in batch]
            self._deliver(lambda: answered(replies))

        def answered(replies: Sequence[Sequence[Reply] | None]) -> None:
            for (_, done), each in zip(batch, replies, strict=True):
                if process.alive:
                    done(each)
            process.asking = False
            if process.unsent:
                self._ask(process)

        self._deliver(arrive)

    def _replies(self, process: Process, wants: Sequence[Want]) -> Sequence[Reply] | None:
        """Return what the accounts reply; None if the process cannot reach them, or if they have lost everything."""
        if not process.connected:
            return None
        known, process.epoch = process.epoch, self.epoch
        if known not in (-1, self.epoch):
            process.limiter.accounts_lost(emptied=True)
            return None
        accounts = [(self.accounts.setdefault(want.key, Account()), want) for want in wants]
        return [account.take(want, self.unix if want.ends else self.now) for account, want in accounts]

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
        if self.now >= process.told + TELL:
            process.limiter.calendar.tell_time(self.unix, self.now)
            process.told = self.now
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
        if not notice.wants and process.limiter.asks and process.epoch == self.epoch:
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

    def join(self) -> None:
        """Start one more process."""
        self.processes.append(Process(self.limits))
        self.most = max(self.most, len(self.processes))
        self.tick(len(self.processes) - 1)

    def drain(self, index: int) -> None:
        """Stop a process in order: its requests end, and it gives back what it has not used."""
        process = self.processes.pop(index)

        def leave() -> None:
            process.limiter.accounts_lost()
            notice = process.limiter.notice(self.now)
            self._send(process, notice.wants, lambda replies: process.limiter.noticed(notice, replies, self.now))

        self.later(1.0, leave)

    def reload(self, index: int, *limits: Limit) -> None:
        self.limits = limits
        self.processes[index].limiter.replace(limits)

    def connect(self, connected: bool) -> None:
        for process in self.processes:
            process.connected = connected

    def settle(self) -> None:
        """Wait until everybody knows of everything."""
        self.run(0.7)

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
        sent, began, allowed = self.now, self._day, self._allowed

        def decided(refusal: RateLimited | None) -> None:
            if refusal is None:
                day = self._day if self._day == began else None
                each = Admission(sent=sent, at=self.now, day=day, allowed=max(allowed, self._allowed))
                self.admissions += [each] * (rows or 1)
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

    @property
    def _day(self) -> tuple[int, float]:
        return int(self.unix // DAY), self.ahead

    @property
    def _allowed(self) -> int:
        return max((each.value for process in self.processes for each in process.limiter.limits), default=0)

    @property
    def passed(self) -> list[float]:
        """When requests were admitted."""
        return [each.at for each in self.admissions]

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
