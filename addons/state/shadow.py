"""The shadow of a running gateway (``-shadow.*``), fed by both lanes."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Cycle
from vmgw_core.replay import Shadow
from vmgw_core.tokens import KeyRing

logger = logging.getLogger(__name__)


class LiveShadow:
    """Has the shadow judge each request once, after the event that decides it.

    It is a ``RequestLog``, and its method ``note`` is the ``shadow`` of a ``Gateway``.
    """

    lost = 0

    def __init__(self, shadow: Shadow, settings: Settings, keyring: KeyRing) -> None:
        """``settings`` are those of the candidate configuration, ``keyring`` has its keys."""
        self.shadow = shadow
        self.settings = settings
        self.keyring = keyring

    def note(self, cycle: Cycle, form: bytes | None) -> None:
        """Judge a request that is about to be rewritten, after that and what follows at once."""
        asyncio.get_running_loop().call_soon(self.judge, cycle, form)

    def finished(self, cycle: Cycle, status: int | None, sent: int) -> None:
        """Judge a request that has ended without being noted: it was refused, or it is a write with a meter."""
        if cycle.shadow is None and not cycle.own_page:
            self.note(cycle, None)

    def judge(self, cycle: Cycle, form: bytes | None = None) -> None:
        """Judge a request that was not judged before. A failure is counted, and only the first one is logged."""
        if cycle.shadow is not None:
            return
        counts = self.shadow.counts
        try:
            line = self.shadow.judge(cycle, form, time.monotonic())
        except Exception as error:
            counts.failures += 1
            if counts.failures == 1:
                logger.exception(f"the shadow cannot judge a request: {type(error).__name__}; others are only counted")
            return
        if line:
            logger.warning(f"the shadow disagrees: {line}")

    def use_keys(self) -> None:
        """Put the present keys of the key ring in force."""
        gateway = self.shadow.gateway
        policy = gateway.policy
        policy.verifier.replace_keys(self.keyring.keyset)
        policy = replace(policy, keys_awaited=policy.auth and self.keyring.waiting)
        self.shadow.gateway = replace(gateway, policy=policy)
