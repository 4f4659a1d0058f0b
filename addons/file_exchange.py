"""Counts of the worker processes of one machine, in a directory that they share.

Each writes a file of its own, and never that of the one it replaces: what a worker counted before it died goes on
counting until it has left the window. The clock is the machine's monotonic one, which all its processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from vmgw_core.fields import FieldError, as_integer, child, get_object, load_object
from vmgw_core.peers import MAX_REPLICAS, Others

from .background import in_thread
from .endpoint import AskError

_MAX_FILE: Final = 64 << 20  # bytes
_HEARTBEAT: Final = 1.0  # seconds
_KEPT: Final = 4500.0  # seconds: a count is believed for a window and a quarter


class FileExchange:
    """The worker of number ``slot`` in ``directory``, which only the workers of one gateway use."""

    name = "the workers' directory"

    def __init__(self, directory: Path, slot: int) -> None:
        self.others = Others()
        self.spent = 0.0
        self._directory = directory
        self._file = directory / f"{slot}-{token_hex(8)}.json"
        self._written: tuple[dict[str, int], float] | None = None
        self._seen: dict[str, tuple[int, int, int]] = {}

    async def swap(self, counts: Mapping[str, int], now: float) -> bool:
        """Tell the own counts and hear the others'. There is never more to come at once.

        Raises:
            AskError: the directory cannot be used.
        """

        def work() -> None:
            begun = time.thread_time()
            self._write(dict(counts), now)
            self._read(now)
            self.spent = time.thread_time() - begun  # another thread, but the interpreter is one

        try:
            await in_thread(work, "worker counts")
        except OSError as error:
            raise AskError(f"{self._directory}: {error.strerror}") from None
        return False

    async def close(self) -> None:
        """Nothing: the file stays, its counts still count."""

    def _write(self, counts: dict[str, int], now: float) -> None:
        if self._written is not None and self._written[0] == counts and now - self._written[1] < _HEARTBEAT:
            return
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps({"written": int(now * 1e6), "counts": counts}))
        draft.replace(self._file)
        self._written = counts, now

    def _read(self, now: float) -> None:
        names = sorted(entry.name for entry in os.scandir(self._directory) if entry.name.endswith(".json"))
        self._seen = {name: stamp for name, stamp in self._seen.items() if name in names}
        for name in names[: MAX_REPLICAS + 1]:
            if name != self._file.name:
                with suppress(FileNotFoundError):  # another worker has tidied up
                    self._read_one(name, now)

    def _read_one(self, name: str, now: float) -> None:
        path = self._directory / name
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._seen.get(name) != stamp:
            self._seen[name] = stamp
            with path.open("rb") as file:
                document = file.read(_MAX_FILE)
            try:
                fields = load_object(document, name)
                written = as_integer(fields.get("written"), "written", minimum=0) / 1e6
                counts = get_object(fields, "counts") or {}
                numbers = {key: as_integer(count, child("counts", key), minimum=0) for key, count in counts.items()}
            except FieldError:
                return  # no worker has written that
            written = min(written, now)
            self.others.alive(name, written)
            self.others.heard_all(name, numbers, written)
        elif time.time() - status.st_mtime > _KEPT:
            path.unlink()
            path.with_suffix(".draft").unlink(missing_ok=True)
