"""The launcher's mitmproxy master: the proxy core and the gateway's addons, and nothing else.

mitmdump calls some 35 addons on each of four hooks of a request, each in a task, and an update hook after each. Here a
hook is only called on the few addons that have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mitmproxy.http import HTTPFlow
from mitmproxy.options import Options

from vmgw_addons._mitmproxy import (
    ErrorCheck,
    Master,
    MessageData,
    NextLayerAddon,
    Proxyserver,
    TlsConfig,
    asyncio_utils,
)
from vmgw_addons.lanes.flow import DirectAddonManager


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
        # mitmproxy checks the type of each field of each message that it makes, unless Python runs with -O.
        MessageData.__post_init__ = lambda message: None  # type: ignore[method-assign]
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
