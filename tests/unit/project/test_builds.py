"""The compiled build gives the verdicts of the sources. It is tested where it is installed: see scripts/test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vmgw_core
from tests.support.core import verdicts
from vmgw_core.enforcement import cycle

REPOSITORY = Path(__file__).parents[3]


def test_the_build_says_what_it_is() -> None:
    sources = str(cycle.__file__).endswith(".py")
    assert ("pure Python" if sources else "compiled") == vmgw_core.BUILD
    # Where a compiled build is to be tested, the sources must not be what is imported.
    assert sources != bool(os.environ.get("TEST_COMPILED"))


def test_random_requests_get_verdicts_of_many_kinds() -> None:
    """So that the comparison below compares something."""
    found = [verdicts.verdict(*each) for each in verdicts.requests(1, 2000)]
    assert {text[:3] for text in found} >= {"400", "401", "403", "404", "405", "GET", "POS"}
    assert sum(not text[:3].isdigit() for text in found) > 200


@pytest.mark.skipif(vmgw_core.BUILD != "compiled", reason="this build is the sources")
def test_the_compiled_build_agrees_with_the_sources() -> None:
    def printed(first: str, last: str) -> str:
        """What a process prints that looks for modules in ``first``, and for tests in ``last``."""
        script = (
            f"import runpy, sys; sys.path.insert(0, {first!r}); sys.path.append({last!r}); "
            "runpy.run_module('tests.support.core.verdicts', run_name='__main__')"
        )
        command = [sys.executable, "-c", script, "7", "30000"]
        return subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stdout

    installed = str(Path(vmgw_core.__file__).parents[1])
    compiled, sources = printed(installed, str(REPOSITORY)), printed(str(REPOSITORY), installed)
    assert compiled.count("\n") == 30_000
    assert compiled == sources
