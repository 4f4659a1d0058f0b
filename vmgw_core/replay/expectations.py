"""Expectations: the required decisions on captured requests, from a YAML file.

    expect:
      - name: the dashboards of team dev keep working
        match: {method: GET, path: /api/v1/query*, recorded: admitted}
        verdict: admitted
        tenant: "0:0"
        upstream: "*extra_label=team%3Ddev*"

``match`` selects requests by ``flow`` (one or several numbers), ``method``, ``path`` (the client's, without arguments),
``client`` (its address) and ``recorded`` (``admitted`` or ``refused``), all of which are optional. ``verdict`` is
``admitted``, ``refused``, a status or the code of a refusal; ``tenant`` and ``upstream`` (the URL at the backend) are
those of an admitted request. A ``*`` stands for any text.

Every entry applies to all requests that match it, and fails if none does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

from vmgw_core.base import YamlFile, printable
from vmgw_core.base.yaml_nodes import line_of
from vmgw_core.errors import Refusal
from vmgw_core.routing import decode_path

from .judge import Verdict
from .record import ADMITTED, Captured

MAX_FAILURES: Final = 20
"""Failures listed per entry; further ones are counted."""

_MATCH: Final = ("flow", "method", "path", "client", "recorded")
_ASSERTED: Final = ("verdict", "tenant", "upstream")
_MAX_FLOW: Final = 10**12
_STATUS: Final = re.compile(r"[45][0-9]{2}")


@dataclass(slots=True, kw_only=True)
class Expectation:
    place: str
    """File and line, such as ``expect.yaml:3``."""
    line: int
    name: str
    flows: frozenset[int] | None = None
    match: Mapping[str, re.Pattern[str]]
    verdict: str | None = None
    tenant: str | None = None
    upstream: str | None = None
    matched: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def hold(self, number: int, place: str, captured: Captured, verdict: Verdict) -> None:
        """Check one request against this entry, if it matches. ``number`` counts flows from 1."""
        if not self._matches(number, captured):
            return
        self.matched += 1
        problem = self._problem(verdict)
        if problem:
            self.failed += 1
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(f"{self.place}: {place} {captured.head.method} {_path(captured)}: {problem}")

    def problems(self) -> list[str]:
        """Return the failures, a line each; empty if the entry holds."""
        if not self.matched:
            return [f"{self.place}: no request matches"]
        more = self.failed - len(self.failures)
        return self.failures + ([f"{self.place}: ... and {more} more"] if more else [])

    def _matches(self, number: int, captured: Captured) -> bool:
        if self.flows is not None and number not in self.flows:
            return False
        recorded = ""
        if captured.outcome is not None:
            recorded = ADMITTED if captured.outcome.admitted else "refused"
        head = captured.head
        found = {"method": head.method, "path": _path(captured), "client": head.client, "recorded": recorded}
        return all(pattern.fullmatch(found[name]) for name, pattern in self.match.items())

    def _problem(self, verdict: Verdict) -> str:
        outcome = verdict.outcome
        got = str(outcome) + (f" ({outcome.reason})" if outcome.reason else "")
        kind = ADMITTED if outcome.admitted else "refused"
        if self.verdict is not None and self.verdict not in (kind, outcome.code, str(outcome.status)):
            return f"expected {self.verdict}, got {got}"
        if verdict.doubt:
            return f"in doubt: {verdict.doubt}"
        if self.tenant is not None and outcome.tenant != self.tenant:
            return f"expected tenant {self.tenant}, got {outcome.tenant or got}"
        url = "" if outcome.sent is None else outcome.sent.url
        if self.upstream is not None and not _glob(self.upstream).fullmatch(url):
            return f"expected upstream {self.upstream}, got {url or got}"
        return ""


def _path(captured: Captured) -> str:
    raw = captured.head.target.partition("?")[0]
    try:
        return decode_path(raw)
    except Refusal:
        return printable(raw)


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


def read_expectations(text: str, name: str) -> list[Expectation]:
    """Read the entries of the file ``name``. Raises ``ConfigurationError``, which names the line."""
    file = YamlFile(name)
    root = file.compose(text, aliases=True)
    fields = dict(file.members(root, "", ("expect",)))
    entries = file.items(fields["expect"], "expect", "a list of entries") if "expect" in fields else []
    if not entries:
        file.refuse("expect: expected a list with at least one entry", root)
    return [_entry(file, node, f"expect[{index}]") for index, node in enumerate(entries)]


def _codes(refusal: type[Refusal]) -> Iterator[str]:
    for each in refusal.__subclasses__():
        yield each.code
        yield from _codes(each)


def _entry(file: YamlFile, node: yaml.Node, path: str) -> Expectation:
    members = dict(file.members(node, path, ("name", "match", *_ASSERTED)))
    texts = {key: file.scalar(member, f"{path}.{key}") for key, member in members.items() if key != "match"}
    if not any(key in members for key in _ASSERTED):
        file.refuse(f"{path}: expected at least one of {', '.join(_ASSERTED)}", node)
    verdict = texts.get("verdict", ADMITTED)
    if verdict not in (ADMITTED, "refused", *_codes(Refusal)) and not _STATUS.fullmatch(verdict):
        file.refuse(
            f"{path}.verdict: expected admitted, refused, a status or the code of a refusal", members["verdict"]
        )
    fields = dict(file.members(members["match"], f"{path}.match", _MATCH)) if "match" in members else {}
    match = {key: _glob(file.scalar(each, f"{path}.match.{key}")) for key, each in fields.items() if key != "flow"}
    line = line_of(node)
    return Expectation(
        place=f"{file.name}:{line}",
        line=line,
        name=texts.get("name", f"entry in line {line}"),
        flows=_flows(file, fields["flow"], f"{path}.match.flow") if "flow" in fields else None,
        match=match,
        verdict=texts.get("verdict"),
        tenant=texts.get("tenant"),
        upstream=texts.get("upstream"),
    )


def _flows(file: YamlFile, node: yaml.Node, path: str) -> frozenset[int]:
    nodes = [node] if isinstance(node, yaml.ScalarNode) else file.items(node, path, "a number or a list of numbers")
    return frozenset(file.integer(each, path, 1, _MAX_FLOW) for each in nodes)
