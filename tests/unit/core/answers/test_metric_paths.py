"""metric_paths: Graphite's find and expand. That the answers are VictoriaMetrics' own is a test on the wire."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.each import each
from vmgw_core.answers import Filter, metric_paths
from vmgw_core.errors import AnswerTooLarge, BadAnswer, BadRequest
from vmgw_core.routing import Answer

NAMES = ("a", "a.b", "a.b.c", "a.x.c", "b.b.d", "b.b.e.f", "c-1", "a.{q}", "v.n")
PATH = "/select/1:5/prometheus/api/v1/label/__name__/values"
BOUND = ("extra_label=team=dev",)


def filter_of(answer: Answer) -> Filter:
    return Filter(answer=answer, path=PATH, names_path=None, tenant=None, rules=None)


def ask(answer: Answer, *pairs: tuple[str, str], names: object = NAMES, largest: int = 10_000) -> Any:  # noqa: ANN401
    body = json.dumps({"status": "success", "data": names}).encode()
    raw = urlencode(pairs).split("&")
    made = filter_of(answer).apply(200, (), body, raw, largest=largest, names=None)
    assert (made.status, made.kind) == (200, "filtered")
    return json.loads(made.body)


def expand(query: str, **more: str) -> Any:  # noqa: ANN401
    return ask(Answer.EXPAND, ("query", query), *more.items())


def find(query: str, **more: str) -> Any:  # noqa: ANN401
    return ask(Answer.FIND, ("query", query), *more.items())


# --- what is asked --------------------------------------------------------------------------------------------------


@each(
    ("pairs", "path", "query"),
    [
        ((), "__name__", "start=0"),
        (("label=",), "__name__", "start=0"),
        (("label=team", "label=x"), "team", "start=0"),
        (("label=app.k8s.io%2Fname",), "app.k8s.io%2Fname", "start=0"),
        (("label=a%2Fvalues%3Fx%26%23",), "a%2Fvalues%3Fx%26%23", "start=0"),
        (("from=-1h", "until=2%26x", "query=*", "match[]=x", "limit=1"), "__name__", "start=-1h&end=2%26x"),
    ],
)
@each("answer", [Answer.FIND, Answer.EXPAND])
def test_the_values_of_the_label_are_asked_for_with_the_tokens_filters(
    answer: Answer, pairs: tuple[str, ...], path: str, query: str
) -> None:
    target = f"/select/1:5/prometheus/api/v1/label/{path}/values?{query}&{BOUND[0]}"
    assert filter_of(answer).target(pairs, BOUND) == target
    assert filter_of(answer).lists_labels
    assert filter_of(answer).binds


@each("label", ["..", "../../x", "a/./b", "a//b", "/", "a%0Ab", "%00", ".", "%2e%2e"])
def test_a_label_leads_to_no_other_path(label: str) -> None:
    with pytest.raises(BadRequest, match="label"):
        filter_of(Answer.FIND).target((f"label={label}",), BOUND)


@each("name", ["label", "from", "until"])
def test_an_argument_must_fit_into_a_url(name: str) -> None:
    with pytest.raises(BadRequest, match="too long"):
        filter_of(Answer.FIND).target((f"{name}={'1' * 16384}",), BOUND)


# --- what matches ---------------------------------------------------------------------------------------------------


@each(
    ("query", "expected"),
    [
        ("a", ["a.", "a"]),
        ("a.", ["a."]),
        ("nothing", []),
        ("*", ["a.", "b.", "v.", "a", "c-1"]),
        ("a.*", ["a.b.", "a.x.", "a.b", "a.{q}"]),
        ("a*", ["a.", "a"]),
        ("*.b", ["a.b.", "b.b.", "a.b"]),
        ("*.b.*", ["b.b.e.", "a.b.c", "b.b.d"]),
        ("*.*.[cd]", ["a.b.c", "a.x.c", "b.b.d"]),
        ("[^a].*", ["b.b.", "v.n"]),
        ("{a,b}.b", ["a.b.", "b.b.", "a.b"]),
        ("{a,b.b}", []),  # the delimiter ends the part
        ("{[ab],{v,w}}.{b,n}", ["a.b.", "b.b.", "a.b", "v.n"]),
        ("a.{q}", []),
        ("c-{1", []),
        ("c[-]1", ["c-1"]),
        ("?", []),
        ("a,b}*", []),
        ("*,}", []),
        ("*[", []),
        ("*.{x,{b", []),
        ("", []),
    ],
)
def test_a_query(query: str, expected: list[str]) -> None:
    assert expand(query) == expected


def test_find_shows_the_query_but_for_the_last_part() -> None:
    assert [entry["id"] for entry in find("*.b.*")] == ["*.b.c", "*.b.d", "*.b.e."]
    assert [entry["id"] for entry in find("*.b")] == ["*.b"]
    assert [entry["id"] for entry in find("[ab].")] == ["a.", "b."]
    assert [entry["id"] for entry in find("*.b.")] == ["*.b."]


def entry(path: str, text: str, *, node: bool) -> dict[str, object]:
    return {"id": path, "text": text, "allowChildren": int(node), "expandable": int(node), "leaf": int(not node)}


def test_the_tree_of_find() -> None:
    expected = [
        entry("a", "a", node=True),  # it is a leaf too
        entry("b.", "b", node=True),
        entry("c-1", "c-1", node=False),
        entry("v.", "v", node=True),
    ]
    assert find("*") == expected
    assert find("*", wildcards="1") == [*expected, entry("*", "*", node=True)]
    assert find("a.b.*", wildcards="1") == [entry("a.b.c", "c", node=False)]
    assert find("b.*.*", wildcards="true", leavesOnly="1") == [entry("b.*.d", "d", node=False)]
    assert find("x") == []


def test_the_completions_of_find() -> None:
    expected = [
        {"path": "a.b.", "name": "b", "is_leaf": 0},
        {"path": "a.x.", "name": "x", "is_leaf": 0},
        {"path": "a.b", "name": "b", "is_leaf": 1},
        {"path": "a.{q}", "name": "{q}", "is_leaf": 1},
    ]
    for query in ("a.", "a.*"):
        assert find(query, format="completer") == {"metrics": expected}
    assert find("a.", format="completer", wildcards="y") == {"metrics": [*expected, {"name": "*"}]}
    assert [each["path"] for each in find("a..", format="completer")["metrics"]] == ["a.b.", "a.x.", "a.b", "a.{q}"]


def test_other_delimiters_and_variants() -> None:
    assert expand("c*", delimiter="-") == ["c-"]
    assert expand("*-*", delimiter="-") == ["c-1"]
    assert [entry["id"] for entry in find("a,b.b", automatic_variants="1")] == ["{a,b}.b"]
    assert [entry["id"] for entry in find("a,b.b", automatic_variants="No")] == []
    assert [entry["id"] for entry in find("{a,b}.b", automatic_variants="1")] == ["{a,b}.b"]


def test_expand_takes_several_queries() -> None:
    pairs = (("query", "a"), ("query", "v.*"), ("query", "a"))
    assert ask(Answer.EXPAND, *pairs) == ["a.", "a", "v.n"]
    assert ask(Answer.EXPAND, *pairs, ("leavesOnly", "1")) == ["a", "v.n"]
    assert ask(Answer.EXPAND, *pairs, ("groupByExpr", "1")) == {"results": {"a": ["a.", "a"], "v.*": ["v.n"]}}


# --- what is refused ------------------------------------------------------------------------------------------------


@each(
    ("pairs", "message"),
    [
        ((("query", "a"), ("format", "json")), "format"),
        ((("query", ""),), "query: expected"),
        ((("query", "a"), ("delimiter", "..")), "delimiter"),
        ((("query", "a"), ("delimiter", "é")), "delimiter"),
        ((("query", "a"), ("delimiter", "*")), "delimiter"),
        ((("query", "[z-a]"),), "brackets"),
        ((("query", "{" * 11 + "}" * 11),), "braces"),
        ((("query", "*." * 101),), "wildcards"),
        ((("query", "a" * 4097),), "longer"),
    ],
)
def test_find_refuses(pairs: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        ask(Answer.FIND, *pairs)


def test_expand_needs_a_query() -> None:
    with pytest.raises(BadRequest, match="query: expected"):
        ask(Answer.EXPAND, ("delimiter", "."))


def test_what_is_paid_for_is_bounded() -> None:
    """Short names with a long query, and many queries, make long answers of few names."""
    names = [f"n{number}.x" for number in range(100)]
    assert len(ask(Answer.EXPAND, ("query", "*.x"), names=names, largest=20_000)) == 100
    with pytest.raises(AnswerTooLarge):
        ask(Answer.EXPAND, *(("query", f"*.{'[x]' * count}*") for count in range(2)), names=names, largest=20_000)
    tall = [".".join(f"{number}" for _ in range(1000)) for number in range(10)]
    assert len(ask(Answer.FIND, ("query", ".".join("*" * 100)), names=tall)) == 10


def test_the_looks_at_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_paths, "_MOST_LOOKS", 5)
    assert expand("*") == ["a.", "b.", "v.", "a", "c-1"]
    for refused in (("*.*",), ("*", "a")):
        with pytest.raises(BadRequest, match="take too long for so many names"):
            ask(Answer.EXPAND, *(("query", query) for query in refused))


def _options(length: int) -> str:
    return "{" + ",".join(f"{number:09b}" for number in range(length)) + "}"


@each("query", [f"*{_options(180)}{_options(180)}c", "*0" + "[01]" * 90 + "c", "*0" + "{0,1}" * 90 + "c"])
def test_the_steps_of_costly_patterns_are_bounded(query: str) -> None:
    """RE2 may take a step for each of their characters and each character of a name."""
    names = [f"{number:0500b}" for number in range(3000)]
    assert ask(Answer.EXPAND, ("query", query), names=names[:20], largest=4_000_000) == []
    with pytest.raises(BadRequest, match="take too long for so many names"):
        ask(Answer.EXPAND, ("query", query), names=names, largest=4_000_000)


def test_a_long_list_of_names_is_not_costly() -> None:
    hosts = [f"host{number}" for number in range(3000)]
    listed = hosts[:400]
    query = "{" + ",".join(listed) + "}"
    assert ask(Answer.EXPAND, ("query", query), names=hosts, largest=1_000_000) == sorted(listed)


@each("names", [[1], None, {}, "a"])
def test_names_that_are_none_fail_closed(names: object) -> None:
    with pytest.raises(BadAnswer):
        ask(Answer.FIND, ("query", "*"), names=names)
