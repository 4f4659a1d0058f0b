"""A parser of series selectors in ``extra_filters``: a tokenizer, and one method per production.

https://prometheus.io/docs/prometheus/latest/querying/basics/#time-series-selectors, with MetricsQL's additions:
``or`` inside the braces, quoted label names, backslash escapes in names.

A token's selector is forwarded as written. Parsing ensures that it is exactly one selector, so the grammar is never
wider than VictoriaMetrics': comments, ``WITH`` templates, string concatenation and white space other than spaces are
refused. Regular expressions are not compiled: they are RE2, and VictoriaMetrics refuses bad ones itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from vmgw_core.base import CONTROL, string_literal

MAX_BYTES: Final = 64 * 1024

_NO_IDENTIFIER: Final = re.compile(r"^[^A-Za-z_:]|[^A-Za-z0-9_:.]")
_BARE_NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:.]*", re.ASCII)
_OPERATOR: Final = re.compile(r"=~|!~|!=|=")
_STRING: Final = {
    '"': re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL),
    "'": re.compile(r"'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL),
    "`": re.compile(r"`([^`]*)`"),
}
# Go's escapes (https://go.dev/ref/spec#String_literals). The last, empty alternative finds bad ones.
_ESCAPE: Final = re.compile(r"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|)")
_SIMPLE_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_NAME_ESCAPE: Final = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|[uU]([0-9a-fA-F]{4})|([^xXuU]))", re.DOTALL)


class SelectorError(ValueError):
    """A bad selector. ``column`` counts characters from 1. The message does not quote the text."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(f"column {column}: {message}")
        self.column = column


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """One label matcher: ``name operator "value"``."""

    name: str
    operator: str
    value: str

    def __str__(self) -> str:
        name = self.name if _BARE_NAME.fullmatch(self.name) else string_literal(self.name)
        return f"{name}{self.operator}{string_literal(self.value)}"

    def written(self) -> str:
        """Write it so that all releases of VictoriaMetrics read it: only newer ones read quoted names."""
        name = _NO_IDENTIFIER.sub(lambda match: "\\" + match[0], self.name)
        return f"{name}{self.operator}{string_literal(self.value)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Alternatives of matchers: a series must match all matchers of one alternative.

    A metric name becomes a matcher ``__name__="..."`` of every alternative, so both spellings are equal.
    """

    alternatives: tuple[tuple[Matcher, ...], ...]

    def __str__(self) -> str:
        return "{" + " or ".join(",".join(map(str, matchers)) for matchers in self.alternatives) + "}"

    def written(self) -> str:
        """Write it so that all releases of VictoriaMetrics read it."""
        return "{" + " or ".join(",".join(map(Matcher.written, matchers)) for matchers in self.alternatives) + "}"


def parse_selector(text: str) -> Selector:
    """Parse ``text`` as one selector with at least one matcher. Raises ``SelectorError``."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise SelectorError(error.start + 1, "a lone surrogate") from None
    if size > MAX_BYTES:
        raise SelectorError(1, f"the selector is larger than {MAX_BYTES} bytes")
    return _Parser(_tokens(text)).selector()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    """``name``, ``string``, ``operator``, ``end``, or the character itself."""
    raw: str
    value: str
    column: int


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        token = _token(text, position)
        position += len(token.raw)
        yield token
    yield _Token(kind="end", raw="", value="", column=position + 1)


def _token(text: str, start: int) -> _Token:
    character = text[start]
    if character in "{},":
        return _Token(kind=character, raw=character, value=character, column=start + 1)
    if operator := _OPERATOR.match(text, start):
        return _Token(kind="operator", raw=operator[0], value=operator[0], column=start + 1)
    if character in _STRING:
        return _string(text, start)
    if _begins_name(character) or character == "\\":
        return _name(text, start)
    what = "a control character" if CONTROL.match(character) else "an unexpected character"
    raise SelectorError(start + 1, what)


def _begins_name(character: str) -> bool:
    return character.isalpha() or character in "_:"


def _name(text: str, start: int) -> _Token:
    """Read a name of letters, ``_``, ``:``, then also digits, ``.``, and escapes: ``\\-``, ``\\x2d`` or ``\\u002d``."""
    pieces: list[str] = []
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            escape = _NAME_ESCAPE.match(text, position)
            if escape is None:
                raise SelectorError(position + 1, "a bad escape in a name")
            character = escape[3] or _character(escape[1] or escape[2], position + 1)
            if not character.isprintable():
                raise SelectorError(position + 1, "an unprintable character in a name")
            position = escape.end()
        elif _begins_name(character) or character in "0123456789.":
            position += 1
        else:
            break
        pieces.append(character)
    return _Token(kind="name", raw=text[start:position], value="".join(pieces), column=start + 1)


def _string(text: str, start: int) -> _Token:
    quote = text[start]
    match = _STRING[quote].match(text, start)
    if match is None:
        raise SelectorError(start + 1, "an unterminated string")
    body = match[1]
    if quote == "`":
        if "\r" in body:
            # Go drops it from raw strings.
            raise SelectorError(start + 1, "a carriage return in a backquoted string")
        if (len(body) - len(body.rstrip("\\"))) % 2:
            # VictoriaMetrics does not end the string there, others do.
            raise SelectorError(start + 1, "a backslash at the end of a backquoted string")
        value = body
    else:
        if "\n" in body:
            raise SelectorError(start + 1, "a line break in a quoted string")
        value = _ESCAPE.sub(lambda escape: _unescape(escape, quote, start + 2), body)
    return _Token(kind="string", raw=match[0], value=value, column=start + 1)


def _unescape(escape: re.Match[str], quote: str, first_column: int) -> str:
    column = first_column + escape.start()
    simple, byte, octal, short, long = escape.groups()
    if simple == quote:
        return quote
    if simple in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[simple]
    if byte or octal:
        number = int(byte, 16) if byte else int(octal, 8)
        if number > 0x7F:
            # It is a byte and not a character.
            raise SelectorError(column, "a byte escape beyond ASCII")
        return chr(number)
    if short or long:
        return _character(short or long, column)
    raise SelectorError(column, "an unknown escape in a string")


def _character(digits: str, column: int) -> str:
    number = int(digits, 16)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise SelectorError(column, "an escape of an invalid character")
    return chr(number)


class _Parser:
    """Looks one token ahead, so the error names the first wrong token."""

    def __init__(self, tokens: Iterator[_Token]) -> None:
        self._tokens = tokens
        self._next = next(tokens)

    def _at(self, kind: str) -> bool:
        return self._next.kind == kind

    def _at_or(self) -> bool:
        # By its raw text: an escaped spelling is a name.
        return self._next.raw.lower() == "or"

    def _take(self) -> _Token:
        # There is always a next one: the parser stops at the end.
        token, self._next = self._next, next(self._tokens)
        return token

    def _fail(self, expected: str) -> NoReturn:
        raise SelectorError(self._next.column, f"expected {expected}")

    def selector(self) -> Selector:
        """``selector = ( name [ braces ] | braces ) end``; ``{}`` alone selects everything, and is refused."""
        named: tuple[Matcher, ...] = ()
        if self._at("name"):
            named = (Matcher(name="__name__", operator="=", value=self._take().value),)
        elif not self._at("{"):
            self._fail("a metric name or {")
        alternatives = self.braces(named) if self._at("{") else (named,)
        if not self._at("end"):
            self._fail("nothing after the selector")
        return Selector(alternatives=alternatives)

    def braces(self, named: tuple[Matcher, ...]) -> tuple[tuple[Matcher, ...], ...]:
        """``braces = "{" [ matchers { "or" matchers } ] "}"``"""
        self._take()
        if named and self._at("}"):
            self._take()
            return (named,)
        alternatives = [named + self.matchers()]
        while self._at_or():
            self._take()
            alternatives.append(named + self.matchers())
        if not self._at("}"):
            self._fail("a comma, or, or }")
        self._take()
        return tuple(alternatives)

    def matchers(self) -> tuple[Matcher, ...]:
        """``matchers = matcher { "," matcher } [ "," ]``, where a last comma stands only before ``}``"""
        matchers = [self.matcher()]
        while self._at(","):
            self._take()
            if self._at("}"):
                break
            matchers.append(self.matcher())
        return tuple(matchers)

    def matcher(self) -> Matcher:
        """``matcher = ( name | string ) operator string | string``, where a string alone is a metric name"""
        if not (self._at("name") or self._at("string")):
            self._fail("a label name")
        name = self._take()
        if not name.value or CONTROL.search(name.value):
            # VictoriaMetrics reads the empty name as the metric name.
            raise SelectorError(name.column, "the name is empty or has a control character")
        if name.kind == "string" and not self._at("operator"):
            return Matcher(name="__name__", operator="=", value=name.value)
        if not self._at("operator"):
            self._fail("one of = != =~ !~")
        operator = self._take()
        if not self._at("string"):
            self._fail("a quoted string")
        return Matcher(name=name.value, operator=operator.value, value=self._take().value)
