"""The gateway's own requests to the datasource, to subtract them from the tenants' usage.

If the datasource is the server that the gateway guards, each refresh is a query there; and each request for the series
of a tenant counts as that tenant's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from vmgw_core.base import TenantID

KEPT_SECONDS: Final = 3700.0
"""The longest window, and the time until a sample of it arrives."""


class OwnRequests:
    """When this process sent requests, by the tenant that the backend counts them for. Times are Unix seconds."""

    def __init__(self) -> None:
        self._times: dict[TenantID, list[float]] = {}

    def copy(self) -> OwnRequests:
        """Return a copy for another thread."""
        other = OwnRequests()
        other._times = {tenant: times.copy() for tenant, times in self._times.items()}
        return other

    def note(self, tenant: TenantID, now: float) -> None:
        times = self._times.setdefault(tenant, [])
        # A clock that was set back must not put the list out of order.
        times.append(max(now, times[-1]) if times else now)
        del times[: bisect_left(times, now - KEPT_SECONDS)]

    def count(self, tenant: TenantID | None, after: float, until: float) -> int:
        """Return the number of requests in ``(after, until]`` for ``tenant``, or for all tenants if it is None."""
        lists = self._times.values() if tenant is None else [self._times.get(tenant, [])]
        return sum(bisect_right(times, until) - bisect_right(times, after) for times in lists)

    def forget_idle(self, now: float) -> None:
        """Forget tenants without a request in the longest window."""
        for tenant in [each for each, times in self._times.items() if times[-1] < now - KEPT_SECONDS]:
            del self._times[tenant]
