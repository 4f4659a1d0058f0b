"""The fast lane: HTTP/1.1 without flows and hooks, over asyncio's transports and llhttp.

It takes the same decision as the flow lane, by the same addons and the same core; only the carrying is its own. A
``Layer`` of mitmproxy would do the parsing as well, but its connections to backends belong to one client each, and a
new client costs it five times as much.
"""

from __future__ import annotations

import asyncio
import random
from http import HTTPStatus

from mitmproxy import ctx

from vmgw_core.answers import Answer, answer
from vmgw_core.errors import Overloaded, Refusal

from .access_control import AccessControl
from .fast_client import FastClient
from .fast_pool import Pool
from .runtime import Decision, Runtime
from .status_pages import StatusPages
from .telemetry import Telemetry

_SWEEP_SECONDS = 0.1


class FastLane:
    """Serves the connections that the listener hands it."""

    def __init__(
        self, runtime: Runtime, pages: StatusPages, access_control: AccessControl, telemetry: Telemetry
    ) -> None:
        self.runtime = runtime
        self.pages = pages
        self.access_control = access_control
        self.telemetry = telemetry
        self.pool = Pool(runtime)
        self.clients: set[FastClient] = set()
        self.sweeper: asyncio.TimerHandle | None = None
        self.now = asyncio.get_event_loop_policy().get_event_loop  # replaced in running()

    def done(self) -> None:
        self.close()
