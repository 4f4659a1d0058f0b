"""An installation that is incomplete, or mixed from two, is refused in one line by every entry point."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wire.processes import REPOSITORY, free_port
from tests.support.wire.waiting import HANGS

START = "import sys; from vmgw_addons.cli import start; sys.argv[1:] = {arguments!r}; sys.exit(start())"
BLOCK = "import sys; sys.modules[{library!r}] = None\n"
SCRIPT = REPOSITORY / "addons" / "vmgateway.py"


def run(*command: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        command, capture_output=True, text=True, timeout=HANGS, check=False, env=environment, cwd=cwd or "/"
    )


def mitmdump(directory: Path, *scripts: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "mitmdump")
    command = [program, "--set", f"confdir={directory}", "--listen-port", str(free_port())]
    for script in scripts:
        command += ["-s", str(script)]
    return run(*command, path=path)


def copy(folder: str, target: Path) -> None:
    shutil.copytree(REPOSITORY / folder, target, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.parametrize("library", ["multipart", "authlib", "uvloop", "google.protobuf"])
def test_the_command_says_which_library_is_missing(library: str) -> None:
    code = BLOCK.format(library=library) + START.format(arguments=["-version"])
    ended = run(sys.executable, "-c", code)
    name = library.partition(".")[0]
    assert ended.stderr == (
        f'vmgateway: the Python library "{name}" is missing: install vmgateway with all that it needs '
        f"(pip install {REPOSITORY})\n"
    )
    assert (ended.returncode, ended.stdout) == (2, "")


@pytest.mark.parametrize("command", ["explain", "token"])
def test_a_sub_command_says_so_too(command: str) -> None:
    ended = run(sys.executable, "-c", BLOCK.format(library="joserfc") + START.format(arguments=[command, "--help"]))
    assert ended.returncode == 2
    assert ended.stderr.startswith('vmgateway: the Python library "joserfc" is missing: ')


def test_mitmdump_says_which_library_is_missing(tmp_path: Path) -> None:
    block = tmp_path / "block.py"
    block.write_text(BLOCK.format(library="multipart"))
    ended = mitmdump(tmp_path, block, SCRIPT)
    said = ended.stdout + ended.stderr
    assert 'vmgateway: the Python library "multipart" is missing: install vmgateway' in said
    assert "Traceback" not in said
    assert ended.returncode == 2


def test_the_addons_of_a_checkout_do_not_run_on_another_core(tmp_path: Path) -> None:
    site = tmp_path / "site"
    copy("vmgw_core", site / "vmgw_core")
    copy("addons", site / "vmgw_addons")
    ended = mitmdump(tmp_path, SCRIPT, path=site)
    said = ended.stdout + ended.stderr
    assert f"vmgateway: the addons in {REPOSITORY / 'addons'} do not belong to the core" in said
    assert f"that is installed in {site / 'vmgw_core'}" in said
    assert "Traceback" not in said
    assert ended.returncode == 2


def test_the_addons_that_are_installed_run_on_their_own_core(tmp_path: Path) -> None:
    site = tmp_path / "site"
    copy("vmgw_core", site / "vmgw_core")
    copy("addons", site / "vmgw_addons")
    ended = run(sys.executable, "-m", "vmgw_addons.cli", "-version", path=site)
    assert (ended.returncode, ended.stderr) == (0, "")
    said = run(
        sys.executable,
        "-c",
        "import vmgw_core, vmgw_addons; print(vmgw_core.__file__, vmgw_addons.__file__)",
        path=site,
    )
    assert said.stdout.count(str(site)) == 2


def test_the_command_does_not_run_on_another_core(tmp_path: Path) -> None:
    """Such as one in the current directory, which ``python -m`` looks in first."""
    copy("vmgw_core", tmp_path / "vmgw_core")
    ended = run(sys.executable, "-m", "vmgw_addons.cli", "-version", cwd=tmp_path)
    assert f"do not belong to the core that is installed in {tmp_path / 'vmgw_core'}" in ended.stderr
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
