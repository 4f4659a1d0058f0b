"""What may happen to processes that share a limit, and how much more than the limit was admitted in the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from hypothesis import strategies as st

from tests.support.core.processes import DAY, Admission, World

Step = tuple[str, int, float]
"""What happens, to which process, and the seconds until the next step."""

LONG: Final = 7.0
"""Of a longer gap only the begin and the end are simulated."""
VALUES: Final = {"raise": (2, 1), "lower": (1, 4), "keep": (1, 1)}
"""What a limit is multiplied with, and divided by."""
CLOCKS: Final = {
    "an hour back": -3600,
    "a day on": DAY,
    "a day back": -DAY,
    "40 days on": 40 * DAY,
    "40 days back": -40 * DAY,
}
CHANGES: Final = ("crash", "drain", "join", "apart", "together", "flush", *VALUES)


def steps(gaps: Sequence[float], *more: str) -> st.SearchStrategy[list[Step]]:
    """Traffic, and changes between two bursts. ``more`` are changes beside ``CHANGES``."""
    which, gap = st.integers(0, 15), st.sampled_from(gaps)
    traffic = st.tuples(st.sampled_from(["query", "burst", "tick"]), which, gap)
    change = st.tuples(st.sampled_from([*CHANGES, *more]), which, gap)
    burst = st.tuples(st.just("burst"), which, gap)
    parts = st.lists(traffic.map(lambda step: [step]) | st.tuples(burst, change, burst).map(list), max_size=20)
    return parts.map(lambda found: [step for part in found for step in part])


def play(world: World, happening: Iterable[Step]) -> None:
    """Let it happen, but nothing that loses counts for good: a process that ends while it alone knows what it used."""
    apart = ended = flushed = False
    for what, which, gap in happening:
        index = which % len(world.processes)
        if what in ("query", "burst"):
            for _ in range(1 if what == "query" else world.limits[0].value):
                world.request(index, lambda _: None, f"client {which}")
        elif what == "tick":
            world.tick(index)
        elif what in VALUES and (what == "keep" or not apart):  # else each has a share of another limit
            [limit], (times, divisor) = world.limits, VALUES[what]
            world.reload(index, replace(limit, value=max(1, limit.value * times // divisor)))
        elif what in CLOCKS:
            world.ahead += CLOCKS[what]
            world.run(1.5)  # until all have looked at the clock
        elif what == "together":
            world.connect(True)
            world.settle()
            apart = False
        elif what == "apart" and not (apart or ended):
            for each in range(len(world.processes)):
                world.reload(each, *world.limits)
            world.settle()
            world.connect(False)
            world.settle()
            apart = True
        elif apart:
            pass
        elif what == "flush" and not ended:
            world.settle()
            world.flush()
            flushed = True
        elif what == "join":
            world.join()
        elif what == "crash" or (what == "drain" and len(world.processes) > 1):
            if flushed:
                world.settle()
            world.crash(index) if what == "crash" else world.drain(index)
            ended = True
        world.skip(gap) if gap > LONG else world.run(gap)


def alone(world: World, happening: Iterable[Step]) -> int:
    """Return how much may be admitted beyond a limit: one by each process that had to decide alone for a while."""
    return world.most if any(what in ("apart", "flush") for what, _, _ in happening) else 0


def beyond_in_a_minute(world: World) -> int:
    return _beyond(world.admissions, lambda first, last: last.at - first.at < 60)


def beyond_in_a_day(world: World) -> int:
    admissions = [each for each in world.admissions if each.day is not None]  # others are of either day
    return _beyond(admissions, lambda first, last: first.day == last.day)


def _beyond(admissions: Iterable[Admission], together: Callable[[Admission, Admission], bool]) -> int:
    """Return the most that was admitted in a window beyond the limit then."""
    window: deque[Admission] = deque()
    most = 0
    for each in admissions:
        window.append(each)
        while not together(window[0], each):
            window.popleft()
        most = max(most, len(window) - each.allowed)
    return most
