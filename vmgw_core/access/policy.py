"""An access policy, applied to the claims of a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Final

from vmgw_core.errors import InvalidClaims, NoMatchingEntry
from vmgw_core.tokens import VM_ACCESS, Grants, VMAccessClaim

from .conditions import Condition, TooManyMatches
from .template import Template

MAX_ALTERNATIVES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of ``match``: if all conditions hold, the token has the access."""

    name: str
    when: tuple[Condition, ...]
    grant: Template

    def grants(self, claims: Mapping[str, object]) -> list[VMAccessClaim]:
        """Return what it grants: a claim for each combination of the values that match.

        Raises:
            InvalidClaims: a value that matches cannot be used.
            TooManyMatches: there are too many.
        """
        matches = []
        for condition in self.when:
            found = condition.matches(claims)
            if not found:
                return []
            matches.append(found)
        combinations = list(islice(product(*matches), MAX_ALTERNATIVES + 1))
        if len(combinations) > MAX_ALTERNATIVES:
            raise TooManyMatches(f"{self.name} matches more than {MAX_ALTERNATIVES} times")
        filled = []
        for combination in combinations:
            values = {name: text for each in combination for name, text in each.items()}
            filled.append(self.grant.fill(values, claims, f"{self.name}.grant"))
        return filled


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """What the claims of a token grant. The token's own ``vm_access`` comes first, unless it is ignored."""

    entries: tuple[Entry, ...]
    default: Template | None = None
    """What is granted if no entry matches; None: nothing."""
    ignore_vm_access: bool = False
    limit_classes: Mapping[str, str] = field(default_factory=dict)
    """The classes of limits that the grants name, and where the first grant with each is."""

    def grants(self, claims: Mapping[str, object]) -> Grants:
        """Return what ``claims`` grant.

        Raises:
            NoMatchingEntry: they grant nothing.
            InvalidClaims: what they grant cannot be enforced.
        """
        if not self.ignore_vm_access and VM_ACCESS in claims:
            return Grants.from_claims(claims)
        alternatives: dict[VMAccessClaim, None] = {}
        sources = []
        try:
            for entry in self.entries:
                found = entry.grants(claims)
                if found:
                    sources.append(entry.name)
                    alternatives |= dict.fromkeys(found)
        except TooManyMatches as error:
            raise InvalidClaims(str(error)) from None
        if not alternatives and self.default is not None:
            sources.append("default")
            alternatives[self.default.fill({}, claims, "default")] = None
        if not alternatives:
            raise NoMatchingEntry("no entry of -auth.policy matches the token, and its default is to deny")
        if len(alternatives) > MAX_ALTERNATIVES:
            raise InvalidClaims(f"the token has more than {MAX_ALTERNATIVES} grants")
        return Grants(alternatives=tuple(alternatives), sources=tuple(sources))
