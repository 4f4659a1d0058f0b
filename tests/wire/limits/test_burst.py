"""``burst`` in the file of limits, in both lanes: the most queries of a tenant in any second."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"
LIMITS = """\
limits:
- {type: queries, value: 1000}
- {type: queries, value: 1000, resolution: hour, burst: 1, account_id: 1}
"""


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_a_burst_is_refused_and_over_after_a_second(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path, lane: str
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(LIMITS)
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={upstream.url}", f"-lane={lane}")
    gateway = start_gateway(*flags, "-enable.rateLimit", f"-ratelimit.config={file}")
    client, began = gateway.client(key.mint(tenant(1))), time.monotonic()
    answers = [client.get(QUERY)]
    while answers[-1].status == 200 and len(answers) < 200:
        answers.append(client.get(QUERY))
    assert len(answers) - 1 <= 2 + time.monotonic() - began  # a slow machine may have begun another second
    assert answers[-1].status == 429
    assert answers[-1].json()["error"] == "request was rate limited: tenant 1:0 has used 1 of 1 queries per second"
    assert answers[-1].header("Retry-After") == "1"
    gateway.wait_until(lambda: client.get(QUERY).status == 200, what="admits again")
    other = gateway.client(key.mint(tenant(2)))
    assert [other.get(QUERY).status for _ in range(5)] == [200] * 5
    assert gateway.metric("vmgateway_ratelimit_rejects_total", tenant="1:0", type="queries", resolution="second") >= 1
