"""A flag: its kind, its parser and its help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from . import values
from .values import Value


class Kind(Enum):
    """The type of a flag; the value is its name in help."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STRING = "string"
    DURATION = "duration"
    SIZE = "size"
    ARRAY = "array"

    @property
    def expected(self) -> str:
        """What a value of this kind looks like, for errors that must not show the value."""
        return _READ[self][1]


BOOL, INT, FLOAT, STRING = Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.STRING
DURATION, SIZE, ARRAY = Kind.DURATION, Kind.SIZE, Kind.ARRAY

_READ: Final[Mapping[Kind, tuple[Callable[[str], Value], str]]] = {
    BOOL: (values.parse_bool, values.A_BOOL),
    INT: (values.parse_int, values.AN_INT),
    FLOAT: (values.parse_float, values.A_FLOAT),
    STRING: (str, "a string"),
    DURATION: (values.parse_duration, values.A_DURATION),
    SIZE: (values.parse_size, values.A_SIZE),
    ARRAY: (values.parse_array, "a list of strings"),
}


# Rows of a table: the first four columns are positional, so that one flag stays on one or two lines.
@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    kind: Kind
    default_text: str
    """The default as help shows it."""
    help: str
    group: str = field(default="", kw_only=True)
    """The heading it is listed under."""
    secret: bool = field(default=False, kw_only=True)
    """Whether the value holds credentials and is never shown."""
    effect: str = field(default="", kw_only=True)
    """The reason why the flag has no effect, or empty."""
    least: str = field(default="", kw_only=True)
    """The smallest allowed number; empty if there is none."""
    default: Value = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "default", self.parse(self.default_text))

    def parse(self, text: str, *, hidden: bool = False) -> Value:
        """Parse ``text``, or raise a ``ValueError`` with a short reason.

        The reason does not show the text of a secret flag, or of any flag if ``hidden`` is set.
        """
        try:
            return self._parsed(text)
        except ValueError as error:
            reason = str(error)
        if hidden or self.secret:
            reason = f"expected {self.kind.expected}" + (f", at least {self.least}" if self.least else "")
        raise ValueError(reason)

    def _parsed(self, text: str) -> Value:
        parser, _ = _READ[self.kind]
        value = parser(text)
        if self.least:
            least = parser(self.least)
            assert isinstance(value, int | float)
            assert isinstance(least, int | float)
            if value < least:
                raise values.refused(f"at least {self.least}", text)
        return value
