"""Writes for all tenants on a real cluster: rows are where they say, and none is where the token may not write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.core.tenant_bodies import ACCOUNT, LABELS, PROJECT, PROTOCOLS, RUN, Pairs, Protocol, target_of, text
from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway
from tests.support.wire.real_cluster import NEEDS_CLUSTER, RealCluster, Vminsert, start_cluster
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.waiting import eventually

pytestmark = NEEDS_CLUSTER

POLICY: Final = """
match:
- name: tenants
  when: {groups: {matches: "(?P<account>[0-9]+):(?P<project>[0-9]+)"}}
  grant: {tenant: "{account}:{project}"}
- name: labelled
  when: {groups: {matches: "(?P<account>[0-9]+):(?P<project>[0-9]+) (?P<team>[a-z]+)"}}
  grant: {tenant: "{account}:{project}", labels: {team: "{team}"}}
"""
EVERY: Final = ("0:0", "7:9", "7:0", "0:9", "4294967295:0", "8:0")
TEXT: Final = "/insert/multitenant/prometheus/api/v1/import/prometheus"
SERIES: Final = "/select/multitenant/prometheus/api/v1/series"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with start_cluster("-search.tenantCacheExpireDuration=1ms") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sanitizing(cluster: RealCluster) -> Iterator[Vminsert]:
    """A vminsert that changes names of labels, so that some become those that name a tenant."""
    with Vminsert(cluster.storage, "-usePromCompatibleNaming", "-opentelemetry.usePrometheusNaming") as insert:
        yield insert


@pytest.fixture(scope="module", params=["fast", "flow", "sanitizing"])
def gateway(
    request: pytest.FixtureRequest,
    cluster: RealCluster,
    sanitizing: Vminsert,
    key_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    insert = sanitizing if request.param == "sanitizing" else cluster.insert
    lane = "fast" if request.param == "sanitizing" else request.param
    flags = ("-enable.auth", "-clusterMode", f"-auth.publicKeyFiles={key_file}", f"-auth.policy={policy}")
    with Gateway(*flags, f"-read.url={cluster.read_url}", f"-write.url={insert.url}", f"-lane={lane}") as gateway:
        yield gateway


def client_of(gateway: Gateway, key: SigningKey, *groups: str) -> Client:
    token = key.sign({"exp": 4_000_000_000, "groups": [*groups]})
    return gateway.client(token)


def write(client: Client, protocol: Protocol, pairs: Pairs) -> Answer:
    headers = {name.decode(): value.decode() for name, value in protocol.headers}
    return client.post(target_of(protocol, pairs), body=protocol.write(pairs), headers=headers)


def found(cluster: RealCluster, prefix: str) -> dict[str, set[str]]:
    """The tenants that have series of each run whose name begins so, past the gateway."""
    cluster.force_flush()
    arguments = {"match[]": f'{{{RUN}=~"{prefix}.*"}}', "start": "1"}
    runs: dict[str, set[str]] = {}
    for series in cluster.select.client.get(SERIES, arguments).json()["data"]:
        runs.setdefault(series[RUN], set()).add(f"{series[ACCOUNT]}:{series[PROJECT]}")
    return runs


def test_rows_are_where_they_say_in_every_protocol(
    gateway: Gateway, cluster: RealCluster, key: SigningKey, metric: str
) -> None:
    client = client_of(gateway, key, *EVERY)
    expected: dict[str, set[str]] = {}
    for protocol in PROTOCOLS:
        for number, (name, pairs, owner) in enumerate(LABELS):
            run = f"{metric}.{protocol.name.replace(' ', '_').replace(',', '')}.{number}"
            answer = write(client, protocol, [*pairs, (RUN, run)])
            if owner is None:
                assert answer.status == 403, (protocol.name, name, answer)
                assert "the tenant of a row cannot be told" in answer.text
            elif protocol.served:
                assert answer.status in (200, 202, 204), (protocol.name, name, answer)
                expected[run] = {owner}
    eventually(lambda: len(found(cluster, metric)) >= len(expected), what="shows all series")
    assert found(cluster, metric) == expected


@pytest.mark.parametrize("granted", ["7:9", "8:0"])
def test_no_row_is_where_the_token_may_not_write(
    gateway: Gateway, cluster: RealCluster, key: SigningKey, metric: str, granted: str
) -> None:
    client = client_of(gateway, key, granted)
    allowed = 0
    for protocol in PROTOCOLS:
        for name, pairs, owner in LABELS:
            answer = write(client, protocol, [*pairs, (RUN, metric)])
            if owner == granted and not protocol.default:
                allowed += 1
                continue
            assert answer.status == 403, (protocol.name, name, answer)
    assert found(cluster, metric) == ({metric: {granted}} if allowed else {})


def test_the_url_cannot_name_a_tenant(gateway: Gateway, cluster: RealCluster, key: SigningKey, metric: str) -> None:
    body = text([(ACCOUNT, "7"), (PROJECT, "9"), (RUN, metric)])
    client = client_of(gateway, key, "7:9")
    # vminsert adds these labels after those of the row, and takes the last.
    past = cluster.insert.client.post(f"{TEXT}?extra_label={ACCOUNT}=8", body=text([(ACCOUNT, "7"), (RUN, "past")]))
    assert past.status == 204
    assert eventually(lambda: found(cluster, "past")) == {"past": {"8:0"}}
    for target in (
        f"{TEXT}?extra_label={ACCOUNT}=8",
        f"{TEXT}?extra%5flabel=VictoriaMetrics%5FAccountID=8",
        f"{TEXT}?extra_label={PROJECT}=8",
        f"{TEXT}/metrics/job/a/{ACCOUNT}/8",
        f"{TEXT}/metrics/job/a/{PROJECT}@base64/OA",
    ):
        answer = client.post(target, body=body)
        assert (answer.status, "the URL may not add the label" in answer.text) == (403, True), target
    assert client.post(TEXT, body=body, headers={"AccountID": "8", "ProjectID": "0"}).status == 204
    assert eventually(lambda: found(cluster, metric)) == {metric: {"7:9"}}


def test_one_foreign_row_refuses_a_body_whole(
    gateway: Gateway, cluster: RealCluster, key: SigningKey, metric: str
) -> None:
    own, foreign = text([(ACCOUNT, "8"), (RUN, metric)]), text([(RUN, metric)])
    client = client_of(gateway, key, "8:0")
    answer = client.post(TEXT, body=own * 3 + foreign)
    assert answer.status == 403
    assert "a row is for tenant 0:0, to which the token gives no write access" in answer.text
    answer = client.post(TEXT, body=b"# HELP m of all\n" + own)
    assert (answer.status, "metadata" in answer.text) == (403, True)
    assert found(cluster, metric) == {}


def test_a_long_body_stops_before_the_foreign_row(
    gateway: Gateway, cluster: RealCluster, key: SigningKey, metric: str
) -> None:
    own, foreign = text([(ACCOUNT, "8"), (RUN, metric)]), text([(ACCOUNT, "7"), (RUN, metric)])
    answer = client_of(gateway, key, "8:0").post(TEXT, body=own * 60_000 + foreign)
    assert answer.status == 403
    assert found(cluster, metric) in ({}, {metric: {"8:0"}})


def test_what_is_written_is_read_back_by_the_same_token(
    gateway: Gateway, cluster: RealCluster, key: SigningKey, metric: str
) -> None:
    client = client_of(gateway, key, "7:9 web", "8:0 web")
    body = b"".join(text([(ACCOUNT, account), (PROJECT, project), ("team", "other"), (RUN, metric)])
                    for account, project in (("7", "9"), ("8", "0")))  # fmt: skip
    assert client.post(TEXT, body=body).status == 204
    assert eventually(lambda: found(cluster, metric)) == {metric: {"7:9", "8:0"}}
    answer = client.get(SERIES, {"match[]": f'{{{RUN}="{metric}"}}', "start": "1"})
    read = sorted((series[ACCOUNT], series[PROJECT], series["team"]) for series in answer.json()["data"])
    assert read == [("7", "9", "web"), ("8", "0", "web")]
    assert client.get("/admin/tenants").json()["data"] == ["7:9", "8:0"]
    lone = gateway.client(key.mint(tenant(8)))
    answer = lone.get(SERIES, {"match[]": f'{{{RUN}="{metric}"}}', "start": "1"})
    assert [(series[ACCOUNT], series[PROJECT]) for series in answer.json()["data"]] == [("8", "0")]


def test_tenants_with_different_labels_are_written_one_by_one(
    gateway: Gateway, cluster: RealCluster, key: SigningKey, metric: str
) -> None:
    client = client_of(gateway, key, "7:9 web", "8:0 ops")
    answer = client.post(TEXT, body=text([(ACCOUNT, "8"), (RUN, metric)]))
    assert answer.status == 403
    assert "a write for several tenants can get the labels of one only" in answer.text
    answer = client.post("/insert/8/prometheus/api/v1/import/prometheus", body=text([(RUN, metric)]))
    assert answer.status == 204
    assert eventually(lambda: cluster.tenant("8:0").series(f'{{{RUN}="{metric}"}}'))[0]["team"] == "ops"


def test_what_carries_no_rows_is_answered(gateway: Gateway, key: SigningKey) -> None:
    client = client_of(gateway, key, "7:9")
    assert client.post("/insert/multitenant/influx/query?q=CREATE+DATABASE+x").status == 200
    assert client.get("/insert/multitenant/datadog/api/v1/validate").status == 200
