"""The tally of verdicts, and its three reports."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.support.core.captured import captured, head
from vmgw_core.replay import tally as tally_module
from vmgw_core.replay.expectations import read_expectations
from vmgw_core.replay.judge import Verdict
from vmgw_core.replay.record import Captured, Outcome, Sent
from vmgw_core.replay.report import report_json, report_junit, report_markdown, report_text
from vmgw_core.replay.tally import Tally, shown

SENT = Sent(method="GET", url="http://vm/a", headers="h", body="b")
GOOD = Outcome(code="admitted", status=0, tenant="0:0", access="read", route="/api/v1/query", sent=SENT)
BAD = Outcome(code="expired", status=401, reason="too old")
DIFFERENCES = ["newly refused", "newly admitted", "other refusal", "other tenant", "other upstream request"]
MADE = replace(captured(head()), outcome=GOOD)


def counted(*pairs: tuple[Outcome | None, Outcome], doubt: str = "", listed: int = 100, strict: bool = False) -> Tally:
    """What became of requests that were decided about as the first of each pair, and are as the second."""
    tally = Tally(listed=listed, strict=strict)
    for number, (before, after) in enumerate(pairs, start=1):
        tally.add(f"f#{number}", MADE, before, Verdict(outcome=after, doubt=doubt))
    return tally


def test_nothing_changes() -> None:
    tally = counted((GOOD, GOOD), (BAD, BAD))
    assert not tally.changed
    assert report_text(tally) == (
        "route          tenant  flows  admitted  refused\n"
        "(no route)     -           1         0        1\n"
        "/api/v1/query  0:0         1         1        0\n"
        "\n"
        "2 requests judged: nothing would change\n"
    )


def test_changes_are_counted_and_told() -> None:
    other_url = replace(GOOD, sent=replace(SENT, url="http://vm/b"))
    tally = counted(
        (GOOD, BAD),
        (BAD, GOOD),
        (BAD, replace(BAD, code="unknown_key", reason="")),
        (GOOD, replace(GOOD, tenant="1:0")),
        (GOOD, other_url),
        (GOOD, replace(GOOD, sent=replace(SENT, body="c"))),
        (GOOD, replace(GOOD, sent=replace(SENT, headers="c"))),
        (GOOD, GOOD),
    )
    assert tally.changed
    lines = report_text(tally).splitlines()
    assert [re.split(" {2,}", line) for line in lines[:4]] == [
        ["route", "tenant", "flows", "admitted", "refused", *DIFFERENCES],
        ["(no route)", "-", *"10100100"],
        ["/api/v1/query", "0:0", *"65111003"],
        ["/api/v1/query", "1:0", *"11000010"],
    ]
    assert lines[4:] == [
        "",
        "f#1 GET /api/v1/query?query=up: newly refused: admitted -> 401 expired: too old",
        "f#2 GET /api/v1/query?query=up: newly admitted: 401 expired -> admitted: too old",
        "f#3 GET /api/v1/query?query=up: other refusal: 401 expired -> 401 unknown_key",
        "f#4 GET /api/v1/query?query=up: other tenant: 0:0 -> 1:0",
        "f#5 GET /api/v1/query?query=up: other upstream request: http://vm/a -> http://vm/b",
        "f#6 GET /api/v1/query?query=up: other upstream request: another form",
        "f#7 GET /api/v1/query?query=up: other upstream request: other header fields",
        "",
        (
            "8 requests judged: 7 would change (1 newly admitted, 1 newly refused, 1 other refusal, 1 other tenant,"
            " 3 other upstream request)"
        ),
    ]


def test_the_list_is_bounded_and_the_count_is_not() -> None:
    tally = counted(*[(GOOD, BAD)] * 5, listed=2)
    text = report_text(tally)
    assert text.count("newly refused: admitted") == 2
    assert "... and 3 more" in text
    assert "5 would change" in text


def test_nothing_to_compare_with() -> None:
    tally = counted((None, GOOD), (None, BAD))
    assert not tally.changed
    assert report_text(tally).endswith("\n\n2 requests judged, 1 of them refused; nothing to compare with\n")


def test_some_without_a_recorded_decision() -> None:
    text = report_text(counted((None, GOOD), (GOOD, GOOD)))
    assert text.endswith(
        "\n1 requests have no recorded decision to compare with\n2 requests judged: nothing would change\n"
    )


def test_doubt_is_told_and_counts_only_for_the_strict() -> None:
    tally = counted((GOOD, BAD), (GOOD, GOOD), doubt="it is dark")
    assert not tally.changed
    text = report_text(tally)
    assert (
        "f#1 GET /api/v1/query?query=up: newly refused: admitted -> 401 expired: too old (in doubt: it is dark)" in text
    )
    assert "2 verdicts are in doubt: it is dark" in text
    assert text.endswith("2 requests judged: nothing would change\n")
    assert "in doubt\n" in text
    strict = counted((GOOD, BAD), doubt="it is dark", strict=True)
    assert strict.changed
    assert "verdicts in doubt count as changes" in report_text(strict)


def test_what_is_left_out_and_samples_are_told() -> None:
    tally = Tally()
    tally.skipped = 3
    assert report_text(tally).startswith("3 flows were skipped")
    tally.add("f#1", replace(MADE, sample=0.1), GOOD, Verdict(outcome=GOOD))
    assert "the capture is a sample" in report_text(tally)


def test_groups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "MAX_GROUPS", 2)
    tally = counted(*[(GOOD, replace(GOOD, tenant=f"{number}:0")) for number in range(5)])
    assert sorted(tally.groups) == [("/api/v1/query", "0:0"), ("/api/v1/query", "1:0"), ("other", "other")]
    assert tally.total.flows == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/a?b=c", "/a?b=c"), ("a\nb", "a\\nb"), ("\udcff", "\\udcff"), ("é", "\\u00e9"), ("x" * 400, "x" * 300 + "...")],
)
def test_what_clients_sent_stays_in_its_line(text: str, expected: str) -> None:
    assert shown(text) == expected


# --- for programs --------------------------------------------------------------------------------------------------


def test_json() -> None:
    document = json.loads(report_json(counted((GOOD, BAD), (GOOD, GOOD))))
    assert document["changed"] is True
    assert document["flows"] == 2
    assert document["differences"] == {"newly refused": 1}
    assert document["groups"] == [
        {
            "route": "/api/v1/query",
            "tenant": "0:0",
            "flows": 2,
            "admitted": 1,
            "refused": 1,
            "compared": 2,
            "in_doubt": 0,
            "differences": {"newly refused": 1},
        }
    ]
    (change,) = document["changes"]
    assert (change["place"], change["difference"], change["after"]["code"]) == ("f#1", "newly refused", "expired")
    assert "expectations" not in document


def junit(text: str) -> list[tuple[str, str | None]]:
    """Name and failure of each case."""
    suites = ElementTree.fromstring(text)  # noqa: S314
    cases = [(case.attrib["name"], case.find("failure")) for case in suites.iter("testcase")]
    failures = sum(failure is not None for _, failure in cases)
    assert suites.attrib == {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}
    return [(name, None if failure is None else failure.text) for name, failure in cases]


def test_junit() -> None:
    tally = counted((GOOD, BAD), (GOOD, replace(GOOD, tenant="1:0")), (BAD, BAD))
    assert junit(report_junit(tally)) == [
        ("(no route) of tenant -", None),
        (
            "/api/v1/query of tenant 0:0",
            "1 newly refused: admitted -> 401 expired: too old\nsuch as f#1 GET /api/v1/query?query=up",
        ),
        (
            "/api/v1/query of tenant 1:0",
            "1 other tenant: 0:0 -> 1:0\nsuch as f#2 GET /api/v1/query?query=up",
        ),
    ]


def test_junit_of_the_strict() -> None:
    ((_, failure),) = junit(report_junit(counted((GOOD, BAD), doubt="dark", strict=True)))
    assert failure is not None
    assert failure.startswith("1 of 1: in doubt\nf#1 ")
    assert junit(report_junit(counted((GOOD, BAD), doubt="dark"))) == [("/api/v1/query of tenant 0:0", None)]


def test_junit_holds_no_character_that_xml_cannot() -> None:
    tally = Tally()
    tally.add("f\x00#1", MADE, GOOD, Verdict(outcome=replace(BAD, route="/\x0b<&>")))
    ((name, failure),) = junit(report_junit(tally))
    assert name == "/?<&> of tenant 0:0"
    assert failure is not None
    assert "f?#1" in failure


def test_expectations_in_the_reports() -> None:
    text = "expect:\n- {name: one, verdict: admitted}\n- {name: two, match: {method: PUT}, verdict: admitted}\n"
    expectations = read_expectations(text, "e.yaml")
    for each in expectations:
        each.hold(1, "f#1", Captured(head=head(), at=0), Verdict(outcome=GOOD))
    assert junit(report_junit(Tally(), expectations)) == [("one", None), ("two", "e.yaml:3: no request matches")]
    assert json.loads(report_json(Tally(), expectations))["expectations"] == [
        {"name": "one", "line": 2, "matched": 1, "failures": []},
        {"name": "two", "line": 3, "matched": 0, "failures": ["e.yaml:3: no request matches"]},
    ]
    with_groups = junit(report_junit(counted((GOOD, GOOD)), expectations))
    assert with_groups[2:] == [("/api/v1/query of tenant 0:0", None)]
    assert junit(report_junit(counted((GOOD, GOOD)), expectations, compared=False)) == with_groups[:2]
    assert "\n- e.yaml&#58;3&#58; no request matches\n" in report_markdown(counted((GOOD, GOOD)), expectations)


# --- kinds of changes ----------------------------------------------------------------------------------------------


def at(url: str) -> Outcome:
    return replace(GOOD, sent=replace(SENT, url=url))


def test_the_most_telling_kinds_come_first_with_one_example_each() -> None:
    tally = counted(*[(GOOD, BAD)] * 3, (GOOD, replace(GOOD, tenant="1:0")), (BAD, GOOD))
    text = report_text(tally, every=False)
    assert text[text.index("\n\n") :].startswith(
        "\n\n1 newly admitted: /api/v1/query, tenant 0:0\n  401 expired -> admitted: too old\n"
        "  such as f#5 GET /api/v1/query?query=up\n"
        "\n1 other tenant: /api/v1/query, tenant 1:0\n  0:0 -> 1:0\n  such as f#4 GET /api/v1/query?query=up\n"
        "\n3 newly refused: /api/v1/query, tenant 0:0\n  admitted -> 401 expired: too old\n"
        "  such as f#1 GET /api/v1/query?query=up\n"
    )


def test_ten_kinds_are_shown() -> None:
    tally = counted(*[(GOOD, replace(BAD, route=f"/{number}")) for number in range(12)])
    assert report_text(tally, every=False).count("such as") == 10
    assert "... and 2 more kinds of changes" in report_text(tally, every=False)
    markdown = report_markdown(tally)
    assert markdown.count("\n| 1 |") == 10
    assert markdown.endswith("\n\n... and 2 more kinds of changes\n")


@pytest.mark.parametrize(
    ("before", "after", "story"),
    [
        ("http://a/q?x=1&x=1&l=dev", "http://a/q?x=1&l=ops", "-l=dev -x=1 +l=ops"),
        ("http://a/q?x=1", "http://b/q?x=1", "http://a/q -> http://b/q"),
        ("http://a/q?x=1", "http://b/q", "http://a/q -> http://b/q -x=1 +"),
        ("http://a/q?x=1&y=2", "http://a/q?y=2&x=1", "GET -> GET, or another order of arguments"),
    ],
)
def test_what_a_backend_gets_is_told_by_its_parts(before: str, after: str, story: str) -> None:
    (only,) = counted((at(before), at(after))).unapproved
    assert only.story == story


def test_approved_changes_are_no_changes() -> None:
    pairs = [(at("http://a/q?l=dev"), at("http://a/q?l=ops")), (GOOD, BAD)]
    tally = counted(*pairs)
    lines = sorted(each.line for each in tally.classes.values())
    assert lines[0].startswith("newly refused: /api/v1/query: tenant 0:0: admitted -> 401 expired: 1 requests, digest ")
    tally.approve(["# a comment", "", lines[1], lines[0] + "\n"])
    assert not tally.changed
    assert "2 of the changes are approved\n" in report_text(tally, every=False)
    assert "such as" not in report_text(tally, every=False)
    assert junit(report_junit(tally)) == [("/api/v1/query of tenant 0:0", None)]
    assert "| requests |" not in report_markdown(tally)
    # The same in another order, and with other words.
    other = counted((GOOD, replace(BAD, reason="other")), pairs[0])
    other.approve(lines)
    assert not other.changed


@pytest.mark.parametrize(
    "pairs",
    [
        [(GOOD, BAD), (GOOD, BAD)],  # one more request
        [(GOOD, replace(BAD, access="read"))],
        [(at("http://b/"), BAD)],
        [(BAD, GOOD)],
    ],
    ids=range(4),
)
def test_a_line_approves_nothing_else(pairs: list[tuple[Outcome, Outcome]]) -> None:
    tally = counted(*pairs)
    tally.approve([each.line for each in counted((GOOD, BAD)).classes.values()])
    assert tally.changed
    assert tally.outdated == 1
    assert "1 approved changes do not occur" in report_text(tally)


def test_approved_changes_of_any_backend_do_not_name_it() -> None:
    lines = []
    for host in ("a", "b"):
        tally = Tally(any_backend=True)
        tally.add("f#1", MADE, at(f"http://{host}/q?l=dev"), Verdict(outcome=BAD))
        lines += [each.line for each in tally.classes.values()]
    assert lines[0] == lines[1]


def test_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "MAX_GROUPS", 2)
    tally = counted(*[(GOOD, replace(BAD, code=f"c{number}")) for number in range(5)], (GOOD, replace(BAD, code="c0")))
    assert {(each.route, each.requests) for each in tally.classes.values()} == {
        ("/api/v1/query", 2),
        ("/api/v1/query", 1),
        ("other", 3),
    }
    assert junit(report_junit(tally))[1][0] == "other of tenant other"


def test_refusals_are_listed_if_there_is_nothing_to_compare_with() -> None:
    tally = counted((None, BAD), (None, BAD), (None, GOOD), listed=1)
    assert tally.refusals == ["f#1 GET /api/v1/query?query=up: 401 expired: too old"]
    assert tally.refusals[0] in report_text(tally)
    assert json.loads(report_json(tally))["refusals"] == tally.refusals


def test_a_clients_text_is_no_markdown() -> None:
    tally = counted((GOOD, replace(BAD, route="/<img src=x>|`@me`")))
    assert "/&#60;img src=x&#62;&#124;&#96;&#64;me&#96;" in report_markdown(tally)


def test_requests_that_are_left_out_are_counted() -> None:
    tally = counted((GOOD, GOOD))
    tally.not_chosen = 3
    assert "3 requests were left out by --host and --filter\n" in report_text(tally)
