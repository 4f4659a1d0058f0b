"""The file of ``-auth.policy``: YAML text -> access policy.

::

    match:                          # every entry that matches grants; several are alternatives
      - name: sre                   # for logs and explanations; match[0] without it
        when: {iss: https://idp.example.com/realms/main, groups: {contains: sre}}
        grant: {tenant: "1:0"}
      - when: {"resource_access.metrics.roles": {matches: "team-(?P<team>[a-z0-9-]+)"}}
        grant: {tenant: "1:0", labels: {team: "{team}"}, mode: read, limits: bronze}
      - when: {"https://example.com/vm_access": {exists: true}}
        grant: {claim: "https://example.com/vm_access"}
    default: deny                   # or a grant without placeholders
    vm_access: first                # or ignore
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import yaml

from vmgw_core.base import YamlFile
from vmgw_core.base.yaml_nodes import child, line_of
from vmgw_core.errors import InvalidClaims
from vmgw_core.tokens import AccessMode, ClaimPath, Selector, SelectorError, parse_selector

from .conditions import Condition, Contains, Exists, Matches
from .expressions import Expression, compile_expression
from .policy import AccessPolicy, Entry
from .template import PLACEHOLDER, Template

MAX_BYTES: Final = 1 << 20
MAX_ENTRIES: Final = 10_000

_TESTS: Final = ("contains", "matches", "exists")
_GRANT: Final = ("claim", "tenant", "labels", "filters", "mode", "limits")


class _VMAccess(StrEnum):
    FIRST = "first"
    IGNORE = "ignore"


class _Mode(StrEnum):
    FULL = "full"
    READ = "read"
    WRITE = "write"


class _Bool(StrEnum):
    TRUE = "true"
    FALSE = "false"


def read_access_policy(text: str | bytes, name: str) -> AccessPolicy:
    """Read the whole text of a file; ``name`` has no credentials.

    Raises ``ConfigurationError``, which names the file, the line, the key and what was expected there.
    """
    return _File(name).read(text)


class GrantFile(YamlFile):
    """A file that has grants."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.limit_classes: dict[str, str] = {}
        """The classes of limits that the grants name, and where each was first."""

    def grant(self, node: yaml.Node, path: str, captured: set[str]) -> Template:
        """Read a grant, and check what can be checked without a token."""
        fields = dict(self.members(node, path, _GRANT))
        limit_class = ""
        if "limits" in fields:
            place = f"{path}.limits"
            limit_class = self.limit_class(fields["limits"], place)
            self.limit_classes.setdefault(limit_class, f"{self.name}, line {line_of(fields['limits'])}: {place}")
        if "claim" in fields:
            if set(fields) - {"claim", "limits"}:
                self.refuse(f"{path}.claim: that claim says everything but limits: remove the other keys", node)
            try:
                claim = ClaimPath.parse(self.text(fields["claim"], f"{path}.claim"))
                return Template(claim=claim, limit_class=limit_class)
            except ValueError as error:
                self.refuse(f"{path}.claim: {error}", node)
        mode = self.choice(fields["mode"], f"{path}.mode", _Mode) if "mode" in fields else _Mode.FULL
        template = Template(
            tenant=self.scalar(fields["tenant"], f"{path}.tenant") if "tenant" in fields else "0:0",
            labels=tuple(self.labels(fields["labels"], f"{path}.labels")) if "labels" in fields else (),
            filters=tuple(self.filters(fields["filters"], f"{path}.filters")) if "filters" in fields else (),
            mode=AccessMode[mode.name],
            limit_class=limit_class,
        )
        for name in template.placeholders():
            if name not in captured:
                self.refuse(f"{path}: no condition captures {{{name}}}; write (?P<{name}>...) in a matches", node)
        try:
            # A digit is good for every value.
            template.fill(dict.fromkeys(captured, "1"), {}, path)
        except InvalidClaims as error:
            self.refuse(str(error), node)
        return template

    def labels(self, node: yaml.Node, path: str) -> list[tuple[str, str]]:
        labels = []
        for name, value in self.members(node, path, None):
            if PLACEHOLDER.search(name):
                self.refuse(f"{child(path, name)}: the name of a label has no placeholders", value)
            labels.append((name, self.text(value, child(path, name))))
        return labels

    def filters(self, node: yaml.Node, path: str) -> list[Selector]:
        filters = []
        for index, item in enumerate(self.items(node, path, "a list of series selectors")):
            try:
                filters.append(parse_selector(self.text(item, f"{path}[{index}]")))
            except SelectorError as error:
                self.refuse(f"{path}[{index}]: not a series selector: {error}", item)
        return filters


class _File(GrantFile):
    def read(self, text: str | bytes) -> AccessPolicy:
        root = self.compose(self.decoded(text, MAX_BYTES))
        fields = dict(self.members(root, "", ("match", "default", "vm_access")))
        if "match" not in fields and "default" not in fields:
            self.refuse("match: missing; expected a list of entries", root)
        entries = self.entries(fields["match"]) if "match" in fields else ()
        vm_access = _VMAccess.FIRST
        if "vm_access" in fields:
            vm_access = self.choice(fields["vm_access"], "vm_access", _VMAccess)
        return AccessPolicy(
            entries=entries,
            default=self.default(fields["default"]) if "default" in fields else None,
            ignore_vm_access=vm_access is _VMAccess.IGNORE,
            limit_classes=self.limit_classes,
        )

    def entries(self, node: yaml.Node) -> tuple[Entry, ...]:
        entries: dict[str, tuple[Entry, int]] = {}
        items = self.items(node, "match", "a list of entries")
        if len(items) > MAX_ENTRIES:
            self.refuse(f"match: more than {MAX_ENTRIES} entries", node)
        for index, item in enumerate(items):
            entry = self.entry(item, f"match[{index}]")
            known = entries.setdefault(entry.name, (entry, line_of(item)))
            if known[0] is not entry:
                self.refuse(f"match[{index}].name: the entry in line {known[1]} has this name already", item)
        return tuple(entry for entry, _ in entries.values())

    def entry(self, node: yaml.Node, path: str) -> Entry:
        fields = dict(self.members(node, path, ("name", "when", "grant")))
        for key in ("when", "grant"):
            if key not in fields:
                self.refuse(f"{child(path, key)}: missing", node)
        captured: set[str] = set()
        when = tuple(
            self.condition(key, value, child(path, "when"), captured)
            for key, value in self.members(fields["when"], child(path, "when"), None)
        )
        if not when:
            self.refuse(f"{path}.when: expected at least one condition; use default for every other token", node)
        name = self.text(fields["name"], f"{path}.name") if "name" in fields else path
        if not name.isprintable() or not 0 < len(name) <= 100:
            self.refuse(f"{path}.name: expected 1 to 100 printable characters", fields.get("name", node))
        return Entry(name=name, when=when, grant=self.grant(fields["grant"], child(path, "grant"), captured))

    # --- conditions ------------------------------------------------------------------------------------------------

    def condition(self, key: str, node: yaml.Node, path: str, captured: set[str]) -> Condition:
        """Read a condition; add the names that it captures to ``captured``."""
        place = child(path, key)
        try:
            claim = ClaimPath.parse(key)
        except ValueError as error:
            self.refuse(f"{place}: {error}", node)
        if not isinstance(node, yaml.MappingNode):
            return Contains(claim, self.texts(node, place))
        tests = list(self.members(node, place, _TESTS))
        if len(tests) != 1:
            self.refuse(f"{place}: expected one of {', '.join(_TESTS)}", node)
        [(test, value)] = tests
        place = child(place, test)
        if test == "contains":
            return Contains(claim, self.texts(value, place))
        if test == "exists":
            if self.scalar(value, place) not in list(_Bool):
                self.refuse(f"{place}: expected true or false", value)
            return Exists(claim, self.scalar(value, place) == _Bool.TRUE)
        expression, names = self.expression(value, place)
        if names & captured:
            self.refuse(f"{place}: another condition captures {min(names & captured)} already", value)
        captured |= names
        return Matches(claim, expression)

    def texts(self, node: yaml.Node, path: str) -> frozenset[str]:
        """Return the texts of a value or of a list of values. Numbers and booleans are compared as JSON writes them."""
        if not isinstance(node, yaml.SequenceNode):
            return frozenset({self.scalar(node, path)})
        texts = frozenset(self.scalar(item, f"{path}[{i}]") for i, item in enumerate(self.items(node, path, "a list")))
        if not texts:
            self.refuse(f"{path}: the list is empty", node)
        return texts

    def expression(self, node: yaml.Node, path: str) -> tuple[Expression, frozenset[str]]:
        try:
            return compile_expression(self.text(node, path))
        except ValueError as error:
            self.refuse(f"{path}: not a regular expression: {error}", node)

    def default(self, node: yaml.Node) -> Template | None:
        if isinstance(node, yaml.MappingNode):
            return self.grant(node, "default", set())
        if self.scalar(node, "default") != "deny":
            self.refuse("default: expected deny or a grant", node)
        return None
