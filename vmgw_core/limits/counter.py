"""The counter of one limit: it combines the local window, the datasource's number and the counts of peers.

- The local window is exact, but does not see requests that other replicas served.
- The datasource sees all of them, as of its last scrape; what was admitted here since is added to its number.
- Peers publish what they counted *and what they may still count* before they publish again. A replica publishes its
  share before it uses it, and takes no more than the peers have left: see :meth:`Counter.publish`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import TenantID

from .model import Limit, LimitType, label_text
from .sliding_window import SlidingWindow

RESERVED: Final = "+"
"""Suffix of a counter's key: the share that a replica may use before the next exchange."""
NEAR: Final = 0.8
"""A warning is logged when usage reaches this share of the limit."""
_LATE: Final = 2.0  # seconds that a client may come back late: until then a share is kept for it


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
    """By counter key; the key with ``RESERVED`` holds what may still be counted."""
    alive: int = 0
    at: float = 0.0
    interval: float = 0.0

    def take(self, counts: Mapping[str, int], alive: int, now: float) -> None:
        self.counts, self.alive = counts, alive
        self.interval, self.at = now - self.at, now

    def claimed(self, key: str) -> int:
        """Return what peers have used of a limit or may use before the next exchange."""
        return self.counts.get(key, 0) + self.counts.get(key + RESERVED, 0)


class Counter:
    """The usage of one limit by one tenant, or by all tenants together."""

    __slots__ = (
        "_admitted_since", "_awaited_until", "_cap", "_generation", "_measurement", "_near", "_peers", "_published",
        "_settled", "_wanted", "_warned_at", "above", "key", "limit", "tenant", "typical", "window",
    )  # fmt: skip

    def __init__(
        self, limit: Limit, tenant: TenantID | None, measurement: Measurement | None, peers: Peers | None
    ) -> None:
        self.limit = limit
        self.tenant = tenant
        self.key = counter_key(limit, tenant)
        self.window = SlidingWindow(limit.resolution.seconds)
        self.above = False
        """Whether the usage was above ``NEAR`` of the limit when something was last counted."""
        self._near = NEAR * limit.value
        self._warned_at = float("-inf")
        self._measurement = measurement
        self._generation = 0
        self._admitted_since = 0
        self._peers = peers
        self._published: int | None = None
        self._cap: int | None = None
        self._settled = False  # whether peers know this counter
        self.typical = 1
        """How much the last request asked for."""
        self._wanted = 0
        self._awaited_until = float("-inf")

    def fits(self, need: int, now: float) -> bool:
        counted = self.window.count(now) + need
        if counted > self.limit.value or (self._peers is not None and counted > self.cap(now)):
            return False
        return self._measurement is None or self._measured(now) + need <= self.limit.value

    def add(self, count: int, now: float) -> None:
        self.window.add(count, now)
        self._admitted_since += count

    def crossed(self, now: float) -> bool:
        """Return whether the usage has just come near the limit, at most once per window.

        Call it after :meth:`fits`, with the same ``now``.
        """
        alone = self._peers is None and self._measurement is None
        if (self.window.total if alone else self.usage(now)) < self._near:
            self.above = False
            return False
        first = not self.above and now - self._warned_at >= self.window.seconds
        self.above = True
        if first:
            self._warned_at = now
        return first

    def usage(self, now: float) -> int:
        """Return how much of the limit is used, according to all sources."""
        counted = self.window.count(now)
        if self._peers is not None:
            counted += self._peers.counts.get(self.key, 0)
        return counted if self._measurement is None else max(counted, self._measured(now))

    def wait(self, need: int, now: float) -> float:
        """Return the seconds until ``need`` more fit if nothing else is counted meanwhile; 0 if they fit now."""
        cap = self.cap(now)
        wait = self.window.wait(self.window.count(now) + need - cap, now)
        if self._peers is not None and (wait > 0 or need > cap):
            # By then everything that peers counted has left their windows. It takes one exchange of theirs and one of
            # this replica until that is known here.
            wait = (wait if need <= cap else self.window.seconds) + 2 * self._peers.interval
        if self._measurement is not None and self._measured(now) + need > self.limit.value:
            if self.limit.type is LimitType.ACTIVE_SERIES:
                wait = max(wait, self.window.seconds)  # when series end is unknown
            else:
                # All that the number counts happened before as_of. The numbers without it arrive as late as these did.
                wait = max(wait, self._measurement.as_of + self.window.seconds + self._measurement.lag - now)
        return wait

    def age(self, now: float) -> float:
        """Return the seconds since the datasource's number was scraped; 0 if no datasource measures this limit."""
        return 0.0 if self._measurement is None else now - self._measurement.as_of

    def _measured(self, now: float) -> int:
        """Return the datasource's number plus what was admitted since; 0 once it is older than the window."""
        measurement = self._measurement
        assert measurement is not None
        gauge = self.limit.type is LimitType.ACTIVE_SERIES
        if not gauge and measurement.as_of + self.window.seconds <= now:
            return 0
        if self._generation != measurement.generation:
            self._generation = measurement.generation
            self._admitted_since = self.window.since(measurement.as_of)
        value = measurement.values.get(None if self.limit.total else self.tenant, 0)
        return value + self._admitted_since

    @property
    def shared(self) -> bool:
        """Whether peers and this replica exchange its counts."""
        return self._peers is not None

    def cap(self, now: float) -> int:
        """Return how much the local window may hold so that all replicas together stay within the limit."""
        peers = self._peers
        if peers is None:
            return self.limit.value
        if self._cap is None:  # new: each peer leaves this much of what is left
            self._cap = self._share(peers, peers.claimed(self.key), now)
        return self._cap

    def _share(self, peers: Peers, others: int, now: float) -> int:
        own = self.window.count(now)
        left = max(0, self.limit.value - others - own)
        return own + max(left // (peers.alive + 1), min(left, 1))

    def await_retry(self, need: int, wait: float, now: float) -> None:
        """Keep a share for a client that was told to retry ``need`` in ``wait`` seconds."""
        assert self._peers is not None
        if now >= self._awaited_until:
            self._wanted = 0
        self._awaited_until = max(self._awaited_until, now + wait + 2 * self._peers.interval + _LATE)
        if need > max(1, self.limit.value // (self._peers.alive + 1)):  # more than a share could ever be
            self._wanted = max(self._wanted, need)

    def publish(self, now: float) -> int | None:
        """Return how much may be counted here, beyond the window, before the next exchange; None: publish nothing.

        The caps of all replicas together do not exceed the limit. A replica publishes a cap before it raises its own
        to it, and takes no more than the published caps of its peers leave, so the second of two sees the first. A new
        counter has a share at once, of at least 1, and raises it only after its peers have published theirs. So n
        replicas may admit n - 1 too much at first.
        """
        peers = self._peers
        assert peers is not None
        own = self.window.count(now)
        awaited = now < self._awaited_until
        if not own and not awaited:  # start anew: keep no share that nobody needs
            self._published, self._cap, self._settled = None, None, False
            return None
        counted = peers.counts.get(self.key, 0)
        share = self._share(peers, counted, now)
        if awaited:
            share = max(share, min(own + self._wanted, self.limit.value - counted))
        self._published = share
        self._cap = min(self.cap(now), share)
        return share - own

    def exchanged(self, now: float) -> None:
        """Raise the cap after an exchange that followed :meth:`publish`."""
        assert self._peers is not None
        if self._published is None:
            return
        if self._settled:
            left = self.limit.value - self._peers.claimed(self.key)
            self._cap = min(self._published, max(self.cap(now), left))
        self._settled = True


def counter_key(limit: Limit, tenant: TenantID | None) -> str:
    labels = f"/{label_text(limit.labels)}" if limit.labels else ""
    return f"{limit.type}/{limit.resolution}/{limit.scope(tenant)}{labels}"
