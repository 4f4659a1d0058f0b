"""Metrics of each tenant, in both lanes: durations, bytes and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, auth_flags
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import HANG_UP, ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

LANES = pytest.mark.parametrize("lane", ["fast", "flow"])
ROW = b'{"metric":{"__name__":"a"},"values":[1],"timestamps":[1]}\n'


def reply(request: ReceivedRequest) -> Reply:
    if "hang" in request.target:
        return HANG_UP
    if "bad" in request.target:
        return Reply(status=422, body=b"bad!")
    return Reply(body=iter([b"a" * 1000] * 5)) if "long" in request.target else Reply(body=b"12345")


def of(gateway: Gateway, name: str, **labels: str) -> float:
    return gateway.metric(f"vmgateway_tenant_{name}", **labels)


@LANES
@pytest.mark.parametrize("check", ["true", "false"])
def test_traffic_by_tenant_and_access(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, lane: str, check: str
) -> None:
    """With and without a meter the bytes of writes are counted."""
    upstream.responder = reply
    flags = (*auth_flags(upstream.url, key_file), f"-lane={lane}", f"-write.checkLabelNames={check}")
    gateway = start_gateway(*flags)
    one, two = gateway.client(key.mint(tenant(1, 5))), gateway.client(key.mint(tenant(2)))
    assert one.post("/api/v1/import", body=ROW * 3).status == 200
    assert one.post("/api/v1/import", body=iter([ROW, ROW])).status == 200
    assert one.get("/api/v1/query?query=long").status == 200
    assert one.post("/api/v1/query", form={"query": "up"}).status == 200
    assert two.get("/api/v1/query?query=bad").status == 422
    assert two.get("/api/v1/query?query=hang").status == 502
    assert two.get("/api/v1/nothing").status == 404  # before it is known whose it is
    assert of(gateway, "received_bytes_total", tenant="1:5", access="write") == 5 * len(ROW)
    assert of(gateway, "received_bytes_total", tenant="1:5", access="read") == len("query=up")
    assert of(gateway, "sent_bytes_total", tenant="1:5", access="read") == 5005
    assert of(gateway, "sent_bytes_total", tenant="1:5", access="write") == 10
    assert of(gateway, "request_duration_seconds_count", tenant="1:5", access="write") == 2
    assert 0 < of(gateway, "request_duration_seconds_sum", tenant="1:5") < 60
    assert of(gateway, "errors_total", tenant="1:5") == 0
    assert of(gateway, "errors_total", tenant="2:0", access="read", status="4xx") == 1
    assert of(gateway, "errors_total", tenant="2:0", access="read", status="5xx") == 1
    assert of(gateway, "errors_total") == 2
    assert of(gateway, "request_duration_seconds_count") == 6


@LANES
def test_the_number_of_tenants_is_bounded(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, lane: str
) -> None:
    upstream.responder = reply
    gateway = start_gateway(*auth_flags(upstream.url, key_file), f"-lane={lane}", "-metrics.maxTenants=1")
    for number in (1, 2, 3):
        assert gateway.client(key.mint(tenant(number))).get("/api/v1/query?query=up").status == 200
    assert of(gateway, "sent_bytes_total", tenant="1:0") == 5
    assert of(gateway, "sent_bytes_total", tenant="other") == 10
