"""The sub-commands of ``vmgateway``. Each loads what it needs: to load the gateway takes most of a second."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from vmgw_addons.installation import import_checked
from vmgw_core.errors import ConfigurationError

COMMANDS: Final = {
    "credentials": "Make API keys, and hashes of passwords.",
    "explain": "Explain what the gateway would do with a request, and why.",
    "policy": "Test what an access policy grants to the claims of a token.",
    "replay": "Replay captured requests: what would another policy change?",
    "token": "Make, decode and verify tokens for development.",
    "usage": "Show who used what, by hour, day or month.",
}
_MODULES: Final = {"policy": "policy_command"}
"""The module of a sub-command that has not the same name."""


def run_command(name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a sub-command. Returns its exit code. Raises ``InstallationError``."""
    module = import_checked(f"vmgw_addons.cli.{_MODULES.get(name, name)}")
    try:
        code = int(module.main(arguments, environ))
        sys.stdout.flush()
        return code
    except ConfigurationError as error:
        print(f"vmgateway {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the output has exited, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
