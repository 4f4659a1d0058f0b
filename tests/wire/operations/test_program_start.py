"""What the programs load when they start, and a mitmproxy that they refuse to start with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mitmproxy.addons import default_addons
from mitmproxy.version import VERSION

from tests.support.wire.waiting import HANGS
from vmgw_addons import chain
from vmgw_core.configuration.table import FLAGS, option_name

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[3]
STARTS = {
    "vmgateway": "import sys; {broken}; from vmgw_addons.cli import start; "
    "sys.argv[1:] = ['-version']; sys.exit(start())",
    "mitmdump": "import sys; {broken}; from mitmproxy.tools.main import mitmdump; "
    f"sys.argv[1:] = ['-p0', '-s', {str(ROOT / 'addons' / 'vmgateway.py')!r}]; mitmdump()",
}
"""Programs that start the gateway after ``broken``."""
BROKEN = {
    "missing": (
        "from mitmproxy.proxy.layers.http import HttpStream; del HttpStream.state_wait_for_response_headers",
        "HttpStream.state_wait_for_response_headers is missing",
    ),
    "module": (
        "sys.modules['mitmproxy.proxy.layers.http._http2'] = None",
        "mitmproxy.proxy.layers.http._http2 is missing",
    ),
}


@pytest.mark.parametrize(
    ("program", "fault"), [("vmgateway", "missing"), ("vmgateway", "module"), ("mitmdump", "missing")]
)
def test_a_mitmproxy_that_lacks_something_is_refused_in_one_line(program: str, fault: str) -> None:
    broken, reason = BROKEN[fault]
    command = [sys.executable, "-c", STARTS[program].format(broken=broken)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False)
    said = ended.stdout + ended.stderr
    # mitmdump 11 may notice the logged error before the exit code, and ends with its own.
    assert ended.returncode in ((2,) if program == "vmgateway" else (1, 2)), said
    told = [line for line in said.splitlines() if "not supported" in line]
    assert len(told) == 1, said
    assert f"vmgateway: mitmproxy {VERSION} is not supported: {reason}; use 11.0.2 to 12.x" in told[0]
    assert "Traceback" not in said
    assert "listens on" not in said


@pytest.mark.skipif(int(VERSION.split(".")[0]) < 12, reason="mitmproxy 11 lists no options of scripts")
def test_every_flag_is_an_option_of_mitmdump(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "mitmdump"), "--options", "--set", f"confdir={tmp_path}"]
    command += ["-s", str(ROOT / "addons" / "vmgateway.py")]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True)
    for flag in FLAGS:
        assert f"\n{option_name(flag)}:" in shown.stdout, shown.stderr


def test_what_few_need_is_not_loaded_at_the_start() -> None:
    script = "import sys, vmgw_addons.chain; print('redis' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANGS, check=True)
    assert shown.stdout == "False\n"


def test_the_launcher_loads_the_addons_of_mitmproxy_that_it_uses() -> None:
    script = (
        "import sys, vmgw_addons.cli.main, mitmproxy.addons as package; print('flask' in sys.modules)\n"
        "print('save' in vars(package), hasattr(package, 'save'), hasattr(package, 'nothing'))\n"
        "print([type(addon).__name__ for addon in package.default_addons()])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANGS, check=True)
    names = [type(addon).__name__ for addon in default_addons()]
    assert shown.stdout == f"False\nFalse True False\n{names}\n"


@pytest.mark.parametrize("command", ["credentials", "policy", "token"])
def test_a_sub_command_does_not_load_the_gateway(command: str) -> None:
    script = (
        f"import sys; from vmgw_addons.cli import start; sys.argv[1:] = [{command!r}, '--help']; start(); "
        "print('mitmproxy' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANGS, check=True)
    assert f"Usage: vmgateway {command}" in shown.stdout
    assert shown.stdout.endswith("\nFalse\n")


def test_the_script_has_the_addons_of_the_chain() -> None:
    program = (
        "import runpy, sys; sys.path.append(sys.argv[2])\n"
        "found = runpy.run_path(sys.argv[1])['addons']\n"
        "print(*(type(addon).__name__ for addon in found))"
    )
    script = ROOT / "addons" / "vmgateway.py"
    command = [sys.executable, "-c", program, str(script), str(ROOT)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True)
    assert ran.stdout.split() == [type(addon).__name__ for addon in chain.build()]


def test_the_launcher_does_not_import_what_shows_flows() -> None:
    program = "import sys, vmgw_addons.cli.main; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "vmgw_addons.interactive.explanation" in ran.stdout.split()
    parts = ("content_views", "commands", "marks", "kept_bodies", "focus_line", "body_text", "refusal_lines")
    assert not {f"vmgw_addons.interactive.{part}" for part in parts} & set(ran.stdout.split())
