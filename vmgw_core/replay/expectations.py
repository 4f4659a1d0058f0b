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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import yaml

from vmgw_core.base import printable, quoted
from vmgw_core.errors import ConfigurationError, Refusal
from vmgw_core.routing import decode_path

from .judge import Verdict
from .record import ADMITTED, Captured

MAX_FAILURES: Final = 20
"""Failures listed per entry; further ones are counted."""

_MATCH: Final = ("flow", "method", "path", "client", "recorded")
_ASSERTED: Final = ("verdict", "tenant", "upstream")
_STATUS: Final = re.compile(r"[45][0-9]{2}")


@dataclass(slots=True, kw_only=True)
class Expectation:
    """One entry of the file, and its results."""

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
        """Check one request against this entry, if it matches.

        Args:
            number: the number of the flow in its file, from 1.
            place: file and number.
        """
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


# --- the file ------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads the nodes of one file; each error names the line."""

    def __init__(self, name: str) -> None:
        self.name = name

    def error(self, node: yaml.Node, message: str) -> ConfigurationError:
        return ConfigurationError(f"{self.name}:{node.start_mark.line + 1}: {message}")

    def members(self, node: yaml.Node, known: Sequence[str], what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected {what}: a mapping with {', '.join(known)}")
        members: dict[str, yaml.Node] = {}
        for key, member in node.value:
            name = self.text(key, "a name")
            if name not in known:
                raise self.error(key, f"unknown field {quoted(name)}; {what} has {', '.join(known)}")
            if name in members:
                raise self.error(key, f"{name} is given twice")
            members[name] = member
        return members

    def items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"expected {what}")
        return list(node.value)

    def text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null" or not node.value:
            raise self.error(node, f"expected {what}")
        return str(node.value)

    def numbers(self, node: yaml.Node) -> frozenset[int]:
        texts = [node] if isinstance(node, yaml.ScalarNode) else self.items(node, "the number of a flow, or a list")
        return frozenset(self.number(each) for each in texts)

    def number(self, node: yaml.Node) -> int:
        text = self.text(node, "the number of a flow")
        if not re.fullmatch(r"[1-9][0-9]{0,11}", text):
            raise self.error(node, "expected the number of a flow, from 1")
        return int(text)


def read_expectations(text: str, name: str) -> list[Expectation]:
    """Read the entries of a file.

    Args:
        name: the name of the file, for messages.

    Raises:
        ConfigurationError: the file has another form; the message names the line.
    """
    reader = _Reader(name)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(f"{name}{line}: {getattr(error, 'problem', None) or 'no YAML text'}") from None
    if root is None:
        raise ConfigurationError(f"{name}: the file is empty; expected a list under expect:")
    top = reader.members(root, ("expect",), "the file")
    entries = reader.items(top["expect"], "a list of entries") if "expect" in top else []
    if not entries:
        raise reader.error(root, "expected at least one entry under expect:")
    return [_entry(reader, node) for node in entries]


def _codes(refusal: type[Refusal]) -> Iterator[str]:
    """Yield the codes of all refusals."""
    for each in refusal.__subclasses__():
        yield each.code
        yield from _codes(each)


def _entry(reader: _Reader, node: yaml.Node) -> Expectation:
    members = reader.members(node, ("name", "match", *_ASSERTED), "an entry")
    texts = {key: reader.text(member, f"a text for {key}") for key, member in members.items() if key != "match"}
    if not any(key in members for key in _ASSERTED):
        raise reader.error(node, f"an entry needs one of {', '.join(_ASSERTED)}")
    verdict = texts.get("verdict", ADMITTED)
    if verdict not in (ADMITTED, "refused", *_codes(Refusal)) and not _STATUS.fullmatch(verdict):
        raise reader.error(members["verdict"], "expected admitted, refused, a status, or the code of a refusal")
    fields = reader.members(members["match"], _MATCH, "match") if "match" in members else {}
    match = {key: _glob(reader.text(each, f"a text for {key}")) for key, each in fields.items() if key != "flow"}
    line = node.start_mark.line + 1
    return Expectation(
        place=f"{reader.name}:{line}",
        line=line,
        name=texts.get("name", f"entry in line {line}"),
        flows=reader.numbers(fields["flow"]) if "flow" in fields else None,
        match=match,
        verdict=texts.get("verdict"),
        tenant=texts.get("tenant"),
        upstream=texts.get("upstream"),
    )
