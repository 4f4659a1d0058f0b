"""The launcher's mitmproxy master: the proxy core and the gateway's addons, and nothing else.

mitmdump calls some 35 addons on each of four hooks of a request, and an update hook after each. Here a hook is only
called on the few addons that have it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from mitmproxy.exceptions import AddonHalt
from mitmproxy.http import HTTPFlow
from mitmproxy.options import Options

from vmgw_addons._mitmproxy import (
    AddonManager,
    ErrorCheck,
    Hook,
    Master,
    NextLayerAddon,
    Proxyserver,
    TlsConfig,
    asyncio_utils,
    traverse,
)

logger = logging.getLogger(__name__)


class DirectAddonManager(AddonManager):
    """Looks up once which addons have a hook, instead of at every event."""

    def __init__(self, master: Master) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]
        self.handlers: dict[str, list[Callable[..., Any]]] = {}

    def register(self, addon: object) -> object:
        self.handlers.clear()
        return super().register(addon)  # type: ignore[no-untyped-call]

    async def handle_lifecycle(self, event: Hook) -> None:
        handlers = self.handlers.get(event.name)
        if handlers is None:
            found = (getattr(addon, event.name, None) for addon in traverse(self.chain))
            handlers = self.handlers[event.name] = [handler for handler in found if callable(handler)]
        for handler in handlers:
            try:
                result = handler(*event.args())
                if inspect.isawaitable(result):
                    await result
            except AddonHalt:
                return
            except Exception:
                logger.exception(f"an addon failed in {event.name}")


class CertlessTls(TlsConfig):
    """mitmproxy's TLS without its certificate authority, whose key it writes into the home directory.

    The gateway signs nothing: its TLS contexts are its own.
    """

    def running(self) -> None:
        pass

    def configure(self, updated: set[str]) -> None:
        pass

    def request(self, flow: HTTPFlow) -> None:
        """Do nothing: mitmproxy 12 serves the authority's revocation list here."""


class GatewayMaster(Master):
    """A master with the given addons, and those that proxying needs after them."""

    def __init__(self, options: Options, addons: Sequence[object], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(options, event_loop=loop)
        self._legacy_log_events.uninstall()  # fires an event for each log record, which no addon here uses
        self.addons = DirectAddonManager(self)
        self.addons.add(Proxyserver(), *addons, CertlessTls(), NextLayerAddon(), ErrorCheck())  # type: ignore[no-untyped-call]

    async def run(self) -> None:
        """Run like mitmproxy's master, without its listeners and without eager tasks.

        An eager task can be cancelled before its clean-up is in place (which leaks a client's socket), and uvloop does
        not support the eager task factory of every Python.
        """
        errors = self.addons.get("errorcheck")
        assert isinstance(errors, ErrorCheck)
        with asyncio_utils.install_exception_handler(self._asyncio_exception_handler):
            self.should_exit.clear()
            await errors.shutdown_if_errored()
            try:
                await self.running()
                await errors.shutdown_if_errored()
                errors.finish()
                await self.should_exit.wait()
            finally:
                await self.done()
