"""All limits of a file, looked up by tenant and by the labels and classes of a token.

A slot is a type, a resolution, a set of labels and a class. In each slot a tenant has its own limit or the default
one, and the total of the slot applies too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vmgw_core.base import Labels, TenantID

from .model import Limit, LimitType, Resolution
from .windows.series_counts import kept_seconds

MAX_MATCHES: Final = 10_000
"""Labels and classes of tokens whose matching limits are remembered."""

Slot = tuple[LimitType, Resolution, Labels, str]


class LimitSet:
    """Limits, no two with the same tenant, scope and slot."""

    def __init__(self, limits: Iterable[Limit], *, measured: bool = False) -> None:
        """``measured``: whether a datasource measures series."""
        self.limits = tuple(limits)
        self.totals = {limit.slot: limit for limit in self.limits if limit.total}
        self._default = {limit.slot: limit for limit in self.limits if limit.tenant is None and not limit.total}
        self._own = {(limit.tenant, limit.slot): limit for limit in self.limits if limit.tenant is not None}
        slots = dict.fromkeys(limit.slot for limit in self.limits)
        self.series_slots = tuple(slot for slot in slots if not slot[0].counted)
        self._plain = tuple(slot for slot in slots if not (slot[2] or slot[3]))
        self._by_token = tuple((slot, frozenset(slot[2]), slot[3]) for slot in slots if slot[2] or slot[3])
        self._matches: dict[tuple[Labels, frozenset[str]], tuple[Slot, ...]] = {}
        self.measurable = {(limit.type, limit.resolution) for limit in self.limits if limit.is_measurable}
        """What to ask a datasource for."""
        of_series = [] if measured else [limit for limit in self.limits if not limit.type.counted]
        self.counts_series = bool(of_series)
        """Whether the gateway counts series itself."""
        sliding = [float(limit.resolution.seconds) for limit in self.limits if not limit.is_calendar]
        self.longest = max([*sliding, *map(kept_seconds, of_series)], default=0.0)
        """The longest sliding window in seconds: after that, an idle tenant has used nothing in any."""
        self.types = {limit.type for limit in self.limits}

    def has(self, slot: Slot) -> bool:
        """Return whether a limit has this slot."""
        return any(limit.slot == slot for limit in self.limits)

    def limit_of(self, tenant: TenantID | None, slot: Slot) -> Limit | None:
        """Return a tenant's own or the default limit. Of ``multitenant`` requests (None) only reads are limited."""
        if tenant is None:
            return self._default.get(slot) if slot[0].of_reads else None
        return self._own.get((tenant, slot)) or self._default.get(slot)

    def slots(self, labels: Labels, classes: frozenset[str] = frozenset()) -> tuple[Slot, ...]:
        """Return the slots that hold a token with these labels and classes."""
        if not self._by_token or not (labels or classes):
            return self._plain
        found = self._matches.get((labels, classes))
        if found is None:
            if len(self._matches) >= MAX_MATCHES:
                self._matches.clear()
            carried = frozenset(labels)
            matching = (
                slot
                for slot, wanted, limit_class in self._by_token
                if wanted <= carried and (not limit_class or limit_class in classes)
            )
            found = self._matches[labels, classes] = (*self._plain, *matching)
        return found
