"""Cluster mode: the token's tenant is in the path that goes upstream, and no client chooses another one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, Program, curl
from tests.support.wire.servers import Cluster, prometheus_lines
from tests.support.wire.tokens import SPEC_CLUSTER, SigningKey, team, tenant
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway

TENANTS = [(1, 5), (15, 0)]


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def gateway(request: pytest.FixtureRequest, cluster: Cluster, key_file: Path) -> Iterator[Gateway]:
    program: Program = request.param
    flags = ("-enable.auth", "-clusterMode", f"-auth.publicKeyFiles={key_file}")
    with Gateway(*flags, f"-read.url={cluster.url}", f"-write.url={cluster.url}", program=program) as started:
        yield started


@pytest.mark.smoke
@pytest.mark.parametrize(("account", "project"), TENANTS)
def test_a_tenant_writes_and_reads_its_own(
    gateway: Gateway, cluster: Cluster, key: SigningKey, metric: str, account: int, project: int
) -> None:
    clients = {each: gateway.client(key.mint(tenant(*each))) for each in TENANTS}
    answer = clients[account, project].post("/api/v1/import/prometheus", body=prometheus_lines(metric, 3))
    assert answer.status == 204
    for each, node in cluster.nodes.items():
        assert len(node.series(metric)) == (3 if each == (account, project) else 0)
    for each, client in clients.items():
        answer = client.get("/api/v1/query", {"query": f"count({metric})"})
        found = [item["value"][1] for item in answer.json()["data"]["result"]]
        assert found == (["3"] if each == (account, project) else [])


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/api/v1/import/prometheus", "/insert/1:5/prometheus/api/v1/import/prometheus"),
        ("POST", "/prometheus/api/v1/import/prometheus", "/insert/1:5/prometheus/api/v1/import/prometheus"),
        ("POST", "/write", "/insert/1:5/influx/write"),
        ("POST", "/influx/write", "/insert/1:5/influx/write"),
        ("GET", "/api/v1/labels", "/select/1:5/prometheus/api/v1/labels"),
        ("GET", "/prometheus/api/v1/labels", "/select/1:5/prometheus/api/v1/labels"),
        ("GET", "/tags/autoComplete/tags", "/select/1:5/graphite/tags/autoComplete/tags"),
        (
            "POST",
            "/api/v1/admin/tsdb/delete_series?match[]=nothing",
            "/delete/1:5/prometheus/api/v1/admin/tsdb/delete_series",
        ),
        ("GET", "/select/1:5/prometheus/api/v1/labels", "/select/1:5/prometheus/api/v1/labels"),
        (
            "POST",
            "/insert/1:5/prometheus/api/v1/import/prometheus",
            "/insert/1:5/prometheus/api/v1/import/prometheus",
        ),
        (
            "POST",
            "/delete/1:5/prometheus/api/v1/admin/tsdb/delete_series?match[]=nothing",
            "/delete/1:5/prometheus/api/v1/admin/tsdb/delete_series",
        ),
    ],
)
def test_the_cluster_receives_the_path_of_the_tenant(
    gateway: Gateway, cluster: Cluster, key: SigningKey, method: str, path: str, expected: str
) -> None:
    before = len(cluster.requests())
    headers = {"AccountID": "15", "ProjectID": "0"}
    body = b"" if method == "POST" else None
    answer = gateway.client(key.mint(tenant(1, 5))).ask(method, path, headers=headers, body=body)
    assert answer.status in (200, 204), answer
    (received,) = eventually(lambda: cluster.requests()[before:])
    assert received["target"].partition("?")[0] == expected
    assert received["host"] == f"127.0.0.1:{cluster.port}"
    assert (received["authorization"], received["account"]) == ("", "")


@pytest.mark.smoke
@pytest.mark.parametrize(
    "path",
    [
        "/select/15/prometheus/api/v1/labels",
        "/select/15:0/prometheus/api/v1/labels",
        "/select/1/prometheus/api/v1/labels",
        "/select/1:6/prometheus/api/v1/labels",
        "/select/0:0/prometheus/api/v1/labels",
        "/insert/15/prometheus/api/v1/import/prometheus",
        "/insert/15/influx/write",
        "/delete/15/prometheus/api/v1/admin/tsdb/delete_series",
    ],
)
def test_the_path_of_a_foreign_tenant_is_refused(
    gateway: Gateway, cluster: Cluster, key: SigningKey, path: str
) -> None:
    before = len(cluster.requests())
    method, body = ("GET", None) if path.startswith("/select") else ("POST", b"m 1\n")
    assert gateway.client(key.mint(tenant(1, 5))).ask(method, path, body=body).status == 403
    assert cluster.requests()[before:] == []


@pytest.mark.parametrize(
    "path",
    [
        "/select/multitenant/graphite/render",
        "/select/Multitenant/prometheus/api/v1/labels",
        "/select/prometheus/api/v1/labels",
        "/select/1:5:0/prometheus/api/v1/labels",
        "/select/4294967297:5/prometheus/api/v1/labels",
        "/select/1%3A5/../15/prometheus/api/v1/labels",
        "/select/1:5/prometheus/../../15/prometheus/api/v1/labels",
        "/select%2F15/prometheus/api/v1/labels",
    ],
)
def test_no_spelling_reaches_another_tenant(gateway: Gateway, cluster: Cluster, key: SigningKey, path: str) -> None:
    before = len(cluster.requests())
    assert gateway.client(key.mint(tenant(1, 5))).get(path).status in (400, 403, 404)
    assert cluster.requests()[before:] == []


def test_labels_of_the_token_bind_within_the_tenant(
    gateway: Gateway, cluster: Cluster, key: SigningKey, metric: str
) -> None:
    claim = team("dev", tenant_id={"account_id": 1, "project_id": 5})
    client = gateway.client(key.mint(claim))
    lines = prometheus_lines(metric, 1, team="ops")
    assert client.post("/api/v1/import/prometheus", body=lines).status == 204
    cluster.nodes[1, 5].import_prometheus(lines)
    assert [labels["team"] for labels in cluster.nodes[1, 5].series(metric)] == ["dev", "ops"]
    answer = client.get("/api/v1/series", {"match[]": metric, "start": "1"})
    assert [labels["team"] for labels in answer.json()["data"]] == ["dev"]


def test_an_answer_of_the_cluster_for_an_unknown_tenant_comes_through(gateway: Gateway, key: SigningKey) -> None:
    answer = gateway.client(key.mint(tenant(77))).get("/api/v1/labels")
    assert answer.status == 404
    assert "nginx" in answer.text


def test_the_specifications_cluster_sample(start_gateway: StartGateway, cluster: Cluster) -> None:
    flags = "-eula -enable.auth -clusterMode -write.url=http://localhost:8480 --read.url=http://localhost:8481"
    flags = flags.replace(":8480", f":{cluster.port}").replace(":8481", f":{cluster.port}")
    gateway = start_gateway(*shlex.split(flags))
    bearer = f"-H 'Authorization: Bearer {SPEC_CLUSTER}'"
    ingest = "curl 'http://localhost:8431/api/v1/import/prometheus' -X POST -d 'foo{bar=\"baz1\"} 123'"
    status, _ = curl(f"{ingest} {bearer}", gateway)
    assert status == 204
    # The token's tenant is 15:0; the sentence beside it in the specification says 1:5.
    assert cluster.nodes[15, 0].series("foo") == [{"__name__": "foo", "bar": "baz1"}]
    assert cluster.nodes[1, 5].series("foo") == []
    status, body = curl(f"curl 'http://localhost:8431/api/v1/labels' {bearer}", gateway)
    assert status == 200
    assert "bar" in body
