"""``/-/status`` and ``/-/me`` of the running program, in both lanes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.wire.processes import Gateway, auth_flags
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway

LANES = pytest.mark.parametrize("lane", ["fast", "flow"])
QUERY = "/api/v1/query?query=up"
LIMITS = """
limits:
  - {type: queries, value: 2, resolution: minute}
  - {type: queries, value: 9, resolution: hour, scope: total}
"""
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def flags(upstream: RecordingUpstream, key_file: Path, tmp_path: Path) -> list[str]:
    file = tmp_path / "limits.yaml"
    file.write_text(LIMITS)
    url = upstream.url.replace("://", "://user:p4ss@")
    return [*auth_flags(url, key_file), "-enable.rateLimit", f"-ratelimit.config={file}"]


@LANES
def test_the_status_page(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey, lane: str
) -> None:
    gateway = start_gateway(*flags, "-flagsAuthKey=k3y", f"-lane={lane}")
    eve = gateway.client(key.mint(tenant(1, 5), sub="eve<script>"))
    assert [eve.get(f"{QUERY}&password=p4ss").status for _ in range(3)] == [200, 200, 429]
    assert eve.get(f"/x/{key.mint()}").status == 404
    assert gateway.client("a.b").get(QUERY).status == 401
    assert gateway.client().get("/-/status").status == 401
    assert gateway.client().get("/-/status?authKey=other").status == 401
    answer = gateway.client().get("/-/status?authKey=k3y")
    assert answer.status == 200
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in (answer.header("Content-Security-Policy") or "")
    assert answer.header("Referrer-Policy") == "no-referrer"
    text = answer.text
    read = f"<td>read</td><td>{upstream.url}</td><td><span class=good>up</span></td><td>0</td><td>2</td><td>0</td>"
    for part in (
        read,
        "1 key loaded",
        "2 of 2",
        "2 of 9",
        "<td>rate_limited</td><td>1</td>",
        "<td>unknown_route</td><td>1</td>",
        "<td>1:5</td><td>eve&lt;script&gt;</td><td><code>GET /api/v1/query</code></td><td>429</td>",
        "<td><code>GET /x/&lt;token&gt;</code></td><td>404</td>",
        "<td>-</td><td>-</td><td><code>GET /api/v1/query</code></td><td>401</td><td>malformed_token: ",
        "vmgateway explain --token-file=token &#x27;GET /api/v1/query&#x27;",
        f"{lane} lane",
        "<td>page_secrets</td><td>0</td>",
    ):
        assert part in text, part
    for secret in ("p4ss", "k3y", "<script", "eyJ"):
        assert secret not in text
    assert len(upstream.requests) == 2


@LANES
def test_an_open_status_page_names_no_client(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, lane: str
) -> None:
    gateway = start_gateway(*flags, f"-lane={lane}")
    assert gateway.client(key.mint(sub="eve")).get("/nowhere").status == 404
    text = gateway.client().get("/-/status").text
    assert "<td>unknown_route</td><td>1</td>" in text
    assert "eve" not in text
    assert "nowhere" not in text


def mine(client: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = client.get("/-/me", headers={"Accept": "application/json"})
    assert answer.status == 200
    assert answer.header("Content-Type") == "application/json"
    document: dict[str, Any] = json.loads(answer.body)
    return document


@LANES
def test_me_tells_what_a_token_grants_and_its_own_refusals_alone(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey, lane: str
) -> None:
    gateway = start_gateway(*flags, f"-lane={lane}")
    alice = gateway.client(key.mint(team("dev", tenant_id={"account_id": 1, "project_id": 5}, mode=1), sub="alice"))
    other_tenant = gateway.client(key.mint(tenant(2), sub="alice"))
    eve = gateway.client(key.mint(tenant(1, 5), sub="eve"))
    assert alice.post("/api/v1/import", body="").status == 403
    assert [alice.get(QUERY).status for _ in range(3)] == [200, 200, 429]
    assert eve.get("/nowhere").status == 404
    assert other_tenant.get("/api/v1/targets").status == 404
    found = mine(alice)
    assert (found["subject"], found["verified"], found["silent_workers"]) == ("alice", True, [])
    assert found["access"] == {"tenant": "1:5", "mode": "read", "labels": [["team", "dev"]], "filters": []}
    assert found["limits"] == [
        {"type": "queries", "resolution": "minute", "scope": "1:5", "value": 2, "used": 2},
        {"type": "queries", "resolution": "hour", "scope": "total", "value": 9, "used": None},
    ]
    shown = [(each["method"], each["path"], each["status"], each["reason"]) for each in found["refusals"]]
    assert shown == [
        ("GET", "/api/v1/query", 429, "rate_limited"),
        ("POST", "/api/v1/import", 403, "access_denied"),
    ]
    assert [each["path"] for each in mine(eve)["refusals"]] == ["/nowhere"]
    assert [each["path"] for each in mine(other_tenant)["refusals"]] == ["/api/v1/targets"]
    assert mine(other_tenant)["limits"][0]["used"] == 0
    page = alice.get("/-/me", headers=HTML)
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    assert page.header("Cache-Control") == "no-store"
    assert "<td>1:5</td><td>read</td><td>team=dev</td><td>-</td>" in page.text
    assert "POST /api/v1/import" in page.text
    assert "nowhere" not in page.text
    assert alice.ask("HEAD", "/-/me").body == b""
    assert len(upstream.requests) == 2
    assert gateway.metric("vmgateway_requests_total", outcome="refused") == 4, "the pages themselves do not count"


@LANES
def test_me_checks_the_token_as_every_request(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey, lane: str
) -> None:
    gateway = start_gateway(*flags, f"-lane={lane}", "-auth.audience=vm")
    good = key.mint(tenant(1, 5), aud="vm")
    assert gateway.client(good).get("/-/me").status == 200
    for bad in (None, "a.b", good[:-4] + "AAAA", key.mint(tenant(1, 5)), key.mint(tenant(1, 5), aud="vm", exp=1)):
        client = gateway.client(bad)
        answer = client.get("/-/me", headers=HTML)
        assert answer.status == 401
        assert answer.header("WWW-Authenticate") == "Bearer"
        assert answer.json()["error"] == "a valid token is needed"
    assert gateway.client(good).post("/-/me").status == 404
    assert gateway.client(good).get("/-/me/").status == 404
    assert upstream.requests == []


@LANES
def test_without_tokens_there_is_no_page_about_them(
    start_gateway: StartGateway, upstream: RecordingUpstream, lane: str, tmp_path: Path
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(LIMITS)
    limits = ("-enable.rateLimit", f"-ratelimit.config={file}")
    gateway = start_gateway(f"-read.url={upstream.url}", "-clusterMode", *limits, f"-lane={lane}")
    assert gateway.client().get("/-/me").status == 404


@LANES
def test_with_several_workers_both_pages_are_those_of_all(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, lane: str
) -> None:
    gateway = start_gateway(*flags, "-workers=3", f"-lane={lane}")
    gateway.wait_until(lambda: gateway.log().count("listens on") == 3, what="all workers listen")
    answered = re.compile(r"<h1>Worker [0-2]</h1>\s*<p><span class=good>serving</span>")
    text = gateway.wait_until(
        lambda: text if len(answered.findall(text := gateway.client().get("/-/status").text)) == 3 else "",
        what="shows all workers",
    )
    assert text.count("<!DOCTYPE") == 1
    eve, other = (gateway.client(key.mint(tenant(1, 5), sub=name)) for name in ("eve", "other"))
    paths = [f"/nowhere/{number}" for number in range(30)]
    for path in paths:
        assert eve.get(path).status == 404
    assert other.get("/secret").status == 404
    assert len(refusing(gateway)) > 1, "several workers have refused some"
    for _ in range(10):
        found = mine(eve)
        times = [each["time"] for each in found["refusals"]]
        assert times == sorted(times, reverse=True)
        shown = {each["path"] for each in found["refusals"]}
        assert len(shown) == len(times) == 10
        assert shown < set(paths[-15:]), "they are kept when they end, so neighbours may change places"
        assert found["silent_workers"] == []
    assert eve.get(QUERY).status == 200
    used = gateway.wait_until(
        lambda: used if len(used := {mine(eve)["limits"][0]["used"] for _ in range(20)}) == 1 and used != {0} else None,
        what="shows the usage of all workers",
    )
    assert used == {1}
    assert "nowhere/2" in eve.get("/-/me", headers=HTML).text
    assert gateway.client("a.b").get("/-/me").status == 401


def refusing(gateway: Gateway) -> set[str]:
    """The workers that have refused a path."""
    return {
        sample.labels["worker"]
        for family in text_string_to_metric_families(gateway.client().get("/metrics").text)
        for sample in family.samples
        if sample.name == "vmgateway_refusals_total" and sample.labels["reason"] == "unknown_route" and sample.value
    }
