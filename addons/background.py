"""Work in threads that never hold up the event loop, nor the end of the process; and a word of log when it fails."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

_REPEAT: Final = 60.0  # seconds after which a failure that goes on is logged again


async def in_thread(function: Callable[[], T], name: str) -> T:
    """Call ``function`` in a thread that, unlike an executor's, does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Callable[[], T]) -> None:
        if not future.done():
            try:
                future.set_result(result())
            except Exception as error:
                future.set_exception(error)

    def work() -> None:
        try:
            value = function()
        except Exception as caught:
            error = caught

            def result() -> T:
                raise error
        else:

            def result() -> T:
                return value

        with suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


class Outage:
    """Whether something in the background works: counts failures, and logs when that changes, not each time."""

    def __init__(self, logger: logging.Logger, consequence: str) -> None:
        self.failures = 0
        self.reason: str | None = None
        """Why the last attempt failed; None after one that did not."""
        self._logger = logger
        self._consequence = consequence
        self._logged = 0.0

    def failed(self, reason: str) -> None:
        """One more failure."""
        self.failures += 1
        now = time.monotonic()
        if reason != self.reason or now - self._logged >= _REPEAT:
            self._logged = now
            self._logger.warning(f"{reason}; {self._consequence}")
        self.reason = reason

    def succeeded(self, message: str) -> None:
        """It works, which is worth ``message`` if it did not before."""
        if self.reason is not None:
            self._logger.info(message)
        self.reason = None
