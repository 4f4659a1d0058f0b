"""The parts of a capture: its flags, its file, what streams by."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mitmproxy.test import tflow

from vmgw_addons.capture.file import CaptureFile
from vmgw_addons.capture.redaction import Tee, bounded, redact_flow
from vmgw_addons.cli.main import main
from vmgw_addons.state import CaptureStatus

FLAGS = ["-enable.auth", "-read.url=http://vm:8428", "-dryRun"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("-capture.file=/nowhere/flows.mitm", "-capture.file: /nowhere/flows.mitm cannot be written"),
        ("-capture.file=/dev/full", "-capture.file: /dev/full is not a regular file"),
        ("-capture.filter=~nonsense (", "-capture.filter: expected a mitmproxy filter expression"),
        ("-capture.sampleRate=0", "-capture.sampleRate: expected a number above 0 and up to 1"),
        ("-capture.sampleRate=1.1", "-capture.sampleRate: expected a number above 0 and up to 1"),
        ("-capture.maxFileSize=1", "flag -capture.maxFileSize: expected at least 1KiB"),
    ],
)
def test_flags_that_cannot_be_used(capsys: pytest.CaptureFixture[str], flag: str, message: str) -> None:
    assert main([*FLAGS, flag], {}) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_flags_that_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "flows.mitm"
    for flag in (f"-capture.file={file}", "-capture.filter=~u query", "-capture.sampleRate=0.5"):
        assert main([*FLAGS, f"-capture.file={file}", flag], {}) == 0
    assert not file.exists(), "a dry run writes nothing"
    file.touch()
    assert main([*FLAGS, f"-capture.file={file}"], {}) == 0


# --- the file --------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    status = CaptureStatus()
    file = CaptureFile(str(path), 1 << 20, status)
    file.write(b"3:abc,")
    with small_disk(8):
        file.write(b"3:abc,")
    file.write(b"3:abc,")
    assert status == CaptureStatus(flows=1, size=6, stopped="File too large")
    assert path.read_bytes() == b"3:abc,"


def test_two_processes_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files = [CaptureFile(str(path), 20, CaptureStatus()) for _ in range(2)]
    for file in (*files, *files):
        file.write(b"3:abc,")
    assert path.read_bytes() == b"3:abc," * 3
    assert [file.status.flows for file in files] == [2, 1]
    assert files[1].status.stopped == "the file has reached -capture.maxFileSize, 20 bytes"
    assert not files[0].status.stopped
    files[0].close()


def test_full_files_are_renamed_for_all_processes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files = [CaptureFile(str(path), 12, CaptureStatus(), keep=2) for _ in range(2)]
    for number in range(9):
        files[number % 2].write(b"1:%d," % number)
    assert path.read_bytes() == b"1:6,1:7,1:8,"
    assert (tmp_path / "file.1").read_bytes() == b"1:3,1:4,1:5,"
    assert (tmp_path / "file.2").read_bytes() == b"1:0,1:1,1:2,"
    files[0].write(b"1:9,")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "file.1", "file.2"], "the oldest is gone"
    files[0].write(b"10:abcdefghij,")
    assert "has reached -capture.maxFileSize" in files[0].status.stopped, "a flow that fits into no file"
    files[1].close()


def test_a_renamed_or_removed_file_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = CaptureFile(str(path), 1 << 20, CaptureStatus())
    file.write(b"1:a,")
    path.rename(tmp_path / "old")
    file.write(b"1:b,")
    assert ((tmp_path / "old").read_bytes(), path.read_bytes()) == (b"1:a,", b"1:b,")
    path.unlink()
    file.write(b"1:c,")
    assert path.read_bytes() == b"1:c,"
    path.unlink()
    path.mkdir()
    file.write(b"1:d,")
    assert file.status.stopped == "Is a directory"


@pytest.mark.parametrize("content", [b"x", b"3:ab", b"3:abc,4", b"3:abc,:", b"3:abc,,", b"0123456789012345:"])
def test_a_file_that_is_not_whole_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    file = CaptureFile(str(path), 1 << 20, CaptureStatus())
    assert "the last flow in it is incomplete" in file.status.stopped
    file.write(b"3:abc,")
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    assert CaptureFile(str(tmp_path / "no" / "file"), 1, CaptureStatus()).status.stopped == "No such file or directory"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert CaptureFile(str(fifo), 1, CaptureStatus()).status.stopped == "not a regular file"


# --- flows -----------------------------------------------------------------------------------------------------------


def test_a_tee_keeps_what_fits_and_passes_everything_on() -> None:
    tee = Tee(True, 5)
    assert [tee(b"abc"), tee(b"de"), tee(b"")] == [b"abc", b"de", b""]
    assert (bytes(tee.data), tee.whole) == (b"abcde", True)
    assert tee(b"f") == b"f"
    assert (bytes(tee.data), tee.whole) == (b"", False)
    assert tee(b"g") == b"g"
    assert bytes(tee.data) == b""
    assert Tee(lambda chunk: [chunk, chunk], 5)(b"a") == [b"a", b"a"]


def test_a_body_that_was_redacted_has_its_new_length() -> None:
    flow = tflow.tflow(resp=True)
    flow.request.content = b'{"password":"a long secret of somebody"}'
    flow.request.trailers = flow.request.headers
    flow.backup()
    redact_flow(flow, (b"authorization",))
    assert flow.request.content == b'{"password":"REDACTED"}'
    assert flow.request.headers["content-length"] == "23"
    assert not flow.request.trailers
    assert flow.get_state()["backup"] is None


def test_what_a_client_replay_restores_is_kept() -> None:
    flow = tflow.tflow()
    flow.is_replay = "request"
    flow.backup()
    redact_flow(flow, (b"authorization",))
    assert flow.get_state()["backup"] is not None


def test_bodies_in_a_state_are_bounded() -> None:
    state = bounded(tflow.tflow(resp=True).get_state(), 6)
    assert (state["request"]["content"], state["response"]["content"]) == (None, None)
    state = bounded(tflow.tflow(resp=True).get_state(), 7)
    assert (state["request"]["content"], state["response"]["content"]) == (b"content", b"message")
    assert bounded(tflow.tflow(err=True).get_state(), 7)["response"] is None
