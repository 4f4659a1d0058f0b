"""The chain as a whole: names, help, options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mitmproxy.addons
import pytest
from mitmproxy import version

from tests.support.wire.waiting import HANGS
from vmgw_addons import chain
from vmgw_addons.cli.main import addon_list
from vmgw_core.configuration.command_line import help_text
from vmgw_core.configuration.table import FLAGS, option_name

REPOSITORY = Path(__file__).parents[3]


def test_names_are_unique_among_mitmproxys_own() -> None:
    """mitmproxy names an addon after its class in lower case, and does not start with a name taken."""
    names = [type(addon).__name__.lower() for addon in chain.build()]
    assert len(set(names)) == len(names)
    assert not {type(addon).__name__.lower() for addon in mitmproxy.addons.default_addons()} & set(names)


def test_every_addon_has_a_line_in_the_help() -> None:
    text = " ".join(help_text(addon_list()).split())
    for addon in chain.build():
        assert f"{type(addon).__name__}" in text
        assert (type(addon).__doc__ or "").partition("\n")[0] in text


def test_every_flag_and_option_is_in_the_help() -> None:
    text = help_text(addon_list())
    for flag in FLAGS:
        assert f"-{flag.name}" in text
        assert option_name(flag) in text


@pytest.mark.skipif(int(version.VERSION.split(".")[0]) < 12, reason="mitmproxy 11 lists no options of scripts")
def test_every_flag_is_an_option_of_mitmdump(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "mitmdump"), "--options", "--set", f"confdir={tmp_path}"]
    command += ["-s", str(REPOSITORY / "addons" / "vmgateway.py")]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True)
    for flag in FLAGS:
        assert f"\n{option_name(flag)}:" in shown.stdout, shown.stderr


def test_what_few_need_is_not_loaded_at_the_start() -> None:
    script = "import sys, vmgw_addons.chain; print('redis' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANGS, check=True)
    assert shown.stdout == "False\n"
