"""Calls the addons on a hook, without a task of its own for each hook.

mitmproxy starts a task for every hook of a request. Most hooks here return at once, so the flow lane calls them itself,
between two events of its layer, in the order of those tasks.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from mitmproxy.exceptions import AddonHalt

from vmgw_addons._mitmproxy import AddonManager, Hook, Master, traverse

logger = logging.getLogger(__name__)

Handler = Callable[..., Any]


class DirectAddonManager(AddonManager):
    """Looks up once which addons have a hook, instead of at every event."""

    def __init__(self, master: Master) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]
        self.handlers: dict[str, tuple[list[Handler], list[str]]] = {}
        """What to call on a hook, and which of its attributes are the arguments."""
        self.begun: dict[Hook, Awaitable[None]] = {}
        """What is left to do for a hook whose addons have something to await."""

    def register(self, addon: object) -> object:
        self.handlers.clear()
        return super().register(addon)  # type: ignore[no-untyped-call]

    def call(self, event: Hook) -> bool:
        """Call the addons. Return False if one must be awaited: then ``handle_lifecycle`` does the rest."""
        if event in self.begun:
            return False
        rest = self.begin(event)
        if rest is None:
            return True
        self.begun[event] = rest
        return False

    async def handle_lifecycle(self, event: Hook) -> None:
        rest = self.begun.pop(event, None) or self.begin(event)
        if rest is not None:
            await rest

    def begin(self, event: Hook) -> Awaitable[None] | None:
        """Call the addons up to the first that must be awaited. Return what is left to do, or None."""
        known = self.handlers.get(event.name)
        if known is None:
            found = (getattr(addon, event.name, None) for addon in traverse(self.chain))
            handlers = [handler for handler in found if callable(handler)]
            known = self.handlers[event.name] = handlers, [field.name for field in fields(event)]  # type: ignore[arg-type]
        handlers, names = known
        return self.go_on(event, iter(handlers), [getattr(event, name) for name in names])

    def go_on(self, event: Hook, handlers: Iterator[Handler], arguments: Sequence[object]) -> Awaitable[None] | None:
        """Call the remaining ``handlers`` up to the first that must be awaited."""
        for handler in handlers:
            try:
                result = handler(*arguments)
            except AddonHalt:
                return None
            except Exception:
                logger.exception(f"an addon failed in {event.name}")
                continue
            if result is not None and inspect.isawaitable(result):
                return self.wait(result, event, handlers, arguments)
        return None

    async def wait(
        self, result: Awaitable[object], event: Hook, handlers: Iterator[Handler], arguments: Sequence[object]
    ) -> None:
        """Await a handler, and call the remaining ones."""
        try:
            await result
        except AddonHalt:
            return
        except Exception:
            logger.exception(f"an addon failed in {event.name}")
        rest = self.go_on(event, handlers, arguments)
        if rest is not None:
            await rest
