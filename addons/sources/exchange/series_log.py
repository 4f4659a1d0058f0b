"""The series that the worker processes of one machine tell each other, in files of their shared directory.

Each worker appends to a file of its own, and reads what the others have appended. A line is the news of one limit. What
a worker has written stays when it dies, so the one that replaces it knows the series. Times are those of the monotonic
clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Final

from vmgw_core.limits import SeriesNews

KEY: Final = token_bytes(16)
"""What series are hashed with. It is made before the workers are forked, so all have the same."""
MAX_FILE: Final = 32 << 20
"""Bytes after which a worker begins a new file. It keeps one full file."""
_MAX_READ: Final = 256 << 10
"""Bytes read of one file at once."""
_MAX_SERIES: Final = 2_000
"""Series in one line, which take some 5 ms to learn."""
_SUFFIX: Final = ".series"


class SeriesLog:
    """The file of this worker, and how far those of the others are read."""

    def __init__(self, directory: Path) -> None:
        self.more = False
        """Whether the last swap has left something to read."""
        self._directory = directory
        self._name = token_hex(8)
        self._number = 0
        self._size = 0
        self._read_to: dict[str, int] = {}

    def swap(self, news: Sequence[SeriesNews]) -> list[SeriesNews]:
        """Append the news of this worker; return those of the others. Blocks. Raises ``OSError``."""
        self._write(news)
        paths = [each for each in self._directory.iterdir() if each.suffix == _SUFFIX]
        others = {path.name: path for path in paths if not path.name.startswith(self._name)}
        self._read_to = {name: self._read_to.get(name, 0) for name in others}
        found: list[SeriesNews] = []
        self.more = False
        for path in others.values():
            with suppress(FileNotFoundError):  # its worker has removed it
                found += self._read(path)
        return found

    def _write(self, news: Sequence[SeriesNews]) -> None:
        if not news:
            return
        lines = (
            each._replace(series=each.series[begin : begin + _MAX_SERIES])
            for each in news
            for begin in range(0, len(each.series), _MAX_SERIES)
        )
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        if self._size and self._size + len(data) > MAX_FILE:
            self._path(self._number - 1).unlink(missing_ok=True)
            self._number += 1
            self._size = 0
        with self._path(self._number).open("ab") as file:
            file.write(data)
        self._size += len(data)

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._name}-{number}{_SUFFIX}"

    def _read(self, path: Path) -> Iterator[SeriesNews]:
        with path.open("rb") as file:
            file.seek(self._read_to[path.name])
            data = file.read(_MAX_READ)
            while data and b"\n" not in data and (more := file.read(_MAX_READ)):
                data += more
        self.more = self.more or len(data) >= _MAX_READ
        whole, found, _ = data.rpartition(b"\n")
        self._read_to[path.name] += len(whole) + len(found)
        for line in whole.splitlines():
            tenant, key, at, series = json.loads(line)
            yield SeriesNews(tenant, key, at, series)
