"""A profile of this process, over some seconds: which calls use the processor, and what all threads spend time in.

Processor time is taken where it is used: a timer of the system (``ITIMER_PROF``) interrupts the main thread, in which
the event loop runs, after each hundredth of a second that it was busy. A thread that looks at the others could not
tell: it gets to run when they wait. Such a thread notes the time, waiting included, of all threads.

https://man7.org/linux/man-pages/man2/setitimer.2.html. The cost while it runs is one or two percent of a core.
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
"""A thread's name and its stack, the innermost call first."""


class Times:
    """Nanoseconds by place, the number of places bounded."""

    def __init__(self) -> None:
        self.spent: dict[Place, int] = {}

    def add(self, thread: str, frame: FrameType | None, nanoseconds: int) -> None:
        """Time spent in ``frame``."""
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
        """Reserve the profiler until ``collect`` ends; False while a profile is being taken."""
        free, self.taken = not self.taken, True
        return free

    async def collect(self, seconds: float) -> bytes:
        """The profile, as ``go tool pprof`` and speedscope read it."""
        stop = threading.Event()
        try:
            began, started = time.time_ns(), time.monotonic()
            with processor_time() as cpu:
                wall = await in_thread(partial(look_around, seconds, stop), "profiler")
            samples = _samples(cpu.spent, wall.spent)
            duration = time.monotonic() - started
            return await in_thread(lambda: encode(samples, began, duration, INTERVAL), "profiler")
        finally:
            stop.set()  # a client that leaves takes its thread along
            self.taken = False


@contextmanager
def processor_time() -> Iterator[Times]:
    """What the main thread uses the processor for. Nothing, where this is not the main thread."""
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
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # one on its way would end the process


def look_around(seconds: float, stop: threading.Event) -> Times:
    """What all threads but the calling one are in, looked at for that many seconds, or until ``stop`` is set."""
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
