"""The oracle, seeded: thousands of hostile requests against two teams' data, in both lanes. scripts/oracle goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.oracle.requests import MARK, NUMBER, read_request
from tests.support.oracle.single_node import Asker, Oracle, seeded, start_oracle
from tests.support.oracle.writes import delete_request, write_request

SEED = 20
READS = 2000


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with start_oracle() as started:
        yield started


def test_no_answer_shows_or_depends_on_what_is_another_teams(oracle: Oracle) -> None:
    verdicts = oracle.read(seeded(SEED), READS)
    assert verdicts.faults == []
    for lane in oracle.lanes:
        assert verdicts.statuses[f"{lane} 200"] > READS / 10, "a fair part of it was admitted"
    # The oracle can fail: a quarter of these requests also went to the backend itself, and there they do show it.
    assert verdicts.shown_directly > READS / 40
    shown = " ".join(verdicts.routes_shown_directly)
    for route in (
        "query",
        "query_range",
        "series",
        "labels",
        "values",
        "export",
        "federate",
        "native",
        "csv",
        "findSeries",
    ):
        assert route in shown, f"no request for {route} would have shown anything"


def test_no_request_holds_what_is_looked_for() -> None:
    rng = seeded(SEED)
    for _ in range(READS):
        wire = read_request(rng).wire(None)
        assert MARK.encode() not in wire
        assert NUMBER.encode() not in wire


def test_an_answer_that_depends_on_it_is_found(oracle: Oracle) -> None:
    """A token that sees everybody's: both laws are broken, and the oracle says so."""
    everybody = oracle.tokens | {"labels": oracle.mint({"tenant_id": {}})}
    seeing = Oracle(**{name: getattr(oracle, name) for name in Oracle.__slots__} | {"tokens": everybody})
    faults = seeing.read(seeded(SEED), 300).faults
    assert any("shows a mark" in fault for fault in faults)
    assert any("depends on" in fault for fault in faults)


def test_no_row_is_written_for_another_team(oracle: Oracle) -> None:
    verdicts = oracle.write(seeded(SEED), 400, "hostile")
    assert verdicts.faults == []
    assert len(oracle.rows("hostile")) > 100, "a fair part of it was admitted"
    direct = Asker(oracle.written.port)
    rng = seeded(SEED)
    for number in range(50):
        direct.ask(write_request(rng, f"direct_{number}"), None)
    direct.close()
    assert any(series.get("team") == "ops" for series in oracle.rows("direct")), "the same requests can do it"


def test_no_delete_takes_another_teams_series(oracle: Oracle) -> None:
    assert oracle.others() != []
    verdicts = oracle.delete(seeded(SEED), 300)
    assert verdicts.faults == []
    assert verdicts.statuses["fast 204"] > 10
    before = oracle.others()
    direct = Asker(oracle.written.port)
    rng = seeded(SEED)
    for _ in range(100):
        direct.ask(delete_request(rng), None)
    direct.close()
    assert oracle.others() != before, "the same requests can do it"
