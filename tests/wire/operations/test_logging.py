"""Logs of the running program, as the flags have them, and the access log of its requests."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.wire.processes import Gateway, Program, auth_flags, vmgateway_command
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import HANG_UP, RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS
from tests.support.wire.write_bodies import JSON_LINE
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"


@pytest.fixture
def flags(upstream: RecordingUpstream, key_file: Path) -> tuple[str, ...]:
    return (*auth_flags(upstream.url, key_file), "-logInvalidAuthTokens")


def records(gateway: Gateway) -> list[dict[str, Any]]:
    """The lines that the gateway wrote as JSON."""
    return [json.loads(line) for line in gateway.log().splitlines() if line.startswith("{")]


def requests(gateway: Gateway, number: int) -> list[dict[str, Any]]:
    """The first lines of the access log, those of readiness probes left out."""

    def logged() -> list[dict[str, Any]]:
        return [line for line in records(gateway) if line.get("msg") == "request" and line.get("path") != "/health"]

    gateway.wait_until(lambda: len(logged()) >= number, what=f"logs {number} requests")
    assert len(logged()) == number
    return logged()


def test_json_with_other_names(start_gateway: StartGateway, flags: tuple[str, ...], program: Program) -> None:
    more = ("-loggerFormat=json", "-loggerJSONFields=ts:time,msg:message", "-loggerTimezone=Asia/Tokyo")
    gateway = start_gateway(*flags, *more, program=program)
    gateway.client("incorrect").get(QUERY)
    gateway.wait_for_log("token refused")
    lines = records(gateway)
    (refused,) = [line for line in lines if "token refused" in line["message"]]
    assert list(refused) == ["time", "level", "caller", "message"]
    assert refused["level"] == "warn"
    assert refused["caller"].startswith("access_control.py:")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0900", refused["time"])


def test_level_and_timestamps(start_gateway: StartGateway, flags: tuple[str, ...]) -> None:
    gateway = start_gateway(*flags, "-loggerLevel=WARN", "-loggerDisableTimestamps")
    gateway.client("incorrect").get(QUERY)
    gateway.wait_for_log(r"(?m)^warn\taccess_control\.py:\d+\ttoken refused")
    assert "listens on" not in gateway.log()


def test_errors_alone(start_gateway: StartGateway, flags: tuple[str, ...]) -> None:
    gateway = start_gateway(*flags, "-loggerLevel=ERROR")
    gateway.client("incorrect").get(QUERY)
    assert gateway.log() == ""


def test_warnings_are_limited_per_second(start_gateway: StartGateway, flags: tuple[str, ...]) -> None:
    gateway = start_gateway(*flags, "-loggerWarnsPerSecondLimit=1", "-loggerFormat=json")
    client = gateway.client("incorrect")
    for _ in range(20):
        client.get(QUERY)
    gateway.wait_for_log("suppressing further ones")
    warned = [line["ts"][:19] for line in records(gateway) if "token refused" in line["msg"]]
    assert 0 < len(warned) < 20
    assert len(set(warned)) == len(warned), "one in each second"


def test_long_messages_are_shortened(start_gateway: StartGateway, flags: tuple[str, ...]) -> None:
    gateway = start_gateway(*flags, "-loggerMaxArgLen=30")
    gateway.client("incorrect").get(QUERY)
    line = gateway.wait_for_log(r"(?m)^.*\ttoken refused.*$")[0]
    assert len(line.split("\t")[3]) <= 30


@pytest.mark.parametrize("output", ["stderr", "stdout"])
def test_output(key_file: Path, output: str) -> None:
    """The listener's address is of another machine, so the program ends by itself, with an error in its log."""
    command = [*vmgateway_command(), "-enable.auth", "-read.url=http://127.0.0.1:1", f"-loggerOutput={output}"]
    command += [f"-auth.publicKeyFiles={key_file}", "-httpListenAddr=192.0.2.1:8431"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False)
    assert ended.returncode == 1
    shown = {"stderr": ended.stderr, "stdout": ended.stdout}
    assert "\terror\t" in shown.pop(output)
    assert "\terror\t" not in shown.popitem()[1]


# --- the access log ------------------------------------------------------------------------------------------------


def test_each_request_is_one_line(
    start_gateway: StartGateway, flags: tuple[str, ...], upstream: RecordingUpstream, key: SigningKey, program: Program
) -> None:
    def reply(request: Any) -> Reply:  # noqa: ANN401
        if "hang" in request.target:
            return HANG_UP
        return Reply(body=iter([b"a" * 1000] * 5)) if "long" in request.target else Reply(status=422, body=b"four")

    upstream.responder = reply
    gateway = start_gateway(*flags, "-accessLog", "-loggerFormat=json", program=program)
    alice = gateway.client(key.mint(tenant(1, 5), sub="alice"))
    assert alice.get("/api/v1/query?query=long").status == 200
    assert alice.get("/api/v1/query?query=four").status == 422
    assert alice.ask("HEAD", "/ping").status == 204
    assert alice.post("/api/v1/query", form={"query": "four"}).status == 422
    assert alice.post("/api/v1/import", body=JSON_LINE).status == 422
    assert gateway.client().get(QUERY).status == 401
    assert alice.post("/api/v1/nothing", body="x" * 300_000).status == 404
    assert alice.get("/api/v1/query?query=hang").status == 502
    lines = requests(gateway, 8)
    shown = [(line["access"], line["route"], line["verdict"], line["reason"], line["status"]) for line in lines]
    assert shown == [
        ("read", "/api/v1/query", "admitted", None, 200),
        ("read", "/api/v1/query", "admitted", None, 422),
        ("page", None, "admitted", None, 204),
        ("read", "/api/v1/query", "admitted", None, 422),
        ("write", "/api/v1/import", "admitted", None, 422),
        ("read", "/api/v1/query", "refused", "missing_token", 401),
        (None, None, "refused", "unknown_route", 404),
        ("read", "/api/v1/query", "failed", "backend_unreachable", 502),
    ]
    assert [line["bytes"] for line in lines[:5]] == [5000, 4, 0, 4, 4]
    assert {line["tenant"] for line in lines} == {"1:5", None}
    assert {line["subject"] for line in lines if line["tenant"]} == {"alice"}
    assert {line["client"] for line in lines} == {"127.0.0.1"}
    assert all(0 < line["duration"] < 30 for line in lines)


def test_a_client_that_leaves_is_logged(
    start_gateway: StartGateway, flags: tuple[str, ...], upstream: RecordingUpstream, key: SigningKey, program: Program
) -> None:
    gate = threading.Event()
    upstream.responder = lambda _: Reply(gate=gate)
    gateway = start_gateway(*flags, "-accessLog", "-loggerFormat=json", program=program)
    head = f"GET {QUERY} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key.mint()}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        # Closed so, it tells that nobody reads any more; otherwise it might only have nothing more to say.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(head.encode())
        gateway.wait_until(lambda: len(upstream.requests) == 1, what="sends the request on")
    (line,) = requests(gateway, 1)
    gate.set()
    assert (line["verdict"], line["status"]) == ("failed", None)


def test_no_token_and_no_forged_line(
    start_gateway: StartGateway, flags: tuple[str, ...], key: SigningKey, program: Program
) -> None:
    gateway = start_gateway(*flags, "-accessLog", program=program)
    token = key.mint(tenant(1, 5), sub="eve\n2026-01-01T00:00:00.000Z\tinfo\taccess\trequest tenant=9:9 status=200")
    client = gateway.client(token)
    assert client.get(f"{QUERY}&token={token}").status == 200
    assert client.get(f"/x/{token}").status == 404
    assert client.get(f"/x/%0A{token}").status == 400
    assert client.ask("GET", "/x%0a2026-01-01%09info").status == 400
    gateway.wait_until(lambda: gateway.log().count("reason=ambiguous_path") == 2, what="logs them all")
    log = gateway.log()
    assert not re.search(r"(?m)^2026-01-01", log)
    assert " tenant=9:9" in log, "the subject is there, inside of quotes"
    assert len(re.findall(r"(?m)\taccess\trequest client=127.0.0.1 tenant=1:5 subject=\"eve\\n", log)) == 4
    assert not any(part in log for part in token.split("."))


def test_without_the_flag_there_is_no_access_log(
    start_gateway: StartGateway, flags: tuple[str, ...], key: SigningKey
) -> None:
    gateway = start_gateway(*flags)
    assert gateway.client(key.mint()).get(QUERY).status == 200
    gateway.stop()
    assert "\taccess\t" not in gateway.log()
