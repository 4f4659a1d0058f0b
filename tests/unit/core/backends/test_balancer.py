"""Which of several backends a request goes to."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup, Member
from vmgw_core.backends.histogram import BUCKETS, Durations
from vmgw_core.errors import ConfigurationError


def backends(*urls: str) -> list[Backend]:
    return [Backend.parse(url, "read.url") for url in urls]


def group(*names: str) -> BackendGroup:
    return BackendGroup(backends(*(f"http://{name}:1" for name in names)))


def name(member: Member | None) -> str | None:
    return None if member is None else member.backend.host


def test_the_first_where_nothing_is_known() -> None:
    three = group("a", "b", "c")
    assert three.first.host == "a"
    assert name(three.choose()) == "a"


def test_of_several_equal_ones_the_one_chosen_longest_ago() -> None:
    three = group("a", "b", "c")
    assert [name(three.choose()) for _ in range(7)] == list("abcabca")


def test_the_least_loaded() -> None:
    three = group("a", "b", "c")
    a, b, c = three.members
    for member in (a, a, b, c, c, c):
        member.begin()
    assert name(three.choose()) == "b"
    a.end()
    a.end()
    assert name(three.choose()) == "a"
    assert [member.load for member in three.members] == [0, 1, 3]
    assert [member.requests for member in three.members] == [2, 1, 3]


def test_one_that_failed_is_set_aside_until_it_is_up_again() -> None:
    two = group("a", "b")
    two.members[0].up = False
    assert {name(two.choose()) for _ in range(5)} == {"b"}
    two.members[0].up = True
    assert Counter(name(two.choose()) for _ in range(6)) == {"a": 3, "b": 3}


def test_where_none_is_up_all_are_tried() -> None:
    two = group("a", "b")
    for member in two.members:
        member.up = False
    assert {name(two.choose()) for _ in range(4)} == {"a", "b"}


def test_one_that_was_tried_is_not_chosen_again() -> None:
    two = group("a", "b")
    a, b = two.members
    assert two.choose([a]) is b
    b.up = False
    assert two.choose([a]) is b, "one that failed before is better than none"
    assert two.choose([a, b]) is None


def test_a_group_of_one() -> None:
    one = group("a")
    assert one.only is one.members[0]
    assert group("a", "b").only is None


def test_an_address_stands_there_once() -> None:
    for urls in (("http://a:1", "http://b", "http://a:1/"), ("http://a", "http://u:p@a")):
        with pytest.raises(ConfigurationError, match=r"^-read\.url: the same address is given twice$"):
            BackendGroup(backends(*urls))
    assert len(BackendGroup(backends("http://a", "https://a", "http://a/b")).members) == 3


def test_what_is_known_goes_on_over_a_reload() -> None:
    before = group("a", "b")
    before.choose()
    before.members[0].up = False
    after = BackendGroup(backends("http://c:1", "http://a:1"), before)
    assert after.members[1] is before.members[0]
    assert after.members[0].up
    other_password = BackendGroup(backends("http://u:p@a:1"), before)
    assert other_password.members[0].up
    assert after.turns == 1


def test_equal_backends_get_equal_shares_whatever_their_requests_take() -> None:
    """With one slow backend, the others take what it cannot; its load never stands out."""
    chance = random.Random(4711)  # noqa: S311
    three = group("a", "b", "c")
    running: list[Member] = []
    highest = 0
    for _ in range(3000):
        member = three.choose()
        assert member is not None
        member.begin()
        running.append(member)
        loads = [member.load for member in three.members]
        highest = max(highest, max(loads) - min(loads))
        if len(running) > 30:
            running.pop(chance.randrange(30)).end()
    assert sum(member.load for member in three.members) == len(running)
    shares = [member.requests for member in three.members]
    assert sum(shares) == 3000
    assert min(shares) > 900
    assert highest < 15


def test_durations() -> None:
    durations = Durations()
    for seconds in (0.0, 0.001, 0.0011, 299.0, 301.0):
        durations.add(seconds)
    shown = dict(durations.cumulative())
    assert shown["0.001"] == 2
    assert shown["0.0025"] == 3
    assert shown["60.0"] == 3
    assert shown["300.0"] == 4
    assert shown["+Inf"] == 5
    assert len(shown) == len(BUCKETS) + 1
    assert durations.sum == pytest.approx(600.0021)
