"""Starting the gateway in a process that has its modules loaded, which saves most of the second that a start takes.

A process without threads imports what the gateway imports, and forks for each start, as the gateway does for its
workers. The fork becomes what a new interpreter would be: a session of its own, the given environment and directory,
standard streams, nothing else open. There it runs the console script. At its end it waits for threads and runs what was
registered with atexit, as an interpreter does; it does not free the objects of all modules, which takes longer than to
start and to stop a gateway.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[3]

MODULES: Final = (
    "mitmproxy.tools.main", "mitmproxy.tools.dump", "vmgw_addons.cli.main", "vmgw_addons.chain",
    "vmgw_addons.cli.explain", "vmgw_addons.cli.replay", "vmgw_addons.cli.token",
)  # fmt: skip
"""With what they import, all that a start loads."""

_ORDER: Final = 1 << 17
"""Bytes of the longest order."""


class Forked:
    """A started program: what a Popen of it would offer."""

    def __init__(self, command: Sequence[str], reply: socket.socket) -> None:
        self.args = command
        self.returncode: int | None = None
        self._reply = reply
        self._lock = threading.Lock()
        self.pid = self._receive()

    def _receive(self) -> int:
        received = self._reply.recv(32)
        assert received, "the process with the modules has ended"
        return int(received)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        with self._lock:
            if self.returncode is None and select.select([self._reply], [], [], 0)[0]:
                self.returncode = os.waitstatus_to_exitcode(self._receive())
                self._reply.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises TimeoutExpired after ``timeout`` seconds."""
        if self.poll() is None:
            select.select([self._reply], [], [], timeout)
            if self.poll() is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """As Popen does: nothing, where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def can_start(command: Sequence[str]) -> bool:
    """Whether this is a console script of this environment. The process that forks would load the sources beside it."""
    return (
        "TEST_COMPILED" not in os.environ
        and Path(command[0]).parent == Path(sys.executable).parent
        and Path(command[0]) != Path(sys.executable)
    )


def start(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: IO[bytes], stderr: IO[bytes]) -> Forked:
    """Run a console script of this environment, with nothing on its standard input."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    order = json.dumps({"command": list(command), "env": dict(env), "cwd": str(cwd)}).encode()
    assert len(order) < _ORDER
    with theirs:
        socket.send_fds(_control(), [order], [stdout.fileno(), stderr.fileno(), theirs.fileno()])
    return Forked(command, mine)


_lock = threading.Lock()


def _control() -> socket.socket:
    with _lock:  # two threads at once would start two
        return _started()


@functools.cache
def _started() -> socket.socket:
    """The socket by which the process with the modules gets orders. It ends when this one does."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    atexit.register(mine.close)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _ORDER)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.wire.preloaded"],
            stdin=theirs.fileno(),
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        ).returncode = 0  # nobody waits for it
    return mine


# --- in the process with the modules ------------------------------------------------------------------------------


def _serve() -> tuple[dict[str, Any], list[int]] | None:
    """Take orders until there are no more; the order, in each fork that is to run a program."""
    control = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for forks
    while True:
        order, descriptors, _, _ = socket.recv_fds(control, _ORDER, 3)
        if not order:
            return None
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.close()
    pid = os.fork()
    if pid == 0:
        return json.loads(order), descriptors
    reply = socket.socket(fileno=descriptors[2])
    reply.send(str(pid).encode())
    reply.send(str(os.waitpid(pid, 0)[1]).encode())
    os._exit(0)


def _become(command: Sequence[str], env: Mapping[str, str], cwd: str, descriptors: Sequence[int]) -> None:
    """Be as a new interpreter that runs ``command``."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(descriptors[0], 1)
    os.dup2(descriptors[1], 2)
    os.closerange(3, max(int(entry.name) for entry in Path("/proc/self/fd").iterdir()) + 1)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[:] = command
    sys.path[0] = str(Path(command[0]).parent)


def _run() -> None:
    """Run the program to its end. What is not an ordinary exit is left to the interpreter."""
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main() -> None:
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # modules are nothing to collect, neither while a fork runs nor at its end
    taken = _serve()
    if taken is not None:
        order, descriptors = taken
        _become(**order, descriptors=descriptors)
        _run()


if __name__ == "__main__":
    _main()
