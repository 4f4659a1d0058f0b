"""What an operator asks of every token beside a good signature: its audience, and claims of given values."""

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
    """A claim that has to be there, with one exact value."""

    path: tuple[str, ...]
    """The names that lead to it, from the outermost object."""
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        r"""``name=value``, or ``outer.inner=value``. Raises ``ValueError``.

        The path is written as in vmauth's ``match_claims``: dots divide it, and ``\.`` is a dot of a name. So are
        ``\=`` and ``\\``. The value is everything after the first other equals sign.
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
    """The texts that a claim can be compared with: its own, or those of the members of a list."""
    if isinstance(value, str) and path in _SCOPES:
        return value.split(" ")  # RFC 8693, section 4.2: scopes are one text, with spaces between them
    members = value if isinstance(value, list) else [value]
    return [
        member if isinstance(member, str) else json.dumps(member)
        for member in members
        if isinstance(member, str | bool | int | float)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What is asked of every token. The default asks for nothing."""

    audiences: tuple[str, ...] = ()
    """``aud`` has to hold one of these; empty for any audience, or none."""
    required: tuple[RequiredClaim, ...] = ()
    """All of these."""
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
    """Say what a parameter or claim is, and what was expected; ``value`` may be anything, None for a missing one."""
    texts = [shown(text) for text in expected[:_MAX_EXPECTED]]
    if len(expected) > _MAX_EXPECTED:
        texts.append(f"{len(expected) - _MAX_EXPECTED} more")
    one_of = "one of " if len(texts) > 1 else ""
    return f"`{name}` is {'missing' if value is None else shown(value)}; expected {one_of}{', '.join(texts)}"
