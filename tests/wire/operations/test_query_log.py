"""The query log of the running program, in both lanes."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.wire.processes import Gateway, auth_flags, run_vmgateway
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import FULL, SigningKey, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

LANES = pytest.mark.parametrize("lane", ["fast", "flow"])
ANSWER = b'{"status":"success","data":{"resultType":"vector","result":[]},"stats":{"seriesFetched": "7"}}'


def logged(gateway: Gateway, file: Path, number: int) -> list[dict[str, Any]]:
    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    gateway.wait_until(lambda: len(lines()) >= number, what=f"logs {number} queries")
    assert len(lines()) == number
    return lines()


@LANES
def test_each_read_is_one_line(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path, lane: str
) -> None:
    packed = gzip.compress(ANSWER)

    def reply(request: ReceivedRequest) -> Reply:
        if "packed" in request.target:
            return Reply(headers=(("Content-Type", "application/json"), ("Content-Encoding", "gzip")), body=packed)
        return Reply(body=iter([ANSWER[:50], ANSWER[50:]]))

    upstream.responder = reply
    file = tmp_path / "queries.json"
    gateway = start_gateway(*auth_flags(upstream.url, key_file), f"-queryLog={file}", f"-lane={lane}")
    alice = gateway.client(key.mint(tenant(1, 5), sub="alice"))
    assert alice.get("/api/v1/query?query=up&time=5").body == ANSWER
    assert alice.post("/api/v1/query_range", form={"query": "sum(up)", "start": "1", "step": "15"}).body == ANSWER
    assert alice.get("/api/v1/query?query=packed").body == packed
    assert alice.get("/api/v1/labels?match[]=up").body == ANSWER
    assert alice.get("/vmui/").status == 200
    assert alice.post("/api/v1/import", body="").status == 200
    assert gateway.client("a.b").get("/api/v1/query?query=up").status == 401
    keys = ("tenant", "subject", "query", "match", "time", "start", "step", "bytes", "seriesFetched", "verdict")
    lines = logged(gateway, file, 5)
    assert [tuple(line[name] for name in keys) for line in lines] == [
        ("1:5", "alice", "up", [], "5", None, None, len(ANSWER), 7, "admitted"),
        ("1:5", "alice", "sum(up)", [], None, "1", "15", len(ANSWER), 7, "admitted"),
        ("1:5", "alice", "packed", [], None, None, None, len(packed), 7, "admitted"),
        ("1:5", "alice", None, ["up"], None, None, None, len(ANSWER), None, "admitted"),
        (None, None, "up", [], None, None, None, lines[4]["bytes"], None, "refused"),
    ]
    assert all(0 < line["duration"] < 30 for line in lines)
    assert "eyJ" not in file.read_text()
    assert gateway.metric("vmgateway_query_log_lost_lines_total") == 0


@LANES
def test_a_rotated_file_is_begun_anew(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path, lane: str
) -> None:
    file, old = tmp_path / "queries.json", tmp_path / "queries.json.1"
    gateway = start_gateway(*auth_flags(upstream.url, key_file), f"-queryLog={file}", f"-lane={lane}")
    client = gateway.client(key.mint())
    client.get("/api/v1/query?query=one")
    logged(gateway, file, 1)
    file.rename(old)
    client.get("/api/v1/query?query=two")
    assert [line["query"] for line in logged(gateway, file, 1)] == ["two"]
    assert [line["query"] for line in logged(gateway, old, 1)] == ["one"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_lines_on_a_stream(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, stream: str
) -> None:
    gateway = start_gateway(*auth_flags(upstream.url, key_file), f"-queryLog={stream}")
    gateway.client(key.mint()).get("/api/v1/query?query=up")
    found = gateway.wait_for_log(r'(?m)^\{"ts":.*"query":"up".*\}$')
    assert json.loads(found[0])["verdict"] == "admitted"


def test_quick_reads_are_left_out(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "queries.json"
    more = (f"-queryLog={file}", "-queryLog.minDuration=1h")
    gateway = start_gateway(*auth_flags(upstream.url, key_file), *more)
    assert gateway.client(key.mint()).get("/api/v1/query?query=up").status == 200
    gateway.stop()
    assert not file.exists()


def test_a_folder_that_is_not_there_stops_the_start(key_file: Path, tmp_path: Path) -> None:
    ended = run_vmgateway(*auth_flags("http://127.0.0.1:1", key_file), f"-queryLog={tmp_path}/none/log")
    assert ended.returncode == 2
    assert ended.stderr == f"vmgateway: -queryLog: cannot write {tmp_path}/none/log: No such file or directory\n"


@LANES
def test_without_tokens_the_tenant_is_that_of_the_path(
    start_gateway: StartGateway, upstream: RecordingUpstream, tmp_path: Path, lane: str
) -> None:
    limits, file = tmp_path / "limits.yaml", tmp_path / "queries.json"
    limits.write_text("limits: [{type: queries, value: 9}]")
    flags = ("-clusterMode", "-enable.rateLimit", f"-ratelimit.config={limits}", f"-queryLog={file}", f"-lane={lane}")
    gateway = start_gateway(f"-read.url={upstream.url}", *flags)
    assert gateway.client().get("/select/1:5/prometheus/api/v1/query?query=up").status == 200
    (line,) = logged(gateway, file, 1)
    assert (line["tenant"], line["subject"], line["query"]) == ("1:5", None, "up")


@LANES
def test_a_capture_beside_it_changes_nothing(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path, lane: str
) -> None:
    upstream.responder = lambda _: Reply(body=iter([ANSWER[:50], ANSWER[50:]]))
    file = tmp_path / "queries.json"
    more = (f"-queryLog={file}", f"-capture.file={tmp_path / 'flows'}", f"-lane={lane}")
    gateway = start_gateway(*auth_flags(upstream.url, key_file), *more)
    assert gateway.client(key.mint(tenant(1, 5))).get("/api/v1/query?query=up").body == ANSWER
    (line,) = logged(gateway, file, 1)
    assert (line["bytes"], line["seriesFetched"]) == (len(ANSWER), 7)
    assert gateway.metric("vmgateway_tenant_sent_bytes_total", tenant="1:5") == len(ANSWER)
    gateway.wait_until(lambda: gateway.metric("vmgateway_captured_flows_total") == 1, what="has captured")


@LANES
def test_series_of_victoria_metrics(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    key: SigningKey,
    key_file: Path,
    tmp_path: Path,
    lane: str,
) -> None:
    """Older releases do not tell the number."""
    file = tmp_path / "queries.json"
    name = f"query_log_{lane}"
    victoria_metrics.import_prometheus("".join(f'{name}{{n="{number}"}} 1\n' for number in range(3)))
    told = "seriesFetched" in victoria_metrics.client.get(f"/api/v1/query?query={name}").text
    gateway = start_gateway(*auth_flags(victoria_metrics.url, key_file), f"-queryLog={file}", f"-lane={lane}")
    client = gateway.client(key.mint(FULL))
    for encoding in ("identity", "gzip"):
        asked = {"query": f"count({name})", "time": f"{time.time() + 5:.0f}"}  # a new sample shows a second later
        assert client.get("/api/v1/query", asked, headers={"Accept-Encoding": encoding}).status == 200
    lines = logged(gateway, file, 2)
    assert [line["query"] for line in lines] == [f"count({name})"] * 2
    assert [line["seriesFetched"] for line in lines] == [3 if told else None] * 2
