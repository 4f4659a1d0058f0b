"""One call at a time for each key, whose result all who ask for it share, and which is kept for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from vmgw_addons.support import Background
from vmgw_core.errors import LoginFailed

T = TypeVar("T")

MOST_KEPT: Final = 500
"""Results: the oldest make room."""


class Shared(Generic[T]):
    """Calls under the name of a background task.

    Args:
        kept: seconds that a result is kept.
        failure_kept: the same for ``LoginFailed``, so that a provider that is down is not asked for each request.
        clock: seconds that only grow.
    """

    def __init__(
        self, background: Background, name: str, clock: Callable[[], float], *, kept: float, failure_kept: float
    ) -> None:
        self._background = background
        self._name = name
        self._clock = clock
        self._kept = kept
        self._failure_kept = failure_kept
        self._calls: OrderedDict[Hashable, tuple[asyncio.Future[T], float]] = OrderedDict()
        """By key, with the time until which the result is kept; endless while the call runs."""

    async def get(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result for ``key``: that of ``work``, or of a call before. Raises what the call raised."""
        call = self._calls.get(key)
        if call is None or self._clock() >= call[1]:
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            call = self._calls[key] = future, float("inf")
            self._calls.move_to_end(key)
            while len(self._calls) > MOST_KEPT:
                self._calls.popitem(last=False)
            self._background.once(self._name, self._run(key, future, work))
        return await asyncio.shield(call[0])  # whoever gives up does not take it from the others

    async def _run(self, key: Hashable, future: asyncio.Future[T], work: Callable[[], Awaitable[T]]) -> None:
        kept = self._kept
        try:
            future.set_result(await work())
        except LoginFailed as error:
            future.set_exception(error)
            future.exception()  # it is no defect if nobody waits any more
            kept = self._failure_kept
        except Exception:
            future.set_exception(LoginFailed("the gateway failed at this login", status=500))
            future.exception()
            self._calls.pop(key, None)
            raise
        except BaseException:  # the end of the gateway
            future.cancel()
            raise
        if key in self._calls:
            self._calls[key] = future, self._clock() + kept
