"""Exchange of counts between the worker processes of one machine, in a shared directory.

Each worker writes a file of its own. The file of a dead worker stays, so its counts still count until they leave the
window. Times are those of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final, NamedTuple

from vmgw_addons.outgoing import RequestFailed
from vmgw_addons.support import OneThread
from vmgw_core.base import FieldError, as_integer, as_object, child, load_object, optional
from vmgw_core.errors import Cause
from vmgw_core.limits import MAX_REPLICAS, Limiter, PeerCounts

from .series_log import KEY, SeriesLog
from .worker_accounts import WorkerAccounts

_MAX_FILE: Final = 64 << 20  # bytes
_HEARTBEAT: Final = 1.0  # seconds
_LEARNED: Final = 2_000  # series that are learned at once: others wait
_KEPT: Final = 4500.0  # seconds: a count is valid for a window and a quarter


Stamp = tuple[int, int, int]
"""Changes when the file does."""


class _File(NamedTuple):
    """A file of another worker."""

    name: str
    stamp: Stamp
    counts: Mapping[str, int] | None = None
    """None if the file has not changed, or is not valid."""
    written: float = 0.0


class FileExchange:
    """The exchange of worker ``slot`` in ``directory``, which only the workers of one gateway use."""

    name = "the workers' directory"

    def __init__(self, directory: Path, slot: int) -> None:
        self.accounts = WorkerAccounts(directory)
        self.peers = PeerCounts()
        self.spent = 0.0
        self._directory = directory
        self._file = directory / f"{slot}-{token_hex(8)}.json"
        self._written: tuple[dict[str, int], float] | None = None
        self._seen: dict[str, Stamp] = {}
        self._thread = OneThread("worker counts")
        self._series = SeriesLog(directory)

    async def swap(self, counts: Mapping[str, int], now: float) -> bool:
        seen = dict(self._seen)

        def work() -> tuple[list[_File], float]:
            begun = time.thread_time()
            self._write(dict(counts), now)
            files = list(self._read(seen))
            return files, time.thread_time() - begun  # it holds the interpreter, even in a thread

        try:
            files, spent = await self._thread.call(work)
        except OSError as error:
            raise RequestFailed(f"{self._directory}: {error.strerror}", Cause.FILE) from None
        begun = time.thread_time()
        self._take(files, now)
        self.spent = spent + time.thread_time() - begun
        return False

    async def swap_series(self, limiter: Limiter, now: float) -> None:
        """Tell the other workers the series that this one has seen, and learn theirs. Raises ``RequestFailed``."""
        limiter.share_series(KEY)
        news = limiter.series_news(now)
        try:
            found = await self._thread.call(lambda: self._series.swap(news))
        except OSError as error:
            raise RequestFailed(f"{self._directory}: {error.strerror}", Cause.FILE) from None
        for each in found:
            for begin in range(0, len(each.series), _LEARNED):
                limiter.learn_series(each._replace(series=each.series[begin : begin + _LEARNED]), time.monotonic())
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Keep the file: its counts still count."""
        self.accounts.close()

    def _write(self, counts: dict[str, int], now: float) -> None:
        if self._written is not None and self._written[0] == counts and now - self._written[1] < _HEARTBEAT:
            return
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps({"written": int(now * 1e6), "counts": counts}))
        draft.replace(self._file)
        self._written = counts, now

    def _take(self, files: Sequence[_File], now: float) -> None:
        self._seen = {file.name: file.stamp for file in files}
        for file in files:
            if file.counts is not None:
                written = min(file.written, now)
                self.peers.seen(file.name, written)
                self.peers.replace_counts(file.name, file.counts, written)

    def _read(self, seen: Mapping[str, Stamp]) -> Iterator[_File]:
        names = sorted(entry.name for entry in os.scandir(self._directory) if entry.name.endswith(".json"))
        for name in names[: MAX_REPLICAS + 1]:
            if name != self._file.name:
                with suppress(FileNotFoundError):  # another worker has removed it
                    yield self._read_one(name, seen.get(name))

    def _read_one(self, name: str, seen: Stamp | None) -> _File:
        path = self._directory / name
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen == stamp:
            if time.time() - status.st_mtime > _KEPT:
                path.unlink()
                path.with_suffix(".draft").unlink(missing_ok=True)
            return _File(name, stamp)
        with path.open("rb") as file:
            document = file.read(_MAX_FILE)
        try:
            fields = load_object(document, name)
            written = as_integer(fields.get("written"), "written", minimum=0) / 1e6
            counts = optional(fields, "counts", as_object) or {}
            numbers = {key: as_integer(count, child("counts", key), minimum=0) for key, count in counts.items()}
        except FieldError:
            return _File(name, stamp)  # not written by a worker
        return _File(name, stamp, numbers, written)
