"""The gateway's own pages, and the backend's pages that nobody reaches."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.processes import REPOSITORY, Gateway, Program
from tests.support.wire.tokens import FULL, SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.write_bodies import JSON_LINE

OWN_PAGES = {"/": 200, "/health": 200, "/-/healthy": 200, "/-/ready": 200, "/ping": 204, "/metrics": 200, "/flags": 200}
OWN_PAGES |= {"/debug/pprof": 200, "/debug/pprof/": 200, "/-/reload": 200}


def internal_paths() -> list[str]:
    """The paths that the route facts mark as never to be exposed, without the gateway's own pages."""
    with (REPOSITORY / "tests" / "data" / "victoriametrics-routes.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["access"] == "internal-never-expose"]
    # Rows that begin with a word in parentheses are about the components of a cluster, which have no client.
    paths = {
        row[column] for row in rows if row["incoming_path"][0] == "/" for column in ("incoming_path", "cluster_path")
    }
    concrete = {path.replace("<any>", "x").replace("<tenant>", "0:0") for path in paths if path.startswith("/")}
    return sorted(concrete - OWN_PAGES.keys())


EXTRA_PATHS = [
    "/prometheus/metrics",
    "/prometheus/health",
    "/prometheus/flags",
    "/graphite/metrics",
    "/select/0:0/prometheus/metrics",
    "/select/0:0/prometheus/-/reload",
    "/debug/pprof/cmdline",
    "/debug/pprof/heap",
    "/internal/partition/attach",
    "/api/v1/admin/tsdb/snapshot?x=/api/v1/query",
    "/health/",
    "/metrics/",
    "//metrics",
    "/metrics%3f",
    "/%6detrics",
    "*",
]


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def gateway(request: pytest.FixtureRequest, backend: RecordingUpstream, key_file: Path) -> Iterator[Gateway]:
    program: Program = request.param
    flags = ("-enable.auth", f"-read.url={backend.url}", f"-write.url={backend.url}")
    with Gateway(*flags, f"-auth.publicKeyFiles={key_file}", program=program) as started:
        yield started


@pytest.mark.parametrize(("path", "status"), OWN_PAGES.items())
def test_own_pages_need_no_token_and_no_backend(
    gateway: Gateway, backend: RecordingUpstream, key: SigningKey, path: str, status: int
) -> None:
    for client in (gateway.client(), gateway.client(key.mint()), gateway.client("incorrect")):
        for method in ("GET", "HEAD"):
            answer = client.ask(method, path)
            assert answer.status == status
            assert (answer.body == b"") == (method == "HEAD" or status == 204 or path == "/-/reload")
    assert gateway.client().get(f"{path}?a=b").status == status
    assert backend.connections == []


def test_health_is_what_the_servers_of_victoria_metrics_answer(gateway: Gateway) -> None:
    assert gateway.client().get("/health").text == "OK"


@pytest.mark.parametrize("path", [*internal_paths(), *EXTRA_PATHS])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_internal_pages_of_the_backend_are_out_of_reach(
    gateway: Gateway, backend: RecordingUpstream, key: SigningKey, method: str, path: str
) -> None:
    for token in (None, key.mint(FULL), key.mint(tenant(0))):
        answer = gateway.client(token).ask(method, path)
        if path == "/%6detrics" and method == "GET":
            # Once decoded this is the gateway's own page: either answer is right, the backend's page is not.
            assert answer.status in (200, 404)
        elif path == "/-/reload":
            assert (answer.status, answer.body) == (200, b"")  # the gateway's own
        else:
            assert answer.status in (400, 401, 403, 404, 405), answer
    assert backend.connections == []


def test_own_pages_of_other_methods_do_not_reach_the_backend(
    gateway: Gateway, backend: RecordingUpstream, key: SigningKey
) -> None:
    for path in OWN_PAGES:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert gateway.client(key.mint()).ask(method, path, body=b"x").status in (200, 204, 404, 405)
    assert backend.connections == []


@pytest.mark.parametrize("path", ["/api/v1/query", "/api/v1/import", "/metrics", "/not/served", "/select/7/vmui/"])
def test_options_is_answered_before_anything_is_judged(gateway: Gateway, backend: RecordingUpstream, path: str) -> None:
    headers = {"Origin": "https://grafana.example", "Access-Control-Request-Method": "POST"}
    answer = gateway.client().ask("OPTIONS", path, headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    for name in ("Origin", "Methods"):
        assert answer.header(f"Access-Control-Allow-{name}") == "*"
    assert answer.header("Access-Control-Allow-Headers") == "*, Authorization", "the star alone does not name it"
    assert answer.header("Access-Control-Allow-Credentials") is None
    assert backend.connections == []


def test_pages_of_other_origins_may_read_refusals_but_no_guarded_page(gateway: Gateway, key: SigningKey) -> None:
    reader = gateway.client(key.mint({**FULL, "mode": 1}))
    told = [(gateway.client(), "/api/v1/query", 401), (reader, "/tags/tagSeries", 403), (reader, "/x", 404)]
    for client, path, status in [*told, (reader, "/health", 200), (reader, "/", 200)]:
        answer = client.get(path)
        assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (status, "*"), path
    for path in ("/metrics", "/flags"):
        assert gateway.client().get(path).header("Access-Control-Allow-Origin") is None


def test_ping_answers_as_victoriametrics_does(gateway: Gateway) -> None:
    client = gateway.client()
    pings = {"/ping": 204, "/ping?verbose=true": 200, "/ping?verbose=1": 204, "/ping?verbose=": 204}
    assert {path: client.get(path).status for path in pings} == pings


def test_metrics_count_what_happened(gateway: Gateway, backend: RecordingUpstream, key: SigningKey) -> None:
    def counted() -> dict[str, float]:
        return {
            "missing": gateway.metric("vmgateway_auth_rejects_total", reason="missing_token"),
            "signature": gateway.metric("vmgateway_auth_rejects_total", reason="bad_signature"),
            "expired": gateway.metric("vmgateway_auth_rejects_total", reason="expired"),
            "read": gateway.metric("vmgateway_requests_total", access="read", outcome="admitted", tenant="3:4"),
            "write": gateway.metric("vmgateway_requests_total", access="write", outcome="admitted", tenant="3:4"),
            "refused": gateway.metric("vmgateway_requests_total", outcome="refused"),
            "timed": gateway.metric("vmgateway_request_duration_seconds_count"),
        }

    before = counted()
    good = gateway.client(key.mint(tenant(3, 4)))
    assert good.get("/api/v1/query?query=up").status == 200
    assert good.post("/api/v1/import", body=JSON_LINE).status == 200
    for client, times in (
        (gateway.client(), 1),
        (gateway.client(SigningKey.generate("ES256").mint()), 2),
        (gateway.client(key.mint(lifetime=-5)), 3),
    ):
        for _ in range(times):
            assert client.get("/api/v1/query?query=up").status == 401
    after = counted()
    assert {name: after[name] - before[name] for name in after} == {
        "missing": 1,
        "signature": 2,
        "expired": 3,
        "read": 1,
        "write": 1,
        "refused": 6,
        "timed": 8,
    }
    backend.close_idle()
    backend.forget()


def test_metrics_show_the_keys(gateway: Gateway) -> None:
    assert gateway.metric("vmgateway_keys_loaded") == 1
    assert gateway.metric("vmgateway_signatures_verified") == 1


def test_the_number_of_tenants_in_the_metrics_is_bounded(key: SigningKey, key_file: Path) -> None:
    with (
        RecordingUpstream() as upstream,
        Gateway(
            "-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", "-metrics.maxTenants=3"
        ) as gateway,
    ):
        for account in range(10):
            assert gateway.client(key.mint(tenant(account))).get("/api/v1/labels").status == 200
        assert gateway.metric("vmgateway_requests_total", tenant="other") == 7
        assert gateway.metric("vmgateway_requests_total", access="read") == 10


@pytest.mark.smoke
@pytest.mark.parametrize("place", ["metrics", "log"])
def test_no_token_is_written_anywhere(gateway: Gateway, key: SigningKey, place: str) -> None:
    token = key.mint(FULL, lifetime=-7)
    assert gateway.client(token).get("/api/v1/labels").status == 401
    text = gateway.client().get("/metrics").text if place == "metrics" else gateway.log()
    assert token.split(".")[1] not in text
    assert token.split(".")[2] not in text
