"""Starting and stopping a program, and the gateway.

Each process runs in a group of its own, listens on loopback, keeps its data and its log in a temporary directory,
and is stopped with SIGTERM; what is then left of its group is killed. A process that does not become ready, or that
ends before it should, fails the test with the end of its log.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Self, TypeVar

from mitmproxy.certs import CertStore
from prometheus_client.parser import text_string_to_metric_families

import vmgw_addons
from tests.support.wire import preloaded
from tests.support.wire.client import Client
from tests.support.wire.waiting import HANGS, eventually

T = TypeVar("T")

REPOSITORY: Final = Path(__file__).resolve().parents[3]

LOG_TAIL: Final = 6000
"""Characters of a log shown when a test fails."""

Program = Literal["vmgateway", "mitmdump"]


def free_port() -> int:
    """A port that nobody listens on, from below the range that outgoing connections are given.

    A port that the system picks is from that range: while a server on it is being restarted, any client on the
    machine, even the one that tries to reach it, could be given the same number. No port is given twice, nor to two of
    the processes that a run of the tests is spread over: it need not be taken at once.
    """
    with _free_ports_lock:
        for port in _free_ports():
            with socket.socket() as sock, contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no free port")


_free_ports_lock = threading.Lock()


@functools.cache
def _free_ports() -> Iterator[int]:
    end = 32768
    with contextlib.suppress(OSError):
        first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        end = first_ephemeral if first_ephemeral > 20000 else end
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(10000 + worker, end, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
    random.SystemRandom().shuffle(ports)
    return itertools.cycle(ports)


CLUSTER_PROGRAMS: Final = ("vminsert", "vmselect", "vmstorage")


def program_path(name: str) -> str | None:
    """The path of a server's program, or None if it is not installed.

    The environment wins over PATH: ``VICTORIA_METRICS`` is the path of victoria-metrics, and ``VM_CLUSTER`` a folder
    with vminsert, vmselect and vmstorage, and perhaps vmalert, vmagent and vmauth.
    """
    if named := os.environ.get(name.upper().replace("-", "_")):
        return named
    folder = os.environ.get("VM_CLUSTER")
    if folder and name != "victoria-metrics" and (found := shutil.which(name, path=folder)):
        return found
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def find_program(name: str) -> str:
    """The path of a server's program. Fails the test if it is not installed."""
    found = program_path(name)
    assert found, f"{name} is not installed; scripts/test installs what the tests need"
    return found


def start_program(
    command: list[str], *, env: Mapping[str, str], cwd: Path, stdout: IO[bytes], stderr: IO[bytes]
) -> subprocess.Popen[bytes] | preloaded.Forked:
    """Start a program in a session of its own; a console script of this environment with its modules loaded."""
    if preloaded.can_start(command):
        return preloaded.start(command, env=env, cwd=cwd, stdout=stdout, stderr=stderr)
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=cwd, env=env, start_new_session=True
    )


def end_group(program: subprocess.Popen[bytes] | preloaded.Forked) -> None:
    """Kill a program that ``start_program`` has started, and what is left of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()


class Process(ABC):
    """One program. A subclass sets what its command line needs, then calls this constructor, which starts it."""

    name = "process"

    def __init__(self, *, env: Mapping[str, str] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"vmgw-{self.name}-"))
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._popen: subprocess.Popen[bytes] | preloaded.Forked | None = None
        try:
            self.start()
        except BaseException:
            self.kill()
            shutil.rmtree(self.directory)
            raise

    @abstractmethod
    def command(self) -> list[str]:
        """The command line. Runs in ``directory``."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves. An OSError counts as no."""

    def check_end(self) -> None:
        """What must be true once it has ended on SIGTERM. A subclass may ask for more."""
        assert self.exit_code == 0, f"{self.name} ended with exit code {self.exit_code}{self._tail()}"

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, or start it again with the data it had, and wait until it is ready."""
        with (self.directory / "log").open("ab") as log:
            self._popen = start_program(self.command(), env=self._env, cwd=self.directory, stdout=log, stderr=log)
        self.wait_until(self.is_ready, what="is ready")

    def signal(self, number: signal.Signals) -> None:
        """To the process itself, not to its group: as a supervisor would."""
        self._process.send_signal(number)

    def wait(self, *, within: float = HANGS) -> int:
        """Wait until it has ended; its exit code."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {within} s{self._tail()}") from None

    def stop(self) -> None:
        """End it in order. Does nothing when it has been stopped or killed before."""
        if self._popen is not None:
            try:
                self.signal(signal.SIGTERM)
                self.wait()
                self.check_end()
            finally:
                self.kill()

    def kill(self) -> None:
        """End it and its group at once, as a crash would."""
        if self._popen is not None:
            end_group(self._popen)
            self._popen = None

    def close(self) -> None:
        """Stop it for good: its directory is removed."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- looking at it ----------------------------------------------------------------------------------------------

    @property
    def _process(self) -> subprocess.Popen[bytes] | preloaded.Forked:
        assert self._popen is not None, f"{self.name} is not running"
        return self._popen

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def rss(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def fds(self) -> int:
        """Open file descriptors, sockets among them."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def log(self) -> str:
        """What it has written so far, stdout and stderr together, over all its starts.

        The gateway's lines are written by a thread: ``wait_for_log`` for what must be there.
        """
        return (self.directory / "log").read_text(errors="replace")

    def wait_for_log(self, pattern: str, *, behind: int = 0) -> re.Match[str]:
        """Wait until the log has ``pattern`` behind its first ``behind`` characters."""
        found = self.wait_until(lambda: re.compile(pattern).search(self.log(), behind), what=f"logs {pattern!r}")
        assert found is not None
        return found

    def wait_until(self, predicate: Callable[[], T], *, within: float = HANGS, what: str) -> T:
        """``eventually``, that ends at once when the process does, and shows its log when it fails."""

        def look() -> T:
            code = self.exit_code
            if code is not None:
                raise AssertionError(f"{self.name} ended with exit code {code}")
            return predicate()

        try:
            return eventually(look, within=within, what=f"{self.name} {what}")
        except AssertionError as error:
            raise AssertionError(f"{error}{self._tail()}") from None

    def _tail(self) -> str:
        return f"\n--- {' '.join(self.command())}\n--- end of its log:\n{self.log()[-LOG_TAIL:]}"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- the gateway ----------------------------------------------------------------------------------------------------


def vmgateway_command() -> list[str]:
    """The launcher of this environment: its console script where that is installed, else its module."""
    script = Path(sys.executable).parent / "vmgateway"
    return [str(script)] if script.exists() else [sys.executable, "-m", "vmgw_addons.cli"]


def run_vmgateway(*flags: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``vmgateway`` until it ends by itself: ``-version``, ``-help``, ``-dryRun``, and starts that fail."""
    command = [*vmgateway_command(), *flags]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        program = start_program(command, env={**os.environ, **(env or {})}, cwd=Path.cwd(), stdout=out, stderr=err)
        try:
            code = program.wait(HANGS)
        finally:
            end_group(program)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read().decode(), err.read().decode())


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a sub-command of ``vmgateway``, or a dry run, in this process, which saves the seconds of its start."""
    from vmgw_addons.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments, {})
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def mitmproxy_option(flag: str) -> str:
    """The mitmproxy option of a flag: ``auth.publicKeyFiles`` is ``vmgw_auth_public_key_files``."""
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", flag.replace(".", "_"))
    return "vmgw_" + re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words).lower()


@functools.cache
def _certificate_authority() -> bytes:
    """What mitmproxy would make for each new ``confdir``: to make a key takes long."""
    with tempfile.TemporaryDirectory() as directory:
        CertStore.create_store(Path(directory), "mitmproxy", 2048)
        return (Path(directory) / "mitmproxy-ca.pem").read_bytes()


def mitmproxy_command(program: str, confdir: Path) -> list[str]:
    """The beginning of the command line of one of mitmproxy's programs, with the gateway in it."""
    (confdir / "mitmproxy-ca.pem").write_bytes(_certificate_authority())
    script = str(Path(vmgw_addons.__file__).parent / "vmgateway.py")  # the compiled one, where that is tested
    return [str(Path(sys.executable).parent / program), "--set", f"confdir={confdir}", "-s", script]


def auth_flags(url: str, key_file: Path) -> list[str]:
    """The flags of most tests: tokens are verified with ``key_file``, reads and writes go to ``url``."""
    return ["-enable.auth", f"-read.url={url}", f"-write.url={url}", f"-auth.publicKeyFiles={key_file}"]


class Gateway(Process):
    """The product, launched as ``vmgateway`` or as ``mitmdump -s addons/vmgateway.py``: same flags, same behaviour.

    ``flags`` are written ``-name`` or ``-name=value``. Stopping it asserts exit code 0 and a log without tracebacks.
    """

    name = "gateway"

    def __init__(
        self,
        *flags: str,
        program: Program = "vmgateway",
        port: int = 0,
        env: Mapping[str, str] | None = None,
        scripts: Sequence[Path] = (),
    ) -> None:
        self.scripts = scripts
        self.port = port or free_port()
        self.program = program
        self.flags = (f"-httpListenAddr=127.0.0.1:{self.port}", *flags)
        super().__init__(env=env)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        if self.program == "vmgateway":
            return [*vmgateway_command(), *self.flags]
        command = mitmproxy_command("mitmdump", self.directory)
        for script in self.scripts:
            command += ["-s", str(script)]
        for flag in self.flags:
            name, given, value = flag.lstrip("-").partition("=")
            command += ["--set", f"{mitmproxy_option(name)}={value if given else 'true'}"]
        return command

    def is_ready(self) -> bool:
        return Client(self.port).get("/health").status == 200

    def check_end(self) -> None:
        super().check_end()
        log = self.log()
        assert "Traceback" not in log, f"a traceback in the log of {self.program}{self._tail()}"
        assert "has crashed" not in log, f"a crash in the log of {self.program}{self._tail()}"

    def client(self, token: str | None = None) -> Client:
        return Client(self.port, token=token)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of its metric's samples that carry these labels; 0 when there are none."""
        families = text_string_to_metric_families(self.client().get("/metrics").text)
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def curl(line: str, gateway: Gateway) -> tuple[int, str]:
    """Run a curl line of the specification against ``gateway``; the status and the body."""
    program, *arguments = shlex.split(line.replace(":8431", f":{gateway.port}"))
    assert program == "curl"
    command = [find_program("curl"), "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}"]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=HANGS, check=True)
    body, _, status = result.stdout.rpartition("\n")
    return int(status), body
