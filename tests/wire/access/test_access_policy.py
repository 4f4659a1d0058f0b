"""``-auth.policy``: claims of identity providers grant access, and several grants of a token are alternatives."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.wire.client import Client
from tests.support.wire.processes import Gateway, run_command
from tests.support.wire.real_cluster import NEEDS_CLUSTER, RealCluster, start_cluster
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import HOUR, SigningKey
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway

POLICY: Final = """
match:
- name: teams
  when: {groups: {matches: "team-(?P<team>[a-z]+)"}}
  grant: {labels: {team: "{team}"}, filters: ['{secret=""}']}
- name: watchers
  when: {groups: watchers}
  grant: {labels: {kind: public}, mode: read}
"""
ROWS: Final = """
m{team="a",kind="private"} 1
m{team="b",kind="private"} 1
m{team="c",kind="private"} 1
m{team="c",kind="public"} 1
m{team="a",secret="1",kind="private"} 1
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics() as server:
        server.import_prometheus(ROWS)
        # It shows new series one after the other, and in queries later than in lists.
        eventually(lambda: len(server.query("m")) == len(server.series("m")) == 5, what="shows all series")
        yield server


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(POLICY)
    return file


@pytest.fixture(scope="module", params=["fast", "flow"])
def gateway(
    request: pytest.FixtureRequest, backend: VictoriaMetrics, key_file: Path, policy_file: Path
) -> Iterator[Gateway]:
    flags = (f"-read.url={backend.url}", f"-write.url={backend.url}", f"-auth.policy={policy_file}")
    with Gateway("-enable.auth", f"-auth.publicKeyFiles={key_file}", *flags, f"-lane={request.param}") as gateway:
        yield gateway


def member(gateway: Gateway, key: SigningKey, *groups: str, **claims: object) -> Client:
    return gateway.client(key.sign({"exp": int(time.time()) + HOUR, "groups": list(groups), **claims}))


def seen(client: Client) -> list[str]:
    """The team and kind of each series, as each way to read tells them."""
    series = client.get("/api/v1/series", {"match[]": "m", "start": "1"}).json()["data"]
    # A sample without a timestamp does not show in the second it was written in.
    ahead = str(int(time.time()) + 5)
    result = client.get("/api/v1/query", {"query": "m", "time": ahead}).json()["data"]["result"]
    queried = [each["metric"] for each in result]
    lines = client.get("/api/v1/export", {"match[]": "m", "start": "1", "end": ahead}).text.splitlines()
    exported = [json.loads(line)["metric"] for line in lines]
    told = [sorted(f"{each['team']} {each['kind']}" for each in found) for found in (series, queried, exported)]
    assert told[0] == told[1] == told[2]
    values = client.get("/api/v1/label/team/values", {"start": "1"}).json()["data"]
    assert sorted(values) == sorted({each["team"] for each in series})
    return told[0]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (("team-a",), ["a private"]),
        (("team-a", "team-b", "others"), ["a private", "b private"]),
        (("team-b", "watchers"), ["b private", "c public"]),
        (("watchers",), ["c public"]),
    ],
)
def test_a_token_reads_what_one_of_its_groups_may(
    gateway: Gateway, key: SigningKey, groups: tuple[str, ...], expected: list[str]
) -> None:
    assert seen(member(gateway, key, *groups)) == expected


def test_a_client_cannot_widen_it(gateway: Gateway, key: SigningKey) -> None:
    client = member(gateway, key, "team-a", "team-b")
    for arguments in ("extra_filters[]={team=%22c%22}", "extra_filters={team=%22c%22}", "extra_label=team=c"):
        found = client.get(f"/api/v1/series?match[]=m&start=1&{arguments}").json()["data"]
        assert {each["team"] for each in found} <= {"a", "b"}, arguments


@pytest.mark.parametrize("groups", [(), ("others",), ("team-A",), ("xteam-a",)])
def test_what_nobody_granted_is_refused(gateway: Gateway, key: SigningKey, groups: tuple[str, ...]) -> None:
    assert member(gateway, key, *groups).get("/api/v1/labels").status == 401


def test_a_write_gets_the_labels_of_the_only_grant(gateway: Gateway, key: SigningKey, backend: VictoriaMetrics) -> None:
    name = f"written_{gateway.pid}"
    client = member(gateway, key, "team-a", "watchers")
    assert client.post("/api/v1/import/prometheus", body=f'{name}{{team="b"}} 1\n').status == 204
    backend.force_flush()
    assert backend.series(name) == [{"__name__": name, "team": "a"}]
    refused = member(gateway, key, "team-a", "team-b").post("/api/v1/import/prometheus", body=f"{name} 1\n")
    assert (refused.status, refused.json()["error"]) == (
        403, "the token has several grants with different labels, and a write can get the labels of one only",
    )  # fmt: skip
    assert member(gateway, key, "watchers").post("/api/v1/import/prometheus", body=f"{name} 1\n").status == 403


def test_vm_access_comes_first(gateway: Gateway, key: SigningKey) -> None:
    assert seen(member(gateway, key, "team-a", vm_access={"extra_labels": {"team": "b"}})) == ["b private"]


def test_a_reload_takes_effect_for_tokens_that_are_known(
    start_gateway: StartGateway, backend: VictoriaMetrics, key: SigningKey, key_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    gateway = start_gateway(
        *("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={backend.url}", f"-auth.policy={file}")
    )
    client = member(gateway, key, "team-a")
    assert client.get("/api/v1/labels").status == 200
    file.write_text("match: 1")
    assert gateway.client().post("/-/reload").status == 500
    gateway.wait_for_log(r"cannot reload, keeping the old configuration: -auth\.policy .*policy\.yaml, line 1: match: ")
    assert client.get("/api/v1/labels").status == 200
    file.write_text(POLICY.replace("team-(", "crew-("))
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: client.get("/api/v1/labels").status == 401, what="has read the policy again")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "match: [{when: {a: {matches: '('}}, grant: {}}]",
            "line 1: match[0].when.a.matches: not a regular expression",
        ),
        (None, "cannot read it: No such file or directory"),
    ],
)
def test_a_wrong_policy_stops_the_start(key_file: Path, tmp_path: Path, text: str | None, reason: str) -> None:
    file = tmp_path / "policy.yaml"
    if text is not None:
        file.write_text(text)
    flags = ("-enable.auth", "-read.url=http://127.0.0.1:1", f"-auth.publicKeyFiles={key_file}", f"-auth.policy={file}")
    done = run_command(*flags, "-dryRun")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"vmgateway: -auth.policy {file}")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_explain_and_decode_tell_which_entries_matched(key: SigningKey, key_file: Path, policy_file: Path) -> None:
    token = key.sign({"exp": int(time.time()) + HOUR, "groups": ["team-a", "team-b"]})
    flags = (f"-auth.publicKeyFiles={key_file}", f"-auth.policy={policy_file}")
    explained = run_command("explain", *flags, f"--token={token}", "GET /api/v1/query?query=m")
    decoded = run_command("token", "decode", *flags, token)
    for done in (explained, decoded):
        assert done.returncode == 0, done
        assert "  by -auth.policy: teams\n" in done.stdout
    assert 'filter {team="b",secret=""}' in explained.stdout


# --- several tenants ----------------------------------------------------------------------------------------------

TENANTS: Final = """
match:
- when: {groups: {matches: "tenant-(?P<tenant>[0-9]+)"}}
  grant: {tenant: "{tenant}:0"}
- when: {groups: {matches: "dev-(?P<tenant>[0-9]+)"}}
  grant: {tenant: "{tenant}:0", labels: {team: dev}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with start_cluster() as cluster:
        for tenant in ("1:0", "2:0", "3:0"):
            cluster.tenant(tenant).import_prometheus('m{team="ops"} 1\nm{team="dev"} 1\n')
        yield cluster


@pytest.fixture
def of_tenants(start_gateway: StartGateway, cluster: RealCluster, key_file: Path, tmp_path: Path) -> Gateway:
    file = tmp_path / "policy.yaml"
    file.write_text(TENANTS)
    urls = (f"-read.url={cluster.read_url}", f"-write.url={cluster.write_url}", "-clusterMode")
    return start_gateway("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-auth.policy={file}", *urls)


def tenants_seen(client: Client, query: str = "m") -> set[tuple[str, str]]:
    answer = client.get("/select/multitenant/prometheus/api/v1/series", {"match[]": query, "start": "1"})
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.json()["data"]
    ahead = str(int(time.time()) + 5)
    instant = client.get("/select/multitenant/prometheus/api/v1/query", {"query": query, "time": ahead})
    queried = {each["metric"]["vm_account_id"] for each in instant.json()["data"]["result"]}
    assert queried <= {each["vm_account_id"] for each in found}
    assert queried or " or " in query, "not every release reads these in a query"
    return {(each["vm_account_id"], each["team"]) for each in found}


@NEEDS_CLUSTER
def test_several_tenants_are_read_together(of_tenants: Gateway, key: SigningKey) -> None:
    two = member(of_tenants, key, "tenant-1", "tenant-2")
    assert tenants_seen(two) == {(tenant, team) for tenant in "12" for team in ("ops", "dev")}
    assert tenants_seen(two, '{vm_account_id="3" or __name__="m"}') == tenants_seen(two)
    assert tenants_seen(two, 'm{vm_account_id="2"}') == {("2", "ops"), ("2", "dev")}
    assert tenants_seen(member(of_tenants, key, "dev-1", "dev-2")) == {("1", "dev"), ("2", "dev")}
    assert two.get("/admin/tenants").json()["data"] == ["1:0", "2:0"]


@NEEDS_CLUSTER
def test_one_of_several_tenants_is_named_in_the_path(
    of_tenants: Gateway, key: SigningKey, cluster: RealCluster
) -> None:
    client = member(of_tenants, key, "tenant-1", "dev-2")
    for tenant, teams in (("1", {"ops", "dev"}), ("2:0", {"dev"})):
        found = client.get(f"/select/{tenant}/prometheus/api/v1/label/team/values", {"start": "1"})
        assert set(found.json()["data"]) == teams
    assert client.get("/select/3/prometheus/api/v1/labels").status == 403
    answer = client.get("/api/v1/labels")
    assert (answer.status, "the path must name one" in answer.text) == (403, True)
    mixed = client.get("/select/multitenant/prometheus/api/v1/labels")
    assert (mixed.status, "different labels or filters" in mixed.text) == (403, True)
    assert client.post("/insert/2/prometheus/api/v1/import/prometheus", body='new{team="ops"} 1\n').status == 204
    stored = eventually(lambda: cluster.tenant("2:0").series("new"), what="the row is stored")
    assert stored == [{"__name__": "new", "team": "dev"}]
    assert client.post("/insert/multitenant/prometheus/api/v1/import/prometheus", body="new 1\n").status == 403
    assert client.post("/insert/3/prometheus/api/v1/import/prometheus", body="new 1\n").status == 403
