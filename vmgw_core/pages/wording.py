"""Cells that several pages have."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from vmgw_core.explain import moment
from vmgw_core.limits import LimitType
from vmgw_core.limits.model import Usage

from .decisions import Decision
from .html import Cell, element

_SPANS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def ago(seconds: float) -> str:
    """Return how long something is ago in words."""
    for size, unit in _SPANS:
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} seconds ago"


def limit_words(usage: Usage) -> str:
    """Return what is limited."""
    limit = usage.limit
    noun = limit.type.noun
    if limit.type is LimitType.CONCURRENCY:
        return "concurrent requests"
    return noun if limit.type is LimitType.ACTIVE_SERIES else f"{noun} per {limit.resolution}"


def scope_words(usage: Usage) -> str:
    """Return whom a limit counts."""
    limit = usage.limit
    who = "all tenants together" if limit.total else f"tenant {limit.scope(usage.tenant)}"
    return f"{who}, {limit.tokens}" if limit.tokens else who


def decision_rows(decisions: Iterable[Decision], *, who: bool) -> Iterator[tuple[Cell, ...]]:
    """Yield the rows of refusals; with ``who`` the client, the tenant, the subject and a command line too."""
    for each in decisions:
        request = element("code", f"{each.method} {each.path}")
        row = (moment(each.at), request, each.status, f"{each.code}: {each.message}")
        if who:
            asked = shlex.quote(f"{each.method} {each.path}")
            command = element("code", f"vmgateway explain --token-file=token {asked}")
            yield (row[0], each.client, each.tenant, each.subject, *row[1:], command)
        else:
            yield row
