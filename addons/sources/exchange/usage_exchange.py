"""Exchange of counts: replicas share what they have counted, in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmgw_addons.outgoing import RequestFailed, failure_of
from vmgw_addons.state import Accounts, Exchange, InForce, Worker
from vmgw_addons.support import Background
from vmgw_core.configuration import Settings
from vmgw_core.errors import Cause
from vmgw_core.limits import Limiter, Reply, Want

logger = logging.getLogger(__name__)

INTERVAL: Final = 0.1
"""Seconds between two exchanges."""
_IDLE: Final = 1.0  # seconds between two checks whether there is something to exchange
_DEADLINE: Final = 5.0  # seconds for an exchange
_LAST_DEADLINE: Final = 1.0  # seconds for the last one
_SHARE: Final = 20  # exchanges take at most one part in 20 of the event loop's time
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class UsageExchange:
    """Shares counts with other replicas ten times a second (-ratelimit.storage)."""

    def __init__(
        self, in_force: InForce, background: Background, worker: Worker | None, registry: CollectorRegistry
    ) -> None:
        self.in_force = in_force
        self.background = background
        self.worker = worker
        self.task: asyncio.Task[None] | None = None
        self.used: Exchange | None = None
        self.outage = in_force.outages.of("usage exchange", logger, "only the counts of this replica are up to date")
        self.alive = 0
        """Live peers, as of the last exchange."""
        self.more = False
        """Whether the last exchange has left something to read."""
        self.duration = Histogram(
            "vmgateway_ratelimit_exchange_duration_seconds",
            "Duration of an exchange of counts with the other replicas",
            buckets=_BUCKETS,
            registry=registry,
        )
        registry.register(_State(self))

    async def running(self) -> None:
        self.used = exchange = self.in_force.configured.exchange
        limiter = self.in_force.configured.limiter
        if exchange is not None and limiter is not None and limiter.limits:
            await self.catch_up(exchange, limiter)
        self.task = self.background.repeat("usage_exchange", self.step)

    async def catch_up(self, exchange: Exchange, limiter: Limiter) -> None:
        """Read all that the peers have told, before the first request. Goes on later if that takes too long."""
        deadline = time.monotonic() + _DEADLINE
        await self.exchange(exchange, limiter)
        while self.more and time.monotonic() < deadline:
            await self.exchange(exchange, limiter)

    async def done(self) -> None:
        await self.background.stop(self.task)  # the swap below must be the last one
        if self.used is not None:
            await self.leave(self.used)

    async def step(self) -> float:
        """Exchange once, with the exchange in force: a reload may replace it."""
        if self.used is not self.in_force.configured.exchange:
            old, self.used = self.used, self.in_force.configured.exchange
            if old is not None:
                await old.close()
        limiter = self.in_force.configured.limiter
        if self.used is None or limiter is None or not limiter.limits:
            return _IDLE
        return await self.exchange(self.used, limiter)

    async def leave(self, used: Exchange) -> None:
        """Publish the final counts, give back what was taken and not used, and close the exchange."""
        limiter = self.in_force.configured.limiter
        if limiter is not None and limiter.limits and self.outage.reason is None:
            now = time.monotonic()
            limiter.accounts_lost()
            with suppress(RequestFailed, TimeoutError):
                async with asyncio.timeout(_LAST_DEADLINE):
                    if limiter.counts_series:
                        await used.swap_series(limiter, now)
                    await used.swap(limiter.local_counts(now), now)
                    await self.tell(used.accounts, limiter)
        await used.close()

    async def exchange(self, used: Exchange, limiter: Limiter) -> float:
        """Exchange once. Returns the seconds until the next exchange."""
        started = time.monotonic()
        busy = time.thread_time()
        counts = limiter.local_counts(started)
        busy = time.thread_time() - busy
        self.more = more_series = False
        failure = None
        try:
            if limiter.counts_series:
                more_series, failure = await self.exchange_series(used, limiter, started)
                busy += used.spent
            more = await asyncio.wait_for(used.swap(counts, started), _DEADLINE)
        except (RequestFailed, TimeoutError) as error:
            reason = str(error) or f"no response within {_DEADLINE:.0f} seconds"
            cause = failure_of(error).cause
            self.outage.failed(f"cannot exchange counts with other replicas: {used.name}: {reason}", cause)
            # Peers keep their share, for they may still be alive: so what they had counted stays known.
            limiter.accounts_lost()
            return INTERVAL
        except Exception:
            self.outage.failed("the exchange of counts failed")
            raise
        self.duration.observe(time.monotonic() - started)
        self.more = more or more_series
        if more:  # do not act on half of the counts
            return 0.01
        begun = time.thread_time()
        totals, self.alive = used.peers.totals(time.monotonic())
        worker = self.worker
        peers = self.alive if worker is None else max(self.alive, worker.count - 1)  # some may not have started yet
        limiter.learn_peers(totals, peers, time.monotonic())
        await self.tell(used.accounts, limiter)
        failure = used.accounts.failure or failure
        if failure is None:
            self.outage.succeeded("counts are exchanged with other replicas again")
        else:
            self.outage.failed(f"cannot share limits with other replicas: {used.name}: {failure}", failure.cause)
        busy += time.thread_time() - begun + used.spent
        return max(started + INTERVAL - time.monotonic(), busy * _SHARE, 0.001)

    async def exchange_series(self, used: Exchange, limiter: Limiter, now: float) -> tuple[bool, RequestFailed | None]:
        """Return whether there is more, and why the store's answer cannot be used: counts do not depend on it."""
        try:
            return await asyncio.wait_for(used.swap_series(limiter, now), _DEADLINE), None
        except RequestFailed as error:
            if error.cause in (Cause.RESPONSE, Cause.STATUS):
                return False, error
            raise

    async def tell(self, accounts: Accounts, limiter: Limiter) -> None:
        """Tell the accounts what they do not know, give back what is not used, and renew what is used up soon."""
        if accounts.emptied:
            accounts.emptied = False
            limiter.accounts_lost(emptied=True)
        more = True
        while more:
            notice = limiter.notice(time.monotonic())
            if not notice.wants and limiter.asks:
                return
            replies = await _replies(accounts, notice.wants)
            limiter.noticed(notice, replies, time.monotonic())
            if replies is None:
                return
            more = notice.more
        limiter.accounts_found()


async def _replies(accounts: Accounts, wants: Sequence[Want]) -> Sequence[Reply] | None:
    """Wait for the replies of the accounts; None if there are none in time."""
    answered: asyncio.Future[Sequence[Reply] | None] = asyncio.get_running_loop().create_future()

    def done(replies: Sequence[Reply] | None) -> None:
        if not answered.done():  # the caller may have given up
            answered.set_result(replies)

    accounts.ask(wants, done)
    return await answered


def build_exchange(settings: Settings, before: Settings | None = None, old: Exchange | None = None) -> Exchange | None:
    """Build the exchange of ``-ratelimit.storage``. Raises ``ConfigurationError`` if a flag cannot be used.

    Returns the ``old`` one if the flags are as they were ``before``, or if there is no such flag (workers).
    """
    url, prefix = settings.ratelimit_storage, settings.ratelimit_storage_key_prefix
    same = before is not None and (url, prefix) == (before.ratelimit_storage, before.ratelimit_storage_key_prefix)
    if not url or (old is not None and same):
        return old
    from .redis_exchange import RedisExchange  # its client takes 6 MB, and few need it

    return RedisExchange(url, prefix)


class _State(Collector):
    def __init__(self, exchange: UsageExchange) -> None:
        self.exchange = exchange

    def collect(self) -> Iterator[Metric]:
        if self.exchange.in_force.configured.exchange is None:
            return
        yield CounterMetricFamily(
            "vmgateway_ratelimit_exchange_errors", "Failed exchanges of counts", value=self.exchange.outage.failures
        )
        yield GaugeMetricFamily(
            "vmgateway_ratelimit_replicas",
            "Replicas that share counts, this one included",
            value=1 + self.exchange.alive,
        )
