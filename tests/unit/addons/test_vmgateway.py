"""The script for ``mitmdump -s``, without the package installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.wire.waiting import HANGS
from vmgw_addons import chain

REPOSITORY = Path(__file__).parents[3]


def test_the_script_has_the_addons_of_the_chain() -> None:
    program = (
        "import runpy, sys; sys.path.append(sys.argv[2])\n"
        "found = runpy.run_path(sys.argv[1])['addons']\n"
        "print(*(type(addon).__name__ for addon in found))"
    )
    script = REPOSITORY / "addons" / "vmgateway.py"
    command = [sys.executable, "-c", program, str(script), str(REPOSITORY)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True)
    assert ran.stdout.split() == [type(addon).__name__ for addon in chain.build()]
