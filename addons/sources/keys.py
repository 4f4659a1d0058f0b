"""Key refresh: fetches JWKS and OIDC documents in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from vmgw_addons.outgoing import TLSFiles, download, failure_of
from vmgw_addons.state import InForce
from vmgw_addons.support import Background, in_thread
from vmgw_core.configuration import Settings
from vmgw_core.errors import Cause
from vmgw_core.tokens import Fetch, KeyRing, told

logger = logging.getLogger(__name__)


class KeyRefresh:
    """Fetches the documents that the key ring is due to get, in threads."""

    def __init__(self, in_force: InForce, background: Background) -> None:
        self.in_force = in_force
        self.background = background
        self.wake = asyncio.Event()
        self.skipped: dict[str, tuple[str, ...]] = {}
        """The unused keys that were logged, by source."""

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
        pauses = []
        for keyring, settings, whose in self.in_force.configured.keyrings:
            for fetch in keyring.due(time.time()):
                self.background.once("key_fetch", self.fetch(fetch, keyring, settings, whose))
            pauses.append(keyring.next_due(time.time()))
        pause = min((each for each in pauses if each is not None), default=None)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), pause)
        return 0

    async def fetch(self, fetch: Fetch, keyring: KeyRing, settings: Settings, whose: str) -> None:
        """Fetch one document and hand it to the key ring."""
        before = keyring.generation
        tls = TLSFiles(settings.client_tls("auth"))
        try:
            document = await in_thread(lambda: download(fetch.url, tls), "key fetch")
        except Exception as error:  # refreshing goes on, whatever a library raises
            failure = failure_of(error)
            keyring.failed(fetch, failure.text, time.time())
            self.note(keyring, fetch.source, failure.cause, whose)
        else:
            keyring.received(fetch, document, time.time())
            self.note(keyring, fetch.source, Cause.RESPONSE, whose)
        if keyring.generation != before:
            self.in_force.use_keys(keyring)
            logger.info(f"{whose}{fetch.source}: refreshed, {len(keyring.keyset or ())} keys in use")
        keyring.wake()
        self.wake.set()

    def note(self, keyring: KeyRing, source: str, cause: Cause, whose: str = "") -> None:
        """Log and count how a fetch ended; ``cause`` is why if it failed. ``whose`` begins the name of the source."""
        name = f"{whose}{source}"
        outage = self.in_force.outages.of(name, logger, "")
        for status in keyring.status():
            if status.name != source:
                continue
            if status.last_error is not None:
                kept = f"its {status.keys} keys stay in use" if status.keys else "it has given no key yet"
                outage.failed(f"{name}: cannot fetch keys: {status.last_error}", cause, consequence=kept)
            elif status.last_success is not None:
                outage.succeeded(f"{name}: keys are fetched again")
            if status.skipped != self.skipped.get(name, ()):
                self.skipped[name] = status.skipped
                if status.skipped and status.last_error is None:  # the error says it otherwise
                    logger.warning(f"{name}: skipped keys: {told(status.skipped)}")
