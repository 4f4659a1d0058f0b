"""Values: equal by their fields, and readable."""

from __future__ import annotations

import pytest

from vmgw_core.base import Value
from vmgw_core.http import RequestHead
from vmgw_core.routing.routes import Match, match_route

HEAD = RequestHead("GET", "/a", ((b"Host", b"g"),), "192.0.2.1")


def test_values_are_equal_by_their_fields() -> None:
    same = RequestHead("GET", "/a", ((b"Host", b"g"),), "192.0.2.1")
    assert same == HEAD
    assert hash(HEAD) == hash(same)
    assert same.with_headers(()) != HEAD
    assert match_route("/api/v1/query", "GET", cluster=False) != HEAD
    assert HEAD != "GET"


def test_a_match_is_a_key() -> None:
    first, second = (match_route("/api/v1/query", "GET", cluster=False) for _ in range(2))
    assert {first: 1}[second] == 1
    assert Match(first.route, first.rest, first.tenant, multitenant=True) != first


def test_the_representation_shows_the_fields() -> None:
    assert repr(HEAD) == "RequestHead('GET', '/a', ((b'Host', b'g'),), '192.0.2.1')"


def test_a_value_says_what_its_fields_are() -> None:
    with pytest.raises(NotImplementedError):
        Value().fields()
