"""Building limits and limiters for the tests of this folder."""

from __future__ import annotations

from vmgw_core.base.tenants import Access, Labels, Subject, TenantID
from vmgw_core.errors import RateLimited, TooManyRows
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit, LimitType, Resolution

A, B, C = (Subject(TenantID(number, 0)) for number in (1, 2, 3))
MULTITENANT = Subject(None)
WINDOWED = tuple(each for each in LimitType if each is not LimitType.CONCURRENCY)
"""The types of limits that have a window."""


def limit(
    limit_type: str = "queries",
    value: int = 10,
    resolution: str = "minute",
    tenant: TenantID | None = None,
    total: bool = False,
    labels: Labels = (),
    observe: bool = False,
    limit_class: str = "",
    zone: str = "UTC",
) -> Limit:
    return Limit(
        type=LimitType(limit_type),
        resolution=Resolution(resolution),
        value=value,
        tenant=tenant,
        total=total,
        labels=labels,
        observe=observe,
        limit_class=limit_class,
        zone=zone,
    )


def refused(limiter: Limiter, now: float, subject: Subject = A, access: Access = Access.READ) -> RateLimited | None:
    """None where the request was admitted, and counted."""
    try:
        limiter.admit(subject, access, now)
    except RateLimited as refusal:
        return refusal
    return None


def rows_refused(limiter: Limiter, rows: int, now: float, subject: Subject = A) -> RateLimited | TooManyRows | None:
    try:
        limiter.take_rows(subject, rows, now)
    except (RateLimited, TooManyRows) as refusal:
        return refusal
    return None


def admitted(limiter: Limiter, number: int, now: float, subject: Subject = A) -> int:
    """How many of ``number`` queries at one moment pass."""
    return sum(refused(limiter, now, subject) is None for _ in range(number))
