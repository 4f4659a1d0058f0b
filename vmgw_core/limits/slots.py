"""Limits of concurrent requests, as pages and metrics show limits."""

from __future__ import annotations

from collections.abc import Iterable

from vmgw_core.backends import Use

from .model import Limit, Usage


def slot_usages(uses: Iterable[Use]) -> tuple[Usage, ...]:
    """Return the limits and the number of requests that each has now."""
    return tuple(
        Usage(limit=use.limit, tenant=use.tenant, usage=use.running, key=f"{use.key}")
        for use in uses
        if isinstance(use.limit, Limit)
    )
