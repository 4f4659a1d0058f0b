"""Key refresh: fetching JWKS and OIDC documents in the background, never in a request's way."""

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
    """Does what the key ring asks for, when it is due, in threads."""

    def __init__(self, in_force: InForce, background: Background) -> None:
        self.in_force = in_force
        self.background = background
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.fetches: set[asyncio.Task[None]] = set()

    def running(self) -> None:
        self.wake = asyncio.Event()
        self.task = self.background.repeat("key_refresh", self.step)

    async def done(self) -> None:
        await self.background.stop(self.task, *self.fetches)

    def unknown_key(self) -> None:
        """A token came whose key is not among the known ones: its issuer may have new ones."""
        if self.in_force.configured.keyring is not None:
            self.in_force.configured.keyring.unknown_key(time.time())
            self.wake.set()

    async def step(self) -> float:
        """Start what is due, then wait for the next thing to be."""
        self.wake.clear()
        keyring = self.in_force.configured.keyring
        pause = None
        if keyring is not None:
            for fetch in keyring.due(time.time()):
                task = self.background.once("key_fetch", self.fetch(fetch))
                self.fetches.add(task)
                task.add_done_callback(self.fetches.discard)
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
        except Exception as error:  # whatever a library raises, refreshing goes on
            keyring.failed(fetch, describe(error), time.time())
            logger.warning(f"cannot fetch keys, the old ones stay in use: {fetch.source}: {describe(error)}")
        else:
            keyring.received(fetch, document, time.time())
            for status in keyring.status():
                if status.name == fetch.source and status.last_error is not None:
                    logger.warning(f"keys of no use, the old ones stay: {status.name}: {status.last_error}")
                elif status.name == fetch.source and status.skipped:
                    logger.warning(f"keys left out: {status.name}: {'; '.join(status.skipped)}")
        if keyring.generation != before:
            self.in_force.use_keys()
            logger.info(f"{len(keyring.keyset or ())} keys in use after a refresh of {fetch.source}")
        self.wake.set()
