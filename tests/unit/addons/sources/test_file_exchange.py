"""Workers of one machine that share counts through a directory; test_usage_exchange.py has what holds for Redis too."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.support.addons.replicas import KEY, Replica, run
from vmgw_addons.outgoing import RequestFailed
from vmgw_addons.sources.exchange.file_exchange import FileExchange


def test_a_worker_that_takes_the_place_of_another_keeps_its_file(tmp_path: Path) -> None:
    async def work(one: Replica, two: Replica) -> None:
        await one.admit(60)
        await one.step()
        await two.step()
        assert two.others()[KEY] == 60
        assert len(list(tmp_path.glob("3-*.json"))) == 2

    run(work, FileExchange(tmp_path, 3), FileExchange(tmp_path, 3))


def test_files_that_no_worker_wrote_are_left_alone(tmp_path: Path) -> None:
    counts = {KEY: 5}
    for number, text in enumerate(
        ["", "[]", "{}", '{"written":"x"}', '{"written":1,"counts":[]}', '{"written":1,"counts":{"a":"b"}}']
    ):
        (tmp_path / f"{number}.json").write_text(text)
    future = {"written": int((time.monotonic() + 1e6) * 1e6), "counts": counts}  # of a boot before this one
    (tmp_path / "future.json").write_text(json.dumps(future))

    async def work(one: Replica) -> None:
        await one.step()
        assert one.addon.outage.reason is None
        assert one.others() == counts
        assert one.exchange.peers.totals(time.monotonic() + 76)[0] == {}

    run(work, FileExchange(tmp_path, 0))


def test_old_files_are_tidied_up(tmp_path: Path) -> None:
    old = tmp_path / "0-old.json"
    old.write_text('{"written":0,"counts":{}}')
    hours_ago = time.time() - 4501
    os.utime(old, (hours_ago, hours_ago))

    async def work(one: Replica) -> None:
        await one.step()
        await one.step()
        assert not old.exists()
        assert len(list(tmp_path.glob("0-*"))) == 1

    run(work, FileExchange(tmp_path, 0))


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    async def work(one: Replica) -> None:
        await one.step()
        assert (one.addon.outage.reason or "").endswith("No such file or directory")
        assert await one.admit(5) == 5

    run(work, FileExchange(tmp_path / "gone", 0))


def test_an_exchange_that_cannot_work_raises_one_kind_of_error(tmp_path: Path) -> None:
    with pytest.raises(RequestFailed):
        asyncio.run(FileExchange(tmp_path / "gone", 0).swap({}, 0.0))


def threads() -> int:
    return sum(thread.name == "worker counts" for thread in threading.enumerate())


def test_a_disk_that_hangs_holds_up_one_thread_and_no_count(tmp_path: Path) -> None:
    """A FIFO in place of a file: whoever opens it waits."""
    fifo = tmp_path / "1-hangs.json"

    async def work(one: Replica, two: Replica) -> None:
        await two.admit(60)
        await two.step()
        os.mkfifo(fifo)
        exchanges = [asyncio.ensure_future(one.step()) for _ in range(3)]
        while not threads():
            await asyncio.sleep(0)
        assert await one.admit(5) == 5
        for exchange in exchanges[:2]:
            exchange.cancel()  # as its deadline does
        await asyncio.wait(exchanges[:2])
        assert threads() == 1, "no other exchange has begun"
        assert one.others() == {}, "nothing is heard half"
        with fifo.open("w") as file:  # which waits until it is read
            fifo.unlink()  # or the last exchange hangs on it, too
            file.write("no counts")
        await exchanges[2]
        assert one.others()[KEY] == 60

    run(work, FileExchange(tmp_path, 0), FileExchange(tmp_path, 0))
