"""One VictoriaMetrics, two teams: a token with ``extra_labels`` or ``extra_filters`` sees and touches its own only."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway, Program
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import FULL, SigningKey, team


@dataclass(frozen=True, kw_only=True)
class Teams:
    """The data of two teams under one metric name. A team's mark is a label value that only its series carry."""

    metric: str
    dev: str
    ops: str


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def gateway(request: pytest.FixtureRequest, victoria_metrics: VictoriaMetrics, key_file: Path) -> Iterator[Gateway]:
    program: Program = request.param
    url = victoria_metrics.url
    flags = ("-enable.auth", f"-read.url={url}", f"-write.url={url}", f"-auth.publicKeyFiles={key_file}")
    with Gateway(*flags, program=program) as started:
        yield started


@pytest.fixture
def teams(victoria_metrics: VictoriaMetrics, metric: str) -> Teams:
    made = Teams(metric=metric, dev=f"dev_{metric}", ops=f"ops_{metric}")
    timestamp = (int(time.time()) - 30) * 1000
    rows = (("dev", made.dev, 1), ("ops", made.ops, 10))
    victoria_metrics.import_prometheus(
        "".join(f'{metric}{{team="{name}",mark="{mark}",{mark}="1"}} {n} {timestamp}\n' for name, mark, n in rows)
    )
    return made


@pytest.fixture
def dev(gateway: Gateway, key: SigningKey) -> Client:
    return gateway.client(key.mint(team("dev")))


@pytest.fixture
def admin(gateway: Gateway, key: SigningKey) -> Client:
    return gateway.client(key.mint(FULL))


# --- reads ----------------------------------------------------------------------------------------------------------

READS = [
    ("/api/v1/query", {"query": "{metric}"}),
    ("/prometheus/api/v1/query", {"query": '{metric} or {{mark!=""}}'}),
    ("/api/v1/query_range", {"query": "{metric}", "start": "-5m", "step": "15"}),
    ("/api/v1/series", {"match[]": '{{__name__!=""}}', "start": "1"}),
    ("/api/v1/labels", {"start": "1"}),
    ("/api/v1/label/mark/values", {"start": "1"}),
    ("/api/v1/export", {"match[]": "{metric}"}),
    ("/api/v1/export/csv", {"match[]": "{metric}", "format": "__name__,mark,__value__"}),
    ("/api/v1/export/native", {"match[]": "{metric}"}),
    ("/federate", {"match[]": "{metric}"}),
    ("/tags/findSeries", {"expr": "name={metric}"}),
    ("/graphite/tags/autoComplete/values", {"tag": "mark", "expr": "name={metric}"}),
]


@pytest.mark.smoke
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("path", "arguments"), READS, ids=[path for path, _ in READS])
def test_reads_show_the_own_series_only(
    dev: Client, admin: Client, teams: Teams, path: str, arguments: dict[str, str], method: str
) -> None:
    given = {name: value.format(metric=teams.metric) for name, value in arguments.items()}

    def ask(client: Client) -> Answer:
        return client.get(path, given) if method == "GET" else client.post(path, form=given)

    own, everything = ask(dev), ask(admin)
    assert (own.status, everything.status) == (200, 200), (own.text, everything.text)
    assert teams.dev.encode() in own.body
    assert teams.ops.encode() not in own.body
    assert teams.ops.encode() in everything.body, "the test shows nothing if the other team's mark cannot appear"


def test_filters_of_the_token_narrow_reads(gateway: Gateway, key: SigningKey, teams: Teams) -> None:
    filtered = key.mint({"tenant_id": {}, "extra_filters": [f'{{mark="{teams.dev}"}}', '{team="nobody"}'], "mode": 1})
    answer = gateway.client(filtered).get("/api/v1/query", {"query": f"sum({teams.metric})"})
    assert [item["value"][1] for item in answer.json()["data"]["result"]] == ["1"]


@pytest.mark.parametrize("name", ["extra_label", "extra_filters", "extra_filters[]"])
@pytest.mark.parametrize("place", ["url", "form"])
def test_arguments_of_the_client_do_not_widen_reads(dev: Client, teams: Teams, name: str, place: str) -> None:
    widening = "team=ops" if name == "extra_label" else '{team="ops"}'
    given = {"query": f"sum({teams.metric})", name: widening}
    answer = dev.get("/api/v1/query", given) if place == "url" else dev.post("/api/v1/query", form=given)
    assert answer.status == 200
    # A label of the client's is dropped in favour of the token's; a filter of the client's can only narrow.
    expected = ["1"] if name == "extra_label" else []
    assert [item["value"][1] for item in answer.json()["data"]["result"]] == expected


@pytest.mark.parametrize("path", ["/vmalert/", "/vmalert/groups"])
def test_reads_that_ignore_filters_need_a_token_without_any(dev: Client, admin: Client, path: str) -> None:
    assert "-vmalert.proxyURL" in admin.get(path).text  # VictoriaMetrics was asked
    refused = dev.get(path)
    assert refused.status == 403
    assert refused.json()["status"] == "error"


# --- writes ---------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/api/v1/import/prometheus", '{metric}{{team="ops",k="v"}} 7\n'),
        ("/prometheus/api/v1/import/prometheus", '{metric}{{team="ops",k="v"}} 7\n'),
        (
            "/api/v1/import",
            '{{"metric":{{"__name__":"{metric}","team":"ops","k":"v"}},"values":[7],"timestamps":[{seconds}000]}}',
        ),
        ("/api/v1/import/csv?format=1:label:k,2:label:team,3:metric:{metric}", "v,ops,7\n"),
        ("/influx/write", "{metric},team=ops,k=v value=7\n"),
        ("/write", "{metric},team=ops,k=v value=7\n"),
        (
            "/datadog/api/v1/series",
            '{{"series":[{{"metric":"{metric}","points":[[{seconds},7]],"tags":["team:ops","k:v"]}}]}}',
        ),
    ],
    ids=["prometheus", "prometheus-prefix", "json-lines", "csv", "influx", "influx-alias", "datadog"],
)
@pytest.mark.parametrize("client_label", ["", "extra_label=team%3Dops"], ids=["plain", "with-a-label-of-the-client"])
def test_writes_get_the_label_of_the_token(
    dev: Client, victoria_metrics: VictoriaMetrics, metric: str, target: str, body: str, client_label: str
) -> None:
    target = target.format(metric=metric)
    if client_label:
        target += ("&" if "?" in target else "?") + client_label
    answer = dev.post(target, body=body.format(metric=metric, seconds=int(time.time())))
    assert answer.status in (200, 202, 204), answer
    stored = victoria_metrics.series(f'{{__name__=~"{metric}.*"}}')
    assert [(labels["team"], labels["k"]) for labels in stored] == [("dev", "v")]


# --- deletes and modes ----------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("path", ["/api/v1/admin/tsdb/delete_series", "/tags/delSeries"])
def test_deleting_touches_the_own_series_only(
    dev: Client, victoria_metrics: VictoriaMetrics, teams: Teams, path: str
) -> None:
    given = {"match[]": teams.metric} if "delete_series" in path else {"path": f"{teams.metric};team=dev"}
    answer = dev.post(path, given)
    assert answer.status in (200, 204), answer
    assert {labels["mark"] for labels in victoria_metrics.series(teams.metric)} == {teams.ops}


def test_deleting_all_that_exists_leaves_the_other_team(
    dev: Client, victoria_metrics: VictoriaMetrics, teams: Teams
) -> None:
    for given in ({"match[]": '{__name__!=""}'}, {"match[]": '{team="ops"}', "extra_label": "team=ops"}):
        assert dev.post("/api/v1/admin/tsdb/delete_series", form=given).status == 204
    assert {labels["mark"] for labels in victoria_metrics.series(teams.metric)} == {teams.ops}


def test_deleting_needs_post(dev: Client, victoria_metrics: VictoriaMetrics, teams: Teams) -> None:
    answer = dev.get("/api/v1/admin/tsdb/delete_series", {"match[]": teams.metric})
    assert (answer.status, answer.header("Allow")) == (405, "POST")
    assert len(victoria_metrics.series(teams.metric)) == 2


@pytest.mark.parametrize(
    ("mode", "reads", "writes", "deletes"),
    [(0, 200, 204, 204), (3, 200, 204, 204), (1, 200, 403, 403), (2, 403, 204, 403)],
    ids=["0-full", "3-full", "1-read", "2-write"],
)
def test_the_mode_of_a_token_is_what_it_may(
    gateway: Gateway, key: SigningKey, metric: str, mode: int, reads: int, writes: int, deletes: int
) -> None:
    client = gateway.client(key.mint({"tenant_id": {}, "mode": mode}))
    assert client.get("/api/v1/query", {"query": metric}).status == reads
    assert client.post("/api/v1/import/prometheus", body=f"{metric} 1\n").status == writes
    assert client.post("/api/v1/admin/tsdb/delete_series", {"match[]": metric}).status == deletes


def test_a_refusal_is_json_in_the_form_of_prometheus(gateway: Gateway, dev: Client) -> None:
    for answer, status in (
        (gateway.client().get("/api/v1/query?query=1"), 401),
        (dev.get("/vmalert/groups"), 403),
        (dev.get("/no/such/path"), 404),
        (dev.ask("PUT", "/api/v1/query?query=1"), 405),
        (dev.get("/api/v1//query"), 400),
    ):
        assert answer.status == status
        assert answer.header("Content-Type") == "application/json"
        document = json.loads(answer.body)
        assert document["status"] == "error"
        assert document["errorType"]
        assert document["error"]


def test_an_answer_of_the_backend_comes_through_as_it_is(
    victoria_metrics: VictoriaMetrics, admin: Client, teams: Teams
) -> None:
    for arguments in ({"query": "1+1", "time": "1700000000"}, {"query": "sum("}, {}):
        through, direct = (
            client.get("/api/v1/query?" + urlencode(arguments)) for client in (admin, victoria_metrics.client)
        )
        assert (through.status, through.header("Content-Type")) == (direct.status, direct.header("Content-Type"))
        if direct.status == 200:
            assert through.body == direct.body
        else:
            assert through.json()["errorType"] == direct.json()["errorType"]
