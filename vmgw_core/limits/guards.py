"""Guards: what a single query may ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from vmgw_core.access.expressions import Expression
from vmgw_core.base import Labels, ScopedRules, TenantID, tenant_name

from .model import label_text


class Member(StrEnum):
    """What is guarded, as the file spells it."""

    MAX_RANGE = "max_range"
    MIN_STEP = "min_step"
    MAX_POINTS = "max_points"
    MAX_LOOKBACK = "max_lookback"
    DENY_PATTERN = "deny_pattern"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One member of one item of the file. Its scope is that of a ``Limit``, but never a total."""

    member: Member
    value: float = 0.0
    """Seconds, or points."""
    pattern: str = ""
    expression: Expression | None = field(default=None, compare=False, repr=False)
    """The compiled pattern."""
    tenant: TenantID | None = None
    labels: Labels = ()
    limit_class: str = ""
    observe: bool = False
    """Whether it refuses nothing."""

    @property
    def total(self) -> bool:
        return False

    @property
    def kind(self) -> str:
        return self.member

    @property
    def text(self) -> str:
        """The value as people write it."""
        if self.member is Member.DENY_PATTERN:
            return self.pattern
        return f"{self.value:.0f}" if self.member is Member.MAX_POINTS else span_text(self.value)

    def as_json(self) -> dict[str, object]:
        """Return plain data, with the names of a limit."""
        scope = "tenant" if self.tenant is None else tenant_name(self.tenant)
        return {
            "guard": self.member.value,
            "value": self.text,
            "scope": scope + (label_text(self.labels) if self.labels else ""),
            **({"class": self.limit_class} if self.limit_class else {}),
            **({"mode": "observe"} if self.observe else {}),
        }

    def __str__(self) -> str:
        of_class = f", class {self.limit_class}" if self.limit_class else ""
        return f"{self.member} {self.text}{of_class}{' (mode: observe)' if self.observe else ''}"


Guards = ScopedRules[Guard]

_UNITS: Final = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0))


def span_text(seconds: float) -> str:
    """Return a duration as VictoriaMetrics reads it, such as ``1d12h``, with milliseconds below a minute."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.15g}s" if seconds == round(seconds) else f"{seconds * 1000:.0f}ms"
    parts, left = "", math.ceil(seconds)
    for unit, size in _UNITS:
        number, left = divmod(left, int(size))
        parts += f"{number}{unit}" if number else ""
    return parts
