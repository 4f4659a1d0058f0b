"""Every way round enforcement that was found on real VictoriaMetrics, tried through the gateway on a real one.

Two teams' data is there. The token is for team ``dev``; nothing it sends may show, change or delete what is ``ops``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient, head
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey

OPS = '{team="ops"}'
FOREIGN = "ops_only_secret"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

READS = {
    "query": ("/api/v1/query", {"query": f'{{__name__=~"dev_metric|{FOREIGN}"}}[1h]'}),
    "query_range": ("/api/v1/query_range", {"query": f'{{__name__=~"dev_metric|{FOREIGN}"}}', "step": "60"}),
    "series": ("/api/v1/series", {"match[]": '{__name__!=""}'}),
    "label-values": ("/api/v1/label/__name__/values", {}),
    "export": ("/api/v1/export", {"match[]": '{__name__!=""}'}),
    "federate": ("/federate", {"match[]": '{__name__!=""}'}),
    "autocomplete": ("/tags/autoComplete/values", {"tag": "name", "expr": "team=~.*"}),
    "find-series": ("/tags/findSeries", {"expr": "name=~.*"}),
}
TOKENS = {
    "labels": {"extra_labels": {"team": "dev"}},
    "filters": {"extra_filters": ['{team="dev"}']},
    "both": {"extra_labels": {"team": "dev"}, "extra_filters": ['{team=~"dev|other"}']},
}
KEYS = [
    "extra_filters",
    "extra_filters[]",
    "extra%5Ffilters",
    "extra_filters%5B%5D",
    "%65xtra_filters%5b%5d",
    "extra_filter",
    "extra_label",
    "%65xtra_label",
]


@pytest.fixture(scope="module")
def server() -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics() as victoria_metrics:
        now = int(time.time() * 1000)
        for moment in (now, now - 60_000):  # what is of now is not read for some seconds; some pages are of today
            victoria_metrics.import_prometheus(
                f'dev_metric{{team="dev",host="a"}} 1 {moment}\n'
                f'{FOREIGN}{{team="ops",host="b",env="ops_env_value"}} 2 {moment}\n'
            )
        yield victoria_metrics


@pytest.fixture(scope="module")
def gateway(server: VictoriaMetrics, key_file: Path) -> Iterator[Gateway]:
    with Gateway(
        "-enable.auth", f"-read.url={server.url}", f"-write.url={server.url}", f"-auth.publicKeyFiles={key_file}"
    ) as gateway:
        yield gateway


@pytest.fixture(params=TOKENS, ids=list(TOKENS))
def client(request: pytest.FixtureRequest, gateway: Gateway, key: SigningKey) -> Client:
    return gateway.client(key.mint(TOKENS[request.param]))


@pytest.fixture(params=READS, ids=list(READS))
def read(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    return READS[request.param]


def shows_nothing_foreign(answer: Answer) -> None:
    """An error repeats what the client asked for; an answer must not have it."""
    if answer.status == 200:
        assert FOREIGN not in answer.text
    assert "ops_env_value" not in answer.text


def test_the_secret_is_there(server: VictoriaMetrics) -> None:
    """Without this, every other test here could pass on an empty database."""
    for path, arguments in READS.values():
        answer = Client(server.port).get(path, arguments)
        assert FOREIGN in answer.text or answer.status == 404, path


def test_own_series_are_seen(client: Client, read: tuple[str, dict[str, str]]) -> None:
    answer = client.get(*read)
    assert answer.status == 200
    assert "dev_metric" in answer.text
    shows_nothing_foreign(answer)


@pytest.mark.parametrize("spelling", KEYS)
@pytest.mark.parametrize("place", ["url", "form", "url-and-form", "multipart"])
def test_a_filter_of_the_clients_own_never_widens(
    client: Client, read: tuple[str, dict[str, str]], spelling: str, place: str
) -> None:
    path, arguments = read
    smuggled = f"{spelling}={quote('team=ops' if 'label' in spelling else OPS)}"
    own = urlencode(arguments)
    if place == "url":
        answer = client.get(f"{path}?{smuggled}&{own}&{smuggled}")
    elif place == "form":
        answer = client.post(path, body=f"{smuggled}&{own}&{smuggled}", headers=FORM)
    elif place == "url-and-form":
        answer = client.post(f"{path}?{smuggled}", body=f"{own}&{smuggled}", headers=FORM)
    else:
        pairs = [*arguments.items(), (spelling.replace("%5B%5D", "[]"), OPS)]
        body = "".join(f'--X\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in pairs)
        headers = {"Content-Type": "Multipart/Form-Data; boundary=X"}
        answer = client.post(path, body=body + "--X--\r\n", headers=headers)
    shows_nothing_foreign(answer)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded; charset=utf-8",
        "APPLICATION/X-WWW-FORM-URLENCODED",
        "application/x-www-form-urlencoded;",
        " application/x-www-form-urlencoded ",
        "application/x-www-form-urlencoded; foo",
        "application/x-www-form-urlencoded; charset=a; charset=b",
        "application/x-www-form-urlencoded, text/plain",
        "text/plain",
        "application/json",
        "multipart/mixed; boundary=X",
        "",
    ],
)
def test_a_body_is_inspected_or_refused_whatever_its_type(
    client: Client, read: tuple[str, dict[str, str]], content_type: str
) -> None:
    path, arguments = read
    body = urlencode([*arguments.items(), ("extra_filters", OPS), ("extra_filters[]", OPS)])
    shows_nothing_foreign(client.post(path, body=body, headers={"Content-Type": content_type}))


def test_head_and_options_show_nothing(client: Client) -> None:
    body = urlencode({"query": FOREIGN, "extra_filters": OPS})
    answer = client.ask("HEAD", "/api/v1/query?query=up", body=body, headers=FORM)
    assert (answer.status, answer.body) == (200, b"")
    answer = client.ask("OPTIONS", "/api/v1/query?query=up", body=body, headers=FORM)
    assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "FOO", "get", "post"])
def test_other_methods_are_refused(client: Client, method: str) -> None:
    body = urlencode({"query": FOREIGN, "extra_filters": OPS})
    assert client.ask(method, "/api/v1/query?query=up", body=body, headers=FORM).status == 405


@pytest.mark.parametrize("pair", ["extra_label=team=dev;x", "x=%zz", 'extra_filters[]={a="b;c"}', "a;b=c"])
def test_what_go_would_drop_is_refused(client: Client, pair: str) -> None:
    with RawClient(client.port) as raw:
        token = client._headers["Authorization"].split()[1]
        target = f"/api/v1/query?query={FOREIGN}&{pair}"
        raw.send(head("GET", target, token, ["Connection: close"]))
        answer = raw.receive_all()
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "selector",
    [
        f'{FOREIGN} or {{team="ops"}}',
        f'{FOREIGN}{{team="ops" or team="dev"}}',
        f"union({FOREIGN}, up)",
        f"WITH (x = {FOREIGN}) x",
        f"({FOREIGN})[5m:1m]",
        f'label_set({FOREIGN}, "team", "dev")',
        f"topk(5, {FOREIGN}) or vector(1)",
    ],
)
def test_no_expression_escapes(client: Client, selector: str) -> None:
    shows_nothing_foreign(client.get("/api/v1/query", {"query": f"count({selector}) or {selector}"}))
    answer = client.get("/api/v1/query", {"query": f"count({selector})"})
    assert '"2"' not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/prometheus/vmalert/groups",
        "/vmalert/",
    ],
)
def test_what_ignores_filters_is_closed_to_a_restricted_token(client: Client, path: str) -> None:
    assert client.get(path).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/series/count",
        "/api/v1/metadata",
        "/api/v1/status/top_queries",
        "/api/v1/status/active_queries",
        "/api/v1/status/tsdb?topN=1000",
        "/vmalert/api/v1/rules",
        "/metrics/index.json",
        "/metrics/find?query=*",
        "/metrics/find/?query=*",
        "/metrics/find?query=*&label=team",
        "/metrics/expand?query=*",
        "/graphite/metrics/find?query=*",
        "/tags",
        "/tags/team",
        "/tags/host?filter=.*",
        "/api/v1/rules",
        "/rules",
        "/api/v1/alerts",
        "/prometheus/api/v1/series/count",
        "/graphite/tags/team",
    ],
)
def test_what_ignores_filters_is_limited_by_the_gateway(client: Client, path: str) -> None:
    extra = (
        "",
        "extra_label=team=ops",
        "extra_filters[]={team=%22ops%22}",
        "match[]={team=%22ops%22}",
        "match[]=%7B%7D",
    )
    for arguments in extra:
        answer = client.get(f"{path}{'&' if '?' in path else '?'}{arguments}")
        assert answer.status in (200, 400, 422), (arguments, answer)
        assert "ops" not in answer.text
        assert FOREIGN not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/vmalert/-/reload",
        "/vmalert/metrics",
        "/api/v1/targets",
        "/config",
        "/snapshot/list",
        "/internal/force_flush",
        "/internal/resetRollupResultCache",
        "/graphite/internal/resetRollupResultCache",
        "/prometheus/internal/resetRollupResultCache",
        "/debug/pprof/cmdline",
        "/select/0/prometheus/api/v1/query?query=up",
        "/select/multitenant/prometheus/api/v1/query?query=up",
        "/admin/tenants",
        "/api/v1/admin/tsdb/snapshot",
        "/api/v1/admin/status/metric_names_stats/reset",
    ],
)
def test_what_is_not_listed_is_unknown(gateway: Gateway, key: SigningKey, path: str) -> None:
    assert gateway.client(key.mint()).get(path).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "///api/v1/query",
        "/api/v1//query",
        "/api%2Fv1%2Fquery",
        "/api/v1/../v1/query",
        "/api/v1/%2e%2e/v1/query",
        "/api/./v1/query",
        "/api/v1/query%00",
        "/api/v1/%2571uery",
        "/api\\v1\\query",
        "/graphite/api/v1//admin/tsdb/%64elete_series",
    ],
)
def test_a_path_has_one_spelling(gateway: Gateway, key: SigningKey, path: str) -> None:
    with RawClient(gateway.port) as raw:
        raw.send(head("GET", f"{path}?query=up", key.mint(), ["Connection: close"]))
        assert raw.receive_all().startswith(b"HTTP/1.1 400 ")


# --- writes ---------------------------------------------------------------------------------------------------------

ROWS = {
    "text": ("/api/v1/import/prometheus", '{metric}{{team="ops"}} 7 {time}'),
    "json": (
        "/api/v1/import",
        '{{"metric":{{"__name__":"{metric}","team":"ops"}},"values":[7],"timestamps":[{time}]}}',
    ),
    "influx": ("/write", "{metric},team=ops value=7"),
    "influx-prefixed": ("/influx/write", "{metric},team=ops value=7"),
    "csv": ("/api/v1/import/csv?format=1:metric:{metric},2:label:team", "7,ops"),
}


@pytest.mark.parametrize("protocol", ROWS)
@pytest.mark.parametrize(
    "smuggled", ["", "extra_label=team=ops", "extra_label=team%3Dops&%65xtra_label=team=ops", "db=x"]
)
def test_a_row_cannot_leave_its_team(
    gateway: Gateway, server: VictoriaMetrics, key: SigningKey, metric: str, protocol: str, smuggled: str
) -> None:
    path, row = ROWS[protocol]
    path = path.format(metric=metric)
    path += ("&" if "?" in path else "?") + smuggled if smuggled else ""
    client = gateway.client(key.mint(TOKENS["labels"]))
    answer = client.post(path, body=row.format(metric=metric, time=int(time.time() * 1000)))
    assert answer.status in (200, 204)
    server.force_flush()
    series = Client(server.port).get("/api/v1/series", {"match[]": f'{{__name__=~"{metric}.*"}}'}).json()["data"]
    assert [one["team"] for one in series] == ["dev"]


def test_a_row_cannot_be_written_through_the_read_tree(gateway: Gateway, key: SigningKey, metric: str) -> None:
    client = gateway.client(key.mint(TOKENS["labels"]))
    assert client.post("/tags/tagSeries", form={"path": f"{metric};team=ops"}).status == 403
    assert client.get(f"/graphite/tags/tagMultiSeries?path={metric}").status == 403


# --- deletes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/admin/tsdb/delete_series", "/prometheus/api/v1/admin/tsdb/delete_series"])
def test_a_delete_takes_only_own_series(
    gateway: Gateway, server: VictoriaMetrics, key: SigningKey, metric: str, path: str
) -> None:
    server.import_prometheus(f'{metric}{{team="dev"}} 1\n{metric}{{team="ops"}} 2\n')
    client = gateway.client(key.mint(TOKENS["both"]))
    body = urlencode(
        [("match[]", metric), ("extra_filters", OPS), ("extra_filters[]", OPS), ("extra_label", "team=ops")]
    )
    assert client.post(path, body=body, headers=FORM).status in (200, 204)
    series = Client(server.port).get("/api/v1/series", {"match[]": metric}).json()["data"]
    assert [one["team"] for one in series] == ["ops"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/api/v1/admin/tsdb/delete_series", "/tags/delSeries", "/graphite/tags/delSeries"])
def test_a_delete_is_a_post(gateway: Gateway, key: SigningKey, method: str, path: str) -> None:
    assert gateway.client(key.mint()).ask(method, f"{path}?match[]=x&path=x").status == 405


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("path", ["/api/v1/admin/tsdb/delete_series", "/tags/delSeries"])
def test_a_delete_needs_full_access(gateway: Gateway, key: SigningKey, mode: int, path: str) -> None:
    assert gateway.client(key.mint({"mode": mode})).post(path, form={"match[]": "x"}).status == 403
