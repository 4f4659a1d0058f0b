"""Queries ``-read.url`` for the series of each tenant, which open-source vmstorage has no metrics of."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final

from vmgw_addons.outgoing import DEADLINE, Endpoint, RequestFailed, TLSFiles, failure_of
from vmgw_addons.support import Background, Outages, in_thread
from vmgw_core.backends import Backend
from vmgw_core.base import FieldError, TenantID
from vmgw_core.configuration import Settings
from vmgw_core.errors import Cause
from vmgw_core.limits import Ask, LimitType, OwnRequests, TenantSeries

logger = logging.getLogger(__name__)

INTERVAL: Final = 30.0
"""The least seconds between two queries for a tenant: each scans its index and counts as a query."""
_AT_ONCE: Final = 4


class TenantQueries:
    """Queries the tenants in a task of its own, so that a slow tenant only delays the other tenants."""

    def __init__(
        self, settings: Settings, own: OwnRequests, interval: float, background: Background, outages: Outages
    ) -> None:
        self.series = TenantSeries(interval=max(INTERVAL, interval))
        self.outage = outages.of("usage of tenants", logger, "the last known usage still counts")
        backends = [Backend.parse(url, "read.url") for url in settings.read_url]
        self._tls = TLSFiles(settings.client_tls("read"))
        self._endpoints = [[Endpoint(backend, self._tls, idle=1) for backend in backends] for _ in range(_AT_ONCE)]
        self._chosen = 0  # the backend in use, until it fails
        self._own = own
        self._background = background
        self._task: asyncio.Task[None] | None = None

    def start(self, types: Iterable[LimitType], tenants: Iterable[TenantID]) -> None:
        """Query the tenants that are due, unless the last round is still running."""
        if self._task is not None and not self._task.done():
            return
        failures = self.outage.failures
        asks = self.series.due(types, tenants, time.monotonic())
        if self.series.left_out:
            self.outage.failed("too many tenants to query all of them for their series", Cause.RESOURCES)
        if asks:
            self._task = self._background.once("tenant_series", self._round(asks, failures))

    def close(self) -> None:
        """Stop the round."""
        if self._task is not None:
            self._task.cancel()

    async def _round(self, asks: tuple[Ask, ...], failures: int) -> None:
        waiting = list(reversed(asks))

        async def work(endpoints: Sequence[Endpoint]) -> None:
            while waiting:
                await self._ask(endpoints, waiting.pop())

        await asyncio.gather(*(work(endpoints) for endpoints in self._endpoints))
        if self.outage.failures == failures:
            self.outage.succeeded("the series of all tenants are known again")

    async def _ask(self, endpoints: Sequence[Endpoint], ask: Ask) -> None:
        chosen = self._chosen
        endpoint = endpoints[chosen]
        backend = endpoint.backend
        headers = {} if backend.authorization is None else {"Authorization": backend.authorization}
        asked, asked_wall = time.monotonic(), time.time()
        try:
            document = await asyncio.wait_for(
                in_thread(lambda: endpoint.ask("GET", backend.base + ask.target, headers), "tenant series"),
                DEADLINE + 5,
            )
            self._own.note(ask.tenant, asked_wall)
            self.series.received(ask, document, asked)
        except (RequestFailed, FieldError, TimeoutError) as error:
            self.series.failed(ask)
            if self._chosen == chosen:
                self._chosen = (chosen + 1) % len(endpoints)
            reason = str(error) or f"no response within {DEADLINE + 5:.0f} seconds"
            self.outage.failed(f"cannot query {ask.type} of tenant {ask.tenant}: {reason}", failure_of(error).cause)
