"""The state file of the gateway (``-ratelimit.stateFile``): its tables, and its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from vmgw_addons.state import InForce
from vmgw_addons.support import StateFile
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

from . import counts_table, usage_table

TABLES: Final[tuple[str, ...]] = (usage_table.TABLE, counts_table.TABLE)
"""What makes the tables that are not there yet."""
_END: Final = 5.0  # seconds


def build_state_file(settings: Settings, old: StateFile | None = None) -> StateFile | None:
    """Return the file of ``-ratelimit.stateFile``, or None without one. ``old``: the one of the running gateway.

    Raises ``ConfigurationError``: the gateway runs with another file.
    """
    path = settings.ratelimit_state_file
    if old is None:
        return StateFile(path, TABLES) if path else None
    if old.path != path:
        raise ConfigurationError("-ratelimit.stateFile: it cannot change while the gateway runs")
    return old


class StateFileEnd:
    """Closes the state file, after all that write to it."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    async def done(self) -> None:
        file = self.in_force.configured.state_file
        if file is not None:
            with suppress(TimeoutError):  # a disk may hang
                await asyncio.wait_for(file.close(), _END)
