"""Whose usage a request is, and what of it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from tests.support.each import each
from tests.support.wire.tokens import tenant
from tests.unit.addons.observability.test_access_log import ALICE, KEY, POLICY, decide
from vmgw_addons.observability import UsageLog
from vmgw_addons.observability.logs.usage_log import UsageReport
from vmgw_addons.state import Configured, InForce
from vmgw_addons.support import Background
from vmgw_core.enforcement import Cycle
from vmgw_core.errors import BackendTimeout
from vmgw_core.usage import Accounting, Amounts, Key, Question, Report

T = TypeVar("T")

SERIES = b'{"data":{},"stats":{"seriesFetched":"5","executionTimeMsec":1}}'


def counted(
    cycle: Cycle, status: int | None = 200, sent: int = 0, content: bytes = SERIES
) -> dict[tuple[str, str], Amounts]:
    accounting = Accounting()
    log = UsageLog(InForce(Configured(policy=POLICY)), accounting)
    log.watch(cycle, 200, ((b"Content-Type", b"application/json"),))
    if cycle.series is not None:
        cycle.series.feed(content)
    log.finished(cycle, status, sent)
    log.close()
    found = {key[1:]: amounts for key, amounts in accounting.take().items()}
    for amounts in found.values():
        assert amounts.seconds > 0
        amounts.seconds = 0
    return found


def test_a_query() -> None:
    cycle = decide("POST", "/api/v1/query?query=up", ALICE)
    cycle.received = 9
    assert counted(cycle, sent=70) == {
        ("1:5", "alice"): Amounts(queries=1, bytes_in=9, bytes_out=70, series_fetched=5),
    }  # fmt: skip


def test_a_query_whose_series_nobody_tells() -> None:
    assert counted(decide("GET", "/api/v1/query", ALICE), content=b"{}") == {("1:5", "alice"): Amounts(queries=1)}


@each("target", ["/api/v1/labels", "/api/v1/export", "/api/v1/rules", "/federate"])
def test_other_reads_are_queries_too(target: str) -> None:
    assert counted(decide("GET", target, ALICE)) == {("1:5", "alice"): Amounts(queries=1)}


def test_a_file_is_no_query() -> None:
    assert counted(decide("GET", "/vmui/", ALICE), sent=5) == {("1:5", "alice"): Amounts(bytes_out=5)}


def test_a_query_that_failed_is_a_query() -> None:
    cycle = decide("GET", "/api/v1/query", ALICE)
    cycle.refuse(BackendTimeout("too late"))
    assert counted(cycle, 504, content=b"") == {("1:5", "alice"): Amounts(queries=1)}
    assert counted(decide("GET", "/api/v1/query", ALICE), None, content=b"") == {("1:5", "alice"): Amounts(queries=1)}


@each(("method", "target"), [("GET", "/nowhere"), ("POST", "/api/v1/write")])
def test_a_refusal_before_the_tenant_is_known_is_that_of_the_token(method: str, target: str) -> None:
    assert counted(decide(method, target, ALICE), 404, 3) == {("1:5", "alice"): Amounts(refusals=1, bytes_out=3)}


@each("token", [None, "a.b", KEY.mint(tenant(1), nbf=10)])
def test_a_request_without_a_good_token_is_nobodys(token: str | None) -> None:
    assert counted(decide("GET", "/api/v1/query", token), 401) == {}


def test_own_pages_are_nobodys() -> None:
    cycle = decide("GET", "/nowhere", ALICE)
    cycle.own_page = True
    assert counted(cycle) == {}


def test_a_token_without_a_subject() -> None:
    assert counted(decide("GET", "/api/v1/labels", KEY.mint(tenant(2)))) == {("2:0", ""): Amounts(queries=1)}


class SlowStore:
    """A store whose first write waits until it is let through."""

    name = "slow"

    def __init__(self) -> None:
        self.added: list[set[str]] = []
        self.reached, self.free = asyncio.Event(), asyncio.Event()

    async def add(self, batch: str, amounts: Mapping[Key, Amounts], retention: int) -> None:
        self.reached.set()
        await self.free.wait()
        self.added.append({key[1] for key in amounts})

    async def tidy(self, hour: int, retention: int) -> None: ...

    async def read(self, question: Question, hour: int, make: Callable[[Report], T]) -> T:
        raise NotImplementedError

    async def close(self) -> None: ...


def test_what_is_counted_while_a_write_goes_on_is_written_too() -> None:
    async def work() -> None:
        accounting, store = Accounting(), SlowStore()
        report = UsageReport(InForce(Configured(accounting=accounting, usage_store=store)), Background())
        accounting.of("1:0", None, 0.0).queries += 1
        begun = asyncio.ensure_future(report.write())
        await store.reached.wait()
        accounting.of("2:0", None, 0.0).queries += 1
        all_written = asyncio.ensure_future(report.write_all())
        store.free.set()
        await asyncio.gather(begun, all_written)
        assert store.added == [{"1:0"}, {"2:0"}]

    asyncio.run(work())
