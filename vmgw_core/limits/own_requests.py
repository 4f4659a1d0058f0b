"""The requests that measuring itself makes at the backend, so that they are taken off what the tenants have used.

Where the datasource is the very server that the gateway guards, each refresh is one more query there; where tenants
are asked for their series, each question is counted as theirs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from vmgw_core.base import TenantID

KEPT_SECONDS: Final = 3700.0
"""The longest window, and the while until a sample of it arrives."""


class OwnRequests:
    """When this process asked, by the tenant that the backend counts it for. Times are Unix seconds."""

    def __init__(self) -> None:
        self._times: dict[TenantID, list[float]] = {}

    def copy(self) -> OwnRequests:
        """What is known by now, for another thread."""
        other = OwnRequests()
        other._times = {tenant: times.copy() for tenant, times in self._times.items()}
        return other

    def note(self, tenant: TenantID, now: float) -> None:
        """A request was answered that was sent at ``now``."""
        times = self._times.setdefault(tenant, [])
        # A clock that was set back must not put the list out of order.
        times.append(max(now, times[-1]) if times else now)
        del times[: bisect_left(times, now - KEPT_SECONDS)]

    def count(self, tenant: TenantID | None, after: float, until: float) -> int:
        """How many there were in ``(after, until]``: of ``tenant``, or of all of them where it is None."""
        lists = self._times.values() if tenant is None else [self._times.get(tenant, [])]
        return sum(bisect_right(times, until) - bisect_right(times, after) for times in lists)

    def forget_idle(self, now: float) -> None:
        """Let go of tenants that were not asked for a window."""
        for tenant in [each for each, times in self._times.items() if times[-1] < now - KEPT_SECONDS]:
            del self._times[tenant]
