"""Outages are counted by cause, and logged without flooding the log."""

from __future__ import annotations

import logging

import pytest

from vmgw_addons.support import Outage, Outages
from vmgw_core.errors import Cause

logger = logging.getLogger("vmgw_addons.test")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO, "vmgw_addons.test")
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage(logger, "the old keys stay in use", clock)


def test_a_reason_is_logged_once_a_minute_and_its_end_once(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(130):
        clock.now = float(second)
        outage.failed("a: refused", Cause.REFUSED)
    outage.succeeded("a: works again")
    outage.succeeded("a: works again")
    assert caplog.messages == ["a: refused; the old keys stay in use"] * 3 + ["a: works again"]
    assert outage.causes == {Cause.REFUSED: 130}
    assert outage.reason is None


def test_what_fails_and_works_by_turns_does_not_flood_the_log(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for turn in range(1000):
        clock.now = turn / 100
        outage.failed("a: refused", Cause.REFUSED)
        outage.succeeded("a: works again")
    assert caplog.messages == ["a: refused; the old keys stay in use", "a: works again"]
    assert outage.failures == 1000


def test_another_reason_is_logged_at_once_but_only_so_many_within_a_minute(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        outage.failed(f"line {number}", Cause.FILE)
    assert len(caplog.messages) == 8
    assert outage.reason == "line 99"
    clock.now = 61.0
    outage.failed("line 99", Cause.FILE)
    assert caplog.messages[-1] == "line 99; the old keys stay in use"


def test_a_consequence_of_its_own_replaces_the_usual_one(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    outage.failed("a: refused", Cause.REFUSED, consequence="it has given no key yet")
    assert caplog.messages == ["a: refused; it has given no key yet"]


def test_an_outage_is_the_same_by_its_name() -> None:
    outages = Outages()
    assert outages.of("-read.url http://a", logger, "x") is outages.of("-read.url http://a", logger, "x")
    assert outages.of("-read.url http://b", logger, "x") is not outages.of("-read.url http://a", logger, "x")
