"""The rate limiter: may this tenant send one more request, or so many rows, now?

Rules of this file:

- A refused request counts nowhere. A request under several limits counts for all of them or for none.
- What is known only when a request ends counts then, and refuses the next one.
- The tenant is the verified one.
- Time does not go back: a ``now`` before the last one counts as the last one. If it is earlier by more than the longest
  sliding window (a captured day that is replayed after a later one), time continues from there.
- Days and months are those of Unix time, which ``calendar`` is told now and then. It is ``now`` if nobody tells.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from secrets import token_bytes
from typing import Final, TypeVar

from vmgw_core.base import Access, Subject, TenantID, tenant_name
from vmgw_core.errors import RateLimited, Refusal, TooManyRows, UsageUnknown

from .counter import Counter, Peers
from .counters import Counters, Plan, Tenant
from .headers import Quota
from .model import MAX_VALUE, Limit, LimitType, Resolution, Usage
from .sharing.account import Reply, Want
from .sharing.replicas import SETTLE_SECONDS
from .windows.calendar import Calendar
from .windows.label_hashes import LabelHashes
from .windows.series_counts import SeriesNews
from .windows.series_table import SeriesTable

OTHER: Final = "other"
"""The name under which the refusals of further tenants are counted, beyond ``max_tenants``."""

Kind = StrEnum
"""A type of limits, or a member of a guard."""

_Result = TypeVar("_Result")

Refusals = dict[tuple[Kind | None, Resolution | None, str], int]
"""The number of refusals by limit and tenant."""

UNKNOWN_SHARE: Final = 100
"""An amount that a client has kept from being known counts as this part of a limit, rounded up."""
_TOLD_AGAIN: Final = 60.0  # seconds
_LONGEST_WINDOW: Final = float(Resolution.HOUR.seconds)
_NOTICE_SIZE: Final = 200
"""Accounts and moments told at once: those who ask meanwhile have to wait."""
_MAX_NEWS: Final = 1_000_000
"""Series that are kept to be told to other processes."""
_PIECE: Final = 2_000
"""Series that are looked up or noted at once: it takes a few milliseconds, and others wait."""
_PASSES: Final = 3
"""How often they are looked up at most."""
_SLACK: Final = 1e-5  # seconds that float arithmetic may lose


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a request asks of the accounts that processes share, before it may pass."""

    wants: tuple[Want, ...]
    subject: Subject
    entry: Tenant
    counters: tuple[Counter, ...]
    """All that must have room."""
    shared: tuple[Counter, ...]
    """Those of ``wants``."""
    need: int
    client: str
    sent: float
    series: Series | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The series of a body, and for each limit that counts them how many are new."""

    pieces: list[list[int]]
    needs: tuple[tuple[Counter, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What the accounts are told or asked though no request waits for it."""

    wants: tuple[Want, ...]
    counters: tuple[Counter, ...]
    sent: float
    more: bool
    """Whether there may be more to tell."""


class Limiter:
    """Counts requests and rows, and refuses those beyond the limits.

    ``now`` is in seconds of one clock that does not jump. Not thread-safe.
    """

    def __init__(
        self,
        limits: Iterable[Limit] = (),
        *,
        max_tenants: int = 10_000,
        measured: bool = False,
        stale_after: float | None = None,
        refuse_oversized: bool = False,
        series_key: bytes | None = None,
    ) -> None:
        """Of ``limits`` no two have the same tenant, scope and slot. ``measured``: whether a datasource is queried and
        :meth:`learn` is called; then requests under measured limits are refused if its data is older than
        ``stale_after`` seconds or has not arrived yet. ``series_key``: what series are hashed with; a random one if it
        is None."""
        self.max_tenants = max_tenants
        self.measured = measured
        self.stale_after = stale_after
        self.refuse_oversized = refuse_oversized
        self.series_key = token_bytes(16) if series_key is None else series_key
        self.label_hashes = LabelHashes(self.series_key)
        self.warnings: deque[Usage] = deque(maxlen=1000)
        """Usages that came near their limit since this was last emptied."""
        self.rejects: Refusals = {}
        """Type None: there was no room for another tenant."""
        self.observed: Refusals = {}
        """What limits in ``mode: observe`` would have refused."""
        self.told: deque[str] = deque(maxlen=1000)
        """What other rules of the file in ``mode: observe`` would have refused, since this was last emptied."""
        self._told: dict[tuple[Kind, str], float] = {}
        self._rejected: set[str] = set()
        self._news: dict[tuple[str, str], list[int]] | None = None
        self._untold = 0
        self._noted = 0
        """Counts what is new in the tables."""
        self._unnoted: deque[Iterator[None]] = deque()
        self._now = float("-inf")
        self._offset = 0.0
        self._counters = Counters()
        self.calendar: Calendar = self._counters.calendar
        """Days and months: it must be told the time, if ``now`` is not Unix time."""
        self.replace(limits)

    def replace(self, limits: Iterable[Limit]) -> None:
        """Replace the limits. Counts are kept for limits that stay or only change their value."""
        self._counters.replace(limits, measured=self.measured)
        self.limits = self._counters.set.limits
        types = self._counters.set.types
        self.counts_rows = LimitType.ROWS_INSERTED in types
        """Whether a limit needs the rows of bodies to be counted."""
        self.counts_late = any(each.is_late for each in types)
        """Whether a limit needs to be told of requests that end: see :meth:`spend`."""
        self.counts_fetched = LimitType.SERIES_FETCHED in types
        """Whether a limit needs the number of series in responses."""
        self.counts_series = self._counters.set.counts_series
        """Whether a limit of somebody needs the series of bodies to be counted."""
        self.has_calendar = any(limit.is_calendar for limit in self.limits)
        """Whether a limit is about days or months."""

    def reads_series(self, subject: Subject) -> bool:
        """Return whether the series of this subject's writes must be counted."""
        return self.counts_series and bool(self._counters.find(subject)[1].series)

    def admit(
        self, subject: Subject, access: Access, now: float, client: str = "", size: int | None = None
    ) -> Question | None:
        """Count a request that is about to pass. ``size`` is the length of its content, if its head says that.

        A read counts as one query. A write is refused if a limit on rows, series or bytes is already reached, or has no
        room for ``size`` bytes; :meth:`take_rows` counts its rows. A delete is neither, so no limit applies. Raises
        ``RateLimited`` if a limit is reached or there are too many tenants, and ``UsageUnknown`` if the datasource's
        numbers are older than ``stale_after``; then nothing was counted.

        Returns a question if other processes share a limit and must be asked: nothing was counted yet, and
        :meth:`answer` decides. ``client`` is whom a place in the queue is kept for.
        """
        if access is Access.DELETE:
            return None
        now = self._clock(now)
        entry, plan = self._counters.find(subject)
        if access is Access.READ:
            if plan.late_reads:
                self._check(subject, entry, plan.reads, 1, now, client)
                self._count(plan.late_reads, 0, now, client)
            return self._pass(subject, entry, plan.queries, 1, now, client)
        self._check(subject, entry, _of_heads(plan), 1, now, client)
        if plan.late_writes:
            for counter in plan.late_writes:
                counter.typical = size or 1
            self._check(subject, entry, plan.late_writes, size or 1, now, client)
            self._count(plan.late_writes, 0, now, client)
        self._count(plan.measured, 0, now, client)
        return None

    def spend(self, subject: Subject, amounts: Mapping[LimitType, int | None], now: float) -> None:
        """Count what a request has used that has ended: the amounts of late types that are greater than 0.

        None is an amount that the client has kept from being known: a share of each limit counts.
        """
        now = self._clock(now)
        entry, plan = self._counters.find(subject)
        for counter in plan.late_reads + plan.late_writes:
            amount = amounts.get(counter.limit.type, 0)
            if amount is None:
                amount = -(-counter.limit.value // UNKNOWN_SHARE)
            if amount > 0:
                counter.window.count(now)
                counter.add(amount, now, "", False)
                if counter.crossed(now):
                    self.warnings.append(_usage(counter, now))
        self._counters.keep(subject, entry, now, MAX_VALUE)  # it may have been forgotten meanwhile

    def judge(self, subject: Subject, access: Access, now: float, size: int | None = None) -> Refusal | None:
        """Return the refusal that :meth:`admit` would raise for a limit now. Nothing is counted or kept."""
        if access is Access.DELETE:
            return None
        now = self._clock(now)
        _, plan = self._counters.find(subject)
        counters = plan.reads if access is Access.READ else _of_heads(plan)
        for counter in counters:
            if self._is_stale(counter, now):
                return self._usage_unknown(counter)
            need = (size or 1) if counter in plan.late_writes else 1
            if not counter.fits(need, now) or counter.turned_away(need, "", now):
                return _slowest(counters, now, "")[0]
        return None

    def take_rows(
        self, subject: Subject, rows: int, now: float, client: str = "", series: set[int] | None = None
    ) -> Question | None:
        """Count rows that are about to be forwarded. Raises as :meth:`admit`, and returns what it returns.

        ``series``: the hashes of their series, if :meth:`reads_series`. A limit on series has room for all that are
        not known yet, or refuses.

        Rows that are more than a whole limit pass if nothing else is in its window, and then all of them count; with
        ``refuse_oversized`` they raise ``TooManyRows``. So do new series.
        """
        question = finished(self.taking_rows(subject, rows, now, client, series))
        while self.note_more():
            pass
        return question

    def taking_rows(
        self, subject: Subject, rows: int, now: float, client: str = "", series: set[int] | None = None
    ) -> Generator[None, None, Question | None]:
        """Do what :meth:`take_rows` does, with pauses. Many series are noted only by :meth:`note_more`."""
        if rows <= 0 and not series:
            return None
        now = self._clock(now)
        entry, plan = self._counters.find(subject)
        for counter in plan.rows:
            self._check_size(counter, rows)
            counter.typical = max(1, rows)
        checked = None
        if series:
            checked = yield from self._series(plan, _pieces(series))
            now = self._now
            self._check_series(subject, checked, now, client)
        return self._pass(subject, entry, plan.rows, rows, now, client, checked)

    def _check_size(self, counter: Counter, number: int) -> None:
        limit = counter.limit
        if number > limit.value and self.refuse_oversized and not limit.observe:
            what = "rows" if limit.type is LimitType.ROWS_INSERTED else "new series"
            per = "" if limit.type is LimitType.ACTIVE_SERIES else f" per {limit.resolution}"
            raise TooManyRows(f"the body has {number} {what} and the limit is {limit.value}{per}: send smaller bodies")

    # --- series ----------------------------------------------------------------------------------------------------

    def _series(self, plan: Plan, pieces: list[list[int]]) -> Generator[None, None, Series]:
        """Return what the series need. They are counted anew if others were noted in a pause."""
        for _ in range(_PASSES):
            while self.note_more():
                yield
            noted, needs = self._noted, dict.fromkeys(plan.series, 0)
            for number, piece in enumerate(pieces):
                if number:
                    yield
                for counter in plan.series:
                    needs[counter] += self._counters.new_series(counter, piece, self._now)
            if self._noted == noted and not self._unnoted:
                break
        return Series(pieces=pieces, needs=tuple(needs.items()))

    def _check_series(self, subject: Subject, series: Series, now: float, client: str) -> None:
        """Raise if there is no room for the series."""
        for counter, need in series.needs:
            if need:
                self._check_size(counter, need)
                counter.typical = need
        full = _without_room(series, now, client)
        if full:
            raise self._turned_away(subject, full, now, client)

    def _count_series(self, series: Series, now: float, client: str) -> None:
        for counter, need in series.needs:
            assert counter.series is not None
            if need and counter.observe:
                self._observe(counter, need, now)
            counter.series.expected += need
            if need:
                counter.add(need, now, client, granted=False)
                if counter.crossed(now):
                    self.warnings.append(_usage(counter, now))
            self._unnoted.append(self._noting(counter, counter.series, series.pieces, need))
            if len(series.pieces) == 1:
                self.note_more()

    @property
    def unnoted(self) -> bool:
        """Whether :meth:`note_more` has something to do."""
        return bool(self._unnoted)

    def note_more(self) -> bool:
        """Note some of the series that were counted; return whether there are more to note."""
        if self._unnoted and next(self._unnoted[0], self) is self:
            self._unnoted.popleft()
        return bool(self._unnoted)

    def _noting(self, counter: Counter, table: SeriesTable, pieces: list[list[int]], need: int) -> Iterator[None]:
        """Note series piece by piece, with pauses; ``need``: how many were counted as new."""
        for number, piece in enumerate(pieces):
            if number:
                yield
            before = table.count(self._now)
            changed = table.note(piece, self._now)
            found = max(0, min(need, table.count(self._now) - before))
            need -= found
            table.expected -= found
            self._noted += found
            if changed and self._news is not None and self._untold < _MAX_NEWS:
                tenant = "" if counter.limit.total else tenant_name(counter.tenant)
                self._news.setdefault((tenant, counter.key), []).extend(changed)
                self._untold += len(changed)
        table.expected -= need

    def share_series(self, key: bytes) -> None:
        """Hash series with ``key`` from now on, and keep what :meth:`series_news` tells other processes.

        Series that were hashed with another key are forgotten, and limits on new series learn anew. A body that is
        being read meanwhile may add a few with the old key, which count until they leave the window.
        """
        if self._news is None or key != self.series_key:
            self._news, self._untold = {}, 0
        if key != self.series_key:
            self.series_key, self.label_hashes = key, LabelHashes(key)
            self._counters.forget_series()

    def series_news(self, now: float) -> list[SeriesNews]:
        """Return what other processes have not been told: series that are new or in a new part of their window."""
        news, self._news, self._untold = self._news or {}, {}, 0
        return [SeriesNews(tenant, key, now, series) for (tenant, key), series in news.items()]

    def known_series(self, now: float) -> Iterator[SeriesNews]:
        """Yield all series that are known, some at a time. Those that are written meanwhile may be missing."""
        now = self._clock(now)
        for counter in tuple(self._counters):
            if counter.series is not None:
                tenant = "" if counter.limit.total else tenant_name(counter.tenant)
                for until, series in counter.series.known(now):
                    yield SeriesNews(tenant, counter.key, min(until, now), series)

    def learn_series(self, news: SeriesNews, now: float) -> None:
        """Take series that another process has seen, as if they had been written here."""
        now = self._clock(now)
        tenant = TenantID.parse(news.tenant) if news.tenant else None
        counter = self._counters.of_series(tenant, news.key, now, self.max_tenants)
        if counter is None or counter.series is None:
            return
        at = min(news.at, now)
        need = self._counters.new_series(counter, news.series, now)
        if need and at + counter.window.seconds > now:
            counter.add(need, now, "", granted=False)
        counter.series.note(news.series, now, at)

    def answer(self, question: Question, replies: Sequence[Reply] | None, now: float) -> None:
        """Count the request, or raise ``RateLimited``; ``replies`` None: the accounts could not be asked."""
        now = self._clock(now)
        need, client = question.need, question.client
        if replies is None:
            self.accounts_lost()
            for counter in question.shared:
                assert counter.lease is not None
                counter.lease.no_reply()
            self._pass(question.subject, question.entry, question.counters, need, now, client, question.series)
            return
        series = question.series
        full = () if series is None else _without_room(series, now, client)
        passes = all(reply.granted for reply in replies) and all(c.fits(need, now) for c in question.counters)
        passes = passes and not full
        for counter, reply in zip(question.shared, replies, strict=True):
            assert counter.lease is not None
            unused = need if reply.granted and not passes else 0
            counter.take(reply, need, unused, question.sent, now)
            if not reply.granted:
                counter.lease.refuse(reply, need, client, now)
        if not passes:
            raise self._refused(question.subject, question.counters + full, now, client)
        self._count(question.counters, need, now, client, question.shared)
        if series is not None:
            self._count_series(series, now, client)

    def _pass(
        self,
        subject: Subject,
        entry: Tenant,
        counters: tuple[Counter, ...],
        need: int,
        now: float,
        client: str,
        series: Series | None = None,
    ) -> Question | None:
        """Count ``need``, or return what to ask first; raise if there is no room."""
        self._check(subject, entry, counters, need, now, client)
        if self._counters.peers is not None:
            shared = tuple(counter for counter in counters if not counter.covers(need, now))
            if shared:
                wants = tuple(counter.want(need, client, now) for counter in shared)
                return Question(
                    wants=wants,
                    subject=subject,
                    entry=entry,
                    counters=counters,
                    shared=shared,
                    need=need,
                    client=client,
                    sent=now,
                    series=series,
                )
        self._count(counters, need, now, client)
        if series is not None:
            self._count_series(series, now, client)
        return None

    def _check(
        self, subject: Subject, entry: Tenant, counters: tuple[Counter, ...], need: int, now: float, client: str
    ) -> None:
        """Keep the tenant if ``need`` more fit all counters; raise if not."""
        for counter in counters:
            if self.stale_after is not None and self._is_stale(counter, now):
                raise self._usage_unknown(counter)
            full = not counter.fits(need, now, client)
            if full or (counter.lease is not None and counter.turned_away(need, client, now)):
                raise self._turned_away(subject, counters, now, client)
        if entry.counters:
            wait = self._counters.keep(subject, entry, now, self.max_tenants)
            if wait > 0:
                raise self._no_room(subject, wait)

    def _is_stale(self, counter: Counter, now: float) -> bool:
        return self.stale_after is not None and counter.age(now) > self.stale_after

    def _usage_unknown(self, counter: Counter) -> UsageUnknown:
        return UsageUnknown(
            f"the usage of {counter.limit.type.noun} is unknown: the datasource has not responded for "
            f"{self.stale_after:g} seconds (-ratelimit.failClosed)"
        )

    def _count(
        self, counters: tuple[Counter, ...], count: int, now: float, client: str, granted: tuple[Counter, ...] = ()
    ) -> None:
        for counter in counters:
            if counter.observe:
                self._observe(counter, count or 1, now)
            if count:
                counter.add(count, now, client, counter in granted)
            if counter.crossed(now):
                self.warnings.append(_usage(counter, now))

    def _observe(self, counter: Counter, count: int, now: float) -> None:
        """Note a request that a limit would have refused if it did not only observe."""
        exceeded, first = counter.exceeded(count, now)
        if exceeded:
            self._note(self.observed, counter.limit, counter.tenant)
        if first:
            self.warnings.append(replace(_usage(counter, now), over=True))

    def _turned_away(self, subject: Subject, counters: tuple[Counter, ...], now: float, client: str) -> RateLimited:
        """Return the refusal, and keep a place in the queue."""
        refusal = self._refused(subject, counters, now, client)
        for counter in counters:
            counter.turn_away(counter.typical, now, client)
        return refusal

    def _refused(self, subject: Subject, counters: tuple[Counter, ...], now: float, client: str) -> RateLimited:
        """Return the refusal for the limit that takes longest to have room again."""
        refusal, slowest = _slowest(counters, now, client)
        self._reject(slowest.limit, subject.tenant)
        return refusal

    def _reject(self, limit: Limit | None, tenant: TenantID | None) -> None:
        self._note(self.rejects, limit, tenant)

    def note(self, kind: Kind, tenant: TenantID | None, now: float, *, beyond: str = "") -> None:
        """Count what another rule of the file refused: a guard, or a limit of concurrent requests.

        ``beyond``: it did not refuse it, since its mode is observe. The text is told once a minute for each tenant.
        """
        name = self._count_for(self.observed if beyond else self.rejects, kind, None, tenant)
        if beyond and now >= self._told.get((kind, name), now):
            self._told[kind, name] = now + _TOLD_AGAIN
            self.told.append(beyond)

    def _note(self, numbers: Refusals, limit: Limit | None, tenant: TenantID | None) -> None:
        if limit is None:
            self._count_for(numbers, None, None, tenant)
        else:
            self._count_for(numbers, limit.type, limit.resolution, tenant)

    def _count_for(
        self, numbers: Refusals, kind: Kind | None, resolution: Resolution | None, tenant: TenantID | None
    ) -> str:
        name = tenant_name(tenant)
        if name not in self._rejected:
            if len(self._rejected) >= self.max_tenants:
                name = OTHER
            self._rejected.add(name)
        key = (kind, resolution, name)
        numbers[key] = numbers.get(key, 0) + 1
        return name

    def _no_room(self, subject: Subject, wait: float) -> RateLimited:
        """Return the refusal of a tenant that cannot be kept."""
        self._reject(None, subject.tenant)
        return RateLimited(
            f"request was rate limited: the gateway tracks {self.max_tenants} tenants (-ratelimit.maxTenants), "
            f"and all of them are active, so it cannot track tenant {tenant_name(subject.tenant)}",
            _whole_seconds(wait),
        )

    def _clock(self, now: float) -> float:
        now += self._offset
        if now < self._now:
            if self._now - now > _LONGEST_WINDOW:
                self._offset += self._now - now
            return self._now
        self._now = now
        return now

    def learn(
        self, values: Mapping[tuple[LimitType, Resolution, TenantID | None], float], as_of: float, now: float
    ) -> None:
        """Store usage from the datasource. Raises ``ValueError`` if a value is not finite.

        Decisions use ``max(local window, value + what was admitted here since as_of)``. Tenant None is all of them
        together. If a type and resolution has values, tenants without one have used nothing; if it has none, its old
        values stay. ``as_of``: when the newest sample was scraped, on the clock of ``now``; older values than the known
        ones are dropped.
        """
        now = self._clock(now)
        as_of = min(as_of + self._offset, now)
        groups: dict[tuple[LimitType, Resolution], dict[TenantID | None, int]] = {}
        for (limit_type, resolution, tenant), value in values.items():
            if not math.isfinite(value):
                raise ValueError(f"{limit_type} per {resolution} of {tenant_name(tenant)} is not a finite number")
            groups.setdefault((limit_type, resolution), {})[tenant] = max(0, math.ceil(value))
        for pair, group in groups.items():
            measurement = self._counters.measurements.get(pair)
            if measurement is not None:
                measurement.take(group, as_of, now)

    # --- days and months -------------------------------------------------------------------------------------------

    def restore(self, counts: Iterable[tuple[str, int, int]]) -> None:
        """Add what a state file has: the key of a counter, the end of its window, and the count.

        From now on ``calendar.unsaved`` returns what is to be written there.
        """
        windows = {counter.key: counter.calendar for counter in self._counters if counter.calendar is not None}
        self.calendar.changed = {window: None for window in windows.values() if window.total}
        for key, until, count in counts:
            window = windows.get(key)
            if window is not None:
                window.restore(until, count)
            elif until >= self._counters.restored.get(key, (0, 0))[0]:
                self._counters.restored[key] = until, count

    # --- shared with other processes -------------------------------------------------------------------------------

    def local_counts(self, now: float) -> dict[str, int]:
        """Return the counts to publish, by counter key. From the first call on, limits are shared."""
        now = self._clock(now)
        if self._counters.peers is None:
            self._counters.peers = Peers()
            self._counters.rebuild()
        counters = (each for each in self._counters if each.limit.type.counted and not each.limit.is_burst)
        return {counter.name: own for counter in counters if (own := counter.window.count(now))}

    def learn_peers(self, counts: Mapping[str, int], alive: int, now: float) -> None:
        """Store the sums of what peers published and how many are alive."""
        self.local_counts(now)
        peers = self._counters.peers
        assert peers is not None
        peers.counts, peers.alive, peers.at = counts, alive, self._clock(now)

    @property
    def asks(self) -> bool:
        """Whether the accounts that processes share can be asked."""
        return self._counters.peers is not None and self._counters.peers.reachable

    def notice(self, now: float) -> Notice:
        """Return some of what the accounts should be told now. Call :meth:`noticed` with the replies."""
        now = self._clock(now)
        due: list[tuple[Counter, Want]] = []
        size = 0
        for counter in self._counters:
            if size >= _NOTICE_SIZE:
                break
            want = counter.overdue(now)
            if want is not None:
                due.append((counter, want))
                size += 1 + len(want.spent)
        return Notice(
            wants=tuple(want for _, want in due),
            counters=tuple(counter for counter, _ in due),
            sent=now,
            more=size >= _NOTICE_SIZE,
        )

    def noticed(self, notice: Notice, replies: Sequence[Reply] | None, now: float) -> None:
        """Take the replies; None: the accounts could not be told."""
        if replies is None:
            self.accounts_lost()
            for counter, want in zip(notice.counters, notice.wants, strict=True):
                assert counter.lease is not None
                counter.lease.no_reply()
                counter.lease.untold(want.spent, notice.sent, counter.window)
            return
        now = self._clock(now)
        for counter, reply in zip(notice.counters, replies, strict=True):
            counter.take(reply, 0, 0, notice.sent, now)

    def accounts_found(self) -> None:
        """Ask the accounts from now on. Call it after they were told what was used without asking.

        If they were empty, the other processes have to tell them too, so this one waits ``SETTLE_SECONDS``.
        """
        if self._counters.peers is not None and self._now >= self._counters.peers.settled:
            self._reach(True)

    def accounts_lost(self, *, emptied: bool = False) -> None:
        """Keep to this process' share until :meth:`accounts_found`; ``emptied``: they have forgotten everything."""
        self._reach(False)
        if emptied and self._counters.peers is not None:
            self._counters.peers.settled = self._now + SETTLE_SECONDS
            for counter in self._counters:
                counter.account_lost()

    def _reach(self, reachable: bool) -> None:
        peers = self._counters.peers
        if peers is not None and peers.reachable is not reachable:
            peers.reachable = reachable
            for counter in self._counters:
                counter.restart_share()

    def status(self, now: float) -> Iterator[Usage]:
        """Yield the totals, then the limits of every kept tenant, the most recently admitted first."""
        now = self._clock(now)
        for counter in self._counters:
            yield _usage(counter, now)

    def status_of(self, subject: Subject, now: float) -> tuple[Usage, ...]:
        """Return the limits that apply to this subject, with their usage."""
        now = self._clock(now)
        _, plan = self._counters.find(subject)
        return tuple(_usage(counter, now) for counter in plan.reads + plan.writes + plan.series)

    def quotas(self, subject: Subject, access: Access, now: float, client: str = "") -> tuple[Quota, ...]:
        """Return what is left of the limits that such a request counts for.

        Limits for all tenants together are left out, since the usage of others is not for this one to know, and so are
        those that refuse nothing.
        """
        if access is Access.DELETE:
            return ()
        now = self._clock(now)
        _, plan = self._counters.find(subject)
        counters = plan.reads if access is Access.READ else plan.rows + plan.late_writes
        return tuple(_quota(each, now, client) for each in counters if not (each.observe or each.limit.total))

    def age(self, now: float) -> float | None:
        """Return the seconds since the oldest data was scraped: inf before the first, None without a datasource."""
        now = self._clock(now)
        return max((now - measurement.as_of for measurement in self._counters.measurements.values()), default=None)

    @property
    def tenants(self) -> int:
        return len(self._counters.tenants)


def _of_heads(plan: Plan) -> tuple[Counter, ...]:
    """Return the counters that must have room before the body of a write is read.

    A table that does not have every series cannot tell which are new, so then all must wait.
    """
    if not plan.series:
        return plan.writes
    return plan.writes + tuple(each for each in plan.series if each.series is not None and not each.series.exact)


def _pieces(series: set[int]) -> list[list[int]]:
    keys = list(series)
    return [keys[begin : begin + _PIECE] for begin in range(0, len(keys), _PIECE)]


def finished(steps: Generator[None, None, _Result]) -> _Result:
    """Take all steps at once, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result


def _without_room(series: Series, now: float, client: str) -> tuple[Counter, ...]:
    return tuple(counter for counter, need in series.needs if need and not counter.fits(need, now, client))


def _usage(counter: Counter, now: float) -> Usage:
    return Usage(limit=counter.limit, tenant=counter.tenant, usage=counter.usage(now), key=counter.key)


def _quota(counter: Counter, now: float, client: str) -> Quota:
    left = max(0, counter.limit.value - counter.usage(now))
    wait = None if left else _whole_seconds(counter.wait(counter.typical, now, client))
    return Quota(counter.limit, left, wait)


def _slowest(counters: Iterable[Counter], now: float, client: str) -> tuple[RateLimited, Counter]:
    """Return the refusal for the limit that takes longest to have room again, and its counter."""
    waits = [(each.wait(each.typical, now, client), each) for each in counters if not each.observe]
    wait, slowest = max(waits, key=lambda pair: pair[0])
    used = slowest.usage(now)
    if slowest.lease is not None and slowest.reachable and slowest.calendar is None:
        used = max(used, slowest.lease.used)
    text = f"request was rate limited: {slowest.limit.described(used, slowest.tenant)}"
    return RateLimited(text, _whole_seconds(wait)), slowest


def _whole_seconds(wait: float) -> int:
    return max(1, math.ceil(wait + _SLACK))
