"""The ``vmgateway`` command and its sub-commands.

Modules are loaded when they are needed.
"""

from __future__ import annotations

import os
import sys

from vmgw_addons.installation import InstallationError, import_checked

__all__ = ["start"]


def start() -> int:
    """Run the command. Returns the exit code, which is 2 if this installation cannot run it."""
    try:
        commands = import_checked("vmgw_addons.cli.commands")
        if sys.argv[1:2] and sys.argv[1] in commands.COMMANDS:
            return int(commands.run_command(sys.argv[1], sys.argv[2:], os.environ))
        main = import_checked("vmgw_addons.cli.main").main
    except InstallationError as error:
        print(f"vmgateway: {error}", file=sys.stderr)
        return 2
    return int(main())
