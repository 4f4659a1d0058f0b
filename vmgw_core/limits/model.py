"""What a limit is, and whom it holds.

The specification, "Rate Limiter", names the four types and the two time windows. Beyond it are ``scope: total``, for
all tenants together, and ``labels:``, for tokens that carry given ``extra_labels``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vmgw_core.base import Labels, TenantID

MAX_VALUE: Final = 2**53
"""The largest limit: beyond it a number from a JSON answer is no longer exact."""


class LimitType(StrEnum):
    """What is limited, as the file spells it."""

    QUERIES = "queries"
    ROWS_INSERTED = "rows_inserted"
    NEW_SERIES = "new_series"
    ACTIVE_SERIES = "active_series"

    @property
    def counted(self) -> bool:
        """Whether the gateway can count it itself: what a series is, only a storage knows."""
        return self in (LimitType.QUERIES, LimitType.ROWS_INSERTED)

    @property
    def noun(self) -> str:
        """For sentences: ``rows inserted``."""
        return self.value.replace("_", " ")


class Resolution(StrEnum):
    """The length of the window that slides."""

    MINUTE = "minute"
    HOUR = "hour"

    @property
    def seconds(self) -> int:
        """The window's length."""
        return 60 if self is Resolution.MINUTE else 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One row of the file: at most ``value`` in any window.

    ``tenant`` None: it holds for every tenant on its own, or with ``total`` for all of them together. ``labels``: it
    counts and holds only requests of tokens that carry these ``extra_labels``, whatever others they have.
    """

    type: LimitType
    resolution: Resolution
    value: int
    tenant: TenantID | None
    total: bool
    labels: Labels

    @property
    def slot(self) -> tuple[LimitType, Resolution, Labels]:
        """What a tenant's own limit has in common with the one that it replaces."""
        return self.type, self.resolution, self.labels

    def described(self, usage: int, tenant: TenantID | None) -> str:
        """``tenant 1:5 has used 10 of 10 queries per minute``, for answers and the log."""
        who = "all tenants together" if self.total else "multitenant" if tenant is None else f"tenant {tenant}"
        if self.labels:
            who += f", tokens with {label_text(self.labels)},"
        verb = "have" if self.total or self.labels else "has"
        if self.type is LimitType.ACTIVE_SERIES:
            return f"{who} {verb} {usage} of {self.value} active series"
        return f"{who} {verb} used {usage} of {self.value} {self.type.noun} per {self.resolution}"


def label_text(labels: Labels) -> str:
    """``{team="dev"}``, whatever the values hold."""
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels) + "}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A limit beside what is used of it. ``tenant`` is whom it was counted for: None for a total or ``multitenant``."""

    limit: Limit
    tenant: TenantID | None
    usage: int
    key: str
    """The name of the counter, the same in every replica: ``queries/minute/1:5``."""
