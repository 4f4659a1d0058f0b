"""Writing in a thread: events of the test stand for a disk that hangs, so nothing depends on time."""

from __future__ import annotations

import io
import logging
import threading

from vmgw_addons.support.log_format import LogStyle, logging_in_thread
from vmgw_addons.support.thread_writer import ThreadWriter


class Disk:
    """Takes what is written, while it does not hang. Fails at ``bad`` items."""

    def __init__(self) -> None:
        self.works = threading.Event()
        self.works.set()
        self.reached = threading.Event()
        self.written: list[str] = []

    def write(self, item: str) -> None:
        self.reached.set()
        self.works.wait()
        if item == "bad":
            raise OSError("no space")
        self.written.append(item)


def nothing() -> None:
    """Whoever loses an item does not mind."""


def test_items_are_written_in_their_order() -> None:
    disk = Disk()
    writer = ThreadWriter(disk.write, "test", 100)
    for number in range(100):
        writer.put(str(number), 1, nothing)
    assert writer.close()
    assert disk.written == [str(number) for number in range(100)]
    assert writer.lost == 0


def test_what_does_not_fit_is_lost_and_told() -> None:
    disk, lost = Disk(), list[str]()
    disk.works.clear()
    writer = ThreadWriter(disk.write, "test", 10)
    writer.put("hangs", 4, nothing)
    disk.reached.wait()
    writer.put("fits", 6, nothing)
    writer.put("too many", 1, lambda: lost.append("too many"))
    assert lost == ["too many"]
    assert not writer.close(0), "it still hangs"
    writer.put("late", 0, lambda: lost.append("late"))
    disk.works.set()
    assert writer.close()
    assert disk.written == ["hangs", "fits"]
    assert (lost, writer.lost) == (["too many", "late"], 2)


def test_an_item_that_cannot_be_written_is_lost_and_the_next_is_not() -> None:
    disk, lost = Disk(), list[str]()
    writer = ThreadWriter(disk.write, "test", 10)
    writer.put("bad", 10, lambda: lost.append("bad"))
    while writer.lost == 0:  # its room is free again
        pass
    writer.put("good", 0, nothing)
    assert writer.close()
    assert (disk.written, lost) == (["good"], ["bad"])


class Stream(LogStyle):
    """A style that writes to a string."""

    @property
    def stream(self) -> io.StringIO:
        return OUTPUT


OUTPUT = io.StringIO()


def test_records_are_written_as_ever_and_handlers_come_back() -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    with logging_in_thread(Stream(timestamps=False)):
        logging.getLogger("test").warning("one %s", "two\nthree")
        logging.getLogger("test").warning("%d", "no number")  # logging tells of it on standard error
        assert root.handlers != before
    assert root.handlers == before
    level, caller, message = OUTPUT.getvalue().rstrip("\n").split("\t")
    assert (level, message) == ("warn", "one two\\nthree")
    assert caller.startswith("test_thread_writer.py:")
