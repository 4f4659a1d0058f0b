"""The report of a replay: text, JSON, and JUnit XML for CI systems."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final
from xml.etree import ElementTree

from .expectations import Expectation
from .judge import Difference
from .record import Outcome
from .tally import Change, Group, Tally, shown

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def report_text(tally: Tally) -> str:
    """Return the table, the changes and a summary, with a newline at the end."""
    total = tally.total
    lines = _table(tally) if tally.groups else []
    if tally.changes:
        lines += ["", *(_line(change) for change in tally.changes)]
        found = sum(total.differences.values())
        listed = sum(not change.doubt for change in tally.changes)
        if found > listed:
            lines.append(f"... and {found - listed} more")
    lines += ["", *_closing(tally, total)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(tally: Tally) -> list[str]:
    kinds = [kind for kind in Difference if any(group.differences[kind] for group in tally.groups.values())]
    doubtful = any(group.doubtful for group in tally.groups.values())
    heads = ["route", "tenant", "flows", "admitted", "refused", *kinds, *(["in doubt"] if doubtful else [])]
    rows = [heads]
    for (route, tenant), group in sorted(tally.groups.items()):
        numbers = [group.flows, group.admitted, group.flows - group.admitted]
        numbers += [group.differences[kind] for kind in kinds] + ([group.doubtful] if doubtful else [])
        rows.append([shown(route), shown(tenant), *map(str, numbers)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in cells).rstrip()
        for cells in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]


def _line(change: Change) -> str:
    line = f"{change.place} {change.method} {change.target}: {change.difference}: {_story(change)}"
    return f"{line} (in doubt: {change.doubt})" if change.doubt else line


def _story(change: Change) -> str:
    before, after = change.before, change.after
    if change.difference is Difference.OTHER_TENANT:
        return f"{before.tenant} -> {after.tenant}"
    if change.difference is Difference.OTHER_UPSTREAM:
        return _other_upstream(before, after)
    return f"{before} -> {after}" + (f": {shown(after.reason)}" if after.reason else "")


def _other_upstream(before: Outcome, after: Outcome) -> str:
    assert before.sent is not None
    assert after.sent is not None
    old, new = before.sent, after.sent
    if (old.method, old.url) != (new.method, new.url):
        return f"{shown(old.url)} -> {shown(new.url)}"
    return "another form" if old.body != new.body else "other header fields"


def _closing(tally: Tally, total: Group) -> Iterator[str]:
    if tally.skipped:
        yield f"{tally.skipped} flows were skipped: they are not HTTP requests or have no decision"
    for doubt, number in sorted(tally.doubts.items()):
        yield f"{number} verdicts are in doubt: {doubt}"
    if tally.sampled:
        yield "the capture is a sample: rate limits count fewer requests than there were"
    if not total.compared:
        yield f"{total.flows} requests judged, {total.flows - total.admitted} of them refused; nothing to compare with"
        return
    alone = total.flows - total.compared
    if alone:
        yield f"{alone} requests have no recorded decision to compare with"
    changes = sum(total.differences.values())
    words = ", ".join(f"{number} {kind}" for kind, number in sorted(total.differences.items()))
    if tally.strict and total.doubtful:
        yield "verdicts in doubt count as changes"
    yield f"{total.flows} requests judged: " + (
        f"{changes} would change ({words})" if changes else "nothing would change"
    )


def report_json(tally: Tally, expectations: Sequence[Expectation] = ()) -> str:
    """Return one JSON document, with a newline at its end."""
    total = tally.total
    document = {
        "changed": tally.changed,
        **_numbers(total),
        "left_out": tally.skipped,
        "sampled": tally.sampled,
        "doubts": dict(tally.doubts),
        "groups": [
            {"route": route, "tenant": tenant, **_numbers(group)}
            for (route, tenant), group in sorted(tally.groups.items())
        ],
        "changes": [{**asdict(change), "difference": change.difference.value} for change in tally.changes],
    }
    if expectations:
        document["expectations"] = [
            {"name": each.name, "line": each.line, "matched": each.matched, "failures": each.problems()}
            for each in expectations
        ]
    return json.dumps(document, indent=2) + "\n"


def _numbers(group: Group) -> dict[str, object]:
    return {
        "flows": group.flows,
        "admitted": group.admitted,
        "refused": group.flows - group.admitted,
        "compared": group.compared,
        "in_doubt": group.doubtful,
        "differences": {kind.value: group.differences[kind] for kind in Difference if group.differences[kind]},
    }


def report_junit(tally: Tally, expectations: Sequence[Expectation] = ()) -> str:
    """Return JUnit XML: a test case per expectation, or per route and tenant if there are none."""
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", name="vmgateway replay")
    cases = [(each.name, each.problems()) for each in expectations] or list(_group_cases(tally))
    for name, problems in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="vmgateway.replay", name=_clean(name))
        if problems:
            failure = ElementTree.SubElement(case, "failure", message=_clean(problems[0]))
            failure.text = _clean("\n".join(problems))
    numbers = {"tests": str(len(cases)), "failures": str(sum(bool(problems) for _, problems in cases)), "errors": "0"}
    suite.attrib |= numbers
    suites.attrib |= numbers
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _group_cases(tally: Tally) -> Iterator[tuple[str, list[str]]]:
    listed: dict[tuple[str, str], list[str]] = {}
    for change in tally.changes:
        if not change.doubt or tally.strict:
            key = tally.key(change.after, change.before)
            listed.setdefault(key, []).append(_line(change))
    for key, group in sorted(tally.groups.items()):
        problems = [f"{number} of {group.flows}: {kind}" for kind, number in sorted(group.differences.items())]
        if tally.strict and group.doubtful:
            problems.append(f"{group.doubtful} of {group.flows}: in doubt")
        yield f"{key[0]} of tenant {key[1]}", problems + (listed.get(key, []) if problems else [])


def _clean(text: str) -> str:
    """Replace characters that XML 1.0 cannot hold."""
    return _NO_XML.sub("?", text)
