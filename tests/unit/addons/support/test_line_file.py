"""A file of lines: appended to, begun anew after a rotation, and one line lost if the disk is full."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmgw_addons.support import LineFile


def test_lines_are_appended_and_a_rotated_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    file = LineFile(str(path))
    file.write("one\n")
    path.rename(tmp_path / "log.1")
    file.write("two\n")
    path.unlink()
    file.write("three\n")
    file.close()
    file.close()
    file.write("four\n")
    file.close()
    assert (tmp_path / "log.1").read_text() == "old\none\n"
    assert path.read_text() == "three\nfour\n"
    assert path.stat().st_mode & 0o777 == 0o600


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_costs_the_lines_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = LineFile(str(path))
    file.write("one\n")
    with largest_file(6):
        for _ in range(2):
            with pytest.raises(OSError, match=r"space|large"):
                file.write("lost\n")
    file.write("two\n")
    file.close()
    assert path.read_text() == "one\nlo\ntwo\n"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "log", Path("/proc/version")):
        if os.geteuid() == 0 and path == Path("/proc/version"):
            continue  # root may write everywhere, says access()
        with pytest.raises(OSError, match=r"directory|denied"):
            LineFile(str(path)).check()
    LineFile(str(tmp_path / "log")).check()
    assert list(tmp_path.iterdir()) == []
