"""Label names that may not be written: what client and backend get, and what a real VictoriaMetrics then holds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.core.bodies import SNAPPY, TIME, item, remote_write, sample, snappy
from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient, head
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from tests.unit.core.rows.test_names import (
    BAD,
    GOOD,
    LINES,
    NATIVE,
    OTLP,
    TEXT,
    native,
    otlp,
    series,
    sketch,
    writes,
    zabbix,
)

RELABEL = Path(__file__).parents[3] / "deployment" / "victoriametrics" / "relabel.yml"
WRITE = "/api/v1/write"
CHECK = "-write.checkLabelNames"
HEADERS = {name.decode(): value.decode() for name, value in SNAPPY}
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"

lanes = pytest.mark.parametrize("lane", ["fast", "flow"])


@pytest.fixture
def upstream(backend: RecordingUpstream) -> RecordingUpstream:
    backend.forget()
    backend.responder = lambda request: Reply(status=204, body=b"")
    return backend


@pytest.fixture(scope="module", params=["fast", "flow"])
def gateway(request: pytest.FixtureRequest, backend: RecordingUpstream, key_file: Path) -> Iterator[Gateway]:
    with Gateway(
        "-enable.auth", f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}", f"-lane={request.param}",
        f"{CHECK}=true",
    ) as gateway:  # fmt: skip
        yield gateway


@pytest.fixture
def client(gateway: Gateway, key: SigningKey) -> Client:
    return gateway.client(key.mint())


def error(answer: Answer) -> str:
    document = answer.json()
    assert document["status"] == "error"
    return str(document["error"])


# --- what client and backend get -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"\xfe\x07revenueteam", b"a\x01"])
def test_a_bad_name_reaches_no_backend(client: Client, upstream: RecordingUpstream, name: bytes) -> None:
    for target, body, headers in writes(name):
        if "/datadog/api/v" in target and not headers and not name.isascii():
            continue  # Go's JSON parser puts a good character in the place of the bad byte
        answer = client.post(target, body=body, headers={key.decode(): value.decode() for key, value in headers})
        assert answer.status == 400, target
        assert "label" in error(answer) or "JSON" in error(answer)
    assert upstream.requests == []


def test_the_series_and_the_name_are_told(client: Client, upstream: RecordingUpstream) -> None:
    named = series((b"__name__", b"m"))
    answer = client.post(
        WRITE, body=snappy(named + series((b"__name__", b"m"), (b"a\x01", b"secret"))), headers=HEADERS
    )
    assert (answer.status, error(answer)) == (
        400, 'series 2: the label name "a\\u0001" is not valid UTF-8 or has a control character',
    )  # fmt: skip
    answer = client.post(WRITE, body=snappy(named + series((b"a", b"secret"))), headers=HEADERS)
    assert (answer.status, error(answer)) == (400, "series 2 has no metric name")
    assert upstream.requests == []


def test_a_good_body_arrives_as_it_was_sent(client: Client, upstream: RecordingUpstream) -> None:
    body = snappy(remote_write())
    assert client.post(WRITE, body=body, headers=HEADERS).status == 204
    (request,) = upstream.requests
    assert (request.body, request.header("Content-Encoding")) == (body, ["snappy"])


def test_a_body_that_cannot_be_read_is_answered_so_that_senders_drop_it(
    client: Client, upstream: RecordingUpstream
) -> None:
    assert client.post(WRITE, body=b"no snappy", headers=HEADERS).status == 400
    assert upstream.requests == []


def test_the_bad_part_of_a_large_body_does_not_pass(
    gateway: Gateway, upstream: RecordingUpstream, key: SigningKey
) -> None:
    good = b'm{a="b"} 1\n' * 200_000
    bad = b'm{\xfe="b"} 1\n' * 10
    headers = [f"Content-Length: {len(good) + len(bad)}"]
    with RawClient(gateway.port) as raw:
        raw.send(head("POST", TEXT, key.mint(), headers)).send(good).send(bad)
        assert raw.receive_answer()[0] == 400
    eventually(lambda: not upstream.requests or not upstream.requests[0].complete, what="the backend lost the body")
    for request in upstream.requests:
        assert b"\xfe" not in request.body
        assert request.body_size <= len(good)


@pytest.mark.parametrize("content_type", [V2, 'application/X-Protobuf ; Proto="io.prometheus.write.v2.Request"'])
def test_remote_write_2_is_answered_415(client: Client, upstream: RecordingUpstream, content_type: str) -> None:
    body = snappy(item(4, b"") + item(5, item(2, b"")))
    for kind in (content_type, "application/x-protobuf"):
        answer = client.post(WRITE, body=body, headers={**HEADERS, "Content-Type": kind})
        assert (answer.status, error(answer)) == (415, "Prometheus remote write 2.0 is not supported: send 1.0")
    assert upstream.requests == []


def test_opentelemetry_as_json_is_answered_415(client: Client, upstream: RecordingUpstream) -> None:
    answer = client.post(OTLP, body=b"{}", headers={"Content-Type": "application/json"})
    assert (answer.status, "send protobuf" in error(answer)) == (415, True)
    assert upstream.requests == []


@lanes
def test_the_flag_turns_it_off(lane: str, upstream: RecordingUpstream, key: SigningKey, key_file: Path) -> None:
    flags = (
        f"-write.url={upstream.url}",
        f"-auth.publicKeyFiles={key_file}",
        f"-lane={lane}",
        "-write.checkLabelNames=false",
    )
    with Gateway("-enable.auth", *flags) as gateway:
        assert gateway.client(key.mint()).post(TEXT, body=b'm{\xfe="b"} 1').status == 204
    assert [request.body for request in upstream.requests] == [b'm{\xfe="b"} 1']


# --- what a real VictoriaMetrics then holds ------------------------------------------------------------------------


def now_line(value: int, **labels: str) -> bytes:
    """A line for /api/v1/import; U+FFFE stands for the byte 0xFE."""
    metric = json.dumps(labels, ensure_ascii=False).encode().replace("\ufffe".encode(), b"\xfe")
    return b'{"metric":%b,"values":[%d],"timestamps":[%d]}' % (metric, value, int(time.time()) * 1000)


@pytest.fixture(scope="module")
def real() -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics() as server:
        yield server


def test_a_team_cannot_change_the_sum_of_another(real: VictoriaMetrics, key: SigningKey, key_file: Path) -> None:
    """The index has an entry for metric and label together, and a label name can spell it: 0xFE, a length, the two."""
    forged = {"__name__": "revenue", "\ufffe\\u0007revenueteam": "b"}
    line = now_line(10**6, **forged).replace(b"\\\\u", b"\\u")
    with ExitStack() as stack:
        flags = ("-enable.auth", f"-read.url={real.url}", f"-write.url={real.url}", f"-auth.publicKeyFiles={key_file}")
        open_, checked = (stack.enter_context(Gateway(*flags, f"{CHECK}={value}")) for value in ("false", "true"))
        team_a, team_b = key.mint(team("a")), key.mint(team("b"))

        def total() -> str:
            real.force_flush()
            arguments = {"query": "sum(revenue)", "time": str(int(time.time()) + 5), "nocache": "1"}
            ((answer),) = checked.client(team_b).get("/api/v1/query", arguments).json()["data"]["result"]
            return str(answer["value"][1])

        assert checked.client(team_b).post(LINES, body=now_line(7, __name__="revenue")).status == 204
        assert eventually(total, what="the sum of team b") == "7"
        assert checked.client(team_a).post(LINES, body=line).status == 400
        assert total() == "7"
        # What the check is for: a release that is no longer open to this makes the flag needless.
        assert open_.client(team_a).post(LINES, body=line).status == 204
        assert eventually(lambda: total() == "1000007", what="the forged sum")


NAMELESS = (
    (WRITE, snappy(item(1, item(1, item(1, b"a"), item(2, b"nameless")), sample(1)))),
    (LINES, b'{"metric":{"a":"nameless"},"values":[1],"timestamps":[%d]}' % (TIME * 1000)),
    (NATIVE, native(b"\x01a\x01nameless\x01")),
    (OTLP, otlp(b"")),
    ("/datadog/api/v1/series", json.dumps({"series": [{"host": "nameless", "points": [[TIME, 1]]}]}).encode()),
    ("/datadog/api/beta/sketches", sketch(b"", b"a")),
)


def held_badly(server: VictoriaMetrics) -> list[str]:
    """Series without a metric name, or with a bad label name."""
    server.force_flush()
    answer = server.client.get("/api/v1/series", {"match[]": '{__name__!~"never"}', "start": "1"})
    assert answer.status == 200
    found = json.loads(answer.body.decode("utf-8", "surrogateescape"))["data"]
    assert isinstance(found, list)
    return [
        repr(labels)
        for labels in found
        if not labels.get("__name__")
        or any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for key in labels for char in key)
    ]


def send_everything(client: Client) -> list[int]:
    statuses = []
    for name in (*BAD, *GOOD):
        for target, body, headers in writes(name):
            headers_of = {key.decode(): value.decode() for key, value in headers}
            statuses.append(client.post(target, body=body, headers=headers_of).status)
    statuses += [client.post(target, body=body).status for target, body in NAMELESS]
    return statuses


@lanes
def test_no_bad_series_comes_into_the_storage(lane: str, key: SigningKey, key_file: Path) -> None:
    with VictoriaMetrics() as server:
        flags = ("-enable.auth", f"-write.url={server.url}", f"-auth.publicKeyFiles={key_file}", f"-lane={lane}")
        with Gateway(*flags, f"{CHECK}=true") as gateway:
            statuses = send_everything(gateway.client(key.mint()))
        assert {204, 400} <= set(statuses)
        assert held_badly(server) == []
        kept = {name for labels in server.series('{__name__="m"}') for name in labels}
        assert {"job", "a.b/c", "é", "€", "🙂", "a b"} <= kept


def test_the_relabelling_of_the_backend_keeps_it_out_too(tmp_path: Path) -> None:
    config = tmp_path / "relabel.yml"
    shutil.copy(RELABEL, config)
    with VictoriaMetrics() as server:
        send_everything(server.client)
        assert len(held_badly(server)) > 5
    with VictoriaMetrics(f"-relabelConfig={config}") as server:
        send_everything(server.client)
        assert held_badly(server) == []
        kept = {name for labels in server.series('{__name__="m"}') for name in labels}
        assert {"job", "a.b/c", "é", "€", "🙂", "a b"} <= kept


def test_a_zabbix_tag_that_ends_the_backend_is_refused(real: VictoriaMetrics, key: SigningKey, key_file: Path) -> None:
    """VictoriaMetrics v1.150 does not hold items of the connector to its limits, and ends on a label of 64 KiB."""
    flags = ("-enable.auth", f"-write.url={real.url}", f"-auth.publicKeyFiles={key_file}")
    with Gateway(*flags, f"{CHECK}=true") as gateway:
        for body in (zabbix(value=b"x" * 70_000), zabbix(tag=b"x" * 70_000)):
            answer = gateway.client(key.mint()).post("/zabbixconnector/api/v1/history", body=body)
            assert (answer.status, error(answer)) == (400, "line 1: its tags are longer than 60000 bytes")
    assert real.client.get("/health").status == 200
