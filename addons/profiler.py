"""A profile of this process: what its threads do, looked at a hundred times a second.

The sampling runs in a thread of its own and costs a percent or two of one core. Each look notes the stack of every
thread, the time since the last look, and how much of that time the thread had a processor (Linux tells).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

from .profile_format import Call, Sample, encode

INTERVAL: Final = 0.01  # seconds
_DEEPEST: Final = 200
_MAX_STACKS: Final = 20_000

Stack = tuple[tuple[CodeType, int], ...]


class Profiler:
    """Takes one profile at a time.

    Args:
        pause: waits that many seconds.
        monotonic: a clock in seconds.
    """

    def __init__(
        self,
        pause: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pause = pause or threading.Event().wait
        self.monotonic = monotonic
        self.taken = threading.Lock()

    def begin(self) -> bool:
        """Reserve the profiler; False while a profile is being taken."""
        return self.taken.acquire(blocking=False)

    def collect(self, seconds: float) -> bytes:
        """Look for that many seconds; the profile as ``go tool pprof`` and speedscope read it, and end the reservation.

        Blocks, so it belongs into a thread.
        """
        try:
            began, started = time.time_ns(), self.monotonic()
            table = self._sample(started + seconds)
            samples = [
                Sample(thread=thread, stack=tuple(_call(*place) for place in stack), looks=looks, cpu=cpu, wall=wall)
                for (thread, stack), (looks, cpu, wall) in table.items()
            ]
            return encode(samples, began=began, duration=self.monotonic() - started, interval=INTERVAL)
        finally:
            self.taken.release()

    def _sample(self, deadline: float) -> dict[tuple[str, Stack], tuple[int, int, int]]:
        table: dict[tuple[str, Stack], tuple[int, int, int]] = {}
        own = threading.get_ident()
        last = self.monotonic()
        used = _processor_times()
        while (now := self.monotonic()) < deadline:
            self.pause(min(INTERVAL, deadline - now))
            now = self.monotonic()
            elapsed, last = int((now - last) * 1e9), now
            before, used = used, _processor_times()
            threads = {thread.ident: thread for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                thread = threads.get(ident)
                if ident == own or thread is None:
                    continue
                native = thread.native_id or 0
                cpu = max(0, used.get(native, 0) - before.get(native, used.get(native, 0)))
                key = (thread.name, _stack(frame))
                looks, cpu_sum, wall_sum = table.get(key, (0, 0, 0))
                if looks or len(table) < _MAX_STACKS:
                    table[key] = (looks + 1, cpu_sum + cpu, wall_sum + elapsed)
        return table


def _stack(frame: FrameType | None) -> Stack:
    """The innermost call first."""
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and len(stack) < _DEEPEST:
        stack.append((frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno))
        frame = frame.f_back
    return tuple(stack)


def _call(code: CodeType, line: int) -> Call:
    return Call(function=code.co_qualname, file=code.co_filename, first_line=code.co_firstlineno, line=line)


def _processor_times() -> dict[int, int]:
    """Nanoseconds that each thread of the process has had a processor; empty where the system does not tell."""
    times = {}
    for thread in threading.enumerate():
        if thread.native_id is not None:
            try:
                text = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
                times[thread.native_id] = int(text.split()[0])
            except (OSError, ValueError, IndexError):  # it has ended meanwhile, or this is no Linux
                continue
    return times
