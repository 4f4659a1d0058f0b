"""Limits on real processes: what a client is told, what reaches the backend, how limits are read again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.wire.client import Answer
from tests.support.wire.processes import Gateway, Program, run_vmgateway
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"

LIMITS = """\
limits:
- type: queries
  value: 5
- type: queries
  value: 2
  account_id: 1
  project_id: 5
- type: queries
  value: 3
  labels: {team: dev}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "limit.yaml"
    path.write_text(LIMITS)
    return path


@pytest.fixture
def start(
    start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path, file: Path, program: Program
) -> Callable[..., Gateway]:
    """A gateway with tokens, in front of a cluster, with the limits above."""

    def start(*flags: str) -> Gateway:
        return start_gateway(
            "-enable.auth",
            f"-auth.publicKeyFiles={key_file}",
            "-clusterMode",
            f"-read.url={upstream.url}",
            f"-write.url={upstream.url}",
            "-enable.rateLimit",
            f"-ratelimit.config={file}",
            *flags,
            program=program,
        )

    return start


def statuses(gateway: Gateway, token: str | None, number: int, target: str = QUERY) -> list[int]:
    client = gateway.client(token)
    return [client.get(target).status for _ in range(number)]


def check_refusal(answer: Answer, text: str) -> None:
    """A 429 with all that belongs to it: Prometheus' JSON, which Grafana shows, and when to come again."""
    assert answer.status == 429
    assert answer.header("Content-Type") == "application/json"
    error = {"status": "error", "errorType": "too_many_requests", "error": f"request was rate limited: {text}"}
    assert answer.json() == error
    assert 50 <= int(answer.header("Retry-After") or 0) <= 60  # the window began a few moments ago


@pytest.mark.smoke
def test_reads_beyond_the_limit_are_refused_tenant_by_tenant(
    start: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey
) -> None:
    gateway = start()
    own, other = key.mint(tenant(1, 5)), key.mint(tenant(7))
    assert statuses(gateway, own, 4) == [200, 200, 429, 429]
    assert statuses(gateway, other, 6) == [200] * 5 + [429]
    assert len(upstream.requests) == 7
    check_refusal(gateway.client(own).get(QUERY), "tenant 1:5 has used 2 of 2 queries per minute")
    form = {"query": "up"}
    check_refusal(
        gateway.client(other).post("/api/v1/query", form=form), "tenant 7:0 has used 5 of 5 queries per minute"
    )
    foreign = gateway.client(own).get("/select/7/prometheus/api/v1/query?query=up")
    assert foreign.status == 403  # and not 429: whose limit it would be is none of their business
    assert len(upstream.requests) == 7
    # Writes, deletes and the gateway's own pages are no queries.
    assert gateway.client(own).post("/api/v1/import/prometheus", body="m 1\n").status == 200
    assert gateway.client(own).post("/api/v1/admin/tsdb/delete_series?match[]=m").status == 200
    assert gateway.client(own).get("/health").status == 200
    assert len(upstream.requests) == 9

    def metric(name: str, who: str) -> float:
        return gateway.metric(name, tenant=who, type="queries", resolution="minute", labels="")

    assert (metric("vmgateway_tenant_limit", "1:5"), metric("vmgateway_tenant_usage", "1:5")) == (2, 2)
    assert (metric("vmgateway_tenant_limit", "7:0"), metric("vmgateway_tenant_usage", "7:0")) == (5, 5)
    rejects = gateway.metric("vmgateway_ratelimit_rejects_total", tenant="1:5", type="queries", resolution="minute")
    assert rejects == 3
    assert gateway.metric("vmgateway_refusals_total", reason="rate_limited") == 5
    assert gateway.metric("vmgateway_requests_total", outcome="refused", tenant="7:0") == 2


@pytest.mark.smoke
@pytest.mark.parametrize("asset", ["/vmui/", "/vmui/assets/index.js", "/graph/manifest.json", "/favicon.ico"])
def test_the_files_of_a_page_are_no_queries(
    start: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey, asset: str
) -> None:
    gateway = start()
    token = key.mint(tenant(1, 5))
    assert statuses(gateway, token, 10, asset) == [200] * 10
    assert statuses(gateway, token, 3) == [200, 200, 429]
    assert statuses(gateway, token, 1, asset) == [200], "the page loads while its queries are refused"
    assert len(upstream.requests) == 13


def test_a_token_with_labels_has_a_limit_of_its_own(
    start: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey
) -> None:
    gateway = start()
    dev, ops = key.mint(team("dev")), key.mint(team("ops"))
    assert statuses(gateway, dev, 4) == [200, 200, 200, 429]
    text = 'tenant 0:0, tokens with {team="dev"}, have used 3 of 3 queries per minute'
    check_refusal(gateway.client(dev).get(QUERY), text)
    assert statuses(gateway, ops, 4) == [200, 200, 429, 429]
    assert len(upstream.requests) == 5


def test_not_one_query_too_many_gets_through_from_many_clients_at_once(
    start: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey, file: Path
) -> None:
    file.write_text("limits: [{type: queries, value: 50}, {type: queries, value: 75, scope: total}]")
    gateway = start()
    tokens = [key.mint(tenant(number)) for number in (1, 2)]
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda token=token: seen.extend(statuses(gateway, token, 20)))
        for token in tokens * 4
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen.count(200), seen.count(429)) == (75, 85)
    by_tenant = [request.path.split("/")[2] for request in upstream.requests]
    assert len(by_tenant) == 75
    assert max(by_tenant.count(name) for name in ("1:0", "2:0")) <= 50


def test_coming_near_a_limit_is_logged_once(start: Callable[..., Gateway], key: SigningKey) -> None:
    gateway = start()
    token = key.mint(tenant(7))
    assert statuses(gateway, token, 3) == [200] * 3
    behind = len(gateway.log())
    assert statuses(gateway, token, 3) == [200, 200, 429]
    gateway.wait_for_log("near a limit: tenant 7:0 has used 4 of 5 queries per minute", behind=behind)
    assert gateway.metric("vmgateway_ratelimit_warnings_total", tenant="7:0", type="queries") == 1
    assert gateway.log().count("near a limit") == 1


# --- reading the limits again --------------------------------------------------------------------------------------


def reloads(gateway: Gateway, result: str) -> float:
    return gateway.metric("vmgateway_ratelimit_config_reloads_total", result=result)


def test_sighup_and_the_page_read_the_limits_again_and_usage_stays(
    start: Callable[..., Gateway], key: SigningKey, file: Path
) -> None:
    gateway = start()
    token = key.mint(tenant(1, 5))
    assert statuses(gateway, token, 3) == [200, 200, 429]
    file.write_text(LIMITS.replace("value: 2", "value: 3"))
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: reloads(gateway, "success") == 1, what="has read the file again")
    assert statuses(gateway, token, 2) == [200, 429]
    file.write_text(LIMITS.replace("value: 2", "value: 4"))
    answer = gateway.client().post("/-/reload")
    assert (answer.status, answer.body) == (200, b"")
    gateway.wait_until(lambda: reloads(gateway, "success") == 2, what="has read it again")
    assert statuses(gateway, token, 2) == [200, 429]


def test_a_bad_file_keeps_the_limits_in_force(start: Callable[..., Gateway], key: SigningKey, file: Path) -> None:
    gateway = start()
    token = key.mint(tenant(1, 5))
    file.write_text(LIMITS.replace("value: 2", "value: 0"))
    behind = len(gateway.log())
    gateway.signal(signal.SIGHUP)
    found = gateway.wait_for_log(r"[^\n]*limit\.yaml, line 5: limits\[1\]\.value: expected [^\n]*", behind=behind)
    assert "keeping the old configuration" in found[0]
    gateway.wait_until(
        lambda: gateway.metric("vmgateway_config_reloads_total", result="error") == 1, what="counts the failure"
    )
    assert (reloads(gateway, "error"), reloads(gateway, "success")) == (1, 0)
    assert statuses(gateway, token, 3) == [200, 200, 429]


def test_the_interval_reads_a_changed_file_and_complains_once_of_a_bad_one(
    start: Callable[..., Gateway], key: SigningKey, file: Path
) -> None:
    gateway = start("-ratelimit.configCheckInterval=50ms")
    token = key.mint(tenant(1, 5))
    assert statuses(gateway, token, 3) == [200, 200, 429]
    file.write_text("limits: [")
    gateway.wait_until(lambda: reloads(gateway, "error") >= 3, what="has tried several times")
    gateway.wait_for_log("cannot reload the limits")
    assert gateway.log().count("cannot reload the limits") == 1
    file.write_text(LIMITS.replace("value: 2", "value: 3"))
    gateway.wait_until(lambda: reloads(gateway, "success") == 1, what="has read the file again")
    assert statuses(gateway, token, 2) == [200, 429]


def test_limits_come_from_a_url(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, program: Program
) -> None:
    served: list[Reply] = [Reply(body=b"limits: [{type: queries, value: 1}]")]

    def serve(_: ReceivedRequest) -> Reply:
        return served[-1]

    with RecordingUpstream(serve) as source:
        gateway = start_gateway(
            "-enable.auth",
            f"-auth.publicKeyFiles={key_file}",
            f"-read.url={upstream.url}",
            "-enable.rateLimit",
            f"-ratelimit.config={source.url.replace('://', '://user:secret@')}/limit.yaml?key=secret",
            "-ratelimit.configCheckInterval=50ms",
            program=program,
        )
        token = key.mint()
        assert statuses(gateway, token, 2) == [200, 429]
        assert source.requests[-1].target == "/limit.yaml?key=secret"
        assert source.requests[-1].header("Authorization") == ["Basic dXNlcjpzZWNyZXQ="]
        moved = Reply(status=302, headers=(("Location", f"{upstream.url}/elsewhere"),))
        too_large = Reply(body=b"#" * (2 << 20))
        for reply, said in ((Reply(status=500), "status 500"), (moved, "status 302"), (too_large, "larger than 1 MiB")):
            served.append(reply)
            gateway.wait_for_log(f"-ratelimit.config {source.url}/limit.yaml: cannot read it: .*{said}")
        assert statuses(gateway, token, 1) == [429]
        served.append(Reply(body=b"limits: [{type: queries, value: 2}]"))
        gateway.wait_until(lambda: reloads(gateway, "success") == 1, what="has read it again")
        assert statuses(gateway, token, 2) == [200, 429]
        assert not any(request.path == "/elsewhere" for request in upstream.requests)
        assert "secret" not in gateway.log()


# --- without -enable.auth ------------------------------------------------------------------------------------------


@pytest.fixture
def open_gateway(start_gateway: StartGateway, upstream: RecordingUpstream, file: Path, program: Program) -> Gateway:
    flags = ("-clusterMode", f"-read.url={upstream.url}", f"-write.url={upstream.url}")
    return start_gateway("-enable.rateLimit", f"-ratelimit.config={file}", *flags, program=program)


def test_without_auth_the_path_names_the_tenant(open_gateway: Gateway, upstream: RecordingUpstream) -> None:
    def path(name: str) -> str:
        return f"/select/{name}/prometheus{QUERY}"

    assert statuses(open_gateway, None, 3, path("1:5")) == [200, 200, 429]
    assert statuses(open_gateway, None, 6, path("0")) == [200] * 5 + [429]
    assert statuses(open_gateway, None, 1, path("0:0")) == [429]
    assert statuses(open_gateway, None, 6, path("multitenant")) == [200] * 5 + [429]
    text = "multitenant has used 5 of 5 queries per minute"
    check_refusal(open_gateway.client().get(path("multitenant")), text)
    assert statuses(open_gateway, None, 1, QUERY) == [404]
    sent = [request.target for request in upstream.requests]
    assert sent == [path("1:5")] * 2 + [path("0:0")] * 5 + [path("multitenant")] * 5
    for name, canonical in (("multitenant", "multitenant"), ("3", "3:0")):
        answer = open_gateway.client().post(f"/insert/{name}/prometheus/api/v1/import/prometheus", body="m 1\n")
        assert answer.status == 200
        assert upstream.requests[-1].target == f"/insert/{canonical}/prometheus/api/v1/import/prometheus"
    delete = "/delete/{}/prometheus/api/v1/admin/tsdb/delete_series?match[]=m"
    assert open_gateway.client().post(delete.format("multitenant")).status == 404
    assert open_gateway.client().post(delete.format("3")).status == 200
    assert len(upstream.requests) == 15
    open_gateway.wait_for_log("NO token is needed")
    assert open_gateway.client().get("/-/ready").status == 200


def test_at_the_bound_of_tenants_a_new_one_is_refused(
    start_gateway: StartGateway, upstream: RecordingUpstream, file: Path, program: Program
) -> None:
    file.write_text(LIMITS + "- {type: rows_inserted, value: 100}\n")
    flags = ("-clusterMode", f"-read.url={upstream.url}", f"-write.url={upstream.url}", "-ratelimit.maxTenants=3")
    gateway = start_gateway("-enable.rateLimit", f"-ratelimit.config={file}", *flags, program=program)
    paths = [f"/select/{number}/prometheus{QUERY}" for number in range(1, 6)]
    assert [statuses(gateway, None, 1, path) for path in paths] == [[200]] * 3 + [[429]] * 2
    refusal = gateway.client().get(paths[3])
    assert "it cannot track tenant 4:0" in refusal.json()["error"]
    assert 50 <= int(refusal.header("Retry-After") or 0) <= 60
    assert [statuses(gateway, None, 1, path) for path in paths[:3]] == [[200]] * 3
    reached = len(upstream.requests)
    refusal = gateway.client().post("/insert/4/prometheus/api/v1/import/prometheus", body="m 1\n")
    assert (refusal.status, refusal.json()["errorType"]) == (429, "too_many_requests")
    assert 50 <= int(refusal.header("Retry-After") or 0) <= 60
    assert len(upstream.requests) == reached
    assert gateway.metric("vmgateway_ratelimit_rejects_total", type="tenants") == 4
    assert gateway.metric("vmgateway_ratelimit_tenants") == 3


# --- start ---------------------------------------------------------------------------------------------------------


def test_a_start_with_a_bad_file_fails_with_its_line(file: Path) -> None:
    file.write_text("limits:\n- type: queries\n  value: many\n")
    flags = ("-enable.rateLimit", f"-ratelimit.config={file}", "-clusterMode", "-read.url=http://127.0.0.1:1")
    result = run_vmgateway("-httpListenAddr=127.0.0.1:1", *flags)
    error = "limits[0].value: expected an integer of 1 to 9007199254740992 in decimal notation, got text"
    said = f"vmgateway: -ratelimit.config {file}, line 3: {error}\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", said)


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_a_limit_that_observes_lets_everything_through_and_tells(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, file: Path, lane: str
) -> None:
    file.write_text("limits: [{type: queries, value: 3, mode: observe}]")
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", "-clusterMode", f"-read.url={upstream.url}")
    gateway = start_gateway(*flags, "-enable.rateLimit", f"-ratelimit.config={file}", f"-lane={lane}")
    assert statuses(gateway, key.mint(tenant(1, 5)), 8) == [200] * 8
    assert len(upstream.requests) == 8
    labels = {"type": "queries", "resolution": "minute", "tenant": "1:5"}
    assert gateway.metric("vmgateway_ratelimit_observed_total", **labels) == 5
    gateway.wait_for_log(r"beyond a limit: tenant 1:5 has used 3 of 3 queries per minute \(mode: observe\)")
