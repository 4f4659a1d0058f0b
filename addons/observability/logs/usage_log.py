"""The usage report: counts each finished request of both lanes, and keeps the counts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from secrets import token_hex
from typing import Final
from urllib.parse import parse_qsl

from vmgw_addons.sources.kept.usage_table import TooLong
from vmgw_addons.state import InForce, UsageStore
from vmgw_addons.state.page_access import page
from vmgw_addons.support import Background, StateError
from vmgw_core.base import MULTITENANT, Access, tenant_name
from vmgw_core.enforcement import Cycle
from vmgw_core.http import Headers, Response
from vmgw_core.pages import HEADERS, usage_page
from vmgw_core.tokens import Token
from vmgw_core.usage import ARGUMENTS, Accounting, Amounts, Key, Question, Report

from .access_log import parties

logger = logging.getLogger(__name__)

USAGE: Final = "/-/usage"
INTERVAL: Final = 1.0
"""Seconds between two writes."""
_TIDY: Final = 3600.0  # seconds between two removals of what is old
_END: Final = 5.0  # seconds for the last write
_MOST_ARGUMENTS: Final = 20
_FORMATS: Final = {
    "html": b"text/html; charset=utf-8",
    "text": b"text/plain; charset=utf-8",
    "csv": b"text/csv; charset=utf-8",
    "json": b"application/json",
}
_DOWNLOAD: Final = (b"Content-Disposition", b'attachment; filename="usage.csv"')


class UsageLog:
    """Counts each request that has ended for its tenant and subject."""

    lost = 0

    def __init__(self, in_force: InForce, accounting: Accounting) -> None:
        self.in_force = in_force
        self.accounting = accounting

    def watch(self, cycle: Cycle, status: int, headers: Headers) -> None:
        """Let the cycle read the number of series from the response that begins with this head."""
        cycle.watch(status, headers)

    def finished(self, cycle: Cycle, status: int | None, sent: int) -> None:
        """Count a request; see ``RequestLog``. One without a good token is nobody's."""
        grant = cycle.grant
        if grant is not None:
            tenant, token = tenant_name(grant.subject.tenant), grant.token
        else:
            _, token = parties(self.in_force.configured.policy, cycle)
            if token is None:
                return
            tenant = _tenant(token)
        amounts = self.accounting.of(tenant, None if token is None else token.subject, time.time())
        amounts.bytes_in += cycle.received
        amounts.bytes_out += sent
        amounts.seconds += time.perf_counter() - cycle.started
        if cycle.verdict(status) == "refused":
            amounts.refusals += 1
        elif grant is not None and grant.route.access is Access.READ and not grant.route.is_file:
            amounts.queries += 1
        if cycle.meter is not None:
            amounts.rows += cycle.meter.forwarded
        if cycle.series is not None:
            amounts.series_fetched += cycle.series.number or 0

    def close(self) -> None:
        """Do nothing: ``UsageReport`` writes."""


def _tenant(token: Token) -> str:
    """Return the tenant of a request that was refused before its tenant was known."""
    tenants = token.grants.tenants
    return str(next(iter(tenants))) if len(tenants) == 1 else MULTITENANT


class UsageReport:
    """Keeps the usage report, and serves it (-usage.retention)."""

    def __init__(self, in_force: InForce, background: Background) -> None:
        self.in_force = in_force
        self.background = background
        self.writing: asyncio.Task[None] | None = None
        self.batch: tuple[str, Mapping[Key, Amounts]] | None = None
        """What is being written, or must be written again: it may have been added, so it does not change."""
        self.tidied = float("-inf")

    def running(self) -> None:
        self.background.repeat("usage_report", self.step)

    async def done(self) -> None:
        """Write the rest: all requests have ended."""
        store = self.in_force.configured.usage_store
        with suppress(TimeoutError):
            async with asyncio.timeout(_END):
                await self.write_all()
                if store is not None:
                    await store.close()

    async def step(self) -> float:
        await self.write()
        return INTERVAL

    async def write(self) -> None:
        """Write what is new, or wait for the write that has begun: that goes on if the caller is cancelled."""
        if self.writing is None or self.writing.done():
            self.writing = asyncio.Task(self._write(), loop=asyncio.get_running_loop())
        await asyncio.shield(self.writing)

    async def write_all(self) -> None:
        """Write all that has been counted until now."""
        await self.write()  # or wait for the write that has begun: it knows nothing of what was counted since
        await self.write()

    async def _write(self) -> None:
        configured, now = self.in_force.configured, time.time()
        accounting, store = configured.accounting, configured.usage_store
        if accounting is None or store is None:
            return
        retention = int(configured.settings.usage_retention // 3600)
        outage = self.in_force.outages.of("-usage.retention", logger, "the usage report waits in memory")
        again = self.batch is not None
        try:
            await self._add(store, accounting, retention)
            if again:
                await self._add(store, accounting, retention)
            if abs(now - self.tidied) >= _TIDY:
                await store.tidy(int(now // 3600), retention)
                self.tidied = now
        except StateError as error:
            accounting.give_back(accounting.take())  # to bound what waits
            outage.failed(str(error), error.cause)
        else:
            outage.succeeded(f"-usage.retention: the usage report is written again, to {store.name}")

    async def _add(self, store: UsageStore, accounting: Accounting, retention: int) -> None:
        """Write the batch, or one of what is new."""
        if self.batch is None and (new := accounting.take()):
            self.batch = token_hex(8), new
        if self.batch is not None:
            await store.add(*self.batch, retention)
            self.batch = None

    # --- the page --------------------------------------------------------------------------------------------------

    async def page(self, query: str) -> Response:
        """Return the report that the arguments ask for. It names subjects, so the page is not for everybody."""
        configured = self.in_force.configured
        store, access = configured.usage_store, configured.page_access
        if access is None or not access.guards("flagsAuthKey"):
            return page(403, b"set -flagsAuthKey or -httpAuth.username: this page names subjects\n")
        if store is None:
            return page(404, b"there is no usage report: set -usage.retention\n")
        now = time.time()
        try:
            given = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_ARGUMENTS, errors="replace"))
            asked: dict[str, str] = {name: given[name] for name in ARGUMENTS if name in given}
            question = Question.read(asked, now)
            if (form := given.get("format", "html")) not in _FORMATS:
                raise ValueError("format: expected html, text, csv or json")
        except ValueError as error:
            return page(400, f"{error}\n".encode(), extra=HEADERS)
        await self.write_all()
        links = "authKey" not in given

        def make(report: Report) -> bytes:
            return usage_page(report, links=links) if form == "html" else report.written(form)

        try:
            extra = (*HEADERS, _DOWNLOAD) if form == "csv" else HEADERS
            return page(200, await store.read(question, int(now // 3600), make), _FORMATS[form], extra=extra)
        except TooLong as error:
            return page(400, f"{error}\n".encode(), extra=HEADERS)
        except StateError as error:
            return page(503, f"{error}\n".encode(), extra=HEADERS)
