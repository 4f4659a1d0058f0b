"""Capture: what is written holds the client's request and the decision, and no secret, wherever one was sent."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from mitmproxy import flow as mitmproxy_flow
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

from tests.support.wire.processes import Gateway, Program, run_command
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import HANG_UP, RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway
from vmgw_core.replay.record import METADATA_KEY, Captured, from_metadata

FORM: Final = "application/x-www-form-urlencoded"


class Capturing(Gateway):
    """A gateway that captures to ``file``: by its own flag, or by mitmdump's."""

    def __init__(self, file: Path, *flags: str, program: Program = "vmgateway") -> None:
        self.file = file
        own = (f"-capture.file={file}",) if program == "vmgateway" else ()
        super().__init__(*own, *flags, program=program)

    def command(self) -> list[str]:
        return super().command() + (["-w", str(self.file)] if self.program == "mitmdump" else [])


def flows(file: Path) -> list[HTTPFlow]:
    with file.open("rb") as opened:
        read: Iterator[mitmproxy_flow.Flow] = iter(FlowReader(opened).stream())
        return [flow for flow in read if isinstance(flow, HTTPFlow)]


def records(file: Path) -> list[Captured]:
    read = [from_metadata(flow.metadata[METADATA_KEY]) for flow in flows(file)]
    return [record for record in read if record is not None]


@pytest.mark.smoke
def test_no_secret_is_written(
    tmp_path: Path, program: Program, flags: list[str], key: SigningKey, upstream: RecordingUpstream
) -> None:
    token = key.mint(team("dev"))
    head, _, signature = token.rpartition(".")
    upstream.responder = lambda request: Reply(
        headers=(("Content-Type", "application/json"), ("Set-Cookie", "sid=hush"), ("X-Echo", token)),
        body=b'{"token":"' + token.encode() + b'"}',
    )
    forged = SigningKey.generate("ES256").mint(team("dev"))
    file = tmp_path / "flows.mitm"
    with Capturing(file, *flags, program=program) as gateway:
        dev = gateway.client(token)
        secrets = {"Cookie": "sid=hush", "X-Api-Key": "hush", "X-Jwt": token, "Referer": f"http://h/?jwt={token}"}
        answer = dev.get("/api/v1/query", {"query": "up", "authKey": "hush", "x": token}, headers=secrets)
        assert answer.header("Set-Cookie") == "sid=hush", "what the client gets is not redacted"
        assert token in answer.text
        dev.post("/api/v1/query", form={"query": "up", "password": "hush", "x": token})
        dev.post("/api/v1/import/prometheus", body=f'foo{{a="{token}"}} 1\n')
        dev.post("/api/v1/import/prometheus", body=gzip.compress(token.encode()), headers={"Content-Encoding": "gzip"})
        dev.get(f"/nowhere/{token}", {"token": token}, headers=secrets)
        gateway.client(forged).get("/api/v1/query", {"p": "hush"}, headers=secrets)
        gateway.client().get("/api/v1/query", headers={"Authorization": "Basic aHVzaDpodXNo", **secrets})
        gateway.client().get("/metrics", {"authKey": "hush"}, headers=secrets)
    written = file.read_bytes()
    for secret in (signature, forged.rpartition(".")[2], "hush", "aHVzaDpodXNo"):
        assert secret.encode() not in written
    assert head.encode() in written, "claims stay"
    assert len(records(file)) == 7
    assert upstream.requests[0].header("Referer") == [f"http://h/?jwt={token}"], "what the backend gets is not redacted"
    assert upstream.requests[0].header("X-Jwt") == [], "what names a credential does not get there at all"


@pytest.mark.smoke
def test_the_clients_own_request_and_the_decision_are_recorded(
    tmp_path: Path, program: Program, flags: list[str], key: SigningKey, upstream: RecordingUpstream
) -> None:
    file = tmp_path / "flows.mitm"
    with Capturing(file, *flags, program=program) as gateway:
        dev = gateway.client(key.mint(team("dev")))
        dev.get("/api/v1/query", {"query": "up", "extra_label": "team=qa"})
        dev.post("/api/v1/query", form={"query": "up", "extra_label": "team=qa"})
        dev.post("/api/v1/import/prometheus", body=b"foo 1\n" * 10)
        dev.get("/vmalert/groups")
    read, form, write, refused = records(file)
    sent = [f"{upstream.url}{request.target}" for request in upstream.requests]
    assert [each.outcome.sent.url for each in (read, form, write) if each.outcome and each.outcome.sent] == sent
    assert read.head.target == "/api/v1/query?query=up&extra_label=team%3Dqa"
    assert form.form == b"query=up&extra_label=team%3Dqa"
    assert str(refused.outcome) == "403 filters_ignored"
    assert refused.evidence is not None
    assert refused.evidence.thumbprints
    flow = next(flow for flow in flows(file) if "/import/" in flow.request.path)
    assert flow.request.raw_content == b"foo 1\n" * 10
    assert flow.request.path == upstream.requests[2].target
    assert flow.response is not None
    assert flow.response.raw_content == b'{"status":"success"}'


def test_bodies_are_bounded_and_stream_through(
    tmp_path: Path, flags: list[str], key: SigningKey, upstream: RecordingUpstream
) -> None:
    body = b"foo 1\n" * 10_000
    upstream.responder = lambda _: Reply(body=body)
    file = tmp_path / "flows.mitm"
    with Capturing(file, "-capture.maxBodySize=1000", *flags) as gateway:
        dev = gateway.client(key.mint())
        assert dev.post("/api/v1/import/prometheus", body=body).body == body
        assert dev.post("/api/v1/query", form={"query": "x" * 2000}).status == 200
    assert upstream.requests[0].body == body
    assert file.stat().st_size < 10_000
    assert [flow.request.raw_content for flow in flows(file)] == [None, None]
    assert [record.form for record in records(file)] == [None, None]


def test_a_filter_and_a_sampling_rate_bound_the_capture(tmp_path: Path, flags: list[str], key: SigningKey) -> None:
    file = tmp_path / "flows.mitm"
    with Capturing(file, "-capture.filter=~u labels & ~c 200", "-capture.sampleRate=1", *flags) as gateway:
        dev = gateway.client(key.mint())
        for path in ("query", "labels", "query", "labels"):
            dev.get(f"/api/v1/{path}")
        gateway.client().get("/api/v1/labels")
    assert [record.head.target for record in records(file)] == ["/api/v1/labels"] * 2
    with Capturing(file, "-capture.sampleRate=1e-9", *flags) as gateway:
        assert gateway.client(key.mint()).get("/api/v1/labels").status == 200
    assert len(flows(file)) == 2, "the file is appended to"


def test_nobody_else_may_read_it(tmp_path: Path, flags: list[str]) -> None:
    file = tmp_path / "flows.mitm"
    with Capturing(file, *flags) as gateway:
        gateway.wait_for_log(", fast lane")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_rows_are_recorded_and_replayed(tmp_path: Path, flags: list[str], key: SigningKey) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits:\n- {type: rows_inserted, value: 5}\n")
    flags += ["-enable.rateLimit", f"-ratelimit.config={limits}"]
    file = tmp_path / "flows.mitm"
    with Capturing(file, *flags) as gateway:
        dev = gateway.client(key.mint())
        body = "foo 1\nfoo 2\nfoo 3\n"
        assert [dev.post("/api/v1/import/prometheus", body=body).status for _ in range(2)] == [200, 429]
    assert [record.rows for record in records(file)] == [3, 3]
    assert [str(record.outcome) for record in records(file)] == ["admitted", "429 rate_limited"]
    done = run_command("replay", str(file), *flags)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 requests judged: nothing would change")
    limits.write_text("limits:\n- {type: rows_inserted, value: 6}\n")
    done = run_command("replay", str(file), *flags)
    assert done.returncode == 1
    assert "1 newly admitted: /api/v1/import/prometheus, tenant 0:0\n  429 rate_limited -> admitted: " in done.stdout


# --- what ends a capture ends nothing else ----------------------------------------------------------------------------


class OnASmallDisk(Capturing):
    """A gateway that can write 8 KiB to any file, as on a disk that is nearly full. Its log goes to a pipe."""

    def command(self) -> list[str]:
        script = 'ulimit -f 8; exec "$@" 2> >(cat >> log.txt)'
        return ["bash", "-c", script, "bash", *super().command()]

    def log(self) -> str:
        file = self.directory / "log.txt"
        return super().log() + (file.read_text() if file.exists() else "")


def test_a_full_disk_ends_the_capture_and_not_the_gateway(
    tmp_path: Path, flags: list[str], key: SigningKey, upstream: RecordingUpstream
) -> None:
    upstream.responder = lambda _: Reply(body=b"x" * 3000)
    file = tmp_path / "flows.mitm"
    with OnASmallDisk(file, *flags) as gateway:
        dev = gateway.client(key.mint())
        for _ in range(6):
            assert dev.get("/api/v1/query").status == 200
        gateway.wait_for_log("the capture has stopped: .*: File too large")
        assert gateway.log().count("the capture has stopped") == 1
        assert gateway.metric("vmgateway_capture_stopped") == 1
        captured = gateway.metric("vmgateway_captured_flows_total")
        assert 0 < captured < 6
    assert len(flows(file)) == captured, "the file ends behind a whole flow"


def test_a_file_that_has_its_size_ends_the_capture(tmp_path: Path, flags: list[str], key: SigningKey) -> None:
    file = tmp_path / "flows.mitm"
    with Capturing(file, "-capture.maxFileSize=4KiB", *flags) as gateway:
        for _ in range(6):
            assert gateway.client(key.mint()).get("/api/v1/query").status == 200
        gateway.wait_for_log("the capture has stopped: .* the file has reached -capture.maxFileSize, 4096 bytes")
    assert 0 < file.stat().st_size <= 4096
    assert flows(file)


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_full_files_are_kept_and_the_oldest_goes(tmp_path: Path, flags: list[str], key: SigningKey, lane: str) -> None:
    file = tmp_path / "flows.mitm"
    limits = ("-capture.maxFileSize=4KiB", "-capture.keepFiles=2", f"-lane={lane}")
    with Capturing(file, *limits, *flags) as gateway:
        for number in range(20):
            assert gateway.client(key.mint()).get(f"/api/v1/query?query=up{number}").status == 200
        gateway.wait_until(lambda: gateway.metric("vmgateway_captured_flows_total") == 20, what="writes all flows")
        assert gateway.metric("vmgateway_capture_stopped") == 0
    kept = [tmp_path / name for name in ("flows.mitm.2", "flows.mitm.1", "flows.mitm")]
    assert sorted(tmp_path.glob("flows.mitm*")) == sorted(kept)
    assert all(each.stat().st_size <= 4096 for each in kept)
    queries = [flow.request.query["query"] for each in kept for flow in flows(each)]
    assert queries == [f"up{number}" for number in range(20 - len(queries), 20)]


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_both_lanes_capture_the_same(
    tmp_path: Path, flags: list[str], key: SigningKey, upstream: RecordingUpstream, lane: str
) -> None:
    upstream.responder = lambda _: Reply(headers=(("Content-Type", "text/plain"),), body=b"out 1\n")
    file = tmp_path / "flows.mitm"
    with Capturing(file, f"-lane={lane}", *flags) as gateway:
        gateway.wait_for_log(f"listens on .*, {lane} lane")
        dev = gateway.client(key.mint(team("dev")))
        dev.get("/api/v1/query", {"query": "up"})
        dev.post("/api/v1/query", form={"query": "up"})
        dev.post("/api/v1/import/prometheus", body=b"foo 1\n", headers={"Content-Type": "text/plain"})
        dev.get("/nowhere", {"query": "up"})
        dev.get("/health")
    query = f"{upstream.url}/api/v1/query?query=up&extra_label=team%3Ddev"
    read, form, write, refused = flows(file)
    assert [(read.request.method, read.request.url), (form.request.method, form.request.url)] == [
        ("GET", query),
        ("POST", query.replace("query=up&", "")),
    ]
    assert (form.request.raw_content, write.request.raw_content) == (b"query=up", b"foo 1\n")
    for flow in (read, form, write):
        assert flow.response is not None
        assert (flow.response.status_code, flow.response.raw_content) == (200, b"out 1\n")
        assert flow.response.headers["Content-Type"] == "text/plain"
    assert refused.response is not None
    assert (refused.response.status_code, refused.request.path) == (404, "/nowhere?query=up")
    assert [str(record.outcome) for record in records(file)] == ["admitted"] * 3 + ["404 unknown_route"]
    assert [record.rows for record in records(file)] == [None, None, 1, None]
    assert [record.form for record in records(file)] == [None, b"query=up", None, None]
    for record in records(file):
        assert record.head.values(b"host") == [f"127.0.0.1:{gateway.port}".encode()]
    replayed = run_command("replay", str(file), *flags)
    assert (replayed.returncode, replayed.stderr) == (0, ""), replayed.stdout


def test_a_renamed_file_is_followed_by_a_new_one(tmp_path: Path, flags: list[str], key: SigningKey) -> None:
    file = tmp_path / "flows.mitm"
    with Capturing(file, *flags) as gateway:
        gateway.client(key.mint()).get("/api/v1/query")
        eventually(lambda: file.stat().st_size > 0)
        file.rename(tmp_path / "old.mitm")
        gateway.client(key.mint()).get("/api/v1/labels")
    assert [len(flows(each)) for each in (tmp_path / "old.mitm", file)] == [1, 1]


def test_a_file_with_half_a_flow_is_not_appended_to(
    tmp_path: Path, start_gateway: StartGateway, flags: list[str], key: SigningKey
) -> None:
    file = tmp_path / "flows.mitm"
    file.write_bytes(b"12345:half")
    gateway = start_gateway(f"-capture.file={file}", *flags)
    gateway.wait_for_log("the capture has stopped: .* the last flow in it is incomplete")
    assert gateway.client(key.mint()).get("/api/v1/query").status == 200
    assert file.read_bytes() == b"12345:half"


def test_a_request_that_breaks_off_is_recorded(
    tmp_path: Path, flags: list[str], key: SigningKey, upstream: RecordingUpstream
) -> None:
    upstream.responder = lambda _: HANG_UP
    file = tmp_path / "flows.mitm"
    with Capturing(file, *flags) as gateway:
        assert gateway.client(key.mint()).get("/api/v1/query").status == 502
    (record,) = records(file)
    assert record.outcome is not None
    assert record.outcome.admitted, "a backend that fails is no decision"
