"""Metadata, statistics and lists of names for a token, made from answers that its labels and filters limit.

Statistics of queries count those of everybody, with their texts. VictoriaMetrics does not say whose they are, so a
restricted token gets an empty answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vmgw_core.access import compile_expression
from vmgw_core.base import as_integer, as_list, as_object, required
from vmgw_core.errors import BadRequest
from vmgw_core.routing import Answer

from .document import Document, names_of, objects_of, scalars

EMPTY: Final = "nothing shown: it cannot be told what belongs to the token"

_TOP: Final = ("topByCount", "topByAvgDuration", "topBySumDuration", "topByAvgMemoryUsage")
_TOP_SETTINGS: Final = ("topN", "maxLifetime", "search.queryStats.lastQueriesCount",
                        "search.queryStats.minQueryDuration", "search.queryStats.minQueryMemoryUsage")  # fmt: skip
_COUNTS: Final = ("totalSeries", "totalLabelValuePairs")
_LISTS: Final = ("seriesCountByMetricName", "seriesCountByLabelName", "seriesCountByFocusLabelValue",
                 "seriesCountByLabelValuePair", "labelValueCountByLabelName")  # fmt: skip
_METADATA: Final = ("type", "unit", "help")


def made(
    answer: Answer,
    document: Document,
    arguments: Mapping[str, Sequence[str]],
    names: frozenset[str],
    *,
    restricted: bool,
) -> tuple[object, str]:
    """Return the client's answer, and what was left out. ``restricted``: labels or filters limit the token.

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
            return scalars(document, _TOP_SETTINGS) | {name: [] for name in _TOP if name in document}, EMPTY
        case Answer.METRIC_NAMES:
            return _metric_names(document, restricted=restricted)
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
    names = names_of(document)
    note = f"{len(names)} names shown"
    if answer is Answer.INDEX:
        return names, note
    if answer is Answer.TAGS:
        names = sorted("name" if name == "__name__" else name for name in names)
    pattern = next(iter(arguments.get("filter", ())), "")
    if pattern:
        try:
            expression, _ = compile_expression(f"(?:{pattern})(?s:.*)")
        except ValueError:
            raise BadRequest("filter: not a regular expression that RE2 reads") from None
        names = [name for name in names if expression.fullmatch(name)]
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
