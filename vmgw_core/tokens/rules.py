"""The operator's rules for tokens: audiences, required claims, leeway, size, and what a token grants."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

from vmgw_core.base import shown
from vmgw_core.errors import ClaimMismatch, WrongAudience

from .grants import Grants

DEFAULT_MAX_LENGTH: Final = 32 * 1024

_MAX_EXPECTED: Final = 8
_NAME: Final = re.compile(r"(?:[^\\.=]|\\[\\.=])+")
_ESCAPE: Final = re.compile(r"\\(.)")
_EXPECTED_PATH: Final = r"expected a name, with a dot between the names of a path and \. for a dot in a name"
_EXPECTED: Final = r"expected name=value, with a dot between the names of a path and \. for a dot in a name"
_SCOPES: Final = (("scope",), ("scp",))


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """Names that lead to a claim, outermost first."""

    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        r"""Parse a path as in vmauth's ``match_claims``.

        Dots divide it; ``\.``, ``\=`` and ``\\`` are characters of a name. A URL is one name: some providers allow no
        other names for claims of one's own. Raises ``ValueError``.
        """
        if text.startswith(("http://", "https://")):
            return cls((text,))
        path, rest = cls.read(text)
        if rest:
            raise ValueError(_EXPECTED_PATH)
        return path

    @classmethod
    def read(cls, text: str) -> tuple[Self, str]:
        """Return the path at the start of ``text``, and the rest. Raises ``ValueError``."""
        names: list[str] = []
        position = 0
        while match := _NAME.match(text, position):
            names.append(_ESCAPE.sub(r"\1", match[0]))
            if text[match.end() : match.end() + 1] != ".":
                return cls(tuple(names)), text[match.end() :]
            position = match.end() + 1
        raise ValueError(_EXPECTED_PATH)

    def __str__(self) -> str:
        return ".".join(re.sub(r"[\\.=]", r"\\\g<0>", name) for name in self.names)

    def find(self, claims: Mapping[str, object]) -> object:
        """Return the value of the claim. Raises ``KeyError`` if there is none."""
        found: object = claims
        for name in self.names:
            if not isinstance(found, Mapping):
                raise KeyError(name)
            found = found[name]
        return found

    def texts(self, value: object) -> list[str]:
        """Return the texts of the claim's value to compare with: its own, or those of a list's members."""
        if isinstance(value, str) and self.names in _SCOPES:
            return value.split(" ")  # RFC 8693, section 4.2: one text with spaces
        members = value if isinstance(value, list) else [value]
        return [
            member if isinstance(member, str) else json.dumps(member)
            for member in members
            if isinstance(member, str | bool | int | float)
        ]


@dataclass(frozen=True, slots=True)
class RequiredClaim:
    path: ClaimPath
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``name=value`` or ``outer.inner=value``. Raises ``ValueError``.

        The value is everything after the first equals sign behind the path.
        """
        with suppress(ValueError):
            path, rest = ClaimPath.read(text)
            if rest.startswith("=") and rest != "=":
                return cls(path, rest[1:])
        raise ValueError(_EXPECTED)

    def check(self, claims: Mapping[str, object]) -> None:
        """Raises ``ClaimMismatch`` unless the claim has the value, or is a list that contains it."""
        try:
            found = self.path.find(claims)
        except KeyError:
            raise ClaimMismatch(f"`{self.path}` is missing; expected {shown(self.value)}") from None
        if self.value not in self.path.texts(found):
            raise ClaimMismatch(f"`{self.path}` is {shown(found)}; expected {shown(self.value)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """Rules for every token. The default has none."""

    audiences: tuple[str, ...] = ()
    """``aud`` must hold one of these; empty: it is not checked."""
    required: tuple[RequiredClaim, ...] = ()
    """Claims that must all match."""
    leeway: int = 0
    """Seconds by which the clocks of issuer and gateway may differ."""
    reserved: str = ""
    """A claim that no token may have."""
    max_length: int = DEFAULT_MAX_LENGTH
    """Characters of the longest token that is read."""
    grants: Callable[[Mapping[str, object]], Grants] = Grants.from_claims
    """What the claims of a token grant. Raises ``InvalidClaims``."""
    limit_classes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The classes of limits that ``grants`` can name, and where the first grant with each is."""

    def check(self, claims: Mapping[str, object]) -> None:
        """Raises ``WrongAudience`` and ``ClaimMismatch``."""
        if self.reserved and self.reserved in claims:
            raise ClaimMismatch(f"`{self.reserved}` is for certificates (-auth.mtlsClaims), so no token may have it")
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
