"""The order of addons: whatever other people's do, the gateway's see each hook, and its seals are last."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from mitmproxy.exceptions import AddonHalt
from mitmproxy.http import HTTPFlow

from vmgw_addons._mitmproxy import AddonManager, Hook


class AddonOrder:
    """Calls addons as mitmproxy does, but for two things.

    - An addon that fails, or ends a hook with ``AddonHalt``, keeps the addons behind it from the hook, but not the
      gateway's.
    - The ``seals`` come after all addons, those too that are added while the program runs.

    Args:
        failed: called with the flow if an addon has failed in the hook ``requestheaders``.
    """

    def __init__(self, manager: AddonManager, seals: Sequence[object], failed: Callable[[HTTPFlow], None]) -> None:
        self.manager = manager
        self.seals = seals
        self.failed = failed
        self.trigger = manager.trigger_event
        manager.invoke_addon = self.invoke  # type: ignore[method-assign]
        manager.trigger_event = self.trigger_sealed  # type: ignore[method-assign]

    async def invoke(self, addon: object, event: Hook) -> None:
        """Call ``addon`` and those that it has loaded. Raises the first error once the gateway's have been called."""
        failure: Exception | None = None
        for each, hook in self.manager._iter_hooks(addon, event):
            ours = type(each).__module__.startswith("vmgw_addons.")
            if failure is not None and not ours:
                continue
            try:
                result = hook(*event.args())
                if result is not None and inspect.isawaitable(result):
                    await result
            except Exception as error:
                if ours:
                    raise
                failure = error
                if event.name == "requestheaders" and not isinstance(error, AddonHalt):
                    self.failed(*event.args())
        if failure is not None:
            raise failure

    async def trigger_sealed(self, event: Hook) -> None:
        """Call all addons, then the seals."""
        await self.trigger(event)
        for seal in self.seals:
            hook = getattr(seal, event.name, None)
            if hook is not None:
                hook(*event.args())
