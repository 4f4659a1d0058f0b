"""The ``vmgateway`` command and its sub-commands.

Modules are loaded when they are needed.
"""

from __future__ import annotations

import sys

from vmgw_core.errors import ConfigurationError

__all__ = ["start"]


def start() -> int:
    """Run the command. Returns the exit code, which is 2 if mitmproxy is not supported."""
    try:
        from .main import main
    except ConfigurationError as error:
        print(f"vmgateway: {error}", file=sys.stderr)
        return 2
    return main()
