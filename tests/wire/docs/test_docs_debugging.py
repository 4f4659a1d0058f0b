"""Every example of docs/debugging.md, run as it stands there.

A block ``console`` is a session: lines behind ``$`` are run by bash, the others are what they print, where ``...``
stands for anything. ``sh NAME`` is a file of that name. ``sh tools`` starts programs, and ``commands`` are typed there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.interactive import MitmWeb
from tests.support.wire.processes import REPOSITORY
from tests.support.wire.terminal import Terminal
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import HANGS

PAGE = (REPOSITORY / "docs" / "debugging.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: ([\w.]+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(kind: str, name: str = "") -> list[str]:
    return [text for found, title, text in BLOCKS if (found, title) == (kind, name)]


def session(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a block with what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command = re.match(r"(?:.*\\\n)*.*\n", part)
        assert command is not None
        yield command[0], part[command.end() :]


def printed(commands: list[str], directory: Path) -> list[str]:
    """What each command prints. They run in one shell, and each sees the exit code of the one before."""
    script = "code=0\n" + "".join(f'(exit "$code")\n{command}code=$?; printf "\\0"\n' for command in commands)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash"], input=script.encode(), cwd=directory, env=env, capture_output=True, timeout=HANGS, check=False
    )
    assert ran.stderr == b""
    return ran.stdout.decode().split("\0")[:-1]


def pattern(expected: str) -> re.Pattern[str]:
    """``...`` is anything; an empty line at the end is of no matter."""
    return re.compile(".*".join(map(re.escape, expected.strip("\n").split("..."))), re.DOTALL)


def test_sessions(tmp_path: Path) -> None:
    (tmp_path / "request.sh").write_text(blocks("sh", "request.sh")[0])
    sessions = [pair for block in blocks("console") for pair in session(block)]
    assert len(sessions) > 10
    for (command, expected), output in zip(
        sessions, printed([command for command, _ in sessions], tmp_path), strict=True
    ):
        assert pattern(expected).fullmatch(output.strip("\n")), f"$ {command}{output}"
    assert (tmp_path / "private.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", blocks("sh", "tools")[0].splitlines())
def test_tools_start(line: str, upstream: RecordingUpstream) -> None:
    program, script, path, *options = shlex.split(line)
    assert (script, path) == ("-s", "addons/vmgateway.py")
    assert options == [
        "--set", "vmgw_enable_auth=true", "--set", "vmgw_read_url=http://localhost:8428",
    ]  # fmt: skip
    flags = ("-enable.auth", f"-read.url={upstream.url}")
    kind: type[Terminal] | type[MitmWeb] = MitmWeb if program == "mitmweb" else Terminal
    assert program in ("mitmproxy", "mitmweb")
    with kind(*flags) as tool:
        if isinstance(tool, MitmWeb):
            tool.client().get("/api/v1/query")
            for command in blocks("commands")[0].splitlines():
                colon, name, *arguments = command.split()
                assert colon == ":"
                # mitmweb has no focus until somebody clicks.
                tool.run(name, *(argument.replace("@focus", "@all") for argument in arguments))
        else:
            tool.see("/health")


def test_every_kind_of_block_is_run() -> None:
    assert {(kind, name) for kind, name, _ in BLOCKS} == {
        ("console", ""), ("sh", "request.sh"), ("sh", "tools"), ("commands", ""),
    }  # fmt: skip
    assert PAGE.count("```") == 2 * len(BLOCKS)


def test_images_are_there_and_small() -> None:
    images = [REPOSITORY / "docs" / name for name in re.findall(r"\]\((images/[\w-]+\.png)\)", PAGE)]
    assert images
    assert sum(image.stat().st_size for image in images) < 200_000
