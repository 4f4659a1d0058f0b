"""The operator's rules for tokens: audiences, required claims, leeway and size."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from vmgw_core.base import shown
from vmgw_core.errors import ClaimMismatch, WrongAudience

DEFAULT_MAX_LENGTH: Final = 32 * 1024

_MAX_EXPECTED: Final = 8
_NAME: Final = re.compile(r"(?:[^\\.=]|\\[\\.=])+")
_ESCAPE: Final = re.compile(r"\\(.)")
_SCOPES: Final = (("scope",), ("scp",))


@dataclass(frozen=True, slots=True)
class RequiredClaim:
    path: tuple[str, ...]
    """The names that lead to it, outermost first."""
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        r"""Parse ``name=value`` or ``outer.inner=value``. Raises ``ValueError``.

        The path is as in vmauth's ``match_claims``: dots divide it; ``\.``, ``\=`` and ``\\`` are characters of a name.
        The value is everything after the first other equals sign.
        """
        path: list[str] = []
        position = 0
        while match := _NAME.match(text, position):
            path.append(_ESCAPE.sub(r"\1", match[0]))
            separator, value = text[match.end() : match.end() + 1], text[match.end() + 1 :]
            if separator == "=" and value:
                return cls(tuple(path), value)
            if separator != ".":
                break
            position = match.end() + 1
        raise ValueError(r"expected name=value, with a dot between the names of a path and \. for a dot in a name")

    @property
    def name(self) -> str:
        """The path as ``parse`` reads it."""
        return ".".join(re.sub(r"[\\.=]", r"\\\g<0>", name) for name in self.path)

    def check(self, claims: Mapping[str, object]) -> None:
        """Raises ``ClaimMismatch`` unless the claim has the value, or is a list that contains it."""
        found: object = claims
        for name in self.path:
            if not isinstance(found, Mapping) or name not in found:
                raise ClaimMismatch(f"`{self.name}` is missing; expected {shown(self.value)}")
            found = found[name]
        if self.value not in _texts(self.path, found):
            raise ClaimMismatch(f"`{self.name}` is {shown(found)}; expected {shown(self.value)}")


def _texts(path: tuple[str, ...], value: object) -> list[str]:
    """Return the texts of a claim to compare with: its own, or those of a list's members."""
    if isinstance(value, str) and path in _SCOPES:
        return value.split(" ")  # RFC 8693, section 4.2: one text with spaces
    members = value if isinstance(value, list) else [value]
    return [
        member if isinstance(member, str) else json.dumps(member)
        for member in members
        if isinstance(member, str | bool | int | float)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """Rules for every token. The default has none."""

    audiences: tuple[str, ...] = ()
    """``aud`` must hold one of these; empty: it is not checked."""
    required: tuple[RequiredClaim, ...] = ()
    """Claims that must all match."""
    leeway: int = 0
    """Seconds by which the clocks of issuer and gateway may differ."""
    max_length: int = DEFAULT_MAX_LENGTH
    """Characters of the longest token that is read."""

    def check(self, claims: Mapping[str, object]) -> None:
        """Raises ``WrongAudience`` and ``ClaimMismatch``."""
        if self.audiences:
            self._check_audience(claims)
        for required in self.required:
            required.check(claims)

    def _check_audience(self, claims: Mapping[str, object]) -> None:
        # RFC 7519, section 4.1.3: one text, or a list of them.
        value = claims.get("aud")
        if not any(audience in self.audiences for audience in (value if isinstance(value, list) else (value,))):
            raise WrongAudience(mismatch("aud", value, self.audiences))


NO_RULES: Final = TokenRules()


def mismatch(name: str, value: object, expected: tuple[str, ...]) -> str:
    """Describe a wrong parameter or claim; ``value`` None means that it is missing."""
    texts = [shown(text) for text in expected[:_MAX_EXPECTED]]
    if len(expected) > _MAX_EXPECTED:
        texts.append(f"{len(expected) - _MAX_EXPECTED} more")
    one_of = "one of " if len(texts) > 1 else ""
    return f"`{name}` is {'missing' if value is None else shown(value)}; expected {one_of}{', '.join(texts)}"
