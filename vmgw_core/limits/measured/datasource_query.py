"""The query that asks the datasource for the tenants' usage, and the reading of its result.

One instant query asks for everything, so that all numbers are of one moment and a refresh costs one request. A label
of ours marks its parts. The rules:

- Each type of limit has several metrics. The first source that the datasource has scraped counts; a type without one
  is reported.
- Every source comes with the time of its newest sample; of several instances, the oldest such time.
- Results are untrusted. A partial one, or one with an impossible number, is refused as a whole, and the old numbers
  stay.
- A single-node server counts for tenant 0:0 and for all tenants together; process-wide counters of a cluster count
  only for all tenants together.

The metrics are those that vmgateway documents if a cluster has them, and those of VictoriaMetrics' /metrics page
otherwise. The language is PromQL, which other datasources understand too.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vmgw_core.base import TenantID, string_literal
from vmgw_core.base.strict_json import FieldError, as_list, as_object, as_text, child, load_object, required
from vmgw_core.limits.model import Limit, LimitType, Resolution

from .own_requests import OwnRequests

MAX_ITEMS: Final = 200_000
"""Series in one result: enough for 25,000 tenants with all types of limits."""

PAGE_AGE: Final = 2.0
"""Seconds that a scraped page may lag: VictoriaMetrics does not rewrite its page each time."""

MARK: Final = "vmgateway_part"

Values = Mapping[tuple[LimitType, Resolution, TenantID | None], float]
"""Usage per limit type, window and tenant; None stands for all tenants together."""


class Role(enum.Enum):
    """What the values of a source count."""

    TENANTS = "tenants"
    """One value per tenant, in the labels accountID and projectID."""
    PROCESS = "process"
    """A server without tenants: its count is that of tenant 0:0 and of everything."""
    TOTAL = "total"
    """The servers of a cluster: their sum counts for all tenants together."""
    IDLE = "idle"
    """No values: it shows that the server is scraped. A tenant's counters appear with its first request."""


@dataclass(frozen=True, slots=True)
class _Source:
    metric: str
    role: Role
    matcher: str = ""


# What vmselect and single-node serve for reading; the same page lists what is pushed and the pages of the program.
_READ_PATHS: Final = (
    "/api/v1/(query|query_range|series|series/count|labels|label/.+|export.*|status/.+)|/federate|/render|/tags.*"
    "|/metrics/.+"
)

_CLUSTER: Final[Mapping[LimitType, tuple[_Source, ...]]] = {
    LimitType.QUERIES: (
        _Source("vm_tenant_select_requests_total", Role.TENANTS),
        _Source("vm_http_requests_total", Role.IDLE, 'path=~"/select/.+"'),
    ),
    LimitType.ROWS_INSERTED: (
        _Source("vm_tenant_inserted_rows_total", Role.TENANTS),
        _Source("vm_http_requests_total", Role.IDLE, 'path=~"/insert/.+"'),
    ),
    LimitType.NEW_SERIES: (
        _Source("vm_tenant_timeseries_created_total", Role.TENANTS),
        _Source("vm_new_timeseries_created_total", Role.TOTAL),
    ),
    LimitType.ACTIVE_SERIES: (
        _Source("vm_tenant_active_timeseries", Role.TENANTS),
        _Source("vm_cache_entries", Role.TOTAL, 'type="storage/hour_metric_ids"'),
    ),
}

_SINGLE: Final[Mapping[LimitType, _Source]] = {
    LimitType.QUERIES: _Source("vm_http_requests_total", Role.PROCESS, f'path=~"{_READ_PATHS}"'),
    # What the server scrapes itself comes from no client.
    LimitType.ROWS_INSERTED: _Source("vm_rows_inserted_total", Role.PROCESS, 'type!="promscrape"'),
    LimitType.NEW_SERIES: _Source("vm_new_timeseries_created_total", Role.PROCESS),
    LimitType.ACTIVE_SERIES: _Source("vm_cache_entries", Role.PROCESS, 'type="storage/hour_metric_ids"'),
}

_WINDOWS: Final = {Resolution.MINUTE: "1m", Resolution.HOUR: "1h"}
_TIME: Final = "time"
_WRITERS: Final = "writers"
_NUMBER: Final = re.compile(r"[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    type: LimitType
    source: str
    """The metric that it comes from."""
    role: Role
    as_of: float
    """Everything before this time is counted: Unix seconds, on the datasource's clock."""
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One result of the query."""

    usages: tuple[Usage, ...]
    unmeasured: tuple[LimitType, ...]
    """Limited types that no scraped metric measures."""
    to_ask: tuple[LimitType, ...]
    """Types with limits per tenant that must be requested from each tenant's API."""
    writers: tuple[TenantID, ...]
    """Tenants that wrote in the last hour, those with most rows first; empty if none need to be asked."""


class UsagePlan:
    """The query for a set of limits, and the reading of its results.

    ``labels`` narrow every metric (``-ratelimit.extraLabels``). Limits with labels or a class, and bursts, are left
    out: no metric measures them.
    """

    def __init__(self, limits: Iterable[Limit], *, cluster: bool, labels: Iterable[tuple[str, str]] = ()) -> None:
        limits = [limit for limit in limits if limit.is_measurable]
        self._matchers = tuple(f"{name}={string_literal(value)}" for name, value in labels)
        self._cluster = cluster
        self._windows: dict[LimitType, tuple[Resolution, ...]] = {}
        for limit_type in LimitType:
            found = {limit.resolution for limit in limits if limit.type is limit_type}
            if found:
                self._windows[limit_type] = tuple(each for each in Resolution if each in found)
        self._askable = {limit.type for limit in limits if cluster and not limit.type.counted and not limit.total}
        self.expression = " or ".join(
            f'label_replace({expression}, "{MARK}", "{part}", "", "")' for part, expression in self._parts()
        )
        """The query; empty if no limit needs one."""

    def read(self, document: bytes, own: OwnRequests) -> Snapshot:
        """Read a result (the body of a 200), and subtract the gateway's own requests.

        Raises ``FieldError`` if it is not a result of the query, or a partial one.
        """
        items = _items(document)
        usages: list[Usage] = []
        unmeasured: list[LimitType] = []
        for limit_type in self._windows:
            usage = self._usage(limit_type, items, own)
            if usage is None:
                unmeasured.append(limit_type)
            else:
                usages.append(usage)
        measured = {usage.type for usage in usages if usage.role is Role.TENANTS}
        found = sorted(items.get(_WRITERS, ()), key=lambda item: -item[1])
        tenants = (_tenant(labels) for labels, _ in found)
        return Snapshot(
            usages=tuple(usages),
            unmeasured=tuple(unmeasured),
            to_ask=tuple(each for each in self._windows if each in self._askable - measured),
            writers=tuple(tenant for tenant in tenants if tenant is not None),
        )

    def _sources(self, limit_type: LimitType) -> tuple[_Source, ...]:
        sources = _CLUSTER[limit_type]
        return sources if self._cluster else (sources[0], _SINGLE[limit_type])

    def _parts(self) -> Iterator[tuple[str, str]]:
        for limit_type, windows in self._windows.items():
            for source in self._sources(limit_type):
                selector = self._selector(source)
                # "and" drops ended series, such as those of a server that is gone.
                yield _part(limit_type, source.role, _TIME), f"min(timestamp({selector}) and {selector})"
                by = " by (accountID, projectID)" if source.role is Role.TENANTS else ""
                if source.role is Role.IDLE:
                    continue
                for window in windows:
                    counted = f"increase({selector}[{_WINDOWS[window]}])"
                    value = selector if limit_type is LimitType.ACTIVE_SERIES else counted
                    yield _part(limit_type, source.role, window.value), f"sum({value}){by}"
        if self._askable:
            selector = self._selector(_CLUSTER[LimitType.ROWS_INSERTED][0])
            yield _WRITERS, f"sum(increase({selector}[1h])) by (accountID, projectID) > 0"

    def _selector(self, source: _Source) -> str:
        return f"{source.metric}{{{','.join(filter(None, (source.matcher, *self._matchers)))}}}"

    def _usage(self, limit_type: LimitType, items: _Items, own: OwnRequests) -> Usage | None:
        for source in self._sources(limit_type):
            times = [value for _, value in items.get(_part(limit_type, source.role, _TIME), ())]
            if times:
                break
        else:
            return None
        as_of = min(times) - PAGE_AGE
        values: dict[tuple[LimitType, Resolution, TenantID | None], float] = {}
        for window in self._windows[limit_type]:
            for tenant, value in _attributed(source.role, items.get(_part(limit_type, source.role, window.value), ())):
                counted = value
                if limit_type is LimitType.QUERIES:
                    counted = max(0.0, value - own.count(tenant, as_of - window.seconds, as_of))
                values[limit_type, window, tenant] = counted
        return Usage(type=limit_type, source=source.metric, role=source.role, as_of=as_of, values=values)


def parse_labels(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``name=value`` pairs of ``-ratelimit.extraLabels``. Raises ``ValueError``, with the reason."""
    labels: list[tuple[str, str]] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not _LABEL_NAME.fullmatch(name):
            raise ValueError("expected name=value, with the name of a Prometheus label")
        labels.append((name, value))
    return tuple(labels)


def _part(limit_type: LimitType, role: Role, what: str) -> str:
    return f"{limit_type.value}/{role.value}/{what}"


def _attributed(role: Role, items: Iterable[_Item]) -> Iterator[tuple[TenantID | None, float]]:
    """Yield the values by tenant, and their sum for all tenants together."""
    total = 0.0
    tenants: dict[TenantID, float] = {}
    for labels, value in items:
        total += value  # multitenant requests and unknown tenants are part of it
        tenant = TenantID() if role is Role.PROCESS else _tenant(labels)
        if tenant is not None and role is not Role.TOTAL:
            tenants[tenant] = tenants.get(tenant, 0.0) + value
    yield from tenants.items()
    yield None, total


def _tenant(labels: Mapping[str, object]) -> TenantID | None:
    account, project = labels.get("accountID"), labels.get("projectID")
    if isinstance(account, str) and isinstance(project, str):
        return _parsed_tenant(account, project)
    return None


@lru_cache(maxsize=MAX_ITEMS // 8)  # each comes once for each limit, every few seconds
def _parsed_tenant(account: str, project: str) -> TenantID | None:
    try:
        return TenantID.parse(f"{account}:{project}")
    except ValueError:
        return None


_Item = tuple[Mapping[str, object], float]
_Items = Mapping[str, list[_Item]]
_ITEM: Final = "item"


def _items(document: bytes) -> _Items:
    """Return the series of the instant vector, by part. Raises ``FieldError``."""
    fields = load_object(document, "answer")
    if required(fields, "status", as_text, "answer") != "success":
        raise FieldError("answer.status", "expected success, got another")
    if fields.get("isPartial", False) is not False:
        raise FieldError("answer.isPartial", "the result is partial: a storage node did not respond")
    data = required(fields, "data", as_object, "answer")
    if required(data, "resultType", as_text, "answer.data") != "vector":
        raise FieldError("answer.data.resultType", "expected vector")
    result = required(data, "result", as_list, "answer.data")
    if len(result) > MAX_ITEMS:
        raise FieldError("answer.data.result", f"more than {MAX_ITEMS} series")
    parts: dict[str, list[_Item]] = {}
    for index, item in enumerate(result):
        try:
            part, labels, value = _series(item)
        except FieldError as error:  # there are many: only a bad one needs its path
            path = child("answer.data.result", index) + error.path.removeprefix(_ITEM)
            raise FieldError(path, error.message) from None
        parts.setdefault(part, []).append((labels, value))
    return parts


def _series(item: object) -> tuple[str, Mapping[str, object], float]:
    """Return the part, labels and value of one series. Raises ``FieldError`` with a path within it."""
    series = as_object(item, _ITEM)
    labels = as_object(series.get("metric"), f"{_ITEM}.metric")
    part = as_text(labels.get(MARK), f"{_ITEM}.metric.{MARK}")
    pair = as_list(series.get("value"), f"{_ITEM}.value")
    if len(pair) != 2:
        raise FieldError(f"{_ITEM}.value", "expected a time and a value")
    return part, labels, _number(pair[1], f"{_ITEM}.value")


def _number(value: object, path: str) -> float:
    """Read a count or a time: text, finite and not negative."""
    text = as_text(value, path)
    if not _NUMBER.fullmatch(text) or (number := float(text)) == float("inf"):
        raise FieldError(path, "expected a finite number of at least 0")
    return number
