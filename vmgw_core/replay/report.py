"""The report of a replay: text, JSON, and for CI systems JUnit XML and Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final
from xml.etree import ElementTree

from .expectations import Expectation
from .judge import Difference
from .tally import Change, Class, Group, Tally, shown

_MARKDOWN: Final = re.compile(r"[\\`*_{}\[\]<>&#|~@!:]")
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


EXAMPLES: Final = 10
"""Kinds of changes that a report shows, each with one request."""


def report_text(tally: Tally, *, every: bool = True) -> str:
    """Return the table, the changes and a summary, with a newline at the end.

    ``every``: whether to list single changes, and not only an example of each of the most telling kinds.
    """
    total = tally.total
    lines = _table(tally) if tally.groups else []
    if every and tally.refusals:
        lines += ["", *tally.refusals]
    if not every:
        lines += _examples(tally)
    elif tally.changes:
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


def _examples(tally: Tally) -> Iterator[str]:
    classes = tally.unapproved
    for each in classes[:EXAMPLES]:
        yield ""
        yield f"{each.requests} {each.example.difference}: {shown(each.route)}, tenant {shown(each.tenant)}"
        yield f"  {_told(each)}"
        yield f"  such as {_place(each.example)}"
    if len(classes) > EXAMPLES:
        yield from ("", f"... and {len(classes) - EXAMPLES} more kinds of changes; --list N shows single requests")


def _told(each: Class) -> str:
    return each.story + reason_of(each.example)


def _place(change: Change) -> str:
    return f"{change.place} {change.method} {change.target}"


def reason_of(change: Change) -> str:
    """Return the reason of the refusal that is new or gone."""
    reason = change.before.reason if change.after.admitted else change.after.reason
    return f": {shown(reason)}" if reason else ""


def _line(change: Change) -> str:
    line = f"{_place(change)}: {change.difference}: {change.story}{reason_of(change)}"
    return f"{line} (in doubt: {change.doubt})" if change.doubt else line


def _closing(tally: Tally, total: Group) -> Iterator[str]:
    if tally.skipped:
        yield f"{tally.skipped} flows were skipped: they are not HTTP requests or have no decision"
    if tally.not_chosen:
        yield f"{tally.not_chosen} requests were left out by --host and --filter"
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
    approved = changes - sum(each.requests for each in tally.unapproved)
    if approved:
        yield f"{approved} of the changes are approved"
    if tally.outdated:
        yield f"{tally.outdated} approved changes do not occur: --update removes their lines"
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
        "unapproved": [{"line": each.line, "example": each.example.place} for each in tally.unapproved],
        "refusals": tally.refusals,
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


def report_junit(tally: Tally, expectations: Sequence[Expectation] = (), *, compared: bool = True) -> str:
    """Return JUnit XML: a test case per expectation and, if decisions are ``compared``, per route and tenant."""
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", name="vmgateway replay")
    cases = [(each.name, each.problems()) for each in expectations] + (list(_group_cases(tally)) if compared else [])
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
    lines: dict[tuple[str, str], list[str]] = {key: [] for key in tally.groups}
    for each in tally.unapproved:
        found = lines.setdefault((each.route, each.tenant), [])
        found.append(f"{each.requests} {each.example.difference}: {_told(each)}")
        found.append(f"such as {_place(each.example)}")
    for key, problems in sorted(lines.items()):
        group = tally.groups.get(key)
        if tally.strict and group is not None and group.doubtful:
            problems.append(f"{group.doubtful} of {group.flows}: in doubt")
            problems += [_line(change) for change in tally.changes if change.doubt][:EXAMPLES]
        yield f"{key[0]} of tenant {key[1]}", problems


def report_markdown(tally: Tally, expectations: Sequence[Expectation] = ()) -> str:
    """Return a summary in GitHub's Markdown: what a reviewer needs to know."""
    classes = tally.unapproved
    lines = ["### vmgateway replay", "", *(_escaped(line) + "  " for line in _closing(tally, tally.total)), ""]
    if classes:
        lines += ["| requests | change | route | tenant | decisions | example |", "|---|---|---|---|---|---|"]
    for each in classes[:EXAMPLES]:
        cells = (each.example.difference, shown(each.route), shown(each.tenant), _told(each), _place(each.example))
        lines.append(f"| {each.requests} | {' | '.join(_escaped(cell) for cell in cells)} |")
    if len(classes) > EXAMPLES:
        lines += ["", f"... and {len(classes) - EXAMPLES} more kinds of changes"]
    problems = [line for each in expectations for line in each.problems()]
    if problems:
        lines += ["", "Expectations that do not hold:", "", *(f"- {_escaped(line)}" for line in problems[:EXAMPLES])]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Keep a client's text from being Markdown or HTML."""
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", text)


def _clean(text: str) -> str:
    """Replace characters that XML 1.0 cannot hold."""
    return _NO_XML.sub("?", text)
