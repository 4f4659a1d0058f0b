"""Every measured route, through the gateway: what the backend receives, and that it receives nothing without a token.

The rows are those of ``tests/data/victoriametrics-routes.tsv``, measured on real VictoriaMetrics.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.client import Client
from tests.support.wire.processes import Gateway
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream

TABLE = Path(__file__).parents[2] / "data" / "victoriametrics-routes.tsv"
OWN_PAGES = ("/", "/admin/tenants", "/health", "/-/healthy", "/-/ready", "/-/reload", "/ping", "/metrics", "/flags")

LIMITED = {
    **dict.fromkeys(("rules", "alerts", "vmalert/api/v1/rules", "vmalert/api/v1/alerts"), "/api/v1/rules"),
    **dict.fromkeys(("api/v1/rules", "api/v1/alerts", "vmalert/api/v1/group"), "/api/v1/rules"),
    **dict.fromkeys(("vmalert/api/v1/rule", "vmalert/api/v1/alert"), "/api/v1/rules"),
    **dict.fromkeys(("notifiers", "api/v1/notifiers", "vmalert/api/v1/notifiers"), "/api/v1/notifiers"),
    **dict.fromkeys(("api/v1/status/tsdb", "api/v1/series/count"), "/api/v1/status/tsdb"),
    **dict.fromkeys(("metrics/index.json", "metrics/index.json/"), "/api/v1/label/__name__/values"),
    **dict.fromkeys(("metrics/find", "metrics/find/"), "/api/v1/label/__name__/values"),
    **dict.fromkeys(("metrics/expand", "metrics/expand/"), "/api/v1/label/__name__/values"),
    "api/v1/metadata": "/api/v1/label/__name__/values",  # these first, and then the metadata
    "tags": "/api/v1/labels",
    "tags/<tag_name>": "/api/v1/label/some/values",
    "api/v1/status/top_queries": "/api/v1/status/top_queries",
    "api/v1/status/active_queries": "/api/v1/status/active_queries",
    "api/v1/status/metric_names_stats": "/api/v1/status/metric_names_stats",
}
"""What the gateway asks in place of what ignores filters, by the path without its first slash and prefix."""


def limited(row: dict[str, str]) -> str | None:
    """What is asked in place of a path whose responses the gateway limits itself, or None."""
    return LIMITED.get(re.sub("^/(?:prometheus/|graphite/)?", "", row["incoming_path"]))


with TABLE.open(newline="") as _file:
    ROWS = list(csv.DictReader(_file, delimiter="\t"))
SERVED = [row for row in ROWS if row["access"] != "internal-never-expose"]
NEVER = [row for row in ROWS if row["access"] == "internal-never-expose" and row["incoming_path"].startswith("/")]


def example(template: str) -> str:
    """A path of this form: ``<name>`` and what may be left out are filled in."""
    return re.sub(r"<\w+>", "some", template.replace("[/<label>/<value>...]", "/env/prod"))


@pytest.fixture(scope="module", params=["single", "cluster"])
def setup(request: pytest.FixtureRequest, key_file: Path) -> Iterator[tuple[str, Gateway, RecordingUpstream]]:
    with RecordingUpstream() as upstream:
        flags = ["-enable.auth", f"-read.url={upstream.url}", f"-write.url={upstream.url}"]
        flags += ["-clusterMode"] if request.param == "cluster" else []
        with Gateway(*flags, f"-auth.publicKeyFiles={key_file}") as gateway:
            yield request.param, gateway, upstream


def identify(row: dict[str, str]) -> str:
    return row["incoming_path"]


@pytest.mark.parametrize("row", SERVED, ids=identify)
def test_a_route_leads_to_its_backend_path(
    setup: tuple[str, Gateway, RecordingUpstream], key: SigningKey, row: dict[str, str]
) -> None:
    kind, gateway, upstream = setup
    path = example(row["incoming_path"])
    query = "?format=1%3Ametric%3Am" if path.endswith("/import/csv") else ""  # nobody can read CSV without it
    client = gateway.client(key.mint(tenant(1, 5)))
    methods = row["methods"].split(",")
    for method in [*methods, "HEAD"] if row["access"] == "read" and "GET" in methods else methods:
        upstream.forget()
        answer = client.ask(method, path + query, body=b"" if method not in ("GET", "HEAD") else None)
        if row["in_single"] == "no" and kind == "single":
            assert (answer.status, upstream.bytes_received) == (404, 0)
            continue
        if row["honors_tenant"] == "no" and kind == "cluster" and (asked := limited(row)):
            assert answer.status == (
                200 if asked.endswith("_queries") else 502
            )  # the upstream has nothing else to limit
            assert [request.path for request in upstream.requests] == [f"/select/1:5/prometheus{asked}"]
            continue
        if row["honors_tenant"] == "no" and kind == "cluster":
            assert (answer.status, upstream.bytes_received) == (403, 0)
            continue
        expected = (
            path if kind == "single" else "/" + example(row["cluster_path"].replace("<tenant>", "1:5")).lstrip("/")
        )
        assert answer.status == 200
        [request] = upstream.requests
        assert (request.method, request.target) == (method, expected + query)


@pytest.mark.parametrize("row", SERVED, ids=identify)
def test_a_route_is_closed_without_a_token(setup: tuple[str, Gateway, RecordingUpstream], row: dict[str, str]) -> None:
    kind, gateway, upstream = setup
    upstream.forget()
    method = row["methods"].split(",")[0]
    answer = gateway.client().ask(method, example(row["incoming_path"]))
    assert answer.status == (404 if row["in_single"] == "no" and kind == "single" else 401)
    assert upstream.bytes_received == 0


@pytest.mark.parametrize("row", SERVED, ids=identify)
def test_labels_and_filters_bind_or_close_a_route(
    setup: tuple[str, Gateway, RecordingUpstream], key: SigningKey, row: dict[str, str]
) -> None:
    kind, gateway, upstream = setup
    if row["in_single"] == "no" and kind == "single":
        pytest.skip("single-node VictoriaMetrics has no such path")
    upstream.forget()
    token = key.mint({"extra_labels": {"team": "dev"}, "extra_filters": ['{env="prod"}']})
    method = row["methods"].split(",")[0]
    target = example(row["incoming_path"]) + '?extra_label=team=ops&extra_filters[]={env="dev"}&x=1&format=1:metric:m'
    answer = gateway.client(token).ask(method, target)
    if row["honors_extra_label"] == "no" and (asked := limited(row)):
        assert answer.status == (200 if asked.endswith("_queries") else 502)  # the upstream has nothing else to limit
        [request] = upstream.requests
        assert request.path == (f"/select/0:0/prometheus{asked}" if kind == "cluster" else asked)
        bound = asked.startswith("/api/v1/label") or asked.endswith("/tsdb")
        assert request.argument("extra_label") == (["team=dev"] if bound else [])
        assert request.argument("extra_filters[]") == (['{env="prod"}'] if bound else [])
        assert request.argument("x") == []
        return
    if row["honors_extra_label"] == "no":
        assert (answer.status, upstream.bytes_received) == (403, 0)
        return
    assert answer.status == 200
    [request] = upstream.requests
    binds = row["honors_extra_label"] == "yes"
    assert request.argument("extra_label") == (["team=dev"] if binds else [])
    assert request.argument("extra_filters[]") == (['{env="prod"}'] if row["honors_extra_filters"] == "yes" else [])
    assert request.argument("x") == ["1"]


@pytest.mark.parametrize("row", NEVER, ids=identify)
def test_what_is_internal_is_never_reached(
    setup: tuple[str, Gateway, RecordingUpstream], key: SigningKey, row: dict[str, str]
) -> None:
    _, gateway, upstream = setup
    upstream.forget()
    path = example(row["incoming_path"])
    for token in (None, key.mint()):
        for method in ("GET", "POST"):
            answer = Client(gateway.port, token=token).ask(method, path)
            if path in OWN_PAGES:
                assert answer.status in (200, 204, 401, 404)
            else:
                assert answer.status == 404
    assert upstream.bytes_received == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/select/1:5/prometheus/api/v1/query?query=up", 200),
        ("/select/1:6/prometheus/api/v1/query?query=up", 403),
        ("/select/1/prometheus/api/v1/query?query=up", 403),
        ("/select/01:5/prometheus/api/v1/query?query=up", 404),
        ("/select/multitenant/prometheus/api/v1/status/top_queries", 403),
        ("/select/multitenant/graphite/render?target=x", 403),
        ("/select/prometheus/api/v1/query?query=up", 404),
        ("/insert/1:5/influx/health", 200),
        ("/select/1:5/graphite/render?target=x", 200),
        ("/select/1:5/vmui/", 200),
    ],
)
def test_a_cluster_path_is_for_the_tokens_own_tenant(
    setup: tuple[str, Gateway, RecordingUpstream], key: SigningKey, path: str, status: int
) -> None:
    kind, gateway, upstream = setup
    upstream.forget()
    answer = gateway.client(key.mint(tenant(1, 5))).get(path, headers={"AccountID": "7", "ProjectID": "8"})
    assert answer.status == (status if kind == "cluster" else 404)
    assert [request.target for request in upstream.requests] == ([path] if answer.status == 200 else [])
    for request in upstream.requests:
        assert request.header("accountid") == request.header("projectid") == []
