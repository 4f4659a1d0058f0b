"""Replicas whose exchange of counts a test drives by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CollectorRegistry

from tests.support.wire.waiting import HANGS
from vmgw_addons.sources.exchange.usage_exchange import UsageExchange
from vmgw_addons.state import Configured, InForce
from vmgw_addons.state.exchange import Exchange
from vmgw_addons.support import Background
from vmgw_core.base.tenants import Access, Subject, TenantID
from vmgw_core.errors import RateLimited
from vmgw_core.limits.limiter import Limiter, Question
from vmgw_core.limits.model import Limit, LimitType, Resolution
from vmgw_core.limits.sharing.account import Reply

KEY = "queries/minute/1:5"
TENANT = TenantID(1, 5)


class Replica:
    """A gateway's limiter and its exchange, driven by hand."""

    def __init__(self, exchange: Exchange, limit: int = 100) -> None:
        rule = Limit(
            type=LimitType.QUERIES, resolution=Resolution.MINUTE, value=limit, tenant=None, total=False, labels=()
        )
        self.limiter, self.exchange = Limiter([rule]), exchange
        self.in_force = InForce(Configured(limiter=self.limiter, exchange=exchange))
        self.addon = UsageExchange(self.in_force, Background(), None, CollectorRegistry())

    async def admit(self, requests: int, client: str = "192.0.2.1") -> int:
        """How many of them were admitted, one after the other."""
        for number in range(requests):
            try:
                question = self.limiter.admit(Subject(TENANT), Access.READ, time.monotonic(), client)
                if question is not None:
                    await self.ask(question)
            except RateLimited:
                return number
        return requests

    async def ask(self, question: Question) -> None:
        answered: asyncio.Future[Sequence[Reply] | None] = asyncio.get_running_loop().create_future()
        self.exchange.accounts.ask(question.wants, answered.set_result)
        self.limiter.answer(question, await answered, time.monotonic())

    async def step(self) -> float:
        return await self.addon.exchange(self.exchange, self.limiter)

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Exchange at the usual pace until ``predicate`` holds."""
        deadline = time.monotonic() + HANGS
        while not predicate():
            assert time.monotonic() < deadline
            await asyncio.sleep(await self.step())

    def others(self) -> dict[str, int]:
        return self.exchange.peers.totals(time.monotonic())[0]


def run(work: Callable[..., Awaitable[None]], *exchanges: Exchange, limit: int = 100) -> None:
    """``work`` with a replica for each exchange."""

    async def main() -> None:
        try:
            await work(*(Replica(exchange, limit) for exchange in exchanges))
        finally:
            for exchange in exchanges:
                await exchange.close()

    asyncio.run(main())
