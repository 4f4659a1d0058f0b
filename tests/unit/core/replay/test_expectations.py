from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.captured import captured, head
from vmgw_core.errors import ConfigurationError
from vmgw_core.replay.expectations import MAX_FAILURES, read_expectations
from vmgw_core.replay.judge import Verdict
from vmgw_core.replay.record import Captured, Outcome, Sent

SENT = Sent(method="GET", url="http://vm/api/v1/query?query=up&extra_label=team%3Ddev", headers="h", body=None)
GOOD = Outcome(code="admitted", status=0, tenant="1:5", access="read", route="/api/v1/query", sent=SENT)
BAD = Outcome(code="expired", status=401, reason="too old")
MADE = captured(head())


def problems(
    entry: str, verdict: Outcome = GOOD, *, doubt: str = "", made: Captured = MADE, number: int = 1
) -> list[str]:
    """What one entry says of one request."""
    (expectation,) = read_expectations("expect:\n- " + entry, "e.yaml")
    expectation.hold(number, f"f#{number}", made, Verdict(outcome=verdict, doubt=doubt))
    return expectation.problems()


@pytest.mark.parametrize(
    "entry",
    [
        "{verdict: admitted}",
        "{tenant: '1:5'}",
        "{upstream: '*extra_label=team%3Ddev'}",
        "{upstream: 'http://vm/api/v1/*'}",
        "{match: {flow: 1}, verdict: admitted}",
        "{match: {flow: [7, 1]}, verdict: admitted}",
        "{match: {method: GET, path: /api/v1/q*, client: 10.0.*, recorded: admitted}, verdict: admitted}",
    ],
)
def test_holds(entry: str) -> None:
    assert problems(entry) == []


@pytest.mark.parametrize("verdict", ["refused", "401", "expired"])
def test_refusals_hold(verdict: str) -> None:
    assert problems(f"verdict: {verdict}", BAD) == []


@pytest.mark.parametrize(
    ("entry", "verdict", "message"),
    [
        ("verdict: admitted", BAD, "expected admitted, got 401 expired (too old)"),
        ("verdict: refused", GOOD, "expected refused, got admitted"),
        ("verdict: '403'", BAD, "expected 403, got 401 expired (too old)"),
        ("verdict: unknown_key", BAD, "expected unknown_key, got 401 expired (too old)"),
        ("tenant: '1:6'", GOOD, "expected tenant 1:6, got 1:5"),
        ("tenant: '1:6'", BAD, "expected tenant 1:6, got 401 expired (too old)"),
        ("upstream: http://vm/*x", GOOD, f"expected upstream http://vm/*x, got {SENT.url}"),
        ("upstream: http://vm/*", BAD, "expected upstream http://vm/*, got 401 expired (too old)"),
    ],
)
def test_fails(entry: str, verdict: Outcome, message: str) -> None:
    assert problems(entry, verdict) == [f"e.yaml:2: f#1 GET /api/v1/query: {message}"]


def test_what_cannot_be_known_does_not_hold() -> None:
    assert problems("verdict: admitted", doubt="it is dark") == [
        "e.yaml:2: f#1 GET /api/v1/query: in doubt: it is dark"
    ]


@pytest.mark.parametrize(
    "match",
    [
        "flow: 2",
        "flow: [2, 3]",
        "method: POST",
        "path: '/api/v1/query?'",
        "path: /api",
        "client: 10",
        "recorded: refused",
    ],
)
def test_an_entry_that_matches_nothing_has_failed(match: str) -> None:
    assert problems(f"{{match: {{{match}}}, verdict: admitted}}") == ["e.yaml:2: no request matches"]


def test_a_request_without_a_record_was_neither() -> None:
    made = replace(MADE, outcome=None)
    assert problems("{match: {recorded: '*'}, verdict: admitted}", made=made) == []
    assert problems("{match: {recorded: admitted}, verdict: admitted}", made=made) != []


def test_a_path_that_cannot_be_decoded_is_matched_as_it_is() -> None:
    made = captured(head("/a//\udcff?x"))
    assert problems("{match: {path: '/a//*'}, verdict: refused}", BAD, made=made) == []


def test_failures_are_bounded() -> None:
    (expectation,) = read_expectations("expect:\n- verdict: admitted\n", "e.yaml")
    for number in range(MAX_FAILURES + 5):
        expectation.hold(number, f"f#{number}", MADE, Verdict(outcome=BAD))
    assert len(expectation.problems()) == MAX_FAILURES + 1
    assert expectation.problems()[-1] == "e.yaml:2: ... and 5 more"


def test_names() -> None:
    first, second = read_expectations("expect:\n- {name: one, verdict: admitted}\n- verdict: admitted\n", "e.yaml")
    assert (first.name, second.name) == ("one", "entry in line 3")


ENTRY = "expect:\n- verdict: admitted\n  match: {"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "e.yaml: the file is empty"),
        ("a: [", "e.yaml, line "),
        ("\x00", "e.yaml: not valid YAML: "),
        ("[" * 50_000, "e.yaml, line 1: "),
        ("[]", "e.yaml, line 1: the file: expected keys and values, got a list"),
        ("{}", "e.yaml, line 1: expect: expected a list with at least one entry"),
        ("expect: []", "e.yaml, line 1: expect: expected a list with at least one entry"),
        ("expect: {}", "e.yaml, line 1: expect: expected a list of entries, got keys and values"),
        ("other: 1", "e.yaml, line 1: other: unknown key; known are expect"),
        ("expect:\n- verdict: admitted\n- x", "e.yaml, line 3: expect[1]: expected keys and values, got text"),
        (
            "expect:\n- verdict: admitted\n  verdict: refused",
            "e.yaml, line 3: expect[0].verdict: the key is already in line 2",
        ),
        ("expect:\n- verdict: admited", "e.yaml, line 2: expect[0].verdict: expected admitted, refused, a status or"),
        ("expect:\n- verdict: 200", "e.yaml, line 2: expect[0].verdict: expected admitted"),
        ("expect:\n- name: x", "e.yaml, line 2: expect[0]: expected at least one of verdict, tenant, upstream"),
        ("expect:\n- verdict:", "e.yaml, line 2: expect[0].verdict: expected a value, got nothing"),
        ("expect:\n- verdict: [admitted]", "e.yaml, line 2: expect[0].verdict: expected a value, got a list"),
        (f"{ENTRY}flow: 0}}", "e.yaml, line 3: expect[0].match.flow: expected an integer of 1 to "),
        (
            f"{ENTRY}flow: {{}}}}",
            "e.yaml, line 3: expect[0].match.flow: expected a number or a list of numbers, got keys",
        ),
        (f"{ENTRY}flow: [x]}}", "e.yaml, line 3: expect[0].match.flow: expected an integer of 1 to "),
        (f"{ENTRY}route: x}}", "e.yaml, line 3: expect[0].match.route: unknown key; known are flow, method, path"),
        ("expect:\n- verdict: admitted\n  match: x", "e.yaml, line 3: expect[0].match: expected keys and values, got"),
        ("expect:\n- ? [a]\n  : b", "e.yaml, line 2: expect[0]: a key: expected text, got a list"),
    ],
)
def test_rejects(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_expectations(text, "e.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_aliases_repeat_a_value() -> None:
    text = "expect:\n- {match: &m {path: /a}, verdict: admitted}\n- {match: *m, verdict: refused}"
    first, second = read_expectations(text, "e.yaml")
    assert first.match == second.match


@given(st.text(max_size=60))
def test_any_text_gives_entries_or_an_error(text: str) -> None:
    for each in (text, "expect:\n- " + text):
        try:
            read_expectations(each, "e.yaml")
        except ConfigurationError:
            continue
