"""The ``vmgateway`` command and its sub-commands.

Modules are loaded when they are needed.
"""

from __future__ import annotations

import sys

from vmgw_addons.installation import InstallationError, import_checked

__all__ = ["start"]


def start() -> int:
    """Run the command. Returns the exit code, which is 2 if this installation cannot run it."""
    try:
        main = import_checked("vmgw_addons.cli.main").main
    except InstallationError as error:
        print(f"vmgateway: {error}", file=sys.stderr)
        return 2
    return int(main())
