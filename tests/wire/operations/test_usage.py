"""The usage report: it agrees with what clients sent and got, and it outlives the process."""

from __future__ import annotations

import csv
import io
import json
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway, auth_flags
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway
from vmgw_addons.cli.main import main

LANES: Final = pytest.mark.parametrize("lane", ["fast", "flow"])
QUERY: Final = "/api/v1/query?query=up"
PAGE: Final = "/-/usage?authKey=k3y&by=month"
STATS: Final = b'{"status":"success","data":{},"stats":{"seriesFetched":"7","executionTimeMsec":1}}'


def answers(request: ReceivedRequest) -> Reply:
    return Reply(body=STATS) if request.path.endswith("/query") else Reply(status=204, body=b"")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def flags(upstream: RecordingUpstream, key_file: Path, state: Path) -> list[str]:
    upstream.responder = answers
    kept = (f"-ratelimit.stateFile={state}", "-usage.retention=400d", "-flagsAuthKey=k3y")
    return [*auth_flags(upstream.url, key_file), *kept]


class Sent:
    """What clients have sent and got, by tenant and subject, under the names of the report."""

    def __init__(self) -> None:
        self.amounts: dict[tuple[str, str], Counter[str]] = {}

    def note(self, who: tuple[str, str], answer: Answer, sent: int = 0, **amounts: int) -> None:
        found = self.amounts.setdefault(who, Counter())
        found.update(bytes_in=sent, bytes_out=len(answer.body), **amounts)


def traffic(gateway: Gateway, key: SigningKey, sent: Sent) -> None:
    """Some requests of every kind."""
    alice, eve = ("1:5", "alice"), ("2:0", "=eve<b>")
    first, second = (
        gateway.client(key.mint(tenant(1, 5), sub=alice[1])),
        gateway.client(key.mint(tenant(2), sub=eve[1])),
    )
    for client, who in ((first, alice), (first, alice), (second, eve)):
        answer = client.get(QUERY)
        assert answer.body == STATS
        sent.note(who, answer, queries=1, series_fetched=7)
    form = "query=up&time=5"
    answer = first.post("/api/v1/query", form=[("query", "up"), ("time", "5")])
    sent.note(alice, answer, len(form), queries=1, series_fetched=7)
    sent.note(alice, first.get("/api/v1/labels"), queries=1)
    sent.note(eve, first_file(second))
    rows = "".join(f'a{{b="c"}} {number}\n' for number in range(50))
    for body in (rows, iter([rows.encode()])):
        answer = second.post("/api/v1/import/prometheus", body=body)
        assert answer.status == 204
        sent.note(eve, answer, len(rows), rows=50)
    bad = '{"metric":{"__name__":"a","":"b"},"values":[1],"timestamps":[1]}'
    answer = second.post("/api/v1/import", body=bad)
    assert answer.status == 400
    sent.note(eve, answer, len(bad), refusals=1)
    answer = second.get("/nowhere")
    assert answer.status == 404
    sent.note(eve, answer, refusals=1)
    anonymous = gateway.client(key.mint(tenant(2)))
    sent.note(("2:0", ""), anonymous.get(QUERY), queries=1, series_fetched=7)
    assert gateway.client("a.b").get(QUERY).status == 401, "which is nobody's"
    assert gateway.client().get("/health").status == 200


def first_file(client: Client) -> Answer:
    answer = client.get("/vmui/")
    assert answer.status == 204
    return answer


def report(gateway: Gateway, arguments: str = "") -> dict[str, Any]:
    answer = gateway.client().get(f"{PAGE}&format=json{arguments}")
    assert answer.status == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def amounts(document: dict[str, Any]) -> dict[tuple[str, str], Counter[str]]:
    found: dict[tuple[str, str], Counter[str]] = {}
    for line in document["lines"]:
        assert line.pop("seconds") > 0
        assert line.pop("start").endswith("-01T00:00:00Z")
        who = line.pop("tenant"), line.pop("subject")
        found[who] = +Counter(line)
    return found


def in_file(state: Path) -> int:
    """The queries in the file; -1 if it is not there yet."""
    try:
        with closing(sqlite3.connect(f"{state.as_uri()}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT ifnull(sum(queries), 0) FROM usage").fetchone()[0])
    except sqlite3.OperationalError:
        return -1


def counts_in_file(state: Path) -> int:
    with closing(sqlite3.connect(f"{state.as_uri()}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT ifnull(sum(count), 0) FROM counts").fetchone()[0])


@LANES
def test_the_report_agrees_with_what_clients_sent_and_got(
    start_gateway: StartGateway, flags: list[str], state: Path, key: SigningKey, lane: str
) -> None:
    gateway, sent = start_gateway(*flags, f"-lane={lane}"), Sent()
    traffic(gateway, key, sent)
    expected = {who: +counted for who, counted in sent.amounts.items()}
    assert amounts(report(gateway)) == expected
    total = report(gateway)["total"]
    assert total.pop("seconds") > 0
    assert total == {"refusals": 2, **sum(expected.values(), Counter())}

    gateway.stop()  # a clean stop loses nothing
    gateway.start()
    assert amounts(report(gateway)) == expected
    traffic(gateway, key, sent)
    expected = {who: +counted for who, counted in sent.amounts.items()}
    assert amounts(report(gateway)) == expected

    number = report(gateway)["total"]["queries"]
    assert gateway.client(key.mint(tenant(1, 5), sub="alice")).get(QUERY).status == 200
    gateway.wait_until(lambda: in_file(state) == number + 1, what="writes what is new, without being asked")
    gateway.kill()
    gateway.start()
    assert report(gateway)["total"]["queries"] == number + 1


def test_mitmdump_keeps_the_report_too(start_gateway: StartGateway, flags: list[str], key: SigningKey) -> None:
    gateway, sent = start_gateway(*flags, program="mitmdump"), Sent()
    traffic(gateway, key, sent)
    gateway.stop()
    gateway.start()
    assert amounts(report(gateway)) == {who: +counted for who, counted in sent.amounts.items()}


@LANES
def test_a_part_of_the_report(start_gateway: StartGateway, flags: list[str], key: SigningKey, lane: str) -> None:
    gateway = start_gateway(*flags, f"-lane={lane}")
    traffic(gateway, key, Sent())
    assert set(amounts(report(gateway, "&tenant=2:0"))) == {("2:0", ""), ("2:0", "=eve<b>")}
    assert set(amounts(report(gateway, "&tenant=2:0&subject=%3Deve%3Cb%3E"))) == {("2:0", "=eve<b>")}
    assert set(amounts(report(gateway, "&subject="))) == {("2:0", "")}
    assert report(gateway, "&to=2026-01")["lines"] == []
    client = gateway.client()
    for wrong, reason in (
        ("&by=week", 'by: expected hour, day or month, got "week"\n'),
        ("&format=xml", "format: expected html, text, csv or json\n"),
        ("&from=2999-01", "from: it must be before to\n"),
    ):
        answer = client.get(PAGE + wrong)
        assert (answer.status, answer.text) == (400, reason)
    assert client.ask("HEAD", PAGE).body == b""
    assert client.post(PAGE).status in (401, 404)


@LANES
def test_the_page_and_the_table_are_safe_to_open(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, lane: str
) -> None:
    gateway = start_gateway(*flags, f"-lane={lane}")
    traffic(gateway, key, Sent())
    page = gateway.client().get(PAGE)
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in (page.header("Content-Security-Policy") or "")
    assert page.header("Cache-Control") == "no-store"
    assert "<td>2:0</td><td>=eve&lt;b&gt;</td><td>1</td><td>100</td>" in page.text
    assert "<svg" in page.text
    for secret in ("<b>", "<script", "k3y", "eyJ"):
        assert secret not in page.text

    table = gateway.client().get(f"{PAGE}&format=csv")
    assert table.header("Content-Type") == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["subject"] for row in rows] == ["alice", "", "'=eve<b>"]
    assert [row["rows"] for row in rows] == ["0", "0", "100"]


@LANES
def test_only_operators_see_the_report(
    start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path, state: Path, key: SigningKey, lane: str
) -> None:
    kept = (f"-ratelimit.stateFile={state}", "-usage.retention=1d", f"-lane={lane}")
    gateway = start_gateway(*auth_flags(upstream.url, key_file), *kept)
    assert gateway.client(key.mint()).get("/-/usage").status == 403
    gateway = start_gateway(*auth_flags(upstream.url, key_file), *kept, "-flagsAuthKey=k3y")
    for target in ("/-/usage", "/-/usage?authKey=other", "/-/usage?format=csv"):
        answer = gateway.client(key.mint()).get(target)
        assert (answer.status, "lines" in answer.text) == (401, False)
    assert upstream.requests == []


def test_without_the_flag_there_is_no_report(
    start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path
) -> None:
    gateway = start_gateway(*auth_flags(upstream.url, key_file), "-flagsAuthKey=k3y")
    answer = gateway.client().get(PAGE)
    assert (answer.status, answer.text) == (
        404, "there is no usage report: set -usage.retention\n",
    )  # fmt: skip


def test_workers_add_up_and_one_that_is_killed_loses_nothing_that_is_written(
    start_gateway: StartGateway, flags: list[str], state: Path, key: SigningKey
) -> None:
    gateway = start_gateway(*flags, "-workers=2", "-usage.maxSubjects=3")
    gateway.wait_until(lambda: gateway.log().count("listens on") == 2, what="all workers listen")
    clients = [gateway.client(key.mint(tenant(1), sub=f"user {number}")) for number in range(20)]
    for client in clients * 2:
        assert client.get(QUERY).status == 200
    gateway.wait_until(lambda: report(gateway)["total"]["queries"] == 40, what="counts the requests of both workers")
    lines = report(gateway)["lines"]
    assert 4 <= len(lines) <= 7, "three subjects of each worker, and the others"
    assert sum(line["queries"] for line in lines if line["subject"] == "(other)") >= 20
    gateway.kill()
    assert in_file(state) == 40
    gateway.start()
    assert report(gateway)["total"]["queries"] == 40


def test_the_command_reads_the_file_and_asks_the_gateway(
    start_gateway: StartGateway, flags: list[str], state: Path, key: SigningKey, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str, code: int = 0, **environ: str) -> str:
        assert main(["usage", *arguments], environ) == code
        found = capsys.readouterr()
        return found.err if code else found.out

    file = f"-ratelimit.stateFile={state}"
    assert (
        said(file, code=2)
        == f"vmgateway usage: -ratelimit.stateFile: cannot use {state}: unable to open database file\n"
    )
    gateway = start_gateway(*flags)
    traffic(gateway, key, Sent())
    url = f"--url={gateway.url}"
    assert report(gateway)["total"]["queries"] == 6
    for form in ("text", "csv", "json"):
        arguments = (f"--format={form}", "--by=month", "--tenant=2:0")
        assert said(file, *arguments) == said(url, *arguments, VMGATEWAY_AUTH_KEY="k3y")
    text = said(file, "--by=month").splitlines()
    assert text[0].split() == [
        "start", "tenant", "subject", "queries", "rows", "bytes_in", "bytes_out", "seconds", "series_fetched",
        "refusals",
    ]  # fmt: skip
    assert [line.split()[1:4] for line in text[1:-1]] == [
        ["1:5", "alice", "4"],
        ["2:0", "-", "1"],
        ["2:0", "=eve<b>", "1"],
    ]
    assert text[-1].split()[:3] == ["total", "6", "100"]
    assert json.loads(said(file, "--format=json", "--to=2026-01"))["lines"] == []

    assert "VMGATEWAY_AUTH_KEY" in said("-help")
    assert said(url, code=2).startswith("vmgateway usage: --url: ")
    assert "k3y" not in said(url, "--by=x", code=2, VMGATEWAY_AUTH_KEY="k3y")
    assert "leave out -ratelimit.stateFile" in said(url, file, code=2)
    assert said(code=2) == (
        "vmgateway usage: name -ratelimit.stateFile or -ratelimit.storage, or a gateway with --url\n"
    )
    assert said(file, "--by=x", code=2) == 'vmgateway usage: --by: expected hour, day or month, got "x"\n'
    assert said(file, "--format=x", code=2) == "vmgateway usage: --format: expected text, csv, json\n"
    assert said(file, "now", code=2) == 'vmgateway usage: unexpected argument "now"\n'
    gateway.stop()
    assert said(file, "--by=month").splitlines() == text, "after a clean stop too"


def test_a_file_that_cannot_be_written_costs_nothing_but_the_report(
    start_gateway: StartGateway, flags: list[str], state: Path, key: SigningKey, tmp_path: Path
) -> None:
    """That counts can be written does not hide it."""
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{type: queries, value: 1000, resolution: month}]")
    gateway = start_gateway(*flags, "-enable.rateLimit", f"-ratelimit.config={limits}")
    client = gateway.client(key.mint(tenant(1), sub="alice"))
    assert client.get(QUERY).status == 200
    gateway.wait_until(lambda: in_file(state) == 1, what="has written")
    with closing(sqlite3.connect(state)) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON usage BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
        assert client.get(QUERY).status == 200
        gateway.wait_until(
            lambda: gateway.metric("vmgateway_failing", what="-usage.retention", reason="file") == 1,
            what="tells that it cannot write",
        )
        gateway.wait_for_log("-ratelimit.stateFile: cannot use .*: the disk is full; the usage report waits in memory")
        assert client.get(QUERY).status == 200
        gateway.wait_until(lambda: counts_in_file(state) == 3, what="writes the counts")
        assert gateway.metric("vmgateway_failing", what="-ratelimit.stateFile", reason="none") == 0
        assert gateway.metric("vmgateway_failing", what="-usage.retention", reason="file") == 1
        assert gateway.client().get(PAGE).status == 200
        database.execute("DROP TRIGGER full")
    gateway.wait_until(lambda: in_file(state) == 3, what="writes what waited")


def test_a_reload_keeps_the_report(start_gateway: StartGateway, flags: list[str], state: Path) -> None:
    gateway = start_gateway(*flags)
    gateway.signal(signal.SIGHUP)
    gateway.wait_for_log("reloaded: ")
    assert gateway.client().get(PAGE).status == 200
