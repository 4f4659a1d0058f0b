"""What a query log shows of a read: the client's arguments, bounded, and no token."""

from __future__ import annotations

import base64
from urllib.parse import quote

from tests.support.core import keys
from tests.support.each import each
from tests.unit.core.enforcement.test_cycle import FORM, cycle, form, gateway
from vmgw_core.enforcement import Query, reads_data
from vmgw_core.enforcement.query import LONGEST_QUERY
from vmgw_core.routing import ROUTES

TOKEN = keys.compact({"alg": "RS256"}, keys.claims(vm_access={}))


def of(arguments: str) -> Query:
    return Query.of(cycle(target=f"/api/v1/query_range?{arguments}"))


CASES = [
    ("query=up&start=1&end=2&step=15s", Query(query="up", start="1", end="2", step="15s")),
    ("query=a%2Bb+c&time=now-1h", Query(query="a+b c", time="now-1h")),
    ("match%5B%5D=a&match[]=b&start=1", Query(match=("a", "b"), start="1")),
    ("target=a.b&target=c.d&from=-1h&until=now", Query(query="a.b\nc.d", start="-1h", end="now")),
    ("query=first&query=second", Query(query="first")),
    ("password=p4ss&authKey=k&extra_label=a=b", Query()),
    ("", Query()),
    ("query=%ff%zz", Query(query="\ufffd%zz")),
    ("query=\udcff", Query(query="?")),
    (f"{'k' * 500}=1&query=up", Query(query="up")),
]


@each("case", CASES)
def test_arguments(case: tuple[str, Query]) -> None:
    assert of(case[0]) == case[1]


def test_the_form_comes_before_the_url() -> None:
    request = form()
    request.head = cycle("POST", "/api/v1/query?query=url&step=5", FORM, (b"Transfer-Encoding", b"chunked")).head
    request.authorize(gateway())
    assert request.enter()
    request.count(1.0)
    request.prepare()
    assert Query.of(request) == Query(query="url", step="5")
    request.form(b"query=form&start=1")
    assert Query.of(request) == Query(query="form", start="1", step="5")


def test_an_api_key_in_a_query_is_left_out() -> None:
    key = "vmgw_" + "k" * 43
    for name in ("query", "target", "match[]"):
        shown = of(f"{name}=up{{a=%22{key}%22}}")
        assert (shown.query or shown.match[0]) == 'up{a="<token>"}'


def test_a_token_in_a_query_is_left_out() -> None:
    for text in (f'{{a="{TOKEN}"}}', f"{TOKEN} + {TOKEN}", TOKEN):
        for shown in (of(f"query={quote(text)}").query, of(f"match[]={quote(text)}").match[0]):
            assert shown is not None
            assert not any(part in shown for part in TOKEN.split("."))
            assert shown == text.replace(TOKEN, "<token>")


def test_names_with_dots_stay() -> None:
    text = 'up{instance="server-one-1.region-west-2.example-host.test"}'
    assert of(f"query={quote(text)}").query == text


def test_everything_is_bounded() -> None:
    asked = of("query=" + "%61" * 20_000 + "&start=" + "1" * 1000)
    assert asked.query == "a" * LONGEST_QUERY
    assert asked.start == "1" * 100
    asked = of("&".join(["match[]=" + "b" * 1000] * 5000))
    assert sum(map(len, asked.match)) <= LONGEST_QUERY
    assert len(asked.match) == 17


def test_hostile_text_is_read_once() -> None:
    """With a regular expression that goes back, this takes minutes."""
    word = base64.urlsafe_b64encode(b'{"' * 3).decode()
    assert of("query=" + "eyJ" * 60_000).query == ("eyJ" * 60_000)[:LONGEST_QUERY]
    assert of("query=" + f"{word}.{word}" * 10_000).query


def test_reads_of_series_are_logged() -> None:
    logged = {route.path for route in ROUTES if reads_data(route)}
    assert {"/api/v1/query", "/prometheus/api/v1/query_range", "/render", "/federate", "/api/v1/export"} <= logged
    assert {"/api/v1/import", "/vmui/", "/api/v1/admin/tsdb/delete_series", "/api/v1/rules"}.isdisjoint(logged)
