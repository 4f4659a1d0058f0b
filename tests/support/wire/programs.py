"""mitmproxy's programs with the gateway in them, started with mitmproxy's own arguments."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import termios
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import vmgw_addons
from tests.support.wire.preloaded import Forked
from tests.support.wire.processes import (
    Gateway,
    Process,
    end_group,
    free_port,
    mitmproxy_command,
    start_program,
)
from tests.support.wire.waiting import HANGS

SCRIPT = str(Path(vmgw_addons.__file__).parent / "vmgateway.py")


def options(**given: object) -> list[str]:
    """``enable_auth=True`` as ``--set vmgw_enable_auth=true``."""
    return [
        part
        for name, value in given.items()
        for part in ("--set", f"vmgw_{name}={str(value).lower() if isinstance(value, bool) else value}")
    ]


class Mitmdump(Gateway):
    """``mitmdump -s addons/vmgateway.py`` with mitmproxy's own arguments.

    Args:
        before: scripts that are loaded before the gateway.
        after: scripts that are loaded after it.
        config: the content of ``config.yaml``.
        port: the one that ``arguments`` lead to.
    """

    name = "mitmdump"

    def __init__(
        self, *arguments: str, port: int, before: Sequence[Path] = (), after: Sequence[Path] = (), config: str = ""
    ) -> None:
        self.arguments, self.before, self.after, self.config = arguments, before, after, config
        self.port = port
        self.program = "mitmdump"
        self.flags = ()
        Process.__init__(self)

    def command(self) -> list[str]:
        (self.directory / "config.yaml").write_text(self.config)
        scripts = [str(script) for script in self.before] + [SCRIPT] + [str(script) for script in self.after]
        command = mitmproxy_command(self.program, self.directory)[:-2]
        return [*command, *(part for script in scripts for part in ("-s", script)), *self.arguments]


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended by itself."""

    code: int
    lines: list[str]
    """Those of standard error and output that are the gateway's or tell of errors."""


def run_until_end(program: str, *arguments: str, directory: Path, config: str = "") -> Ended:
    """Run one of mitmproxy's programs, in a terminal if it needs one, until it ends by itself."""
    (directory / "config.yaml").write_text(config)
    command = [*mitmproxy_command(program, directory), *arguments]
    if program == "mitmweb":
        command += ["--no-web-open-browser", "--web-port", str(free_port())]
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (38, 130))
    with contextlib.closing(os.fdopen(screen, "rb")), contextlib.closing(os.fdopen(terminal, "rb")):
        with (directory / "errors").open("wb") as errors:
            environ = {**os.environ, "TERM": "xterm-256color"}
            process: subprocess.Popen[bytes] | Forked
            if program == "mitmproxy":
                process = subprocess.Popen(
                    command, stdin=terminal, stdout=terminal, stderr=errors, env=environ, start_new_session=True
                )
            else:
                process = start_program(command, env=environ, cwd=Path.cwd(), stdout=errors, stderr=errors)
        try:
            code = process.wait(HANGS)
        finally:
            end_group(process)
    text = (directory / "errors").read_text(errors="replace")
    return Ended(code, [line for line in text.splitlines() if "Loading script" not in line and line.strip()])


def opened(pid: int) -> list[int]:
    """The TCP ports that a process listens on."""
    links = (link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
    inodes = {str(link.readlink())[8:-1] for link in links if str(link.readlink()).startswith("socket:")}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes]
