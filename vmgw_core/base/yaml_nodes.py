"""Strict readers of YAML files: nodes that know their lines, so that errors can name them.

A configuration needs few of YAML's features: anchors, aliases, merge keys, several documents and numbers in other
notations (``010`` is 8) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NoReturn, TypeVar

import yaml

from vmgw_core.errors import ConfigurationError

from .printable import printable, quoted

_MAX_DEPTH: Final = 8
_SHOWN: Final = 40  # characters of a key or a value in an error
_CLASS: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_STRING: Final = "tag:yaml.org,2002:str"
_LIST: Final = "tag:yaml.org,2002:seq"
_MAPPING: Final = "tag:yaml.org,2002:map"
_NULL: Final = "tag:yaml.org,2002:null"
_INTEGER: Final = "tag:yaml.org,2002:int"
# The parser in C takes a tenth of the time; not every installation has it.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

T = TypeVar("T", bound=StrEnum)


class YamlFile:
    """A file being read. All methods raise ``ConfigurationError`` with the file, the line and the path.

    ``name`` must not hold credentials.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def refuse(self, reason: str, node: yaml.Node | None = None, line: int | None = None) -> NoReturn:
        if node is not None:
            line = line_of(node)
        place = self.name if line is None else f"{self.name}, line {line}"
        raise ConfigurationError(f"{place}: {reason}")

    def decoded(self, text: str | bytes, most: int) -> str:
        """Return the text of a file of at most ``most`` bytes of UTF-8."""
        try:
            found = text.decode() if isinstance(text, bytes) else text
            size = len(found.encode())
        except UnicodeError:
            self.refuse("the file is not UTF-8")
        if size > most:
            self.refuse(f"the file is larger than {most} bytes")
        return found

    def compose(self, text: str, *, aliases: bool = False) -> yaml.Node:
        """Return the root node of the only document."""
        try:
            self._check_events(text, aliases=aliases)
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.refuse(f"not valid YAML: {error.problem}", line=None if mark is None else mark.line + 1)
        except yaml.reader.ReaderError:
            self.refuse("not valid YAML: it has a character that YAML does not allow")
        if node is None:
            self.refuse("the file is empty")
        return node

    def _check_events(self, text: str, *, aliases: bool) -> None:
        """Refuse what could expand to more than is written, before anything is built from it."""
        depth = documents = 0
        for event in yaml.parse(text, Loader=_LOADER):
            mark = event.start_mark
            assert mark is not None
            line = mark.line + 1
            if not aliases and (isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None)):
                self.refuse("anchors and aliases are not supported: write the value out", line=line)
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

    def members(self, node: yaml.Node, path: str, known: tuple[str, ...] | None) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the members of a mapping, with unique keys; ``known`` None allows any key."""
        if not isinstance(node, yaml.MappingNode) or node.tag != _MAPPING:
            self.refuse(f"{path or 'the file'}: expected keys and values, got {_kind(node)}", node)
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            key = self.text(key_node, f"{path or 'the file'}: a key")
            if known is not None and key not in known:
                self.refuse(f"{child(path, key)}: unknown key; known are {', '.join(known)}", key_node)
            if key in seen:
                self.refuse(f"{child(path, key)}: the key is already in line {seen[key]}", key_node)
            seen[key] = line_of(key_node)
            yield key, value

    def items(self, node: yaml.Node, path: str, expected: str) -> list[yaml.Node]:
        """Return the items of a list; ``expected`` describes it in errors."""
        if not isinstance(node, yaml.SequenceNode) or node.tag != _LIST:
            self.refuse(f"{path}: expected {expected}, got {_kind(node)}", node)
        return list(node.value)

    def choice(self, node: yaml.Node, path: str, kind: type[T]) -> T:
        text = self.text(node, path)
        try:
            return kind(text)
        except ValueError:
            self.refuse(f"{path}: expected {' or '.join(kind)}, got {quoted(text, _SHOWN)}", node)

    def integer(self, node: yaml.Node, path: str, least: int, most: int) -> int:
        """Return an integer between ``least`` and ``most``, in decimal notation."""
        expected = f"expected an integer of {least} to {most} in decimal notation"
        if not isinstance(node, yaml.ScalarNode) or node.tag != _INTEGER:
            self.refuse(f"{path}: {expected}, got {_kind(node)}", node)
        if not _DECIMAL.fullmatch(node.value) or not least <= int(node.value) <= most:
            self.refuse(f"{path}: {expected}, got {quoted(node.value, _SHOWN)}", node)
        return int(node.value)

    def text(self, node: yaml.Node, path: str) -> str:
        """Return a value that YAML reads as text."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != _STRING:
            self.refuse(f"{path}: expected text, got {_kind(node)}", node)
        return str(node.value)

    def limit_class(self, node: yaml.Node, path: str) -> str:
        """Return the name of a class of limits."""
        text = self.text(node, path)
        if not _CLASS.fullmatch(text):
            self.refuse(f"{path}: expected the name of a class: 1 to 64 letters, digits, dots, _ or -", node)
        return text

    def scalar(self, node: yaml.Node, path: str) -> str:
        """Return any value that is neither empty nor a collection, as it is written."""
        if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL or not node.value:
            self.refuse(f"{path}: expected a value, got {_kind(node)}", node)
        return str(node.value)


def line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def child(path: str, key: str) -> str:
    shown = printable(key, _SHOWN)
    return f"{path}.{shown}" if path else shown


def _kind(node: yaml.Node) -> str:
    named = {_MAPPING: "keys and values", _LIST: "a list", _STRING: "text", _INTEGER: "an integer", _NULL: "nothing"}
    if node.tag in named:
        return named[node.tag]
    value = quoted(node.value, _SHOWN) if isinstance(node, yaml.ScalarNode) else "something"
    return f"{value} of YAML's type {printable(node.tag.rpartition(':')[2], _SHOWN)}"
