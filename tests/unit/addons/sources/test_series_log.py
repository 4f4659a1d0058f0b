"""The series that workers tell each other through files."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.core.limiters import A, limit
from vmgw_addons.outgoing import RequestFailed
from vmgw_addons.sources import FileExchange
from vmgw_addons.sources.exchange import series_log
from vmgw_addons.sources.exchange.series_log import SeriesLog
from vmgw_core.limits import Limiter, SeriesNews


def news(*series: int) -> SeriesNews:
    return SeriesNews("1:0", "active_series/minute/1:0", 5.0, list(series))


def test_each_worker_reads_what_the_others_have_written_since(tmp_path: Path) -> None:
    one, other = SeriesLog(tmp_path), SeriesLog(tmp_path)
    assert one.swap([]) == other.swap([]) == []
    assert one.swap([news(1, 2), news(3)]) == []
    assert other.swap([news(4)]) == [news(1, 2), news(3)]
    assert other.swap([]) == []
    assert one.swap([]) == [news(4)]
    assert SeriesLog(tmp_path).swap([]) in ([news(1, 2), news(3), news(4)], [news(4), news(1, 2), news(3)])


def test_a_line_that_is_not_complete_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = SeriesLog(tmp_path)
    path = tmp_path / "other-0.series"
    path.write_bytes(b'["1:0", "active_series/minute/1:0", 5.0, [1')
    assert reader.swap([]) == []
    with path.open("ab") as file:
        file.write(b", 2]]\n")
    monkeypatch.setattr(series_log, "_MAX_READ", 10)
    assert reader.swap([]) == [news(1, 2)]
    assert reader.more
    assert reader.swap([]) == []
    assert not reader.more


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_log, "MAX_FILE", 200)
    one, other = SeriesLog(tmp_path), SeriesLog(tmp_path)
    for number in range(100):
        one.swap([news(number)])
        assert other.swap([]) == [news(number)]
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 400


def test_the_limiters_of_two_workers_learn_from_each_other(tmp_path: Path) -> None:
    async def work() -> None:
        now = time.monotonic()
        exchanges = [FileExchange(tmp_path, slot) for slot in range(2)]
        limiters = [Limiter([limit("active_series", 10)]) for _ in exchanges]
        for exchange, limiter in zip(exchanges, limiters, strict=True):
            await exchange.swap_series(limiter, now)
        for number, limiter in enumerate(limiters):
            limiter.take_rows(A, 2, now, "", {1, 2 + number})
        for exchange, limiter in [*zip(exchanges, limiters, strict=True)] * 2:
            await exchange.swap_series(limiter, now)
        assert [next(limiter.status(now)).usage for limiter in limiters] == [3, 3]
        assert limiters[0].label_hashes.hash(b"a", b"b") == limiters[1].label_hashes.hash(b"a", b"b")
        for exchange in exchanges:
            await exchange.close()

    asyncio.run(work())


def test_a_directory_that_is_gone_is_an_outage(tmp_path: Path) -> None:
    exchange = FileExchange(tmp_path / "gone", 0)
    with pytest.raises(RequestFailed, match="No such file or directory"):
        asyncio.run(exchange.swap_series(Limiter([limit("active_series", 10)]), 1.0))
