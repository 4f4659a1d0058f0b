"""The counts of days and months in the state file, written and read by the addon."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.addons.configured import configured
from tests.support.core.limiters import admitted, limit
from vmgw_addons.sources import FileExchange, KeptCounts, build_state_file
from vmgw_addons.state import Configured, InForce
from vmgw_addons.support import Background
from vmgw_core.configuration.command_line import parse
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.sharing.account import Want

KEY = "queries/month/1:0"


class Process:
    """One process with a limit of a month and the state file at ``path``."""

    def __init__(self, path: Path | None, *flags: str, exchange: FileExchange | None = None) -> None:
        self.limiter = Limiter([limit(value=10, resolution="month")])
        given = () if path is None else (f"-ratelimit.stateFile={path}",)
        settings = parse([*given, *flags], {}).settings
        self.in_force = InForce(
            Configured(
                settings=settings,
                limiter=self.limiter,
                state_file=build_state_file(settings),
                exchange=exchange,
            )
        )
        self.addon = KeptCounts(self.in_force, Background())

    def admitted(self, number: int) -> int:
        return admitted(self.limiter, number, time.monotonic())

    async def end(self) -> None:
        await self.addon.done()
        file = self.in_force.configured.state_file
        if file is not None:
            await file.close()


def rows(path: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT key, count FROM counts ORDER BY 1, until").fetchall()


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_counts_are_written_once_a_second_and_read_before_the_first_request(path: Path) -> None:
    async def work() -> None:
        one = Process(path)
        await one.addon.step()
        assert one.admitted(3) == 3
        await one.addon.step()
        assert rows(path) == [(KEY, 3)]
        assert one.admitted(2) == 2
        await one.end()
        assert rows(path) == [(KEY, 5)]
        two = Process(path)
        await two.addon.running()
        assert two.admitted(20) == 5
        await two.end()
        assert rows(path) == [(KEY, 10)]

    run(work)


def test_a_file_that_cannot_be_read_at_the_start_is_read_later(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        first = Process(path)
        await first.addon.step()
        first.admitted(4)
        await first.end()
        good = path.read_bytes()
        path.write_bytes(b"x" * 5000)
        process = Process(path)
        await process.addon.step()
        assert process.admitted(3) == 3
        assert "-ratelimit.stateFile: cannot use" in caplog.text
        path.write_bytes(good)
        await process.addon.step()
        assert process.admitted(20) == 3
        await process.end()
        assert rows(path) == [(KEY, 10)]

    run(work)


def test_what_cannot_be_written_waits(path: Path) -> None:
    async def work() -> None:
        process = Process(path)
        await process.addon.step()
        process.admitted(1)
        await process.addon.step()
        with closing(sqlite3.connect(path)) as database:
            database.execute("ALTER TABLE counts RENAME TO away")
            process.admitted(2)
            await process.addon.step()
            assert process.addon.outage.failures == 1
            database.execute("DROP TABLE IF EXISTS counts")
            database.execute("ALTER TABLE away RENAME TO counts")
        await process.addon.step()
        assert process.addon.outage.reason is None
        assert rows(path) == [(KEY, 3)]
        await process.end()

    run(work)


def test_windows_that_have_ended_are_removed_and_do_not_count(path: Path) -> None:
    async def work() -> None:
        process = Process(path)
        await process.addon.step()
        with closing(sqlite3.connect(path)) as database, database:
            database.executemany("INSERT INTO counts VALUES (?, ?, 9)", [(KEY, 5), (KEY, int(time.time()) - 60)])
        await process.end()
        again = Process(path)
        await again.addon.step()
        assert rows(path) == [(KEY, 9)], "a clock may be set back by less than an hour"
        assert again.admitted(20) == 10
        await again.end()

    run(work)


def test_the_account_of_workers_counts_what_the_file_has_once(path: Path, tmp_path: Path) -> None:
    async def work() -> None:
        one = Process(path)
        await one.addon.step()
        one.admitted(7)
        await one.end()
        folder = tmp_path / "workers"
        folder.mkdir()
        workers = [Process(path, exchange=FileExchange(folder, slot)) for slot in (0, 1)]
        for worker in workers:
            await worker.addon.running()
            assert list(worker.limiter.status(time.monotonic())) == []
        with closing(sqlite3.connect(path)) as database:
            [end] = database.execute("SELECT until FROM counts").fetchone()
        want = Want(key=KEY, seconds=32 * 86400, limit=10, need=1, ends=(end, end + 31 * 86400))
        exchange = workers[1].in_force.configured.exchange
        assert isinstance(exchange, FileExchange)
        assert exchange.accounts.take([want], 5.0, time.time())[0].used == 8
        for worker in workers:
            await worker.end()
            other = worker.in_force.configured.exchange
            assert other is not None
            await other.close()

    run(work)


@pytest.mark.parametrize("flags", [(), ("-ratelimit.storage=redis://127.0.0.1:1/0",)], ids=["memory", "Redis"])
def test_the_log_says_once_that_a_restart_forgets(flags: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        process = Process(None, *flags)
        await process.addon.running()
        await process.addon.step()
        process.limiter.replace([limit()])
        await process.end()

    run(work)
    assert caplog.text.count("a restart forgets the counts of days and months") == (0 if flags else 1)


def test_nothing_is_kept_without_limits_of_days(path: Path) -> None:
    async def work() -> None:
        process = Process(path)
        process.limiter.replace([limit()])
        await process.addon.step()
        assert process.admitted(1) == 1
        await process.end()
        assert not path.exists()

    run(work)


def test_the_limits_of_a_shadow_are_told_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = tmp_path / "limits"
    limits.write_text("limits:\n- {type: queries, value: 1, resolution: day}\n")
    state = configured(**{"shadow.ratelimitConfig": str(limits)})
    addon = KeptCounts(state.in_force, Background())
    shadow = state.configured.shadow
    assert shadow is not None
    limiter = shadow.shadow.gateway.limiter
    assert limiter is not None
    now, tomorrow = time.monotonic(), time.time() + 86400
    assert admitted(limiter, 2, now) == 1
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    asyncio.run(addon.step())
    assert admitted(limiter, 2, now) == 1
