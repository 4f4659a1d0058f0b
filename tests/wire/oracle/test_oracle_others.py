"""What others do changes nothing about an answer: every page is asked before and after they write, query and delete.

Also what no restricted token may see at all: how the backend searched, its machine's name, and the alerts of others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.oracle.backends import BACKENDS, Backend, start_backend
from tests.support.oracle.requests import MARK, NUMBER, START, Request
from tests.support.oracle.single_node import DEV_DATA, OPS_DATA, Asker, alerting, busy_with, fill
from tests.support.oracle.whole_answers import Reply, compared, unknown_headers
from tests.support.oracle.writes import body_of
from tests.support.wire.processes import Gateway
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey

LANES = ("fast", "flow")
TIMES = f"start={START - 60}&end={START + 3600}&step=60&time={START + 300}"
FORM = (("Content-Type", "application/x-www-form-urlencoded"),)

PAGES = (
    f"/api/v1/query?query=shared_metric&{TIMES}",
    f"/api/v1/query?query=count(%7B__name__!%3D%22%22%7D)&{TIMES}",
    f"/api/v1/query_range?query=sum(shared_metric)&{TIMES}",
    f"/api/v1/series?match[]=%7B__name__!%3D%22%22%7D&{TIMES}",
    f"/api/v1/labels?{TIMES}",
    f"/api/v1/label/__name__/values?{TIMES}",
    f"/api/v1/label/owner/values?{TIMES}",
    f"/api/v1/label/owner/values?limit=1&{TIMES}",
    f"/api/v1/labels?limit=4&{TIMES}",
    f"/api/v1/series?match[]=%7B__name__!%3D%22%22%7D&limit=2&{TIMES}",
    f"/api/v1/export?match[]=%7B__name__!%3D%22%22%7D&{TIMES}",
    f"/api/v1/export/csv?format=__name__,team,__value__&match[]=%7B__name__!%3D%22%22%7D&{TIMES}",
    f"/federate?match[]=%7B__name__!%3D%22%22%7D&max_lookback=100y&{TIMES}",
    "/api/v1/series/count",
    "/api/v1/metadata",
    "/metrics/find?query=*",
    "/metrics/find?query=*&label=owner",
    "/metrics/expand?query=*&query=s*",
    "/metrics/index.json",
    "/tags",
    "/tags/owner",
    "/tags/autoComplete/tags",
    "/tags/autoComplete/values?tag=owner",
    "/tags/findSeries?expr=name%3D~.*",
    f"/render?target=*&from={START}&until={START + 600}&format=json",
    "/admin/tenants",
    "/vmui/config.json",
    "/vmui/custom-dashboards",
    "/api/v1/status/buildinfo",
    "/api/v1/status/tsdb?topN=50&date=2020-09-13&focusLabel=owner",
    "/api/v1/status/tsdb?topN=50",
    "/api/v1/status/metric_names_stats",
    "/api/v1/status/metric_names_stats?match_pattern=shared",
)
"""With limits that have room for just what is the token's. Last are those that count queries: see the tests."""
ALERTS = (
    "/api/v1/rules", "/rules", "/api/v1/alerts", "/alerts", "/api/v1/notifiers", "/notifiers",
    "/vmalert/api/v1/rules", "/vmalert/api/v1/alerts", "/vmalert/api/v1/notifiers", "/vmalert/groups",
    "/vmalert/alerts", "/vmalert/",
)  # fmt: skip
TOKENS: dict[str, dict[str, object]] = {
    "tenant": {},
    "labels": {"extra_labels": {"team": "dev"}},
    "filters": {"extra_filters": ['{team="dev"}']},
    "both": {"extra_labels": {"team": "dev"}, "extra_filters": ['{team=~"dev|other"}']},
}


@dataclass(kw_only=True)
class World:
    """A backend with the data of others, alerts among them, and a gateway of each lane."""

    backend: Backend
    gateways: dict[str, Gateway]
    key: SigningKey

    def ask(self, lane: str, token: str, request: Request) -> Reply:
        with Asker(self.gateways[lane].port) as asker:
            return asker.ask(request, self.key.mint(self.backend.claim(**TOKENS[token])))

    def get(self, lane: str, token: str, target: str) -> Reply:
        return self.ask(lane, token, Request(method="GET", target=target))

    def tokens(self) -> tuple[str, ...]:
        """Those that are restricted: on a single node, a token without labels and filters may see everything."""
        return tuple(TOKENS) if self.backend.kind == "cluster" else ("labels", "filters", "both")


@pytest.fixture(scope="module", params=BACKENDS)
def world(request: pytest.FixtureRequest, key: SigningKey, key_file: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(VictoriaMetrics())
        flag = stack.enter_context(alerting(source.url, "dev", "ops"))
        backend = stack.enter_context(start_backend(request.param, flag))
        fill(backend.tenant, DEV_DATA, "1")
        gateways = {
            lane: stack.enter_context(Gateway(*backend.flags, f"-auth.publicKeyFiles={key_file}", f"-lane={lane}"))
            for lane in LANES
        }
        yield World(backend=backend, gateways=gateways, key=key)


def others_act(world: World, number: int) -> None:
    """The others write, explain their metrics, query and delete: in the token's tenant, and in another one."""
    help_text = f'# HELP {MARK}_{number} secret\n# TYPE {MARK}_{number} gauge\n{MARK}_{number}{{team="ops"}} 1\n'
    rows = tuple(f'{row[:-1]},n="{number}"}}' for row in OPS_DATA)
    cluster = world.backend.cluster
    tenants = ["15:0", f"15:{number}"] if cluster else [""]
    for name in tenants:
        tenant = cluster.tenant(name) if cluster else world.backend.tenant
        prefix = f"/select/{name}/prometheus" if cluster else ""
        fill(tenant, rows, NUMBER)
        tenant.import_prometheus(help_text)
        busy_with(tenant.client, prefix)
        target = f"/delete/{name}/prometheus/api/v1/admin/tsdb/delete_series" if cluster else ""
        tenant.client.post(
            target or "/api/v1/admin/tsdb/delete_series", {"match[]": f'{{__name__="ops_bare",n="{number}"}}'}
        )


@pytest.mark.parametrize("lane", LANES)
def test_what_others_do_changes_no_answer(world: World, lane: str) -> None:
    others_act(world, LANES.index(lane))
    for token in world.tokens():
        before = {page: world.get(lane, token, page) for page in PAGES}
        others_act(world, 10 + list(TOKENS).index(token) + 10 * LANES.index(lane))
        for page in reversed(PAGES):  # what counts the token's own queries comes first, before it makes more
            after = world.get(lane, token, page)
            assert compared(after) == compared(before[page]), (token, page, before[page], after)
            assert not after.shows, (token, page, after)


@pytest.mark.parametrize("lane", LANES)
def test_a_team_sees_nothing_of_the_others_in_its_tenant(world: World, lane: str) -> None:
    before = {(token, page): world.get(lane, token, page) for token in ("labels", "filters", "both") for page in PAGES}
    fill(world.backend.tenant, OPS_DATA, NUMBER)
    prefix = world.backend.target("")
    busy_with(world.backend.tenant.client, prefix)
    try:
        for (token, page), answer in before.items():
            after = world.get(lane, token, page)
            assert compared(after) == compared(answer), (token, page, answer, after)
    finally:
        target = world.backend.target("/api/v1/admin/tsdb/delete_series").replace("/select/", "/delete/")
        world.backend.tenant.client.post(target, {"match[]": '{team!="dev"}'})


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("page", ALERTS)
def test_the_alerts_of_others_are_not_shown(world: World, lane: str, page: str) -> None:
    """vmalert knows no tenants, and no labels of tokens."""
    direct = world.backend.tenant.client.get(world.backend.target(page)).text
    if page in ("/api/v1/rules", "/api/v1/alerts"):
        assert MARK in direct, "the backend would show it"
    for token in world.tokens():
        paths = [page]
        if world.backend.cluster:
            paths += [f"/select/1:5/prometheus{page}", f"/select/multitenant/prometheus{page}"]
        for path in paths:
            answer = world.get(lane, token, path)
            assert answer.status in (200, 400, 403, 404), (token, path, answer)
            own = token in ("labels",) and not world.backend.cluster  # in a cluster no rule has a tenant here
            if own and page in ("/api/v1/rules", "/vmalert/api/v1/alerts"):
                assert b"dev" in answer.body, (path, answer)
            assert not answer.shows
            assert b"127.0.0.1:" not in answer.body, "the address of a notifier"


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("place", ["URL", "form", "both"])
@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(("/api/v1", "/federate", "/render"))])
def test_no_restricted_token_gets_a_trace(world: World, lane: str, place: str, page: str) -> None:
    """The answer is the one without ``trace``: it was not asked for."""
    path, _, query = page.partition("?")
    for token in world.tokens():
        for spelling in ("trace=1", "%74race=true", "trace=yes&trace=1"):
            url = f"{path}?{query}&{spelling}" if place != "form" else f"{path}?{query}"
            body = f"x=1&{spelling}".encode() if place != "URL" else None
            headers = FORM if body else ()
            method = "POST" if body else "GET"
            answer = world.ask(lane, token, Request(method=method, target=url, headers=headers, body=body))
            plain = Request(method=method, target=page, headers=headers, body=b"x=1" if body else None)
            assert b'"trace"' not in answer.body, (token, spelling, answer)
            assert compared(answer) == compared(world.ask(lane, token, plain))


@pytest.mark.parametrize("lane", LANES)
def test_no_answer_names_the_backends_machine(world: World, lane: str) -> None:
    direct = world.backend.tenant.client.get(world.backend.target(f"/api/v1/labels?{TIMES}"))
    assert direct.status == 200
    for token in world.tokens():
        for page in (*PAGES, "/vmui/", "/no/such/page", "/api/v1/query?query=("):
            answer = world.get(lane, token, page)
            assert unknown_headers(answer) == [], page


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", ["text", "json", "influx", "datadog", "remote-write", "opentelemetry"])
def test_a_row_has_the_metric_name_of_the_token(world: World, lane: str, kind: str, metric: str) -> None:
    """A token whose label is the metric name itself. A refused write is right too: what is stored counts."""
    token = world.key.mint(world.backend.claim(extra_labels={"__name__": f"{metric}_own"}))
    with Asker(world.gateways[lane].port) as asker:
        status = asker.ask(body_of(kind, f"{metric}_other", [("a", "b")]), token).status
    assert status < 500
    world.backend.tenant.import_prometheus(f'{metric}_written{{team="x"}} 1 {START}000\n')
    stored = world.backend.tenant.series(f'{{__name__=~"{metric}.*"}}')
    assert {series["__name__"] for series in stored} <= {f"{metric}_own", f"{metric}_written"}
