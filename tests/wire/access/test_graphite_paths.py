"""Graphite's find and expand for a restricted token: what a VictoriaMetrics with only its data answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway
from tests.support.wire.real_cluster import NEEDS_CLUSTER, start_cluster
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.waiting import eventually

NAMES = (
    "a", "a.b", "a.b.c", "a.x.c", "a.x", "b.b.d", "b.b.e.f", "c-1", "c-2.x", "v.n", "w,x.y", "é.ü", "q?", "..", "x..y",
    "deep.1.2.3.4", "deep.1.2.4", "deep.2.2", "a b.c d",
)  # fmt: skip
OTHERS = ("secret", "a.secret", "a.b.secret", "a.secret.c", "deep.1.secret", "zone.secret")


def lines(team: str, names: Sequence[str]) -> str:
    """Return JSON lines: other formats know fewer names."""
    now = int(time.time() * 1000)
    return "".join(
        json.dumps({"metric": {"__name__": name, "team": team, "path": f"{team}.{name}"}, "values": [1],
                    "timestamps": [now]}) + "\n"
        for name in names
    )  # fmt: skip


OWN = lines("dev", NAMES)
QUERIES = (
    "*", "a", "a.", "a.*", "a*", "*.b", "*.b.*", "*.*.[cd]", "[a-b].*", "[^a].*", "{a,b}.b", "{a,b}.{b,x}.*", "{a.b,c}",
    "nothing", "?", "q?", "c[-]1", "c-{1,2}*", "w,x.*", "deep.*.2.*", "deep.*.*.*.*", "*.*.*", "secret", "*secret*",
    "%C3%A9.*", "*..*", "..", "x.*.*", "a,b}*", "*[", "{a", "{[ab],{v,w}}.*", "a%20b.*", "dev.*", "dev.a.*", "**", "*a",
    "a**",
)  # fmt: skip
ARGUMENTS = (
    "", "&wildcards=1", "&leavesOnly=1", "&format=completer", "&format=completer&wildcards=true", "&delimiter=-",
    "&label=path", "&label=team", "&label=__name__&automatic_variants=1", "&from=-1h", "&from=-20d&until=-10d",
    "&groupByExpr=1", "&groupByExpr=1&query=a.*&query=*", "&query=v.*&query=*&leavesOnly=y",
)  # fmt: skip
TARGETS = [
    f"/metrics/{page}?query={query.replace('&', '%26')}{more}"
    for page in ("find", "expand")
    for query in QUERIES
    for more in ARGUMENTS
]
REFUSED = (
    "/metrics/find", "/metrics/find?query=", "/metrics/find?query=a&format=x", "/metrics/find?query=[b-a]",
    "/metrics/expand", "/metrics/expand?query=a&delimiter=ab", "/metrics/find?query=a&from=x",
    "/metrics/expand?query=*[]",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    dev: Client
    own: Client
    """A backend, or a path of it, that has the team's data alone."""
    prefix: str = ""


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def node(request: pytest.FixtureRequest, key: SigningKey, key_file: Path) -> Iterator[Setup]:
    with VictoriaMetrics() as shared, VictoriaMetrics() as own:
        for server, text in ((own, OWN), (shared, OWN + lines("ops", OTHERS))):
            assert server.client.post("/api/v1/import", body=text).status == 204
            server.force_flush()
        flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={shared.url}")
        with Gateway(*flags, program=request.param) as gateway:
            yield Setup(dev=gateway.client(key.mint(team("dev"))), own=own.client)


@pytest.fixture(scope="module")
def tenants(key: SigningKey, key_file: Path) -> Iterator[Setup]:
    with start_cluster() as cluster:
        for name, text in (("1:6", OWN), ("1:5", OWN + lines("ops", OTHERS))):
            assert cluster.insert.client.post(f"/insert/{name}/prometheus/api/v1/import", body=text).status == 204
        eventually(lambda: len(cluster.tenant("1:5").series('{team=~".+"}')) == len(NAMES + OTHERS))
        flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", "-clusterMode", f"-read.url={cluster.read_url}")
        with Gateway(*flags) as gateway:
            token = key.mint(tenant(1, 5, extra_filters=['{team="dev"}']))
            yield Setup(dev=gateway.client(token), own=cluster.select.client, prefix="/select/1:6/graphite")


def check(setup: Setup) -> None:
    for target in TARGETS:
        expected, answer = setup.own.get(setup.prefix + target), setup.dev.get(target)
        assert shown(answer, target) == shown(expected, target), target
        assert answer.header("X-VMGateway-Answer") == "filtered"
        assert "secret" not in answer.text.replace("*secret*", "").replace('"secret"', ""), target
    for target in REFUSED:
        assert setup.own.get(setup.prefix + target).status == 400, target
        assert setup.dev.get(target).status in (400, 422), target  # 1.79.5 answers 422 to a bad time


def shown(answer: Answer, target: str = "") -> object:
    assert (answer.status, answer.header("Content-Type")) == (200, "application/json"), (target, answer)
    return answer.json()


def test_a_team_gets_what_it_would_get_alone(node: Setup) -> None:
    check(node)
    assert len(shown(node.dev.get("/graphite/metrics/find/?query=deep.*"))) == 2  # type: ignore[arg-type]
    form = {"query": "deep.*.2.*"}
    assert shown(node.dev.post("/metrics/expand", form=form)) == ["deep.1.2.3.", "deep.1.2.4"]
    assert node.dev.ask("HEAD", "/metrics/find?query=*").body == b""


def test_the_clients_own_filters_change_nothing(node: Setup) -> None:
    plain = shown(node.dev.get("/metrics/find?query=*"))
    for argument in (
        "extra_label=team=ops",
        "extra_filters[]={team=%22ops%22}",
        "match[]=secret",
        "label=team&label=x",
    ):
        answer = shown(node.dev.get(f"/metrics/find?query=*&{argument}"))
        assert answer == (plain if "&" not in argument else shown(node.own.get("/metrics/find?query=*&label=team")))


@NEEDS_CLUSTER
def test_a_team_of_a_tenant_gets_what_it_would_get_alone(tenants: Setup) -> None:
    check(tenants)
