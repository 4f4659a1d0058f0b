"""One counter for one limit: what was counted here, what a datasource has said, what the other replicas have.

Three sources, and a verdict that none of them alone could give:

- the own window is exact, and knows nothing of requests that went elsewhere;
- a datasource knows all of them, as of its last scrape: its number holds with what was admitted here since;
- other replicas say what they counted, *and what they may still count* before they are heard of again. A replica
  publishes its share before it uses it, and takes no more than the others have left: see :meth:`Counter.publish`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import TenantID

from .model import Limit, LimitType, label_text
from .sliding_window import SlidingWindow

RESERVED: Final = "+"
"""Behind a counter's key: the share of it that a replica may use before the next exchange."""
NEAR: Final = 0.8
"""The share of a limit from which on it is worth a warning."""
_LATE: Final = 2.0  # seconds after which nobody who was told to come back is waited for


@dataclass(slots=True)
class Learnt:
    """What the datasource last said of one type and resolution. ``as_of`` is -inf before its first answer."""

    values: Mapping[TenantID | None, int] = field(default_factory=dict)
    as_of: float = float("-inf")
    lag: float = 0.0
    """Seconds that the answer before this one was old when this one came."""
    generation: int = 0

    def take(self, values: Mapping[TenantID | None, int], as_of: float, now: float) -> None:
        """An answer; one that is older than the one before it is dropped."""
        if as_of < self.as_of:
            return
        self.lag = now - self.as_of if self.generation else now - as_of
        self.values, self.as_of = values, as_of
        self.generation += 1


@dataclass(slots=True)
class Peers:
    """What the last exchange with the other replicas brought."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """By counter key; behind the key and ``RESERVED`` stands what may still be counted."""
    alive: int = 0
    at: float = 0.0
    interval: float = 0.0

    def take(self, counts: Mapping[str, int], alive: int, now: float) -> None:
        """What an exchange brought."""
        self.counts, self.alive = counts, alive
        self.interval, self.at = now - self.at, now

    def claimed(self, key: str) -> int:
        """What the others have used of a limit, or may before they are heard of again."""
        return self.counts.get(key, 0) + self.counts.get(key + RESERVED, 0)


class Counter:
    """The usage of one limit by one tenant, or by all of them for a total."""

    __slots__ = (
        "_admitted_since", "_cap", "_generation", "_learnt", "_near", "_peers", "_published", "_settled",
        "_told_until", "_wanted", "_warned_at", "above", "key", "limit", "tenant", "typical", "window",
    )  # fmt: skip

    def __init__(self, limit: Limit, tenant: TenantID | None, learnt: Learnt | None, peers: Peers | None) -> None:
        self.limit = limit
        self.tenant = tenant
        self.key = counter_key(limit, tenant)
        self.window = SlidingWindow(limit.resolution.seconds)
        self.above = False
        """Whether the usage was above ``NEAR`` of the limit when something was last counted."""
        self._near = NEAR * limit.value
        self._warned_at = float("-inf")
        self._learnt = learnt
        self._generation = 0
        self._admitted_since = 0
        self._peers = peers
        self._published: int | None = None
        self._cap: int | None = None
        self._settled = False  # whether the others know of this counter
        self.typical = 1
        """How much was last asked for at a time."""
        self._wanted = 0
        self._told_until = float("-inf")

    # --- verdicts --------------------------------------------------------------------------------------------------

    def fits(self, need: int, now: float) -> bool:
        """Whether ``need`` more stay within the limit."""
        counted = self.window.count(now) + need
        if counted > self.limit.value or (self._peers is not None and counted > self.cap(now)):
            return False
        return self._learnt is None or self._heard(now) + need <= self.limit.value

    def add(self, count: int, now: float) -> None:
        """Count what :meth:`fits` has let through."""
        self.window.add(count, now)
        self._admitted_since += count

    def crossed(self, now: float) -> bool:
        """Whether the usage has just come near the limit: once for each time, and once a window at the most.

        To be asked behind :meth:`fits`, of the same ``now``.
        """
        alone = self._peers is None and self._learnt is None
        if (self.window.total if alone else self.usage(now)) < self._near:
            self.above = False
            return False
        first = not self.above and now - self._warned_at >= self.window.seconds
        self.above = True
        if first:
            self._warned_at = now
        return first

    def usage(self, now: float) -> int:
        """What is used of the limit, by all that is known."""
        counted = self.window.count(now)
        if self._peers is not None:
            counted += self._peers.counts.get(self.key, 0)
        return counted if self._learnt is None else max(counted, self._heard(now))

    def wait(self, need: int, now: float) -> float:
        """Seconds until ``need`` more fit, if nobody uses anything of the limit meanwhile; 0 if they fit now."""
        cap = self.cap(now)
        wait = self.window.wait(self.window.count(now) + need - cap, now)
        if self._peers is not None and (wait > 0 or need > cap):
            # Where the limit was used elsewhere, all of that has left the window by then. To be known here, it
            # takes an exchange of the others and one of this replica.
            wait = (wait if need <= cap else self.window.seconds) + 2 * self._peers.interval
        if self._learnt is not None and self._heard(now) + need > self.limit.value:
            if self.limit.type is LimitType.ACTIVE_SERIES:
                wait = max(wait, self.window.seconds)  # nobody can know when series end
            else:
                # Which moments are behind the number is not known, but they are all before as_of. The answer that
                # says so comes as late as answers do.
                wait = max(wait, self._learnt.as_of + self.window.seconds + self._learnt.lag - now)
        return wait

    def age(self, now: float) -> float:
        """Seconds since the datasource's number was scraped; 0 where there is none to wait for."""
        return 0.0 if self._learnt is None else now - self._learnt.as_of

    # --- the datasource --------------------------------------------------------------------------------------------

    def _heard(self, now: float) -> int:
        """The datasource's number, plus what was admitted here since; 0 once all behind the number has left."""
        learnt = self._learnt
        assert learnt is not None
        gauge = self.limit.type is LimitType.ACTIVE_SERIES
        if not gauge and learnt.as_of + self.window.seconds <= now:
            return 0
        if self._generation != learnt.generation:
            self._generation = learnt.generation
            self._admitted_since = self.window.since(learnt.as_of)
        value = learnt.values.get(None if self.limit.total else self.tenant, 0)
        return value + self._admitted_since

    # --- the other replicas ----------------------------------------------------------------------------------------

    @property
    def shared(self) -> bool:
        """Whether it takes part in the exchange with other replicas."""
        return self._peers is not None

    def cap(self, now: float) -> int:
        """How much may be in the own window, so that all replicas together stay within the limit."""
        peers = self._peers
        if peers is None:
            return self.limit.value
        if self._cap is None:  # unknown to the others, each of whom leaves this much of what is left
            self._cap = self._share(peers, peers.claimed(self.key), now)
        return self._cap

    def _share(self, peers: Peers, others: int, now: float) -> int:
        own = self.window.count(now)
        left = max(0, self.limit.value - others - own)
        return own + max(left // (peers.alive + 1), min(left, 1))

    def told(self, need: int, wait: float, now: float) -> None:
        """Somebody was told to come back for ``need`` in ``wait`` seconds."""
        assert self._peers is not None
        if now >= self._told_until:
            self._wanted = 0
        self._told_until = max(self._told_until, now + wait + 2 * self._peers.interval + _LATE)
        if need > max(1, self.limit.value // (self._peers.alive + 1)):  # more than a share could ever be
            self._wanted = max(self._wanted, need)

    def publish(self, now: float) -> int | None:
        """What may be counted here before the next exchange, on top of what is in the window; None: nothing to tell.

        The sum of all replicas' caps does not exceed the limit: one that raises its cap has published at least that
        much before, and takes no more than the others' published numbers leave; each of those is at least its
        replica's cap. So whoever of two comes second sees the first. A counter that is new here has a share at once,
        and first raises it when the others have published theirs; a share is at least 1, so n - 1 is what n replicas
        may admit on top then.
        """
        peers = self._peers
        assert peers is not None
        own = self.window.count(now)
        told = now < self._told_until
        if not own and not told:  # as if it were new, so that nothing is set aside for nobody
            self._published, self._cap, self._settled = None, None, False
            return None
        counted = peers.counts.get(self.key, 0)
        share = self._share(peers, counted, now)
        if told:
            share = max(share, min(own + self._wanted, self.limit.value - counted))
        self._published = share
        self._cap = min(self.cap(now), share)
        return share - own

    def exchanged(self, now: float) -> None:
        """The others' numbers have come, after :meth:`publish`."""
        assert self._peers is not None
        if self._published is None:  # it is not known to them
            return
        if self._settled:
            left = self.limit.value - self._peers.claimed(self.key)
            self._cap = min(self._published, max(self.cap(now), left))
        self._settled = True


def counter_key(limit: Limit, tenant: TenantID | None) -> str:
    """The counter's name, the same in every replica."""
    who = "total" if limit.total else "multitenant" if tenant is None else str(tenant)
    labels = f"/{label_text(limit.labels)}" if limit.labels else ""
    return f"{limit.type}/{limit.resolution}/{who}{labels}"
