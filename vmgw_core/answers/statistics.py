"""Metadata, statistics and lists of names for a token, made from answers that its labels and filters limit.

Statistics of queries count those of everybody, with their texts. VictoriaMetrics does not say which labels and filters
a query had, so a token with some gets an empty answer. A cluster says which tenant a query was of, but is wrong about
queries for several tenants: they have the tenant 0:0, or that of the query whose record they overwrite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vmgw_core.access import Steps
from vmgw_core.base import TenantID, as_integer, as_list, as_object, required
from vmgw_core.errors import BadRequest
from vmgw_core.routing import Answer

from .document import Document, names_of, objects_of, scalars

EMPTY: Final = "nothing shown: it cannot be told what belongs to the token"

_TOP: Final = ("topByCount", "topByAvgDuration", "topBySumDuration", "topByAvgMemoryUsage")
_TOP_SETTINGS: Final = ("topN", "maxLifetime", "search.queryStats.lastQueriesCount",
                        "search.queryStats.minQueryDuration", "search.queryStats.minQueryMemoryUsage")  # fmt: skip
_TOP_OWNER: Final = ("accountID", "projectID", "multiTenant")
_TOP_ENTRY: Final = (*_TOP_OWNER, "query", "timeRangeSeconds", "count", "avgDurationSeconds", "sumDurationSeconds")
_ACTIVE_OWNER: Final = ("account_id", "project_id", "is_multitenant")
_ACTIVE: Final = (*_ACTIVE_OWNER, "duration", "id", "remote_addr", "query", "start", "end", "step")
_COUNTS: Final = ("totalSeries", "totalLabelValuePairs")
_LISTS: Final = ("seriesCountByMetricName", "seriesCountByLabelName", "seriesCountByFocusLabelValue",
                 "seriesCountByLabelValuePair", "labelValueCountByLabelName")  # fmt: skip
_METADATA: Final = ("type", "unit", "help")


def made(
    answer: Answer,
    document: Document,
    arguments: Mapping[str, Sequence[str]],
    names: frozenset[str],
    tenant: TenantID | None,
) -> tuple[object, str]:
    """Return the client's answer, and what was left out. ``tenant``: None if labels or filters limit the token.

    Raises:
        BadRequest: an argument cannot be applied.
        FieldError: the backend's answer does not have the expected form.
    """
    match answer:
        case Answer.METADATA:
            return _metadata(document, arguments, names)
        case Answer.TSDB:
            return _tsdb(document), "no counts of queries"
        case Answer.SERIES_COUNT:
            data = required(document, "data", as_object)
            return {"status": "success", "data": [required(data, "totalSeries", as_integer)]}, "series of today"
        case Answer.TOP_QUERIES:
            return _top_queries(document, tenant)
        case Answer.ACTIVE_QUERIES:
            return _active_queries(document, tenant)
        case Answer.METRIC_NAMES:
            return _metric_names(document, restricted=tenant is None)
        case _:
            return _names(answer, document, arguments)


def _metadata(
    document: Document, arguments: Mapping[str, Sequence[str]], names: frozenset[str]
) -> tuple[dict[str, object], str]:
    data = required(document, "data", as_object)
    shown = {name: data[name] for name in sorted(names & data.keys())}
    limit, each = _limit(arguments, "limit"), _limit(arguments, "limit_per_metric")
    found = {
        name: [scalars(as_object(entry, "data"), _METADATA) for entry in as_list(entries, "data")][:each]
        for name, entries in list(shown.items())[:limit]
    }
    return {"status": "success", "data": found}, f"{len(shown)} of {len(data)} metrics shown"


def _tsdb(document: Document) -> dict[str, object]:
    data = required(document, "data", as_object)
    found = scalars(data, _COUNTS)
    for name in _LISTS:
        if name in data:
            found[name] = [scalars(entry, ("name", "value")) for entry in objects_of(data, name, name)]
    return {"status": "success", "data": found}


def _top_queries(document: Document, tenant: TenantID | None) -> tuple[dict[str, object], str]:
    """Return the tenant's queries. The list by memory does not say whose they are, so it is empty."""
    found: dict[str, object] = scalars(document, _TOP_SETTINGS)
    own = None if tenant is None else [tenant.account_id, tenant.project_id, False]
    for name in _TOP:
        if name in document:
            entries = [scalars(entry, _TOP_ENTRY) for entry in objects_of(document, name, name)]
            found[name] = [entry for entry in entries if [entry.get(each) for each in _TOP_OWNER] == own]
    return found, EMPTY if tenant is None else "queries of the tenant"


def _active_queries(document: Document, tenant: TenantID | None) -> tuple[dict[str, object], str]:
    own = None if tenant is None else [str(tenant.account_id), str(tenant.project_id), False]
    entries = objects_of(document, "data", "data")
    shown = [scalars(entry, _ACTIVE) for entry in entries if [entry.get(name) for name in _ACTIVE_OWNER] == own]
    note = EMPTY if tenant is None else f"{len(shown)} of {len(entries)} queries shown"
    return {"status": "ok", "data": shown}, note


def _metric_names(document: Document, *, restricted: bool) -> tuple[dict[str, object], str]:
    """Return the names of the tenant, without totals: they are of all tenants."""
    known = required(document, "records", as_list)
    records = [
        scalars(as_object(record, "records"), ("metricName", "queryRequestsCount", "lastQueryRequestTimestamp"))
        for record in ([] if restricted else known)
    ]
    found: dict[str, object] = {
        "status": "success",
        "statsCollectedSince": 0,
        "statsCollectedRecordsTotal": len(records),
        "trackerMemoryMaxSizeBytes": 0,
        "trackerCurrentMemoryUsageBytes": 0,
        "records": records,
    }
    return found, EMPTY if restricted else "no totals"


def _names(answer: Answer, document: Document, arguments: Mapping[str, Sequence[str]]) -> tuple[object, str]:
    """Return what Graphite calls tags, values of a tag or metrics, of a list of names that filters have limited."""
    names = list(names_of(document))
    note = f"{len(names)} names shown"
    if answer is Answer.INDEX:
        return names, note
    if answer is Answer.TAGS:
        names = sorted("name" if name == "__name__" else name for name in names)
    pattern = next(iter(arguments.get("filter", ())), "")
    if pattern:
        steps = Steps()
        try:
            expression = steps.compile(f"(?:{pattern})(?s:.*)")
        except ValueError:
            raise BadRequest("filter: not a regular expression that RE2 reads") from None
        names = [name for name in names if steps.matches(expression, name)]
    names = names[: _limit(arguments, "limit")]
    if answer is Answer.TAGS:
        return [{"tag": name} for name in names], note
    tag = next(iter(arguments["<tag>"]))
    return {"tag": tag, "values": [{"count": 1, "value": name} for name in names]}, note


def _limit(arguments: Mapping[str, Sequence[str]], name: str) -> int | None:
    """Return a limit, or None. Zero and negative ones are none, as for VictoriaMetrics.

    Raises:
        BadRequest: it is not an integer.
    """
    text = next(iter(arguments.get(name, ())), "")
    if not text:
        return None
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 18:
        raise BadRequest(f"{name}: expected an integer")
    number = int(text)
    return number if number > 0 else None
