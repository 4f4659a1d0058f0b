"""All limits of a file, looked up by tenant and by the labels of a token.

A slot is a type, a resolution and a set of labels. In each slot a tenant has its own limit or the default one, and
the total of the slot applies too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vmgw_core.base import Labels, TenantID

from .model import Limit, LimitType, Resolution

MAX_MATCHES: Final = 10_000
"""Label sets of tokens whose matching limits are remembered."""

Slot = tuple[LimitType, Resolution, Labels]


class LimitSet:
    """Limits, no two with the same tenant, scope and slot."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self.limits = tuple(limits)
        self.totals = {limit.slot: limit for limit in self.limits if limit.total}
        self._default = {limit.slot: limit for limit in self.limits if limit.tenant is None and not limit.total}
        self._own = {(limit.tenant, limit.slot): limit for limit in self.limits if limit.tenant is not None}
        slots = dict.fromkeys(limit.slot for limit in self.limits)
        self._plain = tuple(slot for slot in slots if not slot[2])
        self._labelled = tuple((slot, frozenset(slot[2])) for slot in slots if slot[2])
        self._matches: dict[Labels, tuple[Slot, ...]] = {}
        self.measurable = {(limit.type, limit.resolution) for limit in self.limits if not limit.labels}
        """What to ask a datasource for: it knows tenants, but not the labels of tokens."""
        self.longest = float(max((limit.resolution.seconds for limit in self.limits), default=0))
        """The longest window in seconds: after that, an idle tenant has used nothing."""
        self.counts_rows = any(limit.type is LimitType.ROWS_INSERTED for limit in self.limits)

    def limit_of(self, tenant: TenantID | None, slot: Slot) -> Limit | None:
        """Return a tenant's own or the default limit. Of ``multitenant`` requests (None) only queries are limited."""
        if tenant is None:
            return self._default.get(slot) if slot[0] is LimitType.QUERIES else None
        return self._own.get((tenant, slot)) or self._default.get(slot)

    def slots(self, labels: Labels) -> tuple[Slot, ...]:
        if not self._labelled or not labels:
            return self._plain
        found = self._matches.get(labels)
        if found is None:
            if len(self._matches) >= MAX_MATCHES:
                self._matches.clear()
            carried = frozenset(labels)
            matching = (slot for slot, wanted in self._labelled if wanted <= carried)
            found = self._matches[labels] = (*self._plain, *matching)
        return found
