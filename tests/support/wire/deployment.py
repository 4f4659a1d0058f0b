"""The examples of deployment/, and running the programs that read them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.support.wire.processes import REPOSITORY
from tests.support.wire.waiting import HANGS

DEPLOYMENT: Final = REPOSITORY / "deployment"
TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
"""The kinds of temporary files whose directories nginx must be told of."""


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a program that must end well; what it printed."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False, cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr
