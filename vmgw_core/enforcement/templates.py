"""How large a MetricsQL query becomes when VictoriaMetrics expands its ``WITH`` templates.

https://docs.victoriametrics.com/victoriametrics/metricsql/#with-templates. Templates that use others twice double the
query at each step, and VictoriaMetrics expands it before any timeout counts: 260 bytes take all memory. The same holds
for its own templates ``ttf`` and ``ru``, which need no ``WITH``. :func:`check_templates` counts instead of expanding.

The count is never below the real size. Names are looked up as VictoriaMetrics does: it sees the templates that come
earlier. Its expansion looks at an argument again where a template uses it, so a name there may mean something else;
such queries are refused, and so is a metric name that is put together. A name with colons counts as its parts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from vmgw_core.errors import CostlyQuery

MAX_SIZE: Final = 20_000
"""Tokens of an expanded query."""
MAX_DEPTH: Final = 60
"""Brackets and ``WITH`` inside of each other, in a query with templates."""

_SUSPECT: Final = re.compile(r"w[i\u0130]th(?!out)|ttf|\bru\b|alias|\\", re.IGNORECASE)
_TOKEN: Final = re.compile(
    r"""\s+|\#[^\n]*+|(?P<string>"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|`(?:[^`\\]|\\.)*+`)"""
    r"""|(?P<name>(?:[\w.]|\\(?:[xX][0-9a-fA-F]{2}|[uU][0-9a-fA-F]{4}|[^xXuU]))++)|(?P<other>[=!]~|!=|.)""",
    re.DOTALL,
)
_NAME_ESCAPE: Final = re.compile(r"\\(?:[xX](..)|[uU](....)|(.))", re.DOTALL)
_STRING_ESCAPE: Final = re.compile(rb"\\(?:x(..)|([0-3][0-7]{2})|u(....)|U(........)|(.))", re.DOTALL)
_BYTES_OF_ONE_TOKEN: Final = 16
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
_CLOSING: Final = frozenset(")]},")
_OPERATORS: Final = frozenset(("=", "!=", "=~", "!~"))
_LISTS_OF_LABELS: Final = frozenset(("by", "without", "on", "ignoring", "group_left", "group_right"))


class _Token(NamedTuple):
    kind: str
    """``name``, ``string`` or ``other``."""
    text: str


class _Size(NamedTuple):
    """Tokens, and how often the arguments of the template that is being defined come in addition."""

    tokens: int
    arguments: int = 0

    def plus(self, other: _Size) -> _Size:
        if self.tokens + other.tokens > MAX_SIZE or self.arguments + other.arguments > MAX_SIZE:
            raise CostlyQuery(f"the query's templates expand to more than {MAX_SIZE} tokens")
        return _Size(self.tokens + other.tokens, self.arguments + other.arguments)


class _Template(NamedTuple):
    size: _Size
    takes_arguments: bool = False


_PARAMETER: Final = _Template(_Size(0, 1))
_BUILT_IN: Final = {
    "ru": _Template(_Size(26, 3), takes_arguments=True),
    "ttf": _Template(_Size(33, 2), takes_arguments=True),
    "alias": _Template(_Size(8, 2), takes_arguments=True),
    "range_median": _Template(_Size(6, 1), takes_arguments=True),
}
_BUILT_IN_PARAMETERS: Final = frozenset(("freev", "maxv", "q", "name"))


def check_templates(query: str) -> None:
    """Raises ``CostlyQuery`` if ``query`` has templates and is too large when they are expanded."""
    if _SUSPECT.search(query):
        _Reader(query).check()


class _Reader:
    """Reads a query once, from left to right."""

    def __init__(self, query: str) -> None:
        self._tokens = [
            _Token(match.lastgroup, match[0]) for match in _TOKEN.finditer(query) if match.lastgroup is not None
        ]
        self._tokens.append(_Token("end", ""))
        self._at = 0
        self._depth = 0
        self._calls = False
        self._defined = set(_BUILT_IN_PARAMETERS)
        self._free: set[str] = set()
        self._parameters = False

    def check(self) -> None:
        while self._next.kind != "end":
            self._expressions(dict(_BUILT_IN))
            self._at += self._next.kind != "end"  # a bracket that closes nothing
        if self._calls and self._free & self._defined:
            raise CostlyQuery(f"{min(self._free & self._defined)!r} is a template's name or argument, and a metric's")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _expressions(self, scope: dict[str, _Template]) -> _Size:
        """Expressions with commas between them, up to a closing bracket or the end."""
        size = self._expression(scope)
        while self._next.text == ",":
            self._at += 1
            size = size.plus(_Size(1)).plus(self._expression(scope))
        return size

    def _expression(self, scope: dict[str, _Template]) -> _Size:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CostlyQuery(f"a query with templates has more than {MAX_DEPTH} brackets inside of each other")
        size = _Size(0)
        while self._next.kind != "end" and self._next.text not in _CLOSING:
            size = size.plus(self._item(scope))
        self._depth -= 1
        return size

    def _item(self, scope: dict[str, _Template]) -> _Size:
        kind, text = self._take()
        if kind == "other":
            return self._bracket(text, scope) if text in _OPENING else _Size(1)
        if kind == "string":
            return self._string(_string_value(text), len(text), scope)
        if text.lower().replace("\u0307", "") == "with" and self._next.text == "(":
            return self._with(scope)
        return self._name(_name_value(text), scope)

    def _bracket(self, opening: str, scope: dict[str, _Template]) -> _Size:
        size = self._expressions(scope).plus(_Size(2))
        if self._next.text == _OPENING[opening]:
            self._at += 1
        return size

    def _string(self, value: str, length: int, scope: dict[str, _Template]) -> _Size:
        # {"x"} and {__name__="x"} stand for the template x.
        size = _Size(1 + length // _BYTES_OF_ONE_TOKEN)
        if self._next.text in _OPERATORS:
            self._check_label(value)
            return size
        name = value.rpartition(":")[2]
        found = scope.get(name)
        if found is None or found.takes_arguments:
            self._free.add(name)
            return size
        return size.plus(found.size)

    def _name(self, name: str, scope: dict[str, _Template]) -> _Size:
        if self._next.text in _OPERATORS:
            self._check_label(name)
            return _Size(1)
        if name.lower() in _LISTS_OF_LABELS and self._next.text == "(":
            return self._labels(scope)
        size = _Size(1)
        for part in name.split(":"):
            found = scope.get(part)
            if found is None or (found.takes_arguments and self._next.text != "("):
                self._free.add(part)
            elif found.takes_arguments:
                self._calls = True
                self._at += 1
                arguments = self._bracket("(", scope)
                tokens, times = found.size
                size = size.plus(_Size(tokens + times * arguments.tokens, times * arguments.arguments))
            else:
                size = size.plus(found.size)
        return size

    def _labels(self, scope: dict[str, _Template]) -> _Size:
        """A list of labels: its names are no metrics."""
        free = set(self._free)
        self._at += 1
        size = self._bracket("(", scope)
        self._free = free
        return size

    def _check_label(self, name: str) -> None:
        """A metric name may be a template's, so it has to stand there."""
        if name != "__name__" or self._next.text != "=":
            return
        value, after = self._tokens[self._at + 1], self._tokens[min(self._at + 2, len(self._tokens) - 1)]
        if value.kind != "string" or after.text == "+":
            raise CostlyQuery("a query with templates must write the value of __name__ as one string")

    def _with(self, scope: dict[str, _Template]) -> _Size:
        """``WITH ( name [ "(" parameters ")" ] = expression, … ) expression``: how large its expression becomes."""
        self._at += 1
        scope = dict(scope)
        while self._next.kind != "end" and self._next.text != ")":
            name, parameters = self._signature()
            if parameters and self._parameters:
                raise CostlyQuery("a template with arguments is defined inside of another one")
            self._parameters = self._parameters or bool(parameters)
            size = self._expression(scope | dict.fromkeys(parameters, _PARAMETER))
            if parameters:
                self._parameters = False
            scope[name] = _Template(size, takes_arguments=bool(parameters))
            self._defined.update((name, *parameters))
            if self._next.kind != "end" and self._next.text != ")":
                self._at += 1
        self._at += self._next.kind != "end"
        return self._expression(scope)

    def _signature(self) -> tuple[str, list[str]]:
        names: list[str] = []
        parameters: list[str] = []
        inside = False
        while self._next.kind != "end" and self._next.text != "=":
            kind, text = self._take()
            inside = inside or text == "("
            if kind == "name":
                (parameters if inside else names).append(_name_value(text).rpartition(":")[2])
        self._at += self._next.kind != "end"
        return (names or [""])[-1], parameters


def _name_value(text: str) -> str:
    if "\\" not in text:
        return text
    return _NAME_ESCAPE.sub(lambda escape: escape[3] or chr(int(escape[1] or escape[2], 16)), text)


def _string_value(text: str) -> str:
    if "\\" not in text or text[0] == "`":
        return text[1:-1]
    return _STRING_ESCAPE.sub(_unescaped, text[1:-1].encode(errors="replace")).decode(errors="replace")


def _unescaped(escape: re.Match[bytes]) -> bytes:
    byte, octal, short, long, simple = escape.groups()
    try:
        if byte or octal:
            return bytes((int(byte, 16) if byte else int(octal, 8),))
        return simple or chr(int(short or long, 16)).encode(errors="replace")
    except (ValueError, OverflowError):
        return b""  # VictoriaMetrics refuses the string
