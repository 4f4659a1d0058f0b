"""peers: what replicas tell each other, and for how long it is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.limits.sharing import replicas as module
from vmgw_core.limits.sharing.replicas import ALIVE_SECONDS, MAX_COUNT, MAX_KEY, LocalCounts, PeerCounts, window_of

KEY = "queries/minute/1:5"
HOURLY = "queries/hour/1:5"


@each(
    ("key", "seconds"),
    [
        (KEY, 60),
        (HOURLY, 3600),
        ('queries/minute/0:0/{team="a/hour/b"}', 60),
        ("queries/day/1:5@1790000000", 86400),
        ("queries/week/1:5", 3600),
        ("queries", 3600),
        ("", 3600),
    ],
)
def test_the_window_of_a_counter(key: str, seconds: float) -> None:
    assert window_of(key) == seconds


# --- the own counts ------------------------------------------------------------------------------------------------


def test_only_changes_are_told() -> None:
    own = LocalCounts()
    assert own.changes({KEY: 1}, 0) == {KEY: 1}
    assert own.changes({KEY: 1}, 1) == {KEY: 1}, "it has not arrived"
    own.published({KEY: 1}, 1)
    assert own.changes({KEY: 1}, 2) == {}
    assert own.changes({KEY: 2, HOURLY: 2}, 2) == {KEY: 2, HOURLY: 2}
    own.forget()
    assert own.changes({KEY: 1}, 2) == {KEY: 1}


def test_what_is_gone_is_told_once() -> None:
    own = LocalCounts()
    own.published({KEY: 1}, 0)
    assert own.changes({}, 1) == {KEY: 0}
    own.published({KEY: 0}, 1)
    own.published({HOURLY: 0}, 1)
    assert own.changes({}, 2) == {}


def test_a_count_that_stays_is_told_again_in_time() -> None:
    own = LocalCounts()
    counts = {KEY: 1, HOURLY: 1}
    own.published(counts, 0)
    assert own.changes(counts, 14.9) == {}
    assert own.changes(counts, 15) == {KEY: 1}
    assert own.changes(counts, 900) == counts
    assert own.changes(counts, -1) == counts, "the clock was set back"


def test_a_count_of_a_day_is_published_again_before_stores_drop_it() -> None:
    own, counts = LocalCounts(), {"queries/day/1:5@1790000000": 3}
    own.published(own.changes(counts, 0), 0)
    assert own.changes(counts, 899) == {}
    assert own.changes(counts, 900) == counts


# --- the others' ---------------------------------------------------------------------------------------------------


def test_counts_of_the_others_add_up() -> None:
    others = PeerCounts()
    others.update_counts("a", {KEY: 3, HOURLY: 5}, 0)
    others.update_counts("b", {KEY: 4}, 0)
    others.update_counts("a", {KEY: 2}, 1)
    assert others.totals(2) == ({KEY: 6, HOURLY: 5}, 0)
    others.update_counts("a", {KEY: 0, "unknown": 0}, 2)
    assert others.totals(2) == ({KEY: 4, HOURLY: 5}, 0)


def test_a_dead_replica_counts_until_its_window_has_passed() -> None:
    others = PeerCounts()
    others.seen("a", 0)
    others.update_counts("a", {KEY: 3, HOURLY: 5}, 0)
    assert others.totals(ALIVE_SECONDS - 0.1) == ({KEY: 3, HOURLY: 5}, 1)
    assert others.totals(ALIVE_SECONDS) == ({KEY: 3, HOURLY: 5}, 0)
    assert others.totals(74.9) == ({KEY: 3, HOURLY: 5}, 0)
    assert others.totals(75) == ({HOURLY: 5}, 0)
    assert others.totals(4500) == ({}, 0)
    assert others._replicas == {}


def test_a_replica_that_uses_nothing_is_alive() -> None:
    others = PeerCounts()
    others.seen("a", 0)
    others.seen("b", 2)
    assert others.totals(2) == ({}, 2)
    assert others.totals(4) == ({}, 1)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REPLICAS", 2)
    monkeypatch.setattr(module, "MAX_COUNTERS", 2)
    others = PeerCounts()
    for name in "abc":
        others.seen(name, 0)
        others.update_counts(name, {f"queries/minute/{number}:0": 10**30 for number in range(5)}, 0)
    totals, alive = others.totals(0)
    assert alive == 2
    assert totals == {"queries/minute/0:0": 2 * MAX_COUNT, "queries/minute/1:0": 2 * MAX_COUNT}
    others.update_counts("a", {"queries/minute/1:0": 1}, 0)
    assert others.totals(0)[0]["queries/minute/1:0"] == MAX_COUNT + 1, "one that is known can change"


def test_a_whole_report_takes_the_place_of_the_one_before() -> None:
    others = PeerCounts()
    others.replace_counts("a", {KEY: 3, HOURLY: 5}, 0)
    others.replace_counts("a", {KEY: 4}, 0)
    assert others.totals(0)[0] == {KEY: 4}


def test_a_whole_report_of_one_replica_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REPLICAS", 0)
    others = PeerCounts()
    others.replace_counts("a", {KEY: 3}, 0)
    assert others.totals(0) == ({}, 0)


def test_names_are_bounded() -> None:
    others = PeerCounts()
    others.update_counts("a", {"x" * (MAX_KEY + 1): 1, "x" * MAX_KEY: 2}, 0)
    assert others.totals(0)[0] == {"x" * MAX_KEY: 2}


@given(st.lists(st.dictionaries(st.sampled_from([KEY, HOURLY, KEY + "+"]), st.integers(1, 9)), max_size=20), st.data())
def test_whatever_arrives_in_the_end_the_other_knows_all(rounds: list[dict[str, int]], data: st.DataObject) -> None:
    own, others = LocalCounts(), PeerCounts()
    for number, counts in enumerate(rounds):
        changes = own.changes(counts, number)
        if data.draw(st.booleans()) or number == len(rounds) - 1:  # else it is lost on the way
            own.published(changes, number)
            others.update_counts("a", changes, number)
    assert others.totals(len(rounds))[0] == (rounds[-1] if rounds else {})
