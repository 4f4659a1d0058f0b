"""The file of ``-ratelimit.config``: YAML text -> limits.

The specification, "Rate Limiter", has the form. Everything in it counts: what is not understood is refused, and the
error names the file, the line and the key. Beyond the specification are ``scope: total``, for the sum over all
tenants, and ``labels``, for tokens that carry those ``extra_labels``::

    limits:
      - type: queries            # queries, rows_inserted, new_series or active_series
        value: 1000
        resolution: minute       # minute (the default) or hour
        account_id: 1            # either makes it the tenant's own limit; the other is then 0
        project_id: 5
      - {type: rows_inserted, value: 1000000, scope: total}
      - {type: queries, value: 100, labels: {team: dev}}

YAML has more ways to say things than a limit needs: anchors, aliases, merge keys, several documents and numbers in
other notations (``010`` is 8) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NoReturn, TypeVar

import yaml

from vmgw_core.base import CONTROL, Labels, TenantID
from vmgw_core.errors import ConfigurationError

from .model import MAX_VALUE, Limit, LimitType, Resolution

MAX_BYTES: Final = 1 << 20
MAX_LABELLED: Final = 1000
"""Limits with labels: each is compared with the labels of every token."""
MAX_LABELS: Final = 16

_MAX_DEPTH: Final = 8
_UINT32_MAX: Final = 2**32 - 1
_KEYS: Final = ("type", "value", "resolution", "account_id", "project_id", "scope", "labels")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_SHOWN: Final = 40  # characters of a key that an error shows
_STRING: Final = "tag:yaml.org,2002:str"
_LIST: Final = "tag:yaml.org,2002:seq"
_MAPPING: Final = "tag:yaml.org,2002:map"
_NULL: Final = "tag:yaml.org,2002:null"
_INTEGER: Final = "tag:yaml.org,2002:int"
# The parser in C reads a large file in a tenth of the time; not every installation has it.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

T = TypeVar("T", bound=StrEnum)


class _Scope(StrEnum):
    TENANT = "tenant"
    TOTAL = "total"


def read_limits(text: str | bytes, name: str) -> tuple[Limit, ...]:
    """The limits in the text of a file.

    Args:
        text: the whole file, UTF-8.
        name: what errors call it; it must hold no credentials.

    Raises:
        ConfigurationError: names the file, the line, the key and what was expected there.
    """
    return _File(name).read(text)


def check_measurable(limits: Iterable[Limit], name: str) -> None:
    """Refuse limits that nothing can measure where there is no ``-datasource.url``.

    Raises:
        ConfigurationError: says which, and what is missing.
    """
    for limit in limits:
        if not limit.type.counted:
            raise ConfigurationError(
                f"{name}: a limit on {limit.type} needs -datasource.url: the gateway counts queries and rows itself, "
                "but which series exist only a storage knows"
            )


class _File:
    """The file being read: its name, for errors."""

    def __init__(self, name: str) -> None:
        self.name = name

    def refuse(self, reason: str, node: yaml.Node | None = None, line: int | None = None) -> NoReturn:
        if node is not None:
            line = node.start_mark.line + 1
        place = self.name if line is None else f"{self.name}, line {line}"
        raise ConfigurationError(f"{place}: {reason}")

    def read(self, text: str | bytes) -> tuple[Limit, ...]:
        try:
            decoded = text.decode() if isinstance(text, bytes) else text
            size = len(decoded.encode())
        except UnicodeError:
            self.refuse("it is not UTF-8")
        if size > MAX_BYTES:
            self.refuse(f"it is larger than {MAX_BYTES} bytes")
        return self.limits(self.compose(decoded))

    # --- YAML ------------------------------------------------------------------------------------------------------

    def compose(self, text: str) -> yaml.Node:
        """The one document, as nodes that know their place."""
        try:
            self.check_events(text)
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.refuse(f"it is no YAML: {error.problem}", line=None if mark is None else mark.line + 1)
        except yaml.reader.ReaderError:
            self.refuse("it is no YAML: it has a character that no YAML file may have")
        if node is None:
            self.refuse("it is empty; expected the key limits")
        return node

    def check_events(self, text: str) -> None:
        """Refuse what could expand to more than is written, before anything is built from it."""
        depth = documents = 0
        for event in yaml.parse(text, Loader=_LOADER):
            mark = event.start_mark
            assert mark is not None
            line = mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                self.refuse("anchors and aliases are not taken: write it out", line=line)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.refuse("a second document begins here; expected one", line=line)
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > _MAX_DEPTH:
                    self.refuse("it is nested too deeply", line=line)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1

    # --- the document ----------------------------------------------------------------------------------------------

    def limits(self, root: yaml.Node) -> tuple[Limit, ...]:
        fields = dict(self.members(root, "", ("limits",)))
        if "limits" not in fields:
            self.refuse("limits: missing; expected a list of limits", root)
        items = fields["limits"]
        if not isinstance(items, yaml.SequenceNode) or items.tag != _LIST:
            self.refuse(f"limits: expected a list of limits, got {_kind(items)}", items)
        limits: dict[tuple[object, ...], tuple[Limit, int]] = {}
        labelled = 0
        for index, item in enumerate(items.value):
            path = f"limits[{index}]"
            limit = self.limit(item, path)
            labelled += bool(limit.labels)
            if labelled > MAX_LABELLED:
                self.refuse(f"{path}: more than {MAX_LABELLED} limits with labels", item)
            first = limits.setdefault((limit.tenant, limit.total, limit.slot), (limit, item.start_mark.line + 1))
            if first[0] is not limit:
                self.refuse(f"{path}: a second limit for the same as the one in line {first[1]}", item)
        return tuple(limit for limit, _ in limits.values())

    def limit(self, node: yaml.Node, path: str) -> Limit:
        fields = dict(self.members(node, path, _KEYS))
        for key in ("type", "value"):
            if key not in fields:
                self.refuse(f"{path}.{key}: missing", node)
        limit_type = self.choice(fields["type"], f"{path}.type", LimitType)
        value = self.integer(fields["value"], f"{path}.value", 1, MAX_VALUE)
        resolution, scope = Resolution.MINUTE, _Scope.TENANT
        labels: Labels = ()
        if "resolution" in fields:
            resolution = self.choice(fields["resolution"], f"{path}.resolution", Resolution)
        if "scope" in fields:
            scope = self.choice(fields["scope"], f"{path}.scope", _Scope)
        if "labels" in fields:
            labels = self.labels(fields["labels"], f"{path}.labels")
            if not limit_type.counted:
                self.refuse(
                    f"{path}.labels: nothing can measure {limit_type} by the labels of tokens", fields["labels"]
                )
        tenant = self.tenant(fields, path)
        if scope is _Scope.TOTAL and tenant is not None:
            self.refuse(f"{path}.scope: total is for all tenants, and this limit names one", fields["scope"])
        return Limit(
            type=limit_type,
            resolution=resolution,
            value=value,
            tenant=tenant,
            total=scope is _Scope.TOTAL,
            labels=labels,
        )

    def tenant(self, fields: dict[str, yaml.Node], path: str) -> TenantID | None:
        numbers = [
            self.integer(fields[key], f"{path}.{key}", 0, _UINT32_MAX) if key in fields else None
            for key in ("account_id", "project_id")
        ]
        if numbers == [None, None]:
            return None
        return TenantID(numbers[0] or 0, numbers[1] or 0)

    def labels(self, node: yaml.Node, path: str) -> Labels:
        """Sorted, so that one set of labels is one limit; each is one that a token can carry."""
        labels = []
        for name, value in self.members(node, path, None):
            text = self.text(value, _child(path, name))
            if not name or "=" in name or CONTROL.search(name + text) or not text:
                self.refuse(f"{_child(path, name)}: expected a label that a token can carry, neither part empty", value)
            labels.append((name, text))
        if not 0 < len(labels) <= MAX_LABELS:
            self.refuse(f"{path}: expected 1 to {MAX_LABELS} labels", node)
        return tuple(sorted(labels))

    # --- values ----------------------------------------------------------------------------------------------------

    def members(self, node: yaml.Node, path: str, known: tuple[str, ...] | None) -> Iterator[tuple[str, yaml.Node]]:
        """The members of a mapping, no key twice; ``known`` None takes any."""
        if not isinstance(node, yaml.MappingNode) or node.tag != _MAPPING:
            self.refuse(f"{path or 'the file'}: expected keys and values, got {_kind(node)}", node)
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            key = self.text(key_node, f"{path or 'the file'}: a key")
            if known is not None and key not in known:
                self.refuse(f"{_child(path, key)}: unknown key; known are {', '.join(known)}", key_node)
            if key in seen:
                self.refuse(f"{_child(path, key)}: the key is in line {seen[key]} already", key_node)
            seen[key] = line
            yield key, value

    def choice(self, node: yaml.Node, path: str, kind: type[T]) -> T:
        text = self.text(node, path)
        try:
            return kind(text)
        except ValueError:
            self.refuse(f"{path}: expected {' or '.join(kind)}, got {_shown(text)}", node)

    def integer(self, node: yaml.Node, path: str, least: int, most: int) -> int:
        expected = f"expected an integer of {least} to {most} in decimal notation"
        if not isinstance(node, yaml.ScalarNode) or node.tag != _INTEGER:
            self.refuse(f"{path}: {expected}, got {_kind(node)}", node)
        if not _DECIMAL.fullmatch(node.value) or not least <= int(node.value) <= most:
            self.refuse(f"{path}: {expected}, got {_shown(node.value)}", node)
        return int(node.value)

    def text(self, node: yaml.Node, path: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _STRING:
            self.refuse(f"{path}: expected text, got {_kind(node)}", node)
        return str(node.value)


def _child(path: str, key: str) -> str:
    return f"{path}.{_shown(key)[1:-1]}" if path else _shown(key)[1:-1]


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _kind(node: yaml.Node) -> str:
    """What was found, in words; never more than a few characters of it."""
    named = {_MAPPING: "keys and values", _LIST: "a list", _STRING: "text", _INTEGER: "an integer", _NULL: "nothing"}
    if node.tag in named:
        return named[node.tag]
    value = _shown(node.value) if isinstance(node, yaml.ScalarNode) else "something"
    return f"{value} of YAML's type {_shown(node.tag.rpartition(':')[2])[1:-1]}"
