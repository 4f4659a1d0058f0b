"""The choice of the lane: the fast lane has no flows, so it carries requests only if nobody needs any."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from vmgw_addons._mitmproxy import Master, all_hooks, traverse
from vmgw_core.base import printable

from .mitmproxy_options import option_that_needs_flows

_LIFECYCLE: Final = frozenset(("load", "configure", "running", "done", "add_log"))
_MITMPROXYS: Final = "mitmproxy."
_OURS: Final = "vmgw_addons."


def why_flows(master: Master) -> str | None:
    """Return the reason why the flow lane is needed, or None."""
    program = type(master).__name__
    if program in ("ConsoleMaster", "WebMaster"):
        return "mitmproxy and mitmweb show flows"
    return option_that_needs_flows(master.options) or _other_addon(master)


def _other_addon(master: Master) -> str | None:
    """Return the name of an addon that is neither mitmproxy's nor ours and has a hook for requests or connections.

    One of mitmproxy's own that a script loads is the user's: mitmproxy would not have loaded it.
    """
    scripts = {id(addon) for addon in traverse([master.addons.get("scriptloader")])}
    for addon in traverse(master.addons.chain):
        name = addon.__name__ if isinstance(addon, ModuleType) else f"{type(addon).__module__}.{type(addon).__name__}"
        if name.startswith(_OURS) or (name.startswith(_MITMPROXYS) and id(addon) not in scripts):
            continue
        for hook in sorted(all_hooks.keys() - _LIFECYCLE):
            if callable(getattr(addon, hook, None)):
                return f"the addon {printable(name.removeprefix('__mitmproxy_script__.'), 60)} has the hook {hook}"
    return None
