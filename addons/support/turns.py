"""Steps of long tasks, one in each turn of the event loop, so that others wait for one step at most."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """Takes the steps of all tasks in the order in which they were added."""

    def __init__(self) -> None:
        self._steps: deque[Callable[[], None]] = deque()

    def add(self, step: Callable[[], None]) -> None:
        """Take a step soon; it may add the next one."""
        self._steps.append(step)
        if len(self._steps) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        step = self._steps.popleft()
        if self._steps:
            asyncio.get_running_loop().call_soon(self._next)
        step()
