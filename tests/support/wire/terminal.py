"""mitmproxy with the gateway in it, in a terminal that tmux drives as a user would."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.wire.client import Client
from tests.support.wire.processes import find_program, free_port, mitmproxy_command, mitmproxy_option
from tests.support.wire.waiting import eventually


class Terminal:
    """``mitmproxy -s addons/vmgateway.py`` in a terminal of 130 columns and 38 lines, with a tmux server of its own."""

    def __init__(self, *flags: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vmgw-terminal-"))
        self.port = free_port()
        command = mitmproxy_command("mitmproxy", self.directory)
        for flag in (f"-httpListenAddr=127.0.0.1:{self.port}", *flags):
            name, given, value = flag.lstrip("-").partition("=")
            command += ["--set", f"{mitmproxy_option(name)}={value if given else 'true'}"]
        self.command = f"{shlex.join(command)} 2>{self.directory}/errors"
        self.pid = 0

    def __enter__(self) -> Self:
        self.tmux("-f", os.devnull, "new-session", "-d", "-x", "130", "-y", "38", f"exec {self.command}")
        try:
            self.pid = int(self.tmux("display-message", "-p", "#{pane_pid}"))
            eventually(self.is_ready, what="mitmproxy serves")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the terminal, as by closing its window; mitmproxy has to end with it."""
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)
        eventually(lambda: not Path(f"/proc/{self.pid}").exists(), what="mitmproxy ends with its terminal")
        shutil.rmtree(self.directory)

    def is_ready(self) -> bool:
        return Client(self.port).get("/health").status == 200

    @property
    def _tmux(self) -> list[str]:
        return [find_program("tmux"), "-S", str(self.directory / "socket")]

    def tmux(self, *arguments: str) -> str:
        """Run a command of tmux; what it prints."""
        environ = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        ran = subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, encoding="utf-8", env=environ)
        return ran.stdout

    def press(self, *keys: str) -> None:
        """Press keys, by the names that tmux has for them; a text is typed."""
        self.tmux("send-keys", *keys)

    def see(self, *texts: str, but: str | None = None) -> str:
        """Wait until the screen shows all of ``texts``, and not ``but``; the screen then."""
        shown: list[str] = []

        def look() -> bool:
            shown[:] = [self.tmux("capture-pane", "-p")]
            return all(text in shown[0] for text in texts) and (but is None or but not in shown[0])

        try:
            eventually(look, what=f"the screen shows {texts}")
        except AssertionError:
            raise AssertionError(f"the screen does not show {texts}:\n{shown[0] if shown else ''}") from None
        return shown[0]
