"""Conditions on one claim of a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from vmgw_core.tokens import ClaimPath

from .expressions import Expression

MAX_TEXT: Final = 4096
"""Characters of a claim's text that expressions read; a longer one matches none."""
MAX_MATCHES: Final = 64
"""The most values of one claim that an expression may match."""

Values = Mapping[str, str]
"""The texts for a grant's placeholders, by name."""

NO_VALUES: Final[tuple[Values, ...]] = ({},)


class TooManyMatches(ValueError):
    """More values of a claim match than one token may have alternatives."""


class Condition(Protocol):
    """A condition on the claims of a token."""

    def matches(self, claims: Mapping[str, object]) -> tuple[Values, ...]:
        """Return the values of each match; nothing if it does not hold."""
        ...


@dataclass(frozen=True, slots=True)
class Contains:
    """The claim is one of the texts, or a list that contains one."""

    path: ClaimPath
    texts: frozenset[str]

    def matches(self, claims: Mapping[str, object]) -> tuple[Values, ...]:
        return NO_VALUES if not self.texts.isdisjoint(_texts(self.path, claims)) else ()


@dataclass(frozen=True, slots=True)
class Exists:
    """There is such a claim, or there is none. A claim that is null is there."""

    path: ClaimPath
    wanted: bool

    def matches(self, claims: Mapping[str, object]) -> tuple[Values, ...]:
        try:
            self.path.find(claims)
        except KeyError:
            return () if self.wanted else NO_VALUES
        return NO_VALUES if self.wanted else ()


@dataclass(frozen=True, slots=True)
class Matches:
    """The whole claim matches the expression, or some members of a list do: each is a match with its own values."""

    path: ClaimPath
    expression: Expression

    def matches(self, claims: Mapping[str, object]) -> tuple[Values, ...]:
        """Raises ``TooManyMatches``."""
        found = []
        for text in dict.fromkeys(_texts(self.path, claims)):
            match = self.expression.fullmatch(text) if len(text) <= MAX_TEXT else None
            if match is not None:
                found.append({name: value or "" for name, value in match.groupdict().items()})
            if len(found) > MAX_MATCHES:
                raise TooManyMatches(f"more than {MAX_MATCHES} values of `{self.path}` match")
        return tuple(found)


def _texts(path: ClaimPath, claims: Mapping[str, object]) -> list[str]:
    try:
        return path.texts(path.find(claims))
    except KeyError:
        return []
