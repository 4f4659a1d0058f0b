"""What a token grants holds on a current VictoriaMetrics: single-node (``VICTORIA_METRICS=``) and a real cluster.

``VM_CLUSTER=`` is a folder with vminsert, vmselect and vmstorage, and vmalert for its own part.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway, Program, free_port
from tests.support.wire.servers import Server
from tests.support.wire.tokens import SigningKey
from tests.support.wire.waiting import eventually

SINGLE: Final = os.environ.get("VICTORIA_METRICS", "")
CLUSTER: Final = os.environ.get("VM_CLUSTER", "")
TENANT: Final = {"account_id": 1, "project_id": 5}
NAMES: Final = ("total", "secret_total", "secret_x")
RULES: Final = 'groups: [{name: g, rules: [{alert: Secret, expr: "vector(1)"}]}]'


class Component(Server):
    """One program of VictoriaMetrics, with the flags that a test gives it."""

    name = "victoria-metrics"

    def __init__(self, program: str, *flags: str) -> None:
        self.program = program
        super().__init__(*flags)

    def command(self) -> list[str]:
        return [self.program, f"-httpListenAddr=127.0.0.1:{self.port}", "-memory.allowedBytes=64MB", *self.flags]


class Storing(Component):
    """A program with a data directory of its own."""

    def command(self) -> list[str]:
        return [*super().command(), f"-storageDataPath={self.directory / 'data'}", "-retentionPeriod=100y"]


class Alerting(Component):
    """vmalert with one rule that fires, which it evaluates nowhere but in its memory."""

    def command(self) -> list[str]:
        rules = self.directory / "rules.yaml"
        rules.write_text(RULES)
        return [self.program, f"-httpListenAddr=127.0.0.1:{self.port}", f"-rule={rules}", *self.flags]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A gateway before real programs. ``read`` and ``write`` reach them directly, as tenant 1:5 in a cluster."""

    gateway: Gateway
    key: SigningKey
    cluster: bool
    read: tuple[Client, str]
    write: tuple[Client, str]

    def client(self, **vm_access: object) -> Client:
        return self.gateway.client(self.key.mint({"tenant_id": TENANT if self.cluster else {}, **vm_access}))


@pytest.fixture(scope="module", params=["single", "cluster"])
def backends(request: pytest.FixtureRequest) -> Iterator[tuple[bool, Server, Server]]:
    """A single node or a cluster behind which vmalert has rules, with the series of two teams in it."""
    folder = Path(CLUSTER)
    with ExitStack() as stack:
        proxied: tuple[str, ...] = ()
        read: Server
        write: Server
        if CLUSTER and (folder / "vmalert").is_file():
            datasource = f"http://127.0.0.1:{free_port()}"  # nobody answers there: rules are shown all the same
            vmalert = Alerting(str(folder / "vmalert"), f"-datasource.url={datasource}", "-notifier.blackhole")
            stack.enter_context(vmalert)
            proxied = (f"-vmalert.proxyURL={vmalert.url}",)
        if request.param == "single":
            if not SINGLE:
                pytest.skip("VICTORIA_METRICS is not set")
            read = write = stack.enter_context(Storing(SINGLE, *proxied))
        else:
            if not CLUSTER:
                pytest.skip("VM_CLUSTER is not set")
            insert, select = free_port(), free_port()
            ports = (f"-vminsertAddr=127.0.0.1:{insert}", f"-vmselectAddr=127.0.0.1:{select}")
            stack.enter_context(Storing(str(folder / "vmstorage"), *ports))
            write = stack.enter_context(Component(str(folder / "vminsert"), f"-storageNode=127.0.0.1:{insert}"))
            node = f"-storageNode=127.0.0.1:{select}"
            cache = "-search.tenantCacheExpireDuration=1s"
            read = stack.enter_context(Component(str(folder / "vmselect"), node, cache, *proxied))
        yield request.param == "cluster", read, write


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def setup(
    request: pytest.FixtureRequest, backends: tuple[bool, Server, Server], key: SigningKey, key_file: Path
) -> Iterator[Setup]:
    cluster, read, write = backends
    program: Program = request.param
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={read.url}", f"-write.url={write.url}")
    with Gateway(*flags, *(("-clusterMode",) if cluster else ()), program=program) as gateway:
        prefixes = ("/select/1:5/prometheus", "/insert/1:5/prometheus") if cluster else ("", "")
        setup = Setup(
            gateway=gateway,
            key=key,
            cluster=cluster,
            read=(Client(read.port), prefixes[0]),
            write=(Client(write.port), prefixes[1]),
        )
        write_series(setup)
        yield setup


def write_series(setup: Setup) -> None:
    now = int(time.time() - 120) * 1000
    lines = [
        json.dumps({"metric": {"__name__": name, "job": "j", "team": team}, "values": [1], "timestamps": [now]})
        for name in NAMES
        for team in ("dev", "ops")
    ]
    slash = {"metric": {"__name__": "total", "job": "k", "team": "dev", "a.b/c": "here"}, "values": [1]}
    lines.append(json.dumps({**slash, "timestamps": [now]}))
    client, prefix = setup.write
    assert client.post(f"{prefix}/api/v1/import", body="\n".join(lines)).status == 204
    reader, prefix = setup.read
    arguments = {"match[]": '{job=~"."}', "start": "1"}
    # The storage keeps what a filter found for some ten seconds.
    eventually(lambda: len(reader.get(f"{prefix}/api/v1/series", arguments).json()["data"]) == 7)


def names(answer: Answer) -> set[str]:
    assert answer.status == 200, answer
    return {labels["__name__"] for labels in answer.json()["data"]}


@pytest.mark.parametrize(
    "access",
    [
        pytest.param({"extra_filters": ['{__name__="total"}']}, id="equality"),
        pytest.param({"extra_filters": ['{__name__=~"total"}']}, id="a regex that is a word"),
        pytest.param({"extra_filters": ['total{team="dev"}', 'total{team="ops"}']}, id="alternatives"),
        pytest.param({"extra_filters": ['{__name__=~"total|t"}']}, id="a list"),
        pytest.param({"extra_labels": {"__name__": "total"}}, id="a label"),
    ],
)
@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ('{__name__=~"secret_(total|x)",job="j"}', set()),
        ('{__name__=~"t(otal|x)",job="j"}', {"total"}),
        ('{__name__=~"total",job="j"}', {"total"}),
        ('secret_total{job="j"}', set()),
        ('{job="j"}', {"total"}),
    ],
)
def test_a_filter_on_the_metric_name_holds(
    setup: Setup, access: dict[str, object], selector: str, expected: set[str]
) -> None:
    client = setup.client(**access)
    arguments = {"match[]": selector, "start": "1"}
    assert names(client.get("/api/v1/series", arguments)) == expected
    assert set(client.get("/api/v1/label/__name__/values", arguments).json()["data"]) == expected
    found = client.get("/api/v1/query", {"query": f"count({selector}) by (__name__)"}).json()["data"]["result"]
    assert {each["metric"]["__name__"] for each in found} == expected
    for path in ("/api/v1/export", "/federate"):
        text = client.get(path, arguments).text
        assert ("secret" in text, "total" in text) == (False, bool(expected)), path


def test_a_delete_takes_no_longer_name(setup: Setup) -> None:
    client = setup.client(extra_filters=['{__name__="total"}'])
    target = "/api/v1/admin/tsdb/delete_series"
    assert client.post(target, form={"match[]": '{__name__=~"secret_(total|x)",job="j"}'}).status == 204
    reader, prefix = setup.read
    everything = {"match[]": '{job="j"}', "start": "1"}
    assert names(reader.get(f"{prefix}/api/v1/series", everything)) == set(NAMES)


@pytest.mark.parametrize("path", ["/api/v1/query", "/api/v1/series", "/api/v1/labels", "/api/v1/label/team/values"])
def test_no_trace_tells_what_others_have(setup: Setup, path: str) -> None:
    client = setup.client(extra_labels={"team": "dev"})
    arguments = {"query": "total", "match[]": '{team=~"o.*"}', "start": "1", "time": str(int(time.time()))}
    for answer in (
        client.get(path, {**arguments, "trace": "1"}),
        client.post(f"{path}?tr%61ce=1", form=arguments),
        client.post(path, form={**arguments, "trace": "1"}),
    ):
        assert answer.status == 200, answer
        assert not answer.json().get("trace")
        assert b"storageNode" not in answer.body
    if not setup.cluster:  # the token of the whole server may see it
        assert setup.client().get(path, {**arguments, "trace": "1"}).json()["trace"]


def test_query_counters_are_not_for_a_part_of_the_tenant(setup: Setup) -> None:
    assert setup.client().get("/api/v1/status/tsdb").json()["status"] == "success"
    for access in ({"extra_labels": {"team": "dev"}}, {"extra_filters": ['{team="dev"}']}):
        answer = setup.client(**access).get("/api/v1/status/tsdb")
        assert answer.json()["status"] == "success"
        assert "requestsCount" not in answer.text


@pytest.mark.parametrize(
    "path",
    ["/api/v1/rules", "/rules", "/api/v1/alerts", "/api/v1/notifiers", "/vmalert/api/v1/rules", "/vmalert/groups"],
)
def test_rules_without_a_team_are_for_who_may_see_the_whole_server(setup: Setup, path: str) -> None:
    spellings = [path, f"/prometheus{path}"] + ([f"/select/1:5/prometheus{path}"] if setup.cluster else [])
    for spelled in spellings:
        restricted = setup.client(extra_labels={"team": "dev"}).get(spelled)
        pages = path == "/vmalert/groups"
        assert restricted.status == (403 if pages else 200)
        assert b"Secret" not in restricted.body
        answer = setup.client().get(spelled)
        assert answer.status == (403 if setup.cluster and pages else 200), answer
        if setup.cluster:
            assert b"Secret" not in answer.body
    if not setup.cluster and CLUSTER and path == "/vmalert/api/v1/rules":
        assert "Secret" in setup.client().get(path).text


@pytest.mark.parametrize(
    "path", ["/vmalert/-/reload", "/vmalert/metrics", "/vmalert/../flags", "/vmalert/%2e%2e/flags"]
)
def test_of_vmalert_nothing_else_is_served(setup: Setup, path: str) -> None:
    assert setup.client().get(path).status in (400, 404)


def test_the_name_of_the_machine_is_not_told(setup: Setup) -> None:
    reader, prefix = setup.read
    assert reader.get(f"{prefix}/api/v1/labels").header("X-Server-Hostname")
    client = setup.client()
    for answer in (client.get("/api/v1/labels"), client.get("/api/v1/query"), client.get("/vmui/")):
        assert answer.header("X-Server-Hostname") is None
        assert "X-Server-Hostname" not in answer.text


@pytest.mark.parametrize("name", ["a.b/c", "a.b%2Fc", "a.b%2fc"])
def test_a_label_name_with_a_slash(setup: Setup, name: str) -> None:
    for access, expected in ({"extra_labels": {"team": "dev"}}, ["here"]), ({"extra_labels": {"team": "ops"}}, []):
        answer = setup.client(**access).get(f"/api/v1/label/{name}/values", {"start": "1"})
        assert answer.json()["data"] == expected


@pytest.mark.parametrize("folder", ["/graph", "/prometheus/graph", "/vmui"])
def test_vmui_is_whole(setup: Setup, folder: str) -> None:
    client = setup.client()
    folders = [folder] + ([f"/select/1:5{folder}"] if setup.cluster else [])
    for each in folders:
        page = client.get(f"{each}/")
        assert page.status == 200
        script = page.text.partition('src="./')[2].partition('"')[0]
        assert script.endswith(".js")
        for path in (script, "config.json", "timezone", "manifest.json"):
            assert client.get(f"{each}/{path}").status == 200, path


def test_head_is_answered_as_get_without_content(setup: Setup) -> None:
    client = setup.client(extra_labels={"team": "dev"})
    for path in ("/api/v1/labels", "//api/v1/labels", "/api/v1/query?query=total", "/vmui/"):
        answer = client.ask("HEAD", path)
        assert (answer.status, answer.body) == (200, b""), path
    assert client.ask("HEAD", "/vmalert/groups").status == 403


def test_a_grouping_in_base64_is_written(setup: Setup) -> None:
    metric = f"pushed_{setup.gateway.pid}"
    client = setup.client(extra_labels={"team": "dev"})
    path = "/api/v1/import/prometheus/metrics/job@base64/YS9i/team@base64/b3Bz"
    assert client.ask("POST", path, body=f"{metric} 1\n").status in (200, 204)
    assert client.ask("DELETE", path).status in (200, 204)
    reader, prefix = setup.read

    def stored() -> list[dict[str, str]]:
        found: list[dict[str, str]] = reader.get(f"{prefix}/api/v1/series", {"match[]": metric}).json()["data"]
        return found

    assert eventually(stored) == [{"__name__": metric, "job": "a/b", "team": "dev"}]


def test_the_handshake_of_vmagent(setup: Setup) -> None:
    answer = setup.client().get("/api/v1/write?get_vm_proto_version=1")
    assert (answer.status, answer.text) == (200, "1")


def test_a_path_for_all_tenants_shows_the_tokens_own(setup: Setup) -> None:
    if not setup.cluster:
        pytest.skip("only a cluster has tenants")
    insert, _ = setup.write
    body = "other_tenants_series 1\n"
    assert insert.post("/insert/2/prometheus/api/v1/import/prometheus", body=body).status == 204
    client = setup.client()
    base = "/select/multitenant/prometheus/api/v1"
    reader, _ = setup.read
    everybody = {"match[]": "other_tenants_series", "start": "1"}
    eventually(lambda: names(reader.get(f"{base}/series", everybody)) == {"other_tenants_series"})
    own = "extra_label=vm_account_id=2&extra_label=vm_project_id=0"
    filtered = f"{base}/series?start=1&match[]={{__name__!=%22%22}}&extra_filters[]={{vm_account_id=%222%22}}"
    assert client.get(filtered).json()["data"] == []
    for arguments in ("match[]={vm_account_id=%222%22}", "match[]={__name__!=%22%22}", "match[]=other_tenants_series"):
        found = client.get(f"{base}/series?start=1&{own}&{arguments}").json()["data"]
        assert {(each["vm_account_id"], each["vm_project_id"]) for each in found} <= {("1", "5")}
    assert client.get(f"{base}/label/vm_account_id/values?start=1&{own}").json()["data"] == ["1"]
    assert names(client.get(f"{base}/series?start=1&match[]=total&{own}")) == {"total"}
    for path in ("metadata", "status/top_queries", "status/active_queries", "series/count", "status/tsdb"):
        assert client.get(f"{base}/{path}").status == 403, path
    assert client.post("/insert/multitenant/prometheus/api/v1/import/prometheus", body=body).status == 403


def test_the_list_of_tenants(setup: Setup) -> None:
    answer = setup.client().get("/admin/tenants")
    if setup.cluster:
        assert answer.json() == {"status": "success", "data": ["1:5"]}
        assert setup.gateway.client().get("/admin/tenants").status == 401
    else:
        assert answer.status == 404
