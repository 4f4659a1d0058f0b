"""The query log: which requests have a line, and what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.each import each
from tests.support.wire.tokens import tenant
from tests.unit.addons.observability.test_access_log import ALICE, FORGERIES, KEY, POLICY, decide
from vmgw_addons.observability import QueryLog, check_query_log
from vmgw_addons.state import Configured, InForce
from vmgw_addons.support import LogStyle
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Cycle
from vmgw_core.errors import ConfigurationError


def lines(cycle: Cycle, status: int | None = 200, sent: int = 0, **settings: Any) -> list[str]:  # noqa: ANN401
    written: list[str] = []
    in_force = InForce(Configured(policy=POLICY, settings=Settings(**settings)))
    log = QueryLog(in_force, "stdout", LogStyle(), write=written.append)
    log.watch(cycle, 200, ((b"Content-Type", b"application/json"),))
    if cycle.series is not None:
        cycle.series.feed(b'{"data":{},"stats":{"seriesFetched":"5","executionTimeMsec":1}}')
    log.finished(cycle, status, sent)
    return written


def fields(cycle: Cycle, status: int | None = 200, sent: int = 0) -> dict[str, Any]:
    (line,) = lines(cycle, status, sent)
    document: dict[str, Any] = json.loads(line)
    assert document.pop("ts").endswith("Z")
    assert document.pop("duration") > 0
    return document


def test_a_query() -> None:
    target = "/api/v1/query_range?query=sum(up)&start=1&end=now&step=1m&extra_label=a=b&password=p4ss"
    assert fields(decide("GET", target, ALICE), sent=70) == {
        "client": "192.0.2.1",
        "tenant": "1:5",
        "subject": "alice",
        "route": "/api/v1/query_range",
        "query": "sum(up)",
        "match": [],
        "time": None,
        "start": "1",
        "end": "now",
        "step": "1m",
        "bytes": 70,
        "seriesFetched": 5,
        "verdict": "admitted",
        "reason": None,
        "status": 200,
    }


def test_selectors_and_no_number_of_series() -> None:
    shown = fields(decide("GET", "/api/v1/series?match[]=up&match[]=down", ALICE))
    assert (shown["match"], shown["query"], shown["seriesFetched"]) == (["up", "down"], None, None)


def test_refused_reads_are_logged_and_nobody_is_named_without_a_good_token() -> None:
    shown = fields(decide("GET", "/api/v1/query?query=up", "a.b"), 401)
    assert (shown["verdict"], shown["reason"], shown["tenant"], shown["subject"]) == (
        "refused", "malformed_token", None, None,
    )  # fmt: skip


@each("target", ["/api/v1/import", "/vmui/", "/nowhere", "/api/v1/rules"])
def test_other_requests_have_no_line(target: str) -> None:
    assert lines(decide("GET", target, ALICE)) == []


def test_own_pages_have_no_line() -> None:
    cycle = decide("GET", "/api/v1/query", ALICE)
    cycle.own_page = True
    assert lines(cycle) == []


def test_short_ones_are_left_out() -> None:
    cycle = decide("GET", "/api/v1/query", ALICE)
    assert lines(cycle, query_log_min_duration=1e12) == []
    assert len(lines(cycle, query_log_min_duration=1.0)) == 1  # it began at the clock's zero


@each("text", FORGERIES)
def test_what_a_client_chooses_is_one_line_of_json(text: str) -> None:
    token = KEY.mint(tenant(1, 5), sub=text)
    (line,) = lines(decide("GET", f"/api/v1/query?query={text}", token))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["tenant"] == "1:5"


def test_lines_go_to_the_file(tmp_path: Path) -> None:
    in_force = InForce(Configured(policy=POLICY))
    log = QueryLog(in_force, str(tmp_path / "log"), LogStyle())
    for _ in range(3):
        log.finished(decide("GET", "/api/v1/query?query=up", ALICE), 200, 0)
    log.close()
    assert [json.loads(line)["query"] for line in (tmp_path / "log").read_text().splitlines()] == ["up"] * 3
    log.finished(decide("GET", "/api/v1/query?query=up", ALICE), 200, 0)
    assert log.lost == 1


def test_the_place_is_checked_at_the_start(tmp_path: Path) -> None:
    for good in ("", "stdout", "stderr", str(tmp_path / "log")):
        check_query_log(Settings(query_log=good))
    with pytest.raises(ConfigurationError, match=r"^-queryLog: cannot write .*: No such file or directory$"):
        check_query_log(Settings(query_log=str(tmp_path / "none" / "log")))
