"""``-ratelimit.headers``: every response to an admitted request tells the client its limits, in both lanes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.wire.client import Answer
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

LIMITS = """\
limits:
- {type: queries, value: 2}
- {type: queries, value: 100, scope: total}
- {type: rows_inserted, value: 5, resolution: hour}
"""
ROWS = '{"metric":{"__name__":"m"},"values":[1,2,3],"timestamps":[1,2,3]}'
QUERY = "/api/v1/query?query=up"


def told(answer: Answer) -> tuple[str | None, str | None]:
    return answer.header("RateLimit-Policy"), answer.header("RateLimit")


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_clients_are_told_what_is_left(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    key: SigningKey,
    key_file: Path,
    tmp_path: Path,
    lane: str,
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(LIMITS)
    upstream.responder = lambda _: Reply(headers=(("RateLimit", '"other";r=1'), ("RateLimit-Limit", "1")))
    flags = [f"-lane={lane}", "-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={upstream.url}"]
    flags += [f"-write.url={upstream.url}", "-enable.rateLimit", f"-ratelimit.config={file}"]
    client = start_gateway(*flags, "-ratelimit.headers").client(key.mint(tenant(1)))
    policy = '"queries/minute";q=2;w=60'
    first = client.get(QUERY)
    assert told(first) == (policy, '"queries/minute";r=1')
    assert first.header("RateLimit-Limit") is None
    written = client.post("/api/v1/import/prometheus", body="m 1\nm 2\n")
    assert told(written) == ('"rows_inserted/hour";q=5;w=3600;qu="rows"', '"rows_inserted/hour";r=3')
    late = client.post("/api/v1/import/prometheus", body="m 1\n" * 4)  # refused once its rows are counted
    assert (late.status, told(late)[1]) == (429, '"rows_inserted/hour";r=3')
    assert re.match(r'"rows_inserted/hour";r=0;t=\d+$', told(client.post("/api/v1/import", body=ROWS))[1] or "")
    client.get(QUERY)
    refused = client.get(QUERY)
    assert refused.status == 429
    assert told(refused)[0] == policy
    reset = re.fullmatch(r'"queries/minute";r=0;t=(\d+)', told(refused)[1] or "")
    assert reset is not None
    assert abs(int(reset[1]) - int(refused.header("Retry-After") or 0)) <= 1
    for page in ("/health", "/-/me"):
        assert told(client.get(page)) == (None, None), page
    assert told(client.post("/api/v1/admin/tsdb/delete_series?match[]=m")) == (None, None)
    plain = start_gateway(*flags).client(key.mint(tenant(1))).get(QUERY)
    assert told(plain) == (None, '"other";r=1')  # without the flag a backend's headers pass
