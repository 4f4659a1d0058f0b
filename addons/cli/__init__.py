"""The ``vmgateway`` command and its sub-commands.

``main`` loads a sub-command when it is asked for, so this package imports nothing by itself.
"""

from __future__ import annotations

import sys

from vmgw_core.errors import ConfigurationError

__all__ = ["start"]


def start() -> int:
    """Run the command, or say in one line that it cannot run on this mitmproxy. Returns the exit code."""
    try:
        from .main import main
    except ConfigurationError as error:
        print(f"vmgateway: {error}", file=sys.stderr)
        return 2
    return main()
