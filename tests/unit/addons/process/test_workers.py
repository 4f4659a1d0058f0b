"""The parent of several workers, in a process of its own: who is started again, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.wire.waiting import HANGS

PARENT = """
import json, os, signal, sys, time
from pathlib import Path
from vmgw_addons.process import workers
from vmgw_addons.process.workers import Supervisor, shared_directory
from vmgw_addons.state import Worker

workers._PAUSE = 0.1  # seconds before the next start

{works}

ends = {}
for work in (ends_well, fails_to_start, cannot_start_again, is_killed, ends_itself):
    seen = Path(sys.argv[1], work.__name__)
    seen.mkdir()
    # Seconds: a worker that ends sooner has failed to start. The one that fails so may take long on a busy machine.
    workers._QUICK = 60.0 if work is fails_to_start else 0.2

    def run(worker: Worker) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        return work(worker, seen)

    with shared_directory() as directory:
        code = Supervisor(2, run, directory).run()
    signal.sigtimedwait([signal.SIGTERM], 0)  # both workers may have sent one
    ends[work.__name__] = code, directory.exists(), sorted(path.name for path in seen.iterdir())
print(json.dumps(ends))
"""

WORKS = """
def wait() -> int:
    signal.sigwait([signal.SIGTERM])
    return 0

def ends_well(worker: Worker, seen: Path) -> int:
    (seen / str(worker.slot)).touch()
    if len(list(seen.iterdir())) == 2:
        os.kill(worker.parent, signal.SIGTERM)
    return wait()

def fails_to_start(worker: Worker, seen: Path) -> int:
    return 7 if worker.slot == 0 else wait()

def cannot_start_again(worker: Worker, seen: Path) -> int:
    if worker.slot != 0:
        return wait()
    starts = len(list(seen.iterdir()))
    (seen / str(starts)).touch()
    if starts == 0:
        time.sleep(0.3)
        return 3
    if starts == 1:
        os.kill(worker.parent, signal.SIGHUP)
        return 2
    os.kill(worker.parent, signal.SIGTERM)
    return wait()

def is_first(worker: Worker, seen: Path) -> bool:
    if worker.slot != 0:
        return False
    if (seen / "first").exists():
        (seen / "again").touch()
        os.kill(worker.parent, signal.SIGTERM)
        return False
    (seen / "first").touch()
    return True

def is_killed(worker: Worker, seen: Path) -> int:
    if is_first(worker, seen):
        os.kill(os.getpid(), signal.SIGKILL)
    return wait()

def ends_itself(worker: Worker, seen: Path) -> int:
    return 0 if is_first(worker, seen) else wait()
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """Of each parent: its exit code, whether the workers' directory is left, and the files that they made.

    One process is the parent of all, as its imports take longer than the rest.
    """
    command = [sys.executable, "-c", PARENT.replace("{works}", WORKS), str(tmp_path_factory.mktemp("workers"))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, list[object]] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(
    ("work", "end"),
    [
        pytest.param("ends_well", [0, False, ["0", "1"]], id="both end well on SIGTERM"),
        pytest.param("fails_to_start", [7, False, []], id="a start that fails ends all with its code"),
        pytest.param(
            "cannot_start_again", [0, False, ["0", "1", "2"]], id="one that fails later does not end the others"
        ),
        pytest.param("is_killed", [0, False, ["again", "first"]], id="a worker that is killed is started again"),
        pytest.param("ends_itself", [0, False, ["again", "first"]], id="a worker that ends is started again"),
    ],
)
def test_a_parent(ends: dict[str, list[object]], work: str, end: list[object]) -> None:
    assert ends[work] == end
