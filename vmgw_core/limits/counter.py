"""The counter of one limit: it combines the local window, the datasource's number and the counts of peers.

- The local window is exact, but does not see requests that other replicas served.
- The datasource sees all of them, as of its last scrape; what was admitted here since is added to its number.
- Processes that share limits take what they use from an account of all of them: see :mod:`.account` and
  :mod:`.lease`. Peers publish what they counted too. That is for people to see, and for the time when the account
  cannot be asked.
- A limit that only observes, or whose type is known when a request ends, asks nobody. It goes by what is counted here
  and what the others have told. If it is of days or months, it tells the account, which outlives the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import TenantID

from .model import Limit, LimitType, label_text
from .sharing.account import LEASE_SECONDS, Reply, Spent, Want
from .sharing.lease import Lease, Window
from .sharing.queue import Queue
from .windows.calendar import Calendar, CalendarWindow
from .windows.series_table import SeriesTable
from .windows.sliding_window import SlidingWindow

NEAR: Final = 0.8
"""A warning is logged when usage reaches this share of the limit."""
_QUIET: Final = 60.0
"""The seconds after a warning in which the limit gives no other, if its window is shorter."""


@dataclass(slots=True)
class Measurement:
    """The datasource's last numbers for one type and resolution. ``as_of`` is -inf before the first."""

    values: Mapping[TenantID | None, int] = field(default_factory=dict)
    as_of: float = float("-inf")
    lag: float = 0.0
    """How old the previous numbers were when these came, in seconds."""
    generation: int = 0

    def take(self, values: Mapping[TenantID | None, int], as_of: float, now: float) -> None:
        if as_of < self.as_of:
            return
        self.lag = now - self.as_of if self.generation else now - as_of
        self.values, self.as_of = values, as_of
        self.generation += 1


@dataclass(slots=True)
class Peers:
    """The counts of the other replicas, as of the last exchange."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """By counter key."""
    alive: int = 0
    reachable: bool = False
    """Whether the accounts can be asked."""
    at: float = float("-inf")
    """When the counts were learned."""
    settled: float = float("-inf")
    """When all have told accounts what they have used, after these had been emptied."""


class Counter:
    """The usage of one limit by one tenant, or by all tenants together."""

    __slots__ = (
        "_admitted_since", "_exceeded_until", "_generation", "_heard_in", "_measured_until", "_measured_value",
        "_measurement", "_near", "_peers", "_share", "_share_in", "_warned_until", "above", "asks", "calendar", "key",
        "lease", "limit", "observe", "queue", "series", "tenant", "typical", "window",
    )  # fmt: skip

    def __init__(
        self,
        limit: Limit,
        tenant: TenantID | None,
        measurement: Measurement | None,
        peers: Peers | None,
        calendar: Calendar,
    ) -> None:
        self.limit = limit
        self.tenant = tenant
        self.key = counter_key(limit, tenant)
        self.calendar: CalendarWindow | None = None
        """The window, if it is a day or month."""
        if limit.is_calendar:
            self.calendar = CalendarWindow(calendar, limit.resolution, limit.zone, self.key)
        self.window: Window = self.calendar or SlidingWindow(limit.resolution.seconds)
        self.above = False
        """Whether the usage was above ``NEAR`` of the limit when something was last counted."""
        self._near = NEAR * limit.value
        self._warned_until = self._exceeded_until = float("-inf")
        self._measurement = measurement
        self._generation = 0
        """The generation of the measurement that the next three are of."""
        self._measured_value = 0
        self._measured_until = float("-inf")
        self._admitted_since = 0
        self._peers = peers
        self._share: int | None = None
        self._share_in = self._heard_in = 0
        self.series: SeriesTable | None = None
        """The series that were written lately, if the gateway counts them for this limit."""
        self.observe = limit.observe
        """Whether it refuses nothing."""
        self.asks = not (limit.observe or limit.type.is_late)
        """Whether the account is asked before something is counted."""
        self.lease = Lease() if peers is not None and (self.asks or limit.is_calendar) else None
        """What this process has taken of a limit that it shares."""
        self.queue: Queue | None = None
        """Who was refused lately; None if nobody was, and if an account has the queue."""
        self.typical = 1
        """How much the last request asked for."""

    def keep_window(self, old: Counter) -> None:
        """Take over the counts of a limit that has the same type, resolution, labels and class."""
        self.window = old.window
        if self._peers is None:
            self.queue = old.queue
        elif old._share is not None:
            self._share = old._share + (self.limit.value - old.limit.value) // (self._peers.alive + 1)
            self._share_in = old._share_in
        if old.calendar is not None:
            self.calendar = old.calendar
            self.calendar.zone = self.limit.zone  # from the end of its present window on
            self._heard_in = old._heard_in

    def fits(self, need: int, now: float, client: str = "") -> bool:
        """Whether ``need`` more fit, as far as is known here: an account decides on its own.

        More than the whole limit fits if nothing else is counted.
        """
        if self.observe:
            return True
        most, peers = self.limit.value, self._peers
        if need > most:
            need = most
        if peers is None:
            counted = self.window.count(now) + need
            if counted > most or (self.queue is not None and not self._passes(counted, now, client)):
                return False
        elif not peers.reachable:
            if self.window.count(now) + need > self.share(now):
                return False
        elif not self.asks and self.usage(now) + need > most:
            return False
        return self._measurement is None or self._measured(now) + need <= most

    def _passes(self, counted: int, now: float, client: str) -> bool:
        """Whether there is room beside what those need who were refused before."""
        assert self.queue is not None
        self.queue.expire(now)
        if not self.queue.claims:
            self.queue = None
            return True
        return counted + self.queue.ahead(client) <= self.limit.value

    def exceeded(self, count: int, now: float) -> tuple[bool, bool]:
        """Return whether ``count`` more are beyond a limit that only observes, and whether that is to be logged."""
        if self.usage(now) + count <= self.limit.value:
            return False, False
        first = now >= self._exceeded_until
        if first:
            self._exceeded_until = self._quiet_until(now)
        return True, first

    def _quiet_until(self, now: float) -> float:
        return max(self.window.left_at(now), now + _QUIET)

    def turn_away(self, need: int, now: float, client: str) -> None:
        """Keep a place for a client that was refused, if this limit has no room for it.

        A burst is over before most clients are back, so there are no places: they would keep others waiting. Nothing
        leaves a day or month before it ends, so there is nothing to wait for in turn. Nobody knows when series end.
        """
        of_series = self.series is not None and self.limit.type is LimitType.ACTIVE_SERIES
        if self.limit.is_burst or self.limit.is_calendar or of_series or not self.asks:
            return
        need = min(need, self.limit.value)
        if self._peers is None and not self.fits(need, now, client):
            if self.queue is None:
                self.queue = Queue()
            self.queue.keep(client, need, now + self.wait(need, now, client), self.limit.value)

    def add(self, count: int, now: float, client: str, granted: bool) -> None:
        """Count; ``granted``: the account was asked for exactly this, so it is not taken from the lease."""
        self.window.add(count, now)
        self._admitted_since += count
        if self.queue is not None:
            self.queue.leave(client)
        if self.lease is not None and not granted:
            if self.reachable and self.asks:
                self.lease.use(count)
            else:
                self.lease.owe_more(count, now, self.window)

    def crossed(self, now: float) -> bool:
        """Return whether the usage has just come near the limit, at most once per window.

        Call it after :meth:`fits`, with the same ``now``.
        """
        alone = self._peers is None and self._measurement is None
        if (self.window.total if alone else self.usage(now)) < self._near:
            self.above = False
            return False
        # A calendar window begins anew without another count, and is quiet until then.
        first = now >= self._warned_until and (not self.above or self.calendar is not None)
        self.above = True
        if first:
            self._warned_until = self._quiet_until(now)
        return first

    def usage(self, now: float) -> int:
        """Return how much of the limit is used, according to all sources."""
        counted = self.window.count(now)
        if self._peers is not None:
            counted += self._others()
        if self._measurement is None:
            return counted
        measured = self._measured(now)
        return measured if measured > counted else counted

    @property
    def name(self) -> str:
        """What the count is published as: for days and months with the window that it is of."""
        return self.key if self.calendar is None else f"{self.key}@{self.calendar.until}"

    def _others(self) -> int:
        """Return what other processes have used, as far as is known."""
        assert self._peers is not None
        others = self._peers.counts.get(self.name, 0)
        if self.calendar is not None and self.lease is not None and self._heard_in == self.calendar.until:
            return max(others, self.lease.others)  # nothing leaves before the window ends
        return others

    def wait(self, need: int, now: float, client: str = "") -> float:
        """Return the seconds until ``need`` more fit if nothing else is counted meanwhile; 0 if they fit now."""
        need = min(need, self.limit.value)
        if self.lease is not None and self.reachable and self.asks:
            wait = max(0.0, self.lease.due(client) - now)
        else:
            most = self.limit.value
            if self._peers is not None:
                most = most - self._others() if self.reachable else self.share(now)
            ahead = 0 if self.queue is None else self.queue.ahead(client)
            excess = self.window.count(now) + ahead + need - most
            if excess > self.window.total:
                wait = max(self.window.left_at(now), float("-inf") if self.queue is None else self.queue.end) - now
            else:
                wait = self.window.wait(excess, now)
        if self._measurement is not None and self._measured(now) + need > self.limit.value:
            if self.limit.type is LimitType.ACTIVE_SERIES:
                wait = max(wait, self.window.seconds)  # when series end is unknown
            else:
                # All that the number counts happened before as_of. The numbers without it arrive as late as these did.
                wait = max(wait, self._measurement.as_of + self.window.seconds + self._measurement.lag - now)
        return wait

    def age(self, now: float) -> float:
        """Return the seconds since the datasource's number was scraped; 0 if that does not matter for this limit."""
        return 0.0 if self._measurement is None or self.observe else now - self._measurement.as_of

    def _measured(self, now: float) -> int:
        """Return the datasource's number plus what was admitted since; 0 once it is older than the window."""
        measurement = self._measurement
        assert measurement is not None
        if self._generation != measurement.generation:
            self._read(measurement)
        return self._measured_value + self._admitted_since if now < self._measured_until else 0

    def _read(self, measurement: Measurement) -> None:
        """Look up what a new generation says of this counter."""
        assert isinstance(self.window, SlidingWindow)
        self._generation = measurement.generation
        self._admitted_since = self.window.since(measurement.as_of)
        self._measured_value = measurement.values.get(None if self.limit.total else self.tenant, 0)
        gauge = self.limit.type is LimitType.ACTIVE_SERIES
        self._measured_until = float("inf") if gauge else measurement.as_of + self.window.seconds

    # --- shared with other processes -------------------------------------------------------------------------------

    def covers(self, need: int, now: float) -> bool:
        """Whether ``need`` more may be used without asking the account that all processes share."""
        lease = self.lease
        return lease is None or not (self.asks and self.reachable) or lease.covers(need, now)

    def turned_away(self, need: int, client: str, now: float) -> bool:
        """Whether the account has refused ``need`` lately, and there is no need to ask again."""
        lease = self.lease
        return lease is not None and not self.covers(need, now) and lease.is_refused(need, client, now)

    def want(self, need: int, client: str, now: float, spent: Spent = (), *, renew: bool = True) -> Want:
        """Return what to ask of the account; ``renew``: and more for the lease."""
        assert self.lease is not None
        assert self._peers is not None
        extra, returned = self.lease.ask(self.limit.value, self._peers.alive + 1)
        return Want(
            key=self.key,
            seconds=int(self.window.seconds),
            limit=self.limit.value,
            need=need,
            extra=extra if renew else 0,
            client=client,
            returned=returned,
            spent=spent,
            ends=() if self.calendar is None else self.calendar.bounds(now),
        )

    def take(self, reply: Reply, need: int, unused: int, sent: float, now: float) -> None:
        """Take the reply to a question: ``need`` units for a request, of which ``unused`` go to the lease."""
        assert self.lease is not None
        used_here = self.window.count(now) + (need - unused if reply.granted else 0)
        until = sent + LEASE_SECONDS
        if self.calendar is not None:
            self._heard_in = reply.part
            until = min(until, self.calendar.moment(reply.part))  # what is used later counts for the next window
        self.lease.take(reply, reply.extra + unused, until, used_here, now)

    def overdue(self, now: float) -> Want | None:
        """Return what the account should be told or asked though no request waits for it."""
        if self.lease is None:
            return None
        spent, is_low = self.lease.spent(now), self.lease.is_low()
        unheard = not (self.asks or self.lease.asking) and self.lease.heard == float("-inf")
        if self.lease.has_returns(now) or spent or is_low or unheard:
            return self.want(0, "", now, spent, renew=is_low)
        return None

    def account_lost(self) -> None:
        """Note that the account has forgotten what this process has taken, and must be told again."""
        if self.lease is not None:
            self.lease.drop()
            self.lease.owe(self.window, anew=True)

    def restart_share(self) -> None:
        """Forget the lease and the share: the account can be asked again, or not any more."""
        self._share = None
        if self.lease is not None:
            self.lease.give_back()

    @property
    def reachable(self) -> bool:
        """Whether the account can be asked."""
        return self._peers is not None and self._peers.reachable

    def share(self, now: float) -> int:
        """Return how much the local window may hold while the account cannot be asked.

        It is what this process had used then, and an equal part of what was left when it last heard of the others. If
        all had used more than the limit, it is that much less.
        """
        peers = self._peers
        assert peers is not None
        own = self.window.count(now)
        window = 0 if self.calendar is None else self.calendar.until
        if self._share is None or self._share_in != window:
            self._share_in = window
            others = self._others()
            if self.calendar is None and self.lease is not None and self.lease.heard > peers.at:
                others = max(others, self.lease.others)
            left = self.limit.value - others - own
            if left > 0:
                self._share = own + max(left // (peers.alive + 1), 1)
            else:
                self._share = own * self.limit.value // (own + others)
        return self._share


def counter_key(limit: Limit, tenant: TenantID | None) -> str:
    labels = f"/{label_text(limit.labels)}" if limit.labels else ""
    of_class = f"/class={limit.limit_class}" if limit.limit_class else ""
    return f"{limit.type}/{limit.resolution}/{limit.scope(tenant)}{of_class}{labels}"
