"""Limits: types, windows, values and scopes.

The specification, "Rate Limiter", names four types and two time windows. Beyond it are the types of bytes and of
fetched series, the windows of a day and a month, ``scope: total``, for all tenants together, ``labels:``, for tokens
that carry given ``extra_labels``, and ``class:``, for tokens whose grant names that class.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vmgw_core.base import Labels, TenantID, tenant_name

MAX_VALUE: Final = 2**53
"""The largest limit: larger numbers in JSON are not exact."""


class LimitType(StrEnum):
    """What is limited, as the file spells it."""

    QUERIES = "queries"
    ROWS_INSERTED = "rows_inserted"
    NEW_SERIES = "new_series"
    ACTIVE_SERIES = "active_series"
    BYTES_WRITTEN = "bytes_written"
    BYTES_READ = "bytes_read"
    SERIES_FETCHED = "series_fetched"
    CONCURRENCY = "concurrency"
    """Requests at the same time, which each process counts for itself: :mod:`vmgw_core.backends.concurrency`."""

    @property
    def counted(self) -> bool:
        """Whether the gateway always counts it itself. It counts series only without a datasource."""
        return self not in (LimitType.NEW_SERIES, LimitType.ACTIVE_SERIES)

    @property
    def is_late(self) -> bool:
        """Whether it is known when a request ends, and not before."""
        return self in (LimitType.BYTES_WRITTEN, LimitType.BYTES_READ, LimitType.SERIES_FETCHED)

    @property
    def of_reads(self) -> bool:
        """Whether reads use it, and not writes."""
        return self in (LimitType.QUERIES, LimitType.BYTES_READ, LimitType.SERIES_FETCHED)

    @property
    def noun(self) -> str:
        return self.value.replace("_", " ")


class Resolution(StrEnum):
    """The window: it slides, or it is the day or month of the calendar."""

    SECOND = "second"
    """That of a ``burst``."""
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    MOMENT = ""
    """That of concurrent requests."""

    @property
    def seconds(self) -> int:
        """Its length; a month counts as 31 days."""
        return _SECONDS[self]


_SECONDS: Final = {
    Resolution.MOMENT: 0,
    Resolution.SECOND: 1,
    Resolution.MINUTE: 60,
    Resolution.HOUR: 3600,
    Resolution.DAY: 86400,
    Resolution.MONTH: 31 * 86400,
}
MEASURED: Final = (Resolution.MINUTE, Resolution.HOUR)
"""Those of what a datasource measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One row of the file: at most ``value`` in any window.

    ``tenant`` None: for each tenant, or with ``total`` for all of them together. ``labels``: only for tokens that carry
    these ``extra_labels``, among others. ``limit_class``: only for tokens with a grant of that class.
    """

    type: LimitType
    resolution: Resolution
    value: int
    tenant: TenantID | None
    total: bool
    labels: Labels
    limit_class: str = ""
    observe: bool = False
    """Whether it refuses nothing: what goes beyond it is only counted and logged."""
    zone: str = "UTC"
    """Where days and months begin at midnight."""

    @property
    def slot(self) -> tuple[LimitType, Resolution, Labels, str]:
        """What a tenant's own limit shares with the default that it replaces."""
        return self.type, self.resolution, self.labels, self.limit_class

    @property
    def kind(self) -> str:
        return self.type

    @property
    def is_burst(self) -> bool:
        """Whether it is about one second: each process holds it by itself, and nothing else measures it."""
        return self.resolution is Resolution.SECOND

    @property
    def is_calendar(self) -> bool:
        """Whether its window is a day or a month."""
        return self.resolution in (Resolution.DAY, Resolution.MONTH)

    @property
    def is_measurable(self) -> bool:
        """Whether a datasource can measure it: it knows neither tokens, nor single seconds, days and months."""
        return not (self.tokens or self.is_burst or self.is_calendar or self.type.is_late)

    @property
    def tokens(self) -> str:
        """Which tokens of a tenant it holds, in words; empty for all of them."""
        if not (self.labels or self.limit_class):
            return ""
        of_class = f" of class {self.limit_class}" if self.limit_class else ""
        return f"tokens{of_class}" + (f" with {label_text(self.labels)}" if self.labels else "")

    def scope(self, tenant: TenantID | None) -> str:
        """Return whom the limit counts: ``total``, or the name of ``tenant``."""
        return "total" if self.total else tenant_name(tenant)

    def described(self, usage: int, tenant: TenantID | None) -> str:
        """Return ``tenant 1:5 has used 10 of 10 queries per minute``, for responses and logs."""
        who = "all tenants together" if self.total else tenant_name(tenant) if tenant is None else f"tenant {tenant}"
        if self.tokens:
            who += f", {self.tokens},"
        verb = "have" if self.total or self.tokens else "has"
        if self.type is LimitType.ACTIVE_SERIES:
            text = f"{who} {verb} {usage} of {self.value} active series"
        elif self.type is LimitType.CONCURRENCY:
            text = f"{who} {verb} {usage} of {self.value} concurrent requests"
        else:
            text = f"{who} {verb} used {usage} of {self.value} {self.type.noun} per {self.resolution}"
        return f"{text} (mode: observe)" if self.observe else text


def label_text(labels: Labels) -> str:
    """Return ``{team="dev"}``, with the values escaped."""
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels) + "}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A limit and how much of it is used. ``tenant`` is None for a total or ``multitenant``."""

    limit: Limit
    tenant: TenantID | None
    usage: int
    key: str
    """The name of the counter, the same in every replica: ``queries/minute/1:5``."""
    over: bool = False
    """Whether it is told because a limit that only observes was exceeded."""

    def as_json(self) -> dict[str, object]:
        """Return the limit and its usage as plain data."""
        limit = self.limit
        return {
            "type": limit.type.value,
            "resolution": limit.resolution.value or None,
            "scope": limit.scope(self.tenant) + (label_text(limit.labels) if limit.labels else ""),
            **({"class": limit.limit_class} if limit.limit_class else {}),
            "value": limit.value,
            "used": self.usage,
        }
