"""One request of the fast lane that waits for a place among ``-maxConcurrentRequests``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vmgw_core.concurrency import Concurrency
from vmgw_core.errors import Refusal

from .occupancy import no_place
from .runtime import Decision, Runtime


class PlaceWait:
    """Waits from the time it is made. Nothing of the request is read on meanwhile, but for what is there already.

    Args:
        proceed: called once there is a place, which the decision then has.
        refuse: called where there was none within ``-maxQueueDuration``.

    Raises:
        TooManyAtOnce: nobody may wait, or too many do.
    """

    __slots__ = ("decision", "places", "proceed", "tenant", "timer")

    def __init__(
        self, runtime: Runtime, decision: Decision, proceed: Callable[[], None], refuse: Callable[[Refusal], None]
    ) -> None:
        assert runtime.concurrency is not None
        assert decision.grant is not None
        self.places: Concurrency = runtime.concurrency
        self.decision = decision
        self.tenant = decision.grant.subject.tenant
        self.proceed = proceed
        seconds = float(str(runtime.settings["maxQueueDuration"]))
        if not seconds or not self.places.wait(self.tenant, self.called):
            raise no_place(runtime)
        self.timer = asyncio.get_running_loop().call_later(seconds, lambda: refuse(no_place(runtime)))

    def called(self) -> None:
        """There is a place."""
        self.timer.cancel()
        self.decision.places = self.places
        asyncio.get_running_loop().call_soon(self.proceed)  # behind whatever the one that left has still to do

    def stop(self) -> None:
        """Wait no more."""
        self.timer.cancel()
        self.places.give_up(self.tenant, self.called)
