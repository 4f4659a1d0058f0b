"""Whatever crashes in the gateway, nothing gets through half judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wire.raw import RawClient, head
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway

WRITE = "/api/v1/import/prometheus"
QUERY = "/api/v1/query?query=up"


BROKEN = {
    "AccessControl.requestheaders": {"get", "write", "form"},
    "Forwarding.requestheaders": {"get", "write", "form"},  # a form is prepared by its head, and judged by its body
    "Forwarding.request": {"form"},
    "GatewayStream.answer_now": set(),
}
"""The methods that a test breaks, and the requests that then cannot be answered."""


@pytest.mark.smoke
@pytest.mark.parametrize("broken", BROKEN)
def test_whatever_crashes_reaches_no_backend(
    upstream: RecordingUpstream, flags: list[str], start_gateway: StartGateway, key: SigningKey, tmp_path: Path,
    broken: str,
) -> None:  # fmt: skip
    """A script beside the gateway breaks one of its own methods; the request must not get through half judged."""
    crash = tmp_path / "crash.py"
    crash.write_text(CRASH.format(broken=broken))
    gateway = start_gateway(*flags, program="mitmdump", scripts=[crash])
    client = gateway.client(key.mint({"extra_labels": {"team": "dev"}}))
    answers = {
        "get": client.get(QUERY),
        "write": client.post(WRITE, body=b"m 1\n"),
        "form": client.post("/api/v1/query", form={"query": "up"}),
    }
    assert {kind for kind, answer in answers.items() if 500 <= answer.status < 600} == BROKEN[broken]
    whole = [kind for kind in answers if kind not in BROKEN[broken]]
    assert [answers[kind].status for kind in whole] == [200] * len(whole)
    assert len(upstream.requests) == len(whole)
    assert whole or upstream.bytes_received == 0
    assert all(request.argument("extra_label") == ["team=dev"] for request in upstream.requests)
    gateway.kill()  # its log has the tracebacks that the end of every other gateway is checked for


CRASH = """
import logging
from vmgw_addons.steps import access_control
from vmgw_addons.steps import forwarding
from vmgw_addons.lanes.flow import stream as http_stream

NAMES = {{**vars(access_control), **vars(forwarding), **vars(http_stream)}}
OWNER, METHOD = "{broken}".split(".")

def crash(*args):
    raise RuntimeError("broken on purpose")

setattr(NAMES[OWNER], METHOD, crash)
"""


@pytest.mark.smoke
def test_a_crash_in_the_lane_closes_the_connection(
    upstream: RecordingUpstream, start_gateway: StartGateway, key_file: Path, token: str, tmp_path: Path
) -> None:
    crash = tmp_path / "crash.py"
    crash.write_text(CRASH.format(broken="GatewayStream.make_server_connection"))
    gateway = start_gateway(
        "-enable.auth",
        f"-read.url={upstream.url}",
        f"-auth.publicKeyFiles={key_file}",
        program="mitmdump",
        scripts=[crash],
    )
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, token))
        assert client.is_closed()
    assert upstream.bytes_received == 0
    gateway.kill()
