"""What one team writes, judged by what another team reads, and by whether the backend still runs.

VictoriaMetrics keeps index keys of its own beside those of labels. They begin with the byte 0xFE, and a label whose
name begins so is stored among them: a row of one team would count among another's. Series without a name, or with such
a label, can stop the backend when a later read meets their keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.oracle.backends import BACKENDS, Backend, start_backend
from tests.support.oracle.requests import SAMPLES, START, Request
from tests.support.oracle.single_node import Asker
from tests.support.oracle.writes import ROWS_OF, body_of
from tests.support.wire.processes import Gateway
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey
from tests.support.wire.waiting import eventually

LANES = ("fast", "flow")
AT = str(START + 60)
FE = "\udcfe"
"""One byte 0xFE, see ``oracle_writes``."""


@dataclass(kw_only=True)
class Teams:
    """A backend on which team ``ops`` has one series of 7, and gateways in front of it."""

    backend: Backend
    gateways: dict[str, Gateway]
    key: SigningKey

    def token(self, **access: object) -> str:
        return self.key.mint(self.backend.claim(**access))

    def write(self, lane: str, request: Request) -> int:
        """The status of a write by team ``dev``."""
        with Asker(self.gateways[lane].port) as asker:
            return asker.ask(request, self.token(extra_labels={"team": "dev"})).status

    def see(self, team: str, query: str) -> list[str]:
        """The values that a team's token sees, by its label and by a filter: they must be the same."""
        seen: list[list[str]] = []
        accesses: tuple[dict[str, object], ...] = (
            {"extra_labels": {"team": team}},
            {"extra_filters": [f'{{team="{team}"}}']},
        )
        for access in accesses:
            client = self.gateways["fast"].client(self.token(**access))
            answer = client.get("/api/v1/query", {"query": query, "time": AT, "nocache": "1"})
            assert answer.status == 200, answer
            seen.append([item["value"][1] for item in answer.json()["data"]["result"]])
        assert seen[0] == seen[1]
        return seen[0]


@pytest.fixture(scope="module", params=BACKENDS)
def teams(request: pytest.FixtureRequest, key: SigningKey, key_file: Path) -> Iterator[Teams]:
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(start_backend(request.param))
        gateways = {
            lane: stack.enter_context(Gateway(*backend.flags, f"-auth.publicKeyFiles={key_file}", f"-lane={lane}"))
            for lane in LANES
        }
        yield Teams(backend=backend, gateways=gateways, key=key)


def fill(teams: Teams, metric: str) -> None:
    times = [(START + 60 * number) * 1000 for number in range(SAMPLES)]
    teams.backend.tenant.import_prometheus("".join(f'{metric}{{team="ops"}} 7 {moment}\n' for moment in times))


def hostile_names(metric: str) -> dict[str, str]:
    """Label names that are index keys of VictoriaMetrics' own, or nearly."""
    length = chr(len(metric))
    return {
        "composite key": f"{FE}{length}{metric}team",
        "composite key of another name": f"{FE}\x05otherteam",
        "its first byte": FE,
        "no UTF-8": "\udcff\udcfe",
        "a control character": "\x01team",
        "a separator": "team\x01ops\x01",
        "NUL": "\x00team",
    }


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", ROWS_OF)
def test_no_row_of_one_team_counts_among_anothers(teams: Teams, metric: str, lane: str, kind: str) -> None:
    fill(teams, metric)
    for name in hostile_names(metric).values():
        teams.write(lane, body_of(kind, metric, [("team", "dev"), (name, "ops")]))
    # The same protocol, without such a name: what was written before it is there once it is.
    assert teams.write(lane, body_of(kind, metric, [("host", "a")])) in (200, 202, 204, 400, 404)
    teams.backend.tenant.force_flush()
    assert teams.see("ops", f"sum({metric})") == ["7"]
    assert teams.see("ops", f'sum({metric}{{team="ops"}})') == ["7"]
    assert teams.see("ops", f"count({metric})") == ["1"]
    assert teams.backend.is_alive()


@pytest.mark.parametrize("lane", LANES)
def test_nor_in_the_native_format(teams: Teams, metric: str, lane: str) -> None:
    """What another server has stored with such a name, and shows in the format of its own."""
    fill(teams, metric)
    with VictoriaMetrics() as source:
        for name in hostile_names(metric).values():
            with Asker(source.port) as asker:
                row = body_of("remote-write", metric, [("team", "ops"), (name, "ops")])
                assert asker.ask(row, None).status == 204
        source.force_flush()
        times = {"start": str(START - 60), "end": str(START + 60)}
        exported = source.client.get("/api/v1/export/native", {"match[]": metric, **times}).body
    assert FE.encode("utf-8", "surrogateescape") in exported
    teams.write(lane, Request(method="POST", target="/api/v1/import/native", body=exported))
    teams.backend.tenant.force_flush()
    assert teams.see("ops", f"sum({metric})") == ["7"]
    assert teams.see("ops", f"count({metric})") == ["1"]


SERIES = 3000
READS = (
    '{one="1","\\xfe"=~".*v.*",x9!="1"}',
    '{one="1",x=~".*v.*",x9!="1"}',
    '{__name__=~"|foo",one="1",x=~".*v.*"}',
    '{__name__=~"|m",one="1",x=~".*v.*",x9!="1"}',
    '{__name__="",one="1",x=~".*v.*"}',
)
"""Reads with a filter that is postponed until the series are known, and then meets the keys of these series."""


def nameless(label: str) -> dict[str, Request]:
    """Writes of many series without a metric name, with the label ``one`` and another one, by protocol."""
    text = "".join(f'{{one="1",{label}="v{number}"}} 1 {AT}000\n' for number in range(SERIES))
    lines = "".join(
        f'{{"metric":{{"one":"1","{label}":"v{number}"}},"values":[1],"timestamps":[{AT}000]}}\n'
        for number in range(SERIES)
    )
    influx = "".join(f",one=1,{label}=v{number} =1 {AT}000000000\n" for number in range(SERIES))
    bodies = {"/api/v1/import/prometheus": text, "/api/v1/import": lines, "/write": influx}
    return {
        path: Request(method="POST", target=path, body=body.encode("utf-8", "surrogateescape"))
        for path, body in bodies.items()
    }


HOSTILE_READS = {
    "linearRegression": ("/render", "target", 'linearRegression(*, "-1h", 1e18)'),
    "stdev": ("/render", "target", "stdev(*, -1, 9223372036854775807)"),
    "stdev of a series": ("/render", "target", 'stdev(seriesByTag("team=dev"), 9223372036854775807, 100)'),
    "highest": ("/render", "target", "highestMax(*, 0)"),
    "integralByInterval": ("/render", "target", 'integralByInterval(*, "0s")'),
    "times": ("/render?until=5000000000000000", "from", "-5000000000000000"),
    "templates": (
        "/api/v1/query",
        "query",
        "WITH (x0 = a + b, " + ", ".join(f"x{n} = x{n - 1} + x{n - 1}" for n in range(1, 31)) + ") x30",
    ),
    "ttf": ("/api/v1/query", "query", "ttf(" * 30 + "a" + ")" * 30),
    "brackets": ("/api/v1/series", "match[]", "(" * 3_000_000),
    "brackets in a filter": ("/api/v1/query?query=1", "extra_filters[]", "(" * 3_000_000),
    "minus": ("/expand-with-exprs", "query", "-" * 3_000_000 + "a"),
}
"""What the parsers and functions of VictoriaMetrics v1.150 do not bear: each ends the process, or takes all memory."""


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("lane", LANES)
def test_the_backend_survives_hostile_queries(
    kind: str, lane: str, key: SigningKey, key_file: Path, metric: str
) -> None:
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(start_backend(kind))
        gateway = stack.enter_context(Gateway(*backend.flags, f"-auth.publicKeyFiles={key_file}", f"-lane={lane}"))
        backend.tenant.import_prometheus("".join(f'{metric}{{team="dev"}} 7 {START + 60 * n}000\n' for n in range(9)))
        client = gateway.client(key.mint(backend.claim(extra_labels={"team": "dev"})))
        for path, name, value in HOSTILE_READS.values():
            body = urlencode({name: value, "format": "json"}).encode()
            answer = client.post(path, body=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
            assert answer.status == 400, (path, value[:80], answer)
        good = "WITH (f(x) = sum(x)) f({team='dev'})"
        answer = client.get("/api/v1/query", {"query": good, "time": str(START + 480)})
        assert answer.json()["data"]["result"][0]["value"][1] == "7"
        assert backend.is_alive()


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("label", ["x", FE], ids=["no name", "0xFE"])
def test_the_backend_survives_hostile_writes_and_reads(
    kind: str, label: str, key: SigningKey, key_file: Path, metric: str
) -> None:
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(start_backend(kind))
        gateways = {
            lane: stack.enter_context(Gateway(*backend.flags, f"-auth.publicKeyFiles={key_file}", f"-lane={lane}"))
            for lane in LANES
        }
        teams = Teams(backend=backend, gateways=gateways, key=key)
        fill(teams, metric)
        for lane in LANES:
            for request in nameless(label).values():
                teams.write(lane, request)
        backend.tenant.force_flush()
        for lane in LANES:
            client = gateways[lane].client(teams.token(extra_labels={"team": "dev"}))
            for read in READS:
                client.get("/api/v1/query", {"query": read, "time": AT})
                client.get("/api/v1/series", {"match[]": read, "start": str(START), "end": str(START + 600)})
        eventually(backend.is_alive, what="the backend runs")
        assert teams.see("ops", f"sum({metric})") == ["7"]
        stored = teams.see("dev", 'count({one="1",__name__=""})')
        assert stored == [], "no series without a name is stored"
