"""A profile of this process over some seconds: CPU time of the main thread, and wall time of all threads.

CPU time is sampled by a timer (``ITIMER_PROF``, https://man7.org/linux/man-pages/man2/setitimer.2.html), which
interrupts the main thread, with the event loop, after each 10 ms of CPU time. A sampling thread cannot do this, since
it runs when the others wait; it samples the wall time. Both cost one or two percent of a core while they run.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import CodeType, FrameType
from typing import Final

from vmgw_addons.support import in_thread

from .profile_format import Call, Sample, encode

INTERVAL: Final = 0.01  # seconds
_DEEPEST: Final = 200
_MAX_STACKS: Final = 20_000

Place = tuple[str, tuple[tuple[CodeType, int], ...]]
"""A thread's name and its stack, innermost call first."""


class Times:
    """Nanoseconds by place. The number of places is bounded."""

    def __init__(self) -> None:
        self.spent: dict[Place, int] = {}

    def add(self, thread: str, frame: FrameType | None, nanoseconds: int) -> None:
        """Add time spent in ``frame``."""
        stack: list[tuple[CodeType, int]] = []
        while frame is not None and len(stack) < _DEEPEST:
            stack.append((frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno))
            frame = frame.f_back
        place = (thread, tuple(stack))
        if place in self.spent or len(self.spent) < _MAX_STACKS:
            self.spent[place] = self.spent.get(place, 0) + nanoseconds


class Profiler:
    """Takes one profile at a time."""

    def __init__(self) -> None:
        self.taken = False

    def begin(self) -> bool:
        """Reserve the profiler until ``collect`` ends. Returns False if it is in use."""
        free, self.taken = not self.taken, True
        return free

    async def collect(self, seconds: float) -> bytes:
        """Take a profile, in the pprof format."""
        stop = threading.Event()
        try:
            began, started = time.time_ns(), time.monotonic()
            with processor_time() as cpu:
                wall = await in_thread(partial(look_around, seconds, stop), "profiler")
            samples = _samples(cpu.spent, wall.spent)
            duration = time.monotonic() - started
            return await in_thread(lambda: encode(samples, began, duration, INTERVAL), "profiler")
        finally:
            stop.set()  # ends the thread if the client has left
            self.taken = False


@contextmanager
def processor_time() -> Iterator[Times]:
    """Sample the CPU time of the main thread. Does nothing in another thread."""
    times = Times()
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGPROF"):
        yield times
        return
    last = time.thread_time_ns()

    def note(_number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.thread_time_ns()
        times.add("MainThread", frame, now - last)
        last = now

    signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        yield times
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # a pending signal would end the process


def look_around(seconds: float, stop: threading.Event) -> Times:
    """Sample all threads but the calling one for ``seconds``, or until ``stop`` is set."""
    times = Times()
    own, last = threading.get_ident(), time.monotonic_ns()
    deadline = last + int(seconds * 1e9)
    while last < deadline and not stop.wait(min(INTERVAL, (deadline - last) / 1e9)):
        now = time.monotonic_ns()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != own:
                times.add(names.get(ident, "unknown"), frame, now - last)
        last = now
    return times


def _samples(cpu: Mapping[Place, int], wall: Mapping[Place, int]) -> list[Sample]:
    return [
        Sample(
            thread=place[0],
            stack=tuple(
                Call(function=code.co_qualname, file=code.co_filename, first_line=code.co_firstlineno, line=line)
                for code, line in place[1]
            ),
            cpu=cpu.get(place, 0),
            wall=wall.get(place, 0),
        )
        for place in {**cpu, **wall}
    ]
