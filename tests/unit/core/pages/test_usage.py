"""The page of the usage report: everything in it is escaped, and its tables are bounded."""

from __future__ import annotations

import re

from vmgw_core.pages import usage_page
from vmgw_core.usage import Amounts, Line, Period, Question, Report

FIRST = 498_552  # 2026-11-16T00:00:00Z
QUESTION = Question(first=FIRST, end=FIRST + 48, by=Period.DAY)


def shown(*lines: Line, question: Question = QUESTION, links: bool = False) -> str:
    return usage_page(Report(question, lines), links=links).decode()


def test_the_tables_and_the_plots() -> None:
    text = shown(
        Line(FIRST, "1:0", "alice", Amounts(queries=1000, seconds=1.5)),
        Line(FIRST, "2:0", "", Amounts(queries=500, seconds=9)),
        Line(FIRST + 24, "1:0", "alice", Amounts(queries=750, refusals=3)),
    )
    assert "2026-11-16T00:00:00Z to 2026-11-18T00:00:00Z, by day" in text
    by_subject, by_time = (re.findall(r"<tr><td>.*?</tr>", part) for part in text.split("<h2>")[1:])
    assert by_subject == [
        "<tr><td>2:0</td><td>-</td><td>500</td><td>0</td><td>0</td><td>0</td><td>9.000</td><td>0</td><td>0</td></tr>",
        "<tr><td>1:0</td><td>alice</td><td>1,750</td><td>0</td><td>0</td><td>0</td><td>1.500</td><td>0</td><td>3</td></tr>",
    ]
    assert [re.findall(r"<td>(.*?)</td>", row)[:4] for row in by_time] == [
        ["2026-11-17", "1:0", "alice", "750"],
        ["2026-11-16", "1:0", "alice", "1,000"],
        ["2026-11-16", "2:0", "-", "500"],
    ]
    plots = re.findall(r"<figure><svg .*?</svg>\s*<figcaption>.*?</figcaption></figure>", text, re.DOTALL)
    assert [
        re.sub(r".*<figcaption>", "", plot, flags=re.DOTALL)[: -len("</figcaption></figure>")] for plot in plots
    ] == [
        "Queries: 2,250, at most 1,500 by day",
        "Seconds: 10.500, at most 10.500 by day",
        "Refusals: 3, at most 3 by day",
    ]
    assert 'viewBox="0 0 48 100"' in plots[0]
    assert "<rect x=0 y=0.0 width=21.6 height=100.0><title>2026-11-16: 1,500</title></rect>" in plots[0]
    assert "<rect x=24 y=50.0 width=21.6 height=50.0><title>2026-11-17: 750</title></rect>" in plots[0]


def test_a_period_that_began_earlier_is_in_the_plot() -> None:
    question = Question(first=FIRST + 5, end=FIRST + 7, by=Period.DAY)
    text = shown(Line(FIRST, "1:0", "a", Amounts(queries=1)), question=question)
    assert 'viewBox="0 0 24 100"' in text
    assert "<rect x=0 " in text


def test_everything_is_escaped() -> None:
    hostile = "<script>alert(1)</script>&\"'"
    question = Question(first=FIRST, end=FIRST + 1, tenant=hostile, subject=hostile)
    for links in (True, False):
        text = shown(Line(FIRST, hostile, hostile, Amounts(queries=1)), question=question, links=links)
        assert "<script" not in text
        assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;") == 6


def test_links_lead_to_the_same_report_in_other_forms() -> None:
    links = re.findall(
        r'<a href="(.*?)">(.*?)</a>', shown(question=Question(first=FIRST, end=FIRST + 1, tenant="1:0"), links=True)
    )
    times = "from=2026-11-16T00%3A00%3A00Z&amp;to=2026-11-16T01%3A00%3A00Z"
    assert links == [
        ("?tenant=1%3A0&amp;by=hour", "by hour"),
        ("?tenant=1%3A0&amp;by=day", "by day"),
        ("?tenant=1%3A0&amp;by=month", "by month"),
        (f"?tenant=1%3A0&amp;{times}&amp;by=day&amp;format=csv", "CSV"),
        (f"?tenant=1%3A0&amp;{times}&amp;by=day&amp;format=json", "JSON"),
    ]
    assert "<a " not in shown()
    assert "format=csv or json" in shown()


def test_an_empty_report_says_so_and_a_long_one_is_cut() -> None:
    assert shown().count("nothing was used") == 2
    assert "<svg" not in shown()
    lines = [Line(FIRST, "1:0", str(number), Amounts(queries=1)) for number in range(1002)]
    text = shown(*lines)
    assert text.count("<tr><td>") == 2000
    assert text.count("and 2 more, which CSV and JSON have") == 2
