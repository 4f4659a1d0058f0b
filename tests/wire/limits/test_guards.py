"""Guards of single queries, in both lanes: what clients are told, and what the backend receives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.wire.processes import Gateway, run_command
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import eventually

RANGE: Final = "/api/v1/query_range"
GUARDS: Final = """\
guards:
- {max_range: 30d, max_lookback: 1d, timeout: 20s}
- {max_range: 1d, account_id: 2}
- {min_step: 15s, mode: observe}
"""
LONG: Final = "the query spans 31d; at most 30d are allowed here: choose a shorter range"


@pytest.fixture
def flags(tmp_path: Path, key_file: Path) -> list[str]:
    (tmp_path / "limits.yaml").write_text(GUARDS)
    file = f"-ratelimit.config={tmp_path}/limits.yaml"
    return ["-enable.auth", f"-auth.publicKeyFiles={key_file}", "-enable.rateLimit", file]


@pytest.fixture(params=["fast", "flow"])
def gateway(request: pytest.FixtureRequest, flags: list[str], upstream: RecordingUpstream) -> Iterator[Gateway]:
    more = ("-clusterMode", f"-read.url={upstream.url}", "-flagsAuthKey=secret", f"-lane={request.param}")
    with Gateway(*flags, *more) as started:
        yield started


def test_a_query_is_held_to_the_guards_of_its_tenant(
    gateway: Gateway, upstream: RecordingUpstream, key: SigningKey, tmp_path: Path
) -> None:
    one, two = (gateway.client(key.mint(tenant(number))) for number in (1, 2))
    long = one.get(f"{RANGE}?query=up&start=-31d&end=now&step=1h")
    assert (long.status, long.json()) == (422, {"status": "error", "errorType": "execution", "error": LONG})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = one.post(f"{RANGE}?start=-1d", body="query=up&start=-31d&end=now&step=1h", headers=form)
    assert (posted.status, posted.json()["error"]) == (422, LONG)
    assert one.get("/api/v1/query?query=m[2d]").status == 422
    assert two.get(f"{RANGE}?query=up&start=-2d&end=now").json()["error"].startswith("the query spans 2d; at most 1d")
    assert upstream.requests == []

    assert one.get(f"{RANGE}?query=up&start=-2d&end=now&step=1s&timeout=1h").status == 200
    assert one.post(RANGE, body="query=up&timeout=1h", headers=form).status == 200
    assert one.get("/api/v1/query?query=up&timeout=5s").status == 200
    first, second, third = upstream.requests
    assert parse_qs(urlsplit(first.target).query) == {
        "query": ["up"], "start": ["-2d"], "end": ["now"], "step": ["1s"], "timeout": ["20s"],
    }  # fmt: skip
    assert parse_qs(urlsplit(second.target).query) == {"timeout": ["20s"]}
    assert parse_qs(second.body.decode()) == {"query": ["up"]}
    assert parse_qs(urlsplit(third.target).query)["timeout"] == ["5s"]

    assert gateway.metric("vmgateway_refusals_total", reason="query_guarded") == 4
    assert gateway.metric("vmgateway_ratelimit_rejects_total", type="max_range", tenant="1:0") == 2
    assert gateway.metric("vmgateway_ratelimit_rejects_total", type="max_lookback", tenant="1:0") == 1
    assert gateway.metric("vmgateway_ratelimit_observed_total", type="min_step", tenant="1:0") == 1
    gateway.wait_for_log(r"beyond a limit: tenant 1:0: the step of the query is 1s; .*\(mode: observe\)")
    me = two.get("/-/me").json()
    assert me["guards"][0] == {"guard": "max_range", "value": "1d", "scope": "2:0"}
    assert [each["guard"] for each in me["guards"]] == ["max_range", "max_lookback", "timeout", "min_step"]
    assert [each["reason"] for each in me["refusals"]] == ["query_guarded"]

    (tmp_path / "key").write_text("secret")
    asked = (f"--url={gateway.url}", f"--auth-key-file={tmp_path}/key", f"--token={key.mint(tenant(1))}")
    live = run_command("explain", *asked, "--json", f"GET {RANGE}?query=up&start=-31d&end=now")
    assert json.loads(live.stdout)["refusal"]["message"] == LONG
    assert gateway.metric("vmgateway_ratelimit_rejects_total", type="max_range", tenant="1:0") == 2

    (tmp_path / "limits.yaml").write_text(GUARDS.replace("30d", "90d"))
    assert gateway.client().get("/-/reload").status == 200
    eventually(lambda: one.get(f"{RANGE}?query=up&start=-31d&end=now&step=1h").status == 200)


def test_explain_shows_guards(flags: list[str], key: SigningKey) -> None:
    request = f"GET {RANGE}?query=up&start=-31d&end=now"
    done = run_command("explain", *flags, f"--token={key.mint(tenant(1))}", "--json", request)
    story = json.loads(done.stdout)
    assert done.returncode == 1
    assert (story["refusal"]["code"], story["refusal"]["answer"]) == ("query_guarded", {"status": 422, "error": LONG})
    assert story["guards"][0] == {"guard": "max_range", "value": "30d", "scope": "tenant"}
    text = run_command("explain", *flags, f"--token={key.mint(tenant(1))}", request.replace("31d", "1d")).stdout
    assert "Guards\n  max_range 30d\n  max_lookback 1d\n  timeout 20s\n  min_step 15s (mode: observe)\n" in text
    assert "+timeout=20s" in text


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_what_passes_the_guards_is_what_victoriametrics_evaluates(flags: list[str], key: SigningKey, lane: str) -> None:
    """Of the arguments that come several times, the guards and VictoriaMetrics take the same one."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with VictoriaMetrics() as backend, Gateway(*flags, f"-read.url={backend.url}", f"-lane={lane}") as gateway:
        client = gateway.client(key.mint({"tenant_id": {}}))

        def timestamps(target: str, body: str) -> list[float]:
            answer = client.post(target, body=body, headers=form)
            assert answer.status == 200, answer.text
            return [float(at) for at, _ in answer.json()["data"]["result"][0]["values"]]

        day = f"{RANGE}?query=time()&step=6h&nocache=1"
        assert timestamps(f"{day}&start=86400&start=0&end=172800", "") == [86400 + 21600 * n for n in range(5)]
        assert timestamps(f"{day}&start=0&end=172800", "start=86400")[0] == 86400
        assert timestamps(f"{day}&start=100000000&end=0", "")[0] == 100_000_000
        assert client.post(f"{day}&start=86400&end=8640000", body="start=0", headers=form).status == 422
        assert client.post(f"{day}&start=0&end=86400", body="end=8640000", headers=form).status == 422
