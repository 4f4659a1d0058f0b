"""Outages: what the gateway needs and does not get, counted by cause, and logged without flooding the log."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from vmgw_core.errors import Cause

REPEAT: Final = 60.0
"""Seconds after which the same reason is logged again."""
_MOST: Final = 8  # reasons that are logged within that time


class Outage:
    """The failures of one thing that the gateway needs.

    A reason is logged when it is new and then once a minute; the first success after a logged failure is logged too.
    """

    def __init__(self, logger: logging.Logger, consequence: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.causes: Counter[Cause] = Counter()
        """The number of failures by cause."""
        self.reason: str | None = None
        """Why the last attempt failed; None if it succeeded."""
        self.cause = Cause.OTHER
        """The cause of ``reason``."""
        self._logger = logger
        self._consequence = consequence
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._told = False

    @property
    def failures(self) -> int:
        return self.causes.total()

    def failed(self, reason: str, cause: Cause = Cause.OTHER, *, consequence: str = "") -> None:
        """Count a failure. ``reason`` has no secret; ``consequence`` replaces the usual one."""
        self.causes[cause] += 1
        self.reason, self.cause = reason, cause
        now = self._clock()
        self._logged = {text: at for text, at in self._logged.items() if now - at < REPEAT}
        if reason not in self._logged and len(self._logged) < _MOST:
            self._logged[reason] = now
            self._told = True
            self._logger.warning(f"{reason}; {consequence or self._consequence}")

    def succeeded(self, message: str) -> None:
        """Note a success. Log ``message`` if a failure was logged before it."""
        self.reason = None
        if self._told:
            self._told = False
            self._logger.info(message)


class Outages:
    """All outages of this process. Their names come from the configuration, so they are few."""

    def __init__(self) -> None:
        self.by_name: dict[str, Outage] = {}

    def of(self, name: str, logger: logging.Logger, consequence: str) -> Outage:
        """Return the outage of what is called ``name`` in metrics, such as the name of a flag."""
        return self.by_name.setdefault(name, Outage(logger, consequence))
