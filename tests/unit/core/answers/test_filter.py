"""filter and statistics: what is asked, and what the client gets for it."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
import zstandard

from tests.support.each import each
from vmgw_core.answers import Filter, HeldBytes, read_names
from vmgw_core.base import TenantID
from vmgw_core.errors import AnswerTooLarge, BadAnswer, BadRequest, Overloaded, Refusal
from vmgw_core.http import Headers
from vmgw_core.routing import Answer

LARGEST = 10_000
TENANT = TenantID(account_id=1, project_id=5)


def filter_of(
    answer: Answer, *, tenant: TenantID | None = None, tag: str = "", names_path: str | None = None
) -> Filter:
    return Filter(answer=answer, path="/", names_path=names_path, tenant=tenant, rules=None, tag=tag)


def made(
    answer_filter: Filter,
    document: object,
    *pairs: str,
    names: frozenset[str] | None = None,
) -> tuple[Any, str, str]:
    """Return the document, its kind and the note."""
    body = json.dumps(document).encode()
    found = answer_filter.apply(200, (), body, pairs, largest=LARGEST, names=names)
    assert dict(found.headers)[b"Content-Length"] == str(len(found.body)).encode()
    return json.loads(found.body), found.kind, found.note


# --- what is asked --------------------------------------------------------------------------------------------------


@each(
    ("answer", "expected"),
    [
        (Answer.RULES, "/?datasource_type=a&extended_states=1"),
        (Answer.ALERT, "/?datasource_type=a&extended_states=1"),
        (Answer.NOTIFIERS, "/"),
        (Answer.METADATA, "/?metric=m%26"),
        (Answer.TSDB, "/?topN=3&match[]=x"),
        (Answer.SERIES_COUNT, "/?topN=1"),
        (Answer.TOP_QUERIES, "/?topN=3"),
        (Answer.ACTIVE_QUERIES, "/"),
        (Answer.METRIC_NAMES, "/"),
        (Answer.INDEX, "/?start=0"),
        (Answer.TAGS, "/?start=0"),
        (Answer.TAG_VALUES, "/?start=0"),
    ],
)
def test_only_listed_arguments_are_sent(answer: Answer, expected: str) -> None:
    pairs = (
        "datasource_type=a", "e%78tended_states=1", "state=firing", "metric=m%26", "topN=3", "match[]=x", "trace=1",
        "extra_label=a=b", "limit=1", "search=s", "topn=4",
    )  # fmt: skip
    answer_filter = filter_of(answer)
    assert answer_filter.target(pairs, ()) == expected
    bound = answer_filter.target((), ("extra_label=team=dev",))
    assert bound.endswith("extra_label=team=dev")
    assert answer_filter.binds is (answer.path.startswith(("/api/v1/label", "/api/v1/status/tsdb")))


def test_arguments_must_fit_into_a_url() -> None:
    answer_filter = filter_of(Answer.TSDB)
    assert len(answer_filter.target([f"match[]={'a' * 16000}"], ())) > 16000
    with pytest.raises(BadRequest, match="too long"):
        answer_filter.target(["match[]=" + "a" * 16384], ())


# --- statistics -----------------------------------------------------------------------------------------------------

METADATA = {
    "status": "success",
    "data": {
        name: [{"type": "counter", "help": name, "unit": "s", "x": "secret"}, {"type": "gauge", "help": "2"}]
        for name in ("a", "b", "secret")
    },
}


def entry(name: str) -> dict[str, str]:
    return {"type": "counter", "help": name, "unit": "s"}


def test_metadata_of_visible_names() -> None:
    answer_filter = filter_of(Answer.METADATA, names_path="/names")
    names = frozenset(("a", "b", "c"))
    document, kind, note = made(answer_filter, METADATA, names=names)
    second = {"type": "gauge", "help": "2"}
    assert document == {"status": "success", "data": {"a": [entry("a"), second], "b": [entry("b"), second]}}
    assert (kind, note) == ("filtered", "2 of 3 metrics shown")
    document, _, _ = made(answer_filter, METADATA, "limit=1", "limit_per_metric=1", names=names)
    assert document["data"] == {"a": [entry("a")]}
    document, _, _ = made(answer_filter, METADATA, "limit=-1", "limit_per_metric=0", names=names)
    assert list(document["data"]) == ["a", "b"]
    assert made(answer_filter, METADATA, names=frozenset())[0]["data"] == {}


def test_metadata_needs_the_names() -> None:
    with pytest.raises(BadAnswer, match="not known"):
        made(filter_of(Answer.METADATA, names_path="/names"), METADATA)


@each("text", ["x", "1.0", "9" * 30, "١", "1-"])  # noqa: RUF001
def test_a_limit_that_is_no_number_is_an_error_of_the_client(text: str) -> None:
    with pytest.raises(BadRequest, match="limit: expected an integer"):
        made(filter_of(Answer.METADATA), METADATA, f"limit={text}", names=frozenset())


def test_the_cardinality_without_counts_of_queries() -> None:
    counted = [{"name": "a", "value": 1, "requestsCount": 7, "lastRequestTimestamp": 8}]
    data = {"totalSeries": 1, "totalLabelValuePairs": 2, "seriesCountByMetricName": counted, "secret": 3}
    document, kind, note = made(filter_of(Answer.TSDB), {"status": "success", "data": data})
    shown = {"totalSeries": 1, "totalLabelValuePairs": 2, "seriesCountByMetricName": [{"name": "a", "value": 1}]}
    assert document == {"status": "success", "data": shown}
    assert (kind, note) == ("filtered", "no counts of queries")


def test_the_series_count_is_made_of_the_cardinality() -> None:
    document, _, note = made(filter_of(Answer.SERIES_COUNT), {"data": {"totalSeries": 12, "secret": 1}})
    assert (document, note) == ({"status": "success", "data": [12]}, "series of today")


def test_queries_are_not_shown() -> None:
    top = {"topN": "5", "maxLifetime": "10m", "topByCount": [{"query": "secret"}], "new": ["secret"]}
    document, kind, _ = made(filter_of(Answer.TOP_QUERIES), top)
    assert (document, kind) == ({"topN": "5", "maxLifetime": "10m", "topByCount": []}, "empty")
    found = filter_of(Answer.ACTIVE_QUERIES).apply(200, (), b"text, not JSON", (), largest=LARGEST, names=None)
    assert (json.loads(found.body), found.kind) == ({"status": "ok", "data": []}, "empty")


def test_a_tenant_gets_the_queries_that_are_known_to_be_its_own() -> None:
    own = {"accountID": 1, "projectID": 5, "multiTenant": False, "query": "own", "timeRangeSeconds": 60, "count": 2}
    foreign = [
        own | {"accountID": 2, "query": "secret"},
        own | {"projectID": 6, "query": "secret"},
        own | {"multiTenant": True, "query": "secret"},  # of several tenants, in a record that was this one's
        {name: value for name, value in own.items() if name != "multiTenant"},
    ]
    top = {"topN": "5", "topByCount": [*foreign, own | {"new": "secret"}], "topByAvgMemoryUsage": [{"query": "secret"}]}
    document, kind, _ = made(filter_of(Answer.TOP_QUERIES, tenant=TENANT), top)
    assert (document, kind) == ({"topN": "5", "topByCount": [own], "topByAvgMemoryUsage": []}, "filtered")

    own = {"account_id": "1", "project_id": "5", "is_multitenant": False, "query": "own", "start": 1, "duration": "1s"}
    foreign = [
        own | {"account_id": "2", "query": "secret"},
        own | {"project_id": "6", "query": "secret"},
        own | {"is_multitenant": True, "query": "secret"},
        {name: value for name, value in own.items() if name != "is_multitenant"},
    ]
    active = filter_of(Answer.ACTIVE_QUERIES, tenant=TENANT)
    document, kind, note = made(active, {"status": "ok", "data": [own | {"new": "secret"}, *foreign]})
    assert (document, kind) == ({"status": "ok", "data": [own]}, "filtered")
    assert note == "1 of 5 queries shown"
    found = active.apply(200, (), b"text, not JSON", (), largest=LARGEST, names=None)
    assert json.loads(found.body) == {"status": "ok", "data": []}


def test_statistics_of_metric_names() -> None:
    records = [{"metricName": "a", "queryRequestsCount": 1, "lastQueryRequestTimestamp": 2, "x": "secret"}]
    whole = {"status": "success", "statsCollectedSince": 9, "statsCollectedRecordsTotal": 99, "records": records}
    document, kind, _ = made(filter_of(Answer.METRIC_NAMES, tenant=TENANT), whole)
    shown = {"metricName": "a", "queryRequestsCount": 1, "lastQueryRequestTimestamp": 2}
    assert (document["records"], document["statsCollectedRecordsTotal"], kind) == ([shown], 1, "filtered")
    document, kind, _ = made(filter_of(Answer.METRIC_NAMES), whole)
    assert (document["records"], document["statsCollectedRecordsTotal"], kind) == ([], 0, "empty")
    assert document.keys() >= whole.keys()


NAMES = {"data": ["__name__", "host", "team"]}


def test_names_and_tags() -> None:
    assert made(filter_of(Answer.INDEX), {"data": ["a", "b"]}, "limit=1")[0] == ["a", "b"]
    tags = filter_of(Answer.TAGS)
    assert made(tags, NAMES)[0] == [{"tag": "host"}, {"tag": "name"}, {"tag": "team"}]
    assert made(tags, NAMES, "filter=h%7Ct", "limit=1")[0] == [{"tag": "host"}]
    values = filter_of(Answer.TAG_VALUES, tag="host")
    expected = {"tag": "host", "values": [{"count": 1, "value": "b"}]}
    assert made(values, {"data": ["a", "b"]}, "filter=b", "<tag>=x")[0] == expected
    assert made(values, {"data": ["b", "b\nc"]}, "filter=b$")[0] == expected
    with pytest.raises(BadRequest, match="filter"):
        made(tags, NAMES, "filter=(")
    with pytest.raises(BadRequest, match="take too long"):
        made(values, {"data": ["ab" * 50] * 600}, "filter=.*a(.{0,30}){30}c")


@each(
    ("answer", "document"),
    [
        (Answer.METADATA, {"data": {"a": 1}}),
        (Answer.METADATA, {"data": {"a": [1]}}),
        (Answer.TSDB, {}),
        (Answer.TSDB, {"data": {"seriesCountByMetricName": [1]}}),
        (Answer.SERIES_COUNT, {"data": {"totalSeries": "1"}}),
        (Answer.INDEX, {"data": [1]}),
        (Answer.INDEX, {"data": {}}),
        (Answer.METRIC_NAMES, {"records": 1}),
    ],
)
def test_another_form_is_refused(answer: Answer, document: object) -> None:
    with pytest.raises(BadAnswer):
        made(filter_of(answer, tenant=TENANT), document, names=frozenset("a"))


# --- statuses and encodings -----------------------------------------------------------------------------------------


@each(
    ("status", "error", "kind"),
    [(404, "not found", "bad_data"), (503, "the backend answered with status 503", "unavailable")],
)
def test_an_error_keeps_its_status_alone(status: int, error: str, kind: str) -> None:
    found = filter_of(Answer.TSDB).apply(status, (), b"secret", (), largest=LARGEST, names=None)
    assert (found.status, found.kind) == (status, "")
    assert json.loads(found.body) == {"status": "error", "errorType": kind, "error": error}
    assert b"X-VMGateway-Answer" not in dict(found.headers)


@each("status", [201, 204, 206, 301, 304])
def test_another_status_is_refused(status: int) -> None:
    with pytest.raises(BadAnswer, match=str(status)):
        filter_of(Answer.TSDB).apply(status, (), b"", (), largest=LARGEST, names=None)


PLAIN = json.dumps({"data": ["a"]}).encode()
ENCODED = {
    "gzip": gzip.compress(PLAIN),
    "deflate": zlib.compress(PLAIN),
    "zstd": zstandard.compress(PLAIN),
    "identity": PLAIN,
    "GZIP": gzip.compress(PLAIN),
}


def encoded(*names: str) -> Headers:
    return tuple((b"Content-Encoding", name.encode()) for name in names)


@each(("name", "body"), ENCODED.items())
def test_an_encoding_is_decoded(name: str, body: bytes) -> None:
    found = read_names(200, encoded(name), body, LARGEST)
    assert (found.names, 50 < found.memory < 300) == (frozenset("a"), True)


@each(
    ("headers", "body", "error"),
    [
        (encoded("br"), PLAIN, BadAnswer),
        (encoded("gzip", "gzip"), PLAIN, BadAnswer),
        (encoded("snappy"), PLAIN, BadAnswer),
        (encoded("gzip"), PLAIN, BadAnswer),
        (encoded("gzip"), ENCODED["gzip"][:-1], BadAnswer),
        (encoded("gzip"), gzip.compress(b" " * (LARGEST + 1)), AnswerTooLarge),
        (encoded("gzip"), gzip.compress(b" " * 10_000_000), AnswerTooLarge),
        ((), b'{"data":"a"}', BadAnswer),
        ((), b'{"data":[1]}', BadAnswer),
        ((), b"a", BadAnswer),
    ],
)
def test_names_that_cannot_be_read_are_refused(headers: Headers, body: bytes, error: type[Refusal]) -> None:
    with pytest.raises(error):
        read_names(200, headers, body, LARGEST)
    with pytest.raises(BadAnswer, match="status 500"):
        read_names(500, headers, body, LARGEST)


def test_memory_is_bounded_for_each_answer_and_for_all() -> None:
    held = HeldBytes(100)
    held.take(0, 100)
    with pytest.raises(AnswerTooLarge, match="larger than 100 bytes"):
        held.take(100, 1)
    for _ in range(3):
        held.take(0, 100)
    with pytest.raises(Overloaded):
        held.take(0, 1)
    held.give_back(100)
    held.take(0, 1)
    assert held.used == 301
