"""Waiting for something that another thread or process brings about, with a deadline instead of a fixed pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

HANGS: Final = 240.0
"""Seconds after which something is taken to hang. A test that passes never waits so long, however busy the machine."""

POLL_INTERVAL: Final = 0.02
"""Seconds between two looks."""


def eventually(predicate: Callable[[], T], *, within: float = HANGS, what: str = "") -> T:
    """Call ``predicate`` until it answers something true, and return that.

    ``within`` is in seconds. Raises AssertionError, with ``what`` and the last answer, once they are over. An
    OSError of the predicate counts as "not yet": a server that is starting refuses connections.
    """
    pause = threading.Event()
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            answer = predicate()
        except OSError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within} s: {what or predicate!r}; last seen: {last!r}")
        pause.wait(POLL_INTERVAL)


def holds(predicate: Callable[[], bool], *, during: float, what: str = "") -> None:
    """Assert that ``predicate`` stays true for ``during`` seconds: for what must *not* happen."""
    pause = threading.Event()
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        assert predicate(), f"no longer true: {what or predicate!r}"
        pause.wait(POLL_INTERVAL)
