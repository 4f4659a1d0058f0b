"""Key refresh: fetches JWKS and OIDC documents in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from vmgw_addons.outgoing import describe, download
from vmgw_addons.state import InForce
from vmgw_addons.support import Background, in_thread
from vmgw_core.tokens import Fetch

logger = logging.getLogger(__name__)


class KeyRefresh:
    """Fetches the documents that the key ring is due to get, in threads."""

    def __init__(self, in_force: InForce, background: Background) -> None:
        self.in_force = in_force
        self.background = background
        self.wake = asyncio.Event()

    def running(self) -> None:
        self.wake = asyncio.Event()
        self.background.repeat("key_refresh", self.step)

    def unknown_key(self) -> None:
        """Fetch keys again: a token names a key that is not known, so its issuer may have new ones."""
        if self.in_force.configured.keyring is not None:
            self.in_force.configured.keyring.unknown_key(time.time())
            self.wake.set()

    async def step(self) -> float:
        """Start the fetches that are due, and wait until the next one is."""
        self.wake.clear()
        keyring = self.in_force.configured.keyring
        pause = None
        if keyring is not None:
            for fetch in keyring.due(time.time()):
                self.background.once("key_fetch", self.fetch(fetch))
            pause = keyring.next_due(time.time())
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), pause)
        return 0

    async def fetch(self, fetch: Fetch) -> None:
        """Fetch one document and hand it to the key ring."""
        keyring = self.in_force.configured.keyring
        if keyring is None:
            return
        before = keyring.generation
        try:
            document = await in_thread(lambda: download(fetch.url), "key fetch")
        except Exception as error:  # refreshing goes on, whatever a library raises
            keyring.failed(fetch, describe(error), time.time())
            logger.warning(f"{fetch.source}: cannot fetch keys, keeping the old ones: {describe(error)}")
        else:
            keyring.received(fetch, document, time.time())
            for status in keyring.status():
                if status.name == fetch.source and status.last_error is not None:
                    logger.warning(f"{status.name}: unusable keys, keeping the old ones: {status.last_error}")
                elif status.name == fetch.source and status.skipped:
                    logger.warning(f"{status.name}: skipped keys: {'; '.join(status.skipped)}")
        if keyring.generation != before:
            self.in_force.use_keys()
            logger.info(f"{fetch.source}: refreshed, {len(keyring.keyset or ())} keys in use")
        self.wake.set()
