"""The headers ``RateLimit-Policy`` and ``RateLimit``: the limits of a client, and what is left of them.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/: both are lists of strings (RFC 9651), one for
each limit, with parameters. ``q`` is the limit, ``w`` its window in seconds, ``qu`` what is counted if it is not
requests; ``r`` is what is left, ``t`` the seconds until there is room again.

Deliberate difference: ``qu="rows"`` is not in the draft's registry of units, which has none for rows. Without ``qu`` a
client would take rows for requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from .model import Limit, LimitType, label_text

MAX_LISTED: Final = 8
"""The most limits in a header: those that are used most."""
_MAX_NUMBER: Final = 10**15 - 1  # RFC 9651, section 3.3.1
_MAX_LABELS: Final = 100  # characters
_UNITS: Final = {
    LimitType.ROWS_INSERTED: ';qu="rows"',
    LimitType.BYTES_WRITTEN: ';qu="content-bytes"',
    LimitType.BYTES_READ: ';qu="content-bytes"',
    LimitType.SERIES_FETCHED: ';qu="series"',
}


class Quota(NamedTuple):
    """A limit, what is left of it, and the seconds until there is room again if nothing is."""

    limit: Limit
    remaining: int
    wait: int | None


def rate_limit_headers(quotas: Sequence[Quota]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the two headers; none without limits."""
    if not quotas:
        return ()
    listed = sorted(quotas, key=lambda quota: quota.remaining / quota.limit.value)[:MAX_LISTED]
    names = [_name(quota.limit) for quota in listed]
    policy = ", ".join(f"{name};{_policy(quota.limit)}" for name, quota in zip(names, listed, strict=True))
    state = ", ".join(f"{name};{_state(quota)}" for name, quota in zip(names, listed, strict=True))
    return (b"RateLimit-Policy", policy.encode()), (b"RateLimit", state.encode())


def _policy(limit: Limit) -> str:
    return f"q={min(limit.value, _MAX_NUMBER)};w={limit.resolution.seconds}{_UNITS.get(limit.type, '')}"


def _state(quota: Quota) -> str:
    left = f"r={min(quota.remaining, _MAX_NUMBER)}"
    return left if quota.wait is None else f"{left};t={quota.wait}"


def _name(limit: Limit) -> str:
    """Return the name of a limit as a string of RFC 9651: printable ASCII, with ``"`` and the backslash escaped."""
    of_class = f"/{limit.limit_class}" if limit.limit_class else ""
    shown = label_text(limit.labels) if limit.labels else ""
    labels = shown.encode("ascii", "backslashreplace")[:_MAX_LABELS].decode()
    text = f"{limit.type}/{limit.resolution}{of_class}{labels}".replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
