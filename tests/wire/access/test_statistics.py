"""Metadata, statistics and Graphite's lists for a restricted token: its own part, or an empty answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway, Program
from tests.support.wire.real_cluster import NEEDS_CLUSTER, RealCluster, start_cluster
from tests.support.wire.servers import Alerting, VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway

SAMPLES = """
# HELP dev_total What dev counts
# TYPE dev_total counter
dev_total{team="dev",host="h1"} 1
dev_total{team="dev",host="h2"} 1
# HELP secret_total What ops counts
# TYPE secret_total counter
secret_total{team="ops",zone="secret"} 1
"""


@pytest.fixture(scope="module")
def node() -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics() as server:
        server.import_prometheus(SAMPLES)
        server.query("secret_total")
        yield server


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def gateway(request: pytest.FixtureRequest, node: VictoriaMetrics, key_file: Path) -> Iterator[Gateway]:
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={node.url}")
    with Gateway(*flags, program=request.param) as started:
        yield started


@pytest.fixture
def dev(gateway: Gateway, key: SigningKey) -> Client:
    return gateway.client(key.mint(team("dev")))


def shown(answer: Answer, kind: str = "filtered") -> Any:  # noqa: ANN401
    assert (answer.status, answer.header("X-VMGateway-Answer")) == (200, kind), answer
    assert "secret" not in answer.text
    return answer.json()


def test_metadata_of_names_that_the_team_can_see(dev: Client, node: VictoriaMetrics) -> None:
    everything = node.client.get("/api/v1/metadata").json()["data"]
    expected = {name: entry for name, entry in everything.items() if name == "dev_total"}
    assert shown(dev.get("/api/v1/metadata"))["data"] == expected
    assert shown(dev.get("/api/v1/metadata", {"metric": "secret_total"}))["data"] == {}
    assert shown(dev.post("/api/v1/metadata", form={"metric": "dev_total", "limit": "1"}))["data"] == expected


def test_the_series_count_is_that_of_the_team(dev: Client) -> None:
    eventually(lambda: shown(dev.get("/api/v1/series/count")) == {"status": "success", "data": [2]})


def test_the_cardinality_of_the_team_has_no_counts_of_queries(dev: Client) -> None:
    data = shown(dev.get("/api/v1/status/tsdb", {"topN": "5", "focusLabel": "host", "match[]": "dev_total"}))["data"]
    assert data["totalSeries"] == 2
    assert data["seriesCountByMetricName"] == [{"name": "dev_total", "value": 2}]
    assert {entry["name"] for entry in data["seriesCountByFocusLabelValue"]} == {"h1", "h2"}
    assert shown(dev.get("/api/v1/status/tsdb", {"match[]": "secret_total"}))["data"]["totalSeries"] == 0


def test_queries_of_others_are_not_shown(dev: Client, node: VictoriaMetrics) -> None:
    for path in ("/api/v1/status/top_queries", "/api/v1/status/active_queries"):
        document, whole = shown(dev.get(path), "empty"), node.client.get(path)
        if whole.header("Content-Type") == "application/json":  # in 1.79.5 one of them is text
            assert document.keys() == whole.json().keys()
        assert not any(value for value in document.values() if isinstance(value, list))


def test_statistics_of_metric_names_are_empty(dev: Client, node: VictoriaMetrics) -> None:
    path = "/api/v1/status/metric_names_stats"
    answer, whole = dev.get(path), node.client.get(path)
    if whole.status != 200:  # 1.79.5 has none
        assert (answer.status, "secret" in answer.text) == (whole.status, False)
        return
    document = shown(answer, "empty")
    assert (document.keys(), document["records"]) == (whole.json().keys(), [])


def test_names_and_tags_for_graphite(dev: Client) -> None:
    assert shown(dev.get("/metrics/index.json")) == ["dev_total"]
    assert shown(dev.get("/graphite/tags")) == [{"tag": "host"}, {"tag": "name"}, {"tag": "team"}]
    assert shown(dev.get("/tags", {"filter": "h"})) == [{"tag": "host"}]
    assert shown(dev.get("/tags/host", {"limit": "1"})) == {"tag": "host", "values": [{"count": 1, "value": "h1"}]}
    assert shown(dev.get("/tags/name"))["values"] == [{"count": 1, "value": "dev_total"}]
    assert shown(dev.get("/tags/zone"))["values"] == []


def test_answers_have_what_grafana_reads(dev: Client, node: VictoriaMetrics) -> None:
    """What the client code of Grafana's Prometheus data source takes from each response."""
    for entries in dev.get("/api/v1/metadata", {"limit": "40000"}).json()["data"].values():
        assert {type(entries[0][name]) for name in ("type", "help")} == {str}
    since = {"start": "1", "match[]": '{team="dev"}'}
    assert dev.get("/api/v1/labels", since).json()["data"] == ["__name__", "host", "team"]
    assert dev.get("/api/v1/label/host/values", since).json()["data"] == ["h1", "h2"]
    names = {series["__name__"] for series in dev.get("/api/v1/series", since).json()["data"]}
    assert names == {"dev_total"}
    path = "/api/v1/status/buildinfo"
    assert dev.get(path).json() == node.client.get(path).json()
    exemplars = dev.get("/api/v1/query_exemplars", {"query": "dev_total", "start": "1", "end": "2"}).json()
    assert (exemplars["status"], exemplars["data"]) == ("success", [])


# --- any backend ----------------------------------------------------------------------------------------------------

METADATA = {"status": "success", "data": {name: [{"type": "gauge", "help": name}] for name in ("a", "b", "secret")}}


def names_of(*names: str) -> Reply:
    return Reply(body=json.dumps({"status": "success", "data": names}).encode())


@pytest.fixture
def metadata_gateway(
    start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path, program: Program
) -> Gateway:
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={upstream.url}")
    return start_gateway(*flags, program=program)


def test_the_names_are_asked_for_once_for_each_token(
    metadata_gateway: Gateway, upstream: RecordingUpstream, key: SigningKey
) -> None:
    def respond(request: ReceivedRequest) -> Reply:
        if request.path.endswith("/metadata"):
            return Reply(body=json.dumps(METADATA).encode())
        return names_of("a") if request.argument("extra_label") == ["team=dev"] else names_of("b")

    upstream.responder = respond
    dev, ops = (metadata_gateway.client(key.mint(team(name))) for name in ("dev", "ops"))
    for client, name in ((dev, "a"), (ops, "b"), (dev, "a")):
        assert shown(client.get("/api/v1/metadata"))["data"] == {name: METADATA["data"][name]}  # type: ignore[index]
    asked = [request for request in upstream.requests if not request.path.endswith("/metadata")]
    assert [request.argument("extra_label") for request in asked] == [["team=dev"], ["team=ops"]]
    assert {request.path for request in asked} == {"/api/v1/label/__name__/values"}
    assert [request.argument("match[]") for request in asked] == [['{team="dev"}'], ['{team="ops"}']]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(status=500), id="an error"),
        pytest.param(Reply(body=b"secret"), id="no JSON"),
        pytest.param(Reply(body=b'{"data":[1]}'), id="no names"),
        pytest.param(Reply(headers=(("Content-Length", "9"),), body=b"x", close=True), id="cut off"),
    ],
)
def test_without_names_there_is_no_metadata(
    metadata_gateway: Gateway, upstream: RecordingUpstream, key: SigningKey, reply: Reply
) -> None:
    upstream.responder = lambda _: reply
    answer = metadata_gateway.client(key.mint(team("dev"))).get("/api/v1/metadata")
    assert (answer.status, "secret" in answer.text) == (502, False)
    assert not any(request.path.endswith("/metadata") for request in upstream.requests)


# --- a cluster ------------------------------------------------------------------------------------------------------

RULES = """
groups:
- name: g
  rules:
  - {alert: One, expr: vector(1), labels: {vm_account_id: "1", vm_project_id: "5", team: dev}}
  - {alert: Secret, expr: vector(1), labels: {vm_account_id: "1", vm_project_id: "6", team: dev}}
"""


TRACK_ALL = ("-search.queryStats.minQueryDuration=0", "-search.queryStats.minQueryMemoryUsage=0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    cluster: RealCluster
    gateway: Gateway
    key: SigningKey

    def client(self, account_id: int, project_id: int, **vm_access: object) -> Client:
        return self.gateway.client(self.key.mint(tenant(account_id, project_id, **vm_access)))


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def tenants(request: pytest.FixtureRequest, key: SigningKey, key_file: Path) -> Iterator[Tenants]:
    with VictoriaMetrics() as evaluated, Alerting(RULES, datasource_url=evaluated.url) as vmalert:
        eventually(lambda: len(vmalert.client.get("/api/v1/alerts").json()["data"]["alerts"] or ()) == 2)
        with start_cluster(f"-vmalert.proxyURL={vmalert.url}", *TRACK_ALL) as cluster:
            cluster.tenant("1:5").import_prometheus(SAMPLES)
            cluster.tenant("1:6").import_prometheus('secret_six{team="dev"} 1')
            flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", "-clusterMode", "-vmalert.tenant=labels")
            with Gateway(*flags, f"-read.url={cluster.read_url}", program=request.param) as gateway:
                yield Tenants(cluster=cluster, gateway=gateway, key=key)


@NEEDS_CLUSTER
def test_a_tenant_gets_its_rules_and_alerts(tenants: Tenants) -> None:
    client = tenants.client(1, 5)
    for path in ("/api/v1/rules", "/select/1:5/prometheus/api/v1/rules", "/select/multitenant/prometheus/api/v1/rules"):
        (group,) = shown(client.get(path))["data"]["groups"]
        assert [rule["name"] for rule in group["rules"]] == ["One"]
    (alert,) = shown(client.get("/vmalert/api/v1/alerts"))["data"]["alerts"]
    assert alert["labels"]["alertname"] == "One"
    assert shown(tenants.client(1, 7).get("/api/v1/rules"))["data"]["groups"] == []
    assert tenants.client(1, 7).get("/select/1:5/prometheus/api/v1/rules").status == 403


@NEEDS_CLUSTER
def test_a_tenant_gets_its_own_queries(tenants: Tenants) -> None:
    """Queries for several tenants are told to be of tenant 0:0, also if they were of one."""
    own, other, zero = (tenants.client(*name) for name in ((1, 5), (1, 6), (0, 0)))
    assert own.get("/api/v1/query", {"query": "own + 1"}).status == 200
    assert other.get("/api/v1/query", {"query": "secret_six + 1"}).status == 200
    several = other.get("/select/multitenant/prometheus/api/v1/query", {"query": "secret_of_several + 1"})
    assert several.status == 200
    path = "/api/v1/status/top_queries"
    whole = tenants.cluster.select.client.get(f"/select/0:0/prometheus{path}")
    assert "secret_of_several" in whole.text, "VictoriaMetrics shows it to tenant 0:0"

    document = shown(own.get(path))
    assert document.keys() == whole.json().keys()
    for name in ("topByCount", "topByAvgDuration", "topBySumDuration"):
        assert "own + 1" in [entry["query"] for entry in document[name]]
    assert document["topByAvgMemoryUsage"] == []
    assert "secret_six + 1" in [entry["query"] for entry in other.get(path).json()["topByCount"]]
    assert not any(value for value in shown(zero.get(path)).values() if isinstance(value, list))
    assert shown(own.get("/api/v1/status/active_queries")) == {"status": "ok", "data": []}
    restricted = shown(tenants.client(1, 5, extra_labels={"team": "dev"}).get(path), "empty")
    assert restricted["topByCount"] == []


@NEEDS_CLUSTER
def test_a_tenant_gets_its_names_without_the_totals_of_all(tenants: Tenants) -> None:
    answer = tenants.client(1, 5).get("/api/v1/status/metric_names_stats")
    document = answer.json()
    assert {record["metricName"] for record in document["records"]} <= {"dev_total", "secret_total"}
    assert document["statsCollectedRecordsTotal"] == len(document["records"])
    assert document["trackerCurrentMemoryUsageBytes"] == 0


@NEEDS_CLUSTER
def test_a_team_of_a_tenant(tenants: Tenants) -> None:
    client = tenants.client(1, 5, extra_labels={"team": "dev"})
    assert set(shown(client.get("/api/v1/metadata"))["data"]) <= {"dev_total"}
    assert shown(client.get("/metrics/index.json")) == ["dev_total"]
    assert shown(client.get("/select/1:5/graphite/tags/host"))["values"] == [
        {"count": 1, "value": "h1"},
        {"count": 1, "value": "h2"},
    ]
    eventually(lambda: shown(client.get("/api/v1/series/count"))["data"] == [2])
    for path in ("metadata", "series/count", "status/tsdb", "status/top_queries"):
        assert client.get(f"/select/multitenant/prometheus/api/v1/{path}").status == 403, path
