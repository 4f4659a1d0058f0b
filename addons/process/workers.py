"""Several processes on one port: the parent starts them, restarts dead ones, and forwards signals.

The parent serves nothing: it forks before there is an event loop or a thread. Workers share a directory, with counts
for limits and the sockets that /metrics uses.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vmgw_addons.state import Worker
from vmgw_core.errors import ConfigurationError

logger = logging.getLogger(__name__)

_QUICK: Final = 2.0
"""Seconds: a worker that fails that soon after its start would fail again."""
_PAUSE: Final = 1.0
"""Seconds before a worker that failed so is started again; each further failure doubles them."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds."""
_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


@contextmanager
def shared_directory(candidates: Sequence[str | None] = (None, "/dev/shm")) -> Iterator[Path]:  # noqa: S108
    """Make the directory that the workers share, and remove it at the end.

    None stands for the system's directory for temporary files (TMPDIR, /tmp). With a read-only root file system there
    may be none, but memory.

    Raises:
        ConfigurationError: none can be written to.
    """
    directory = _make(candidates)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _make(candidates: Sequence[str | None]) -> Path:
    for candidate in candidates:
        with suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="vmgateway-", dir=candidate))
    raise ConfigurationError("-workers needs a directory to write to: mount one at /tmp, or name one in TMPDIR")


class Supervisor:
    """Keeps ``count`` workers running. Each calls ``work``, and exits with the code that returns."""

    def __init__(self, count: int, work: Callable[[Worker], int], directory: Path) -> None:
        self.count = count
        self.work = work
        self.pid = os.getpid()
        self.directory = directory
        self.slots: dict[int, int] = {}
        self.started: dict[int, float] = {}
        self.due: dict[int, float] = {}
        """When to restart the worker of a slot."""
        self.quick: Counter[int] = Counter()
        """How often in a row the worker of a slot has failed at its start."""
        self.stopping = False
        self.code = 0

    def run(self) -> int:
        """Run until a signal has ended all workers. Returns the exit code: 0 if theirs are 0."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for slot in range(self.count):
            self.start(slot)
        while self.slots or self.due:
            self.wait()
        return self.code

    def start(self, slot: int) -> None:
        """Fork the worker of ``slot``."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS - {signal.SIGHUP})  # which waits for its handler
                code = self.work(Worker(parent=self.pid, slot=slot, count=self.count, directory=self.directory))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)  # skip the parent's clean-up
        self.slots[pid] = slot
        self.started[slot] = time.monotonic()

    def wait(self) -> None:
        """Wait for a signal, or until a worker is due for a restart, and act on it."""
        pause = min(self.due.values(), default=time.monotonic() + 60) - time.monotonic()
        received = signal.sigtimedwait(_SIGNALS, max(0.0, pause))
        number = None if received is None else received.si_signo
        if number in (signal.SIGTERM, signal.SIGINT):
            self.stopping = True
            self.due.clear()
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.send(signal.SIGTERM if self.stopping else signal.SIGHUP)
        if number == signal.SIGHUP:  # the file that kept a worker from starting may be good now
            self.due = dict.fromkeys(self.due, 0.0)
        self.reap()
        for slot, moment in list(self.due.items()):
            if moment <= time.monotonic():
                del self.due[slot]
                self.start(slot)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to every worker."""
        for pid in self.slots:
            os.kill(pid, number)

    def reap(self) -> None:
        """Collect ended workers, and schedule their restart, or give up."""
        while self.slots:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            slot, code = self.slots.pop(pid), os.waitstatus_to_exitcode(status)
            if self.stopping:
                if code != -signal.SIGTERM:  # SIGTERM kills a worker that has not begun to serve
                    self.code = self.code or abs(code)
                continue
            age = time.monotonic() - self.started[slot]
            self.quick[slot] = self.quick[slot] + 1 if age < _QUICK else 0
            if code > 0 and self.quick[slot] and not self.is_serving:
                # It could not start (the port is in use, for example), so neither can the others.
                self.stopping, self.code = True, code
                self.due.clear()
                self.send(signal.SIGTERM)
                continue
            pause = min(_PAUSE * 2.0 ** (self.quick[slot] - 1), _LONGEST_PAUSE) if self.quick[slot] else 0.0
            logger.warning(f"worker {slot} exited with code {code}, restarting it in {pause:g} s")
            self.due[slot] = time.monotonic() + pause

    @property
    def is_serving(self) -> bool:
        """Whether a worker has started well: then one that cannot, such as for a bad file, does not end the others."""
        return any(time.monotonic() - self.started[slot] >= _QUICK for slot in self.slots.values())
