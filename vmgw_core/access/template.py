"""Grants with placeholders: ``{name}`` stands for what a condition's expression captured.

A placeholder can only fill a value: a tenant, the value of a label, or the value in a matcher of a filter. It cannot
add a label, a matcher or another filter, whatever text a claim has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from vmgw_core.base import TenantID
from vmgw_core.errors import InvalidClaims
from vmgw_core.tokens import AccessMode, ClaimPath, Selector, VMAccessClaim

from .conditions import Values

PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_SPECIAL: Final = re.compile(r"[^A-Za-z0-9_\-]", re.ASCII)


def placeholders(text: str) -> list[str]:
    """Return the names of the placeholders in ``text``."""
    return PLACEHOLDER.findall(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A grant: ``claim`` names a claim in the form of ``vm_access``, or the other fields say what is granted."""

    claim: ClaimPath | None = None
    tenant: str = "0:0"
    labels: tuple[tuple[str, str], ...] = ()
    filters: tuple[Selector, ...] = ()
    mode: AccessMode = AccessMode.FULL
    limit_class: str = ""

    def placeholders(self) -> Iterator[str]:
        """Yield the names of all placeholders."""
        for text in (self.tenant, *(value for _, value in self.labels)):
            yield from placeholders(text)
        for selector in self.filters:
            for matchers in selector.alternatives:
                for matcher in matchers:
                    yield from placeholders(matcher.value)

    def fill(self, values: Values, claims: Mapping[str, object], place: str) -> VMAccessClaim:
        """Return the access with the values in place. Raises ``InvalidClaims``, with ``place``, if it is not valid."""
        return replace(self._access(values, claims, place), limit_class=self.limit_class)

    def _access(self, values: Values, claims: Mapping[str, object], place: str) -> VMAccessClaim:
        if self.claim is not None:
            try:
                return VMAccessClaim.from_value(self.claim.find(claims), f"{place}: {self.claim}")
            except KeyError:
                raise InvalidClaims(f"{place}: the token has no claim `{self.claim}`") from None
        try:
            tenant = TenantID.parse(_filled(self.tenant, values))
        except ValueError as error:
            raise InvalidClaims(f"{place}.tenant: {error}") from None
        return VMAccessClaim.from_value(
            {
                "tenant_id": {"account_id": tenant.account_id, "project_id": tenant.project_id},
                "extra_labels": {name: _filled(value, values) for name, value in self.labels},
                "extra_filters": [_filled_selector(selector, values) for selector in self.filters],
                "mode": int(self.mode),
            },
            place,
        )


def _filled(text: str, values: Values) -> str:
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)


def _filled_selector(selector: Selector, values: Values) -> str:
    return replace(
        selector,
        alternatives=tuple(
            tuple(
                replace(matcher, value=_filled_value(matcher.value, matcher.operator, values)) for matcher in matchers
            )
            for matchers in selector.alternatives
        ),
    ).written()


def _filled_value(text: str, operator: str, values: Values) -> str:
    if operator in ("=", "!="):
        return _filled(text, values)
    return _filled(text, {name: _SPECIAL.sub(_literal, value) for name, value in values.items()})


def _literal(found: re.Match[str]) -> str:
    """Return a character that RE2 reads as it is."""
    return found[0] if ord(found[0]) > 127 else "\\" + found[0]
