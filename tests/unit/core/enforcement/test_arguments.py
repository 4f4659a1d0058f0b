"""labels: a token's labels and filters bind, whatever else the client asks for, and wherever it writes it.

What VictoriaMetrics makes of a rewritten request is read with ``go_query``, which shares no code with the product.
"""

from __future__ import annotations

import tracemalloc
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.core import go_query
from tests.support.each import each
from vmgw_core.base.tenants import TenantID
from vmgw_core.enforcement.arguments import _remembered, enforce, enforcement_of
from vmgw_core.errors import BadRequest
from vmgw_core.http.forms import MAX_ARGUMENTS, key_of, split_pairs
from vmgw_core.routing.routes import ROUTES, Filters, Route, match_route
from vmgw_core.tokens.claims import AccessMode, VMAccessClaim
from vmgw_core.tokens.selector import Matcher, parse_selector

FILTER_KEYS = ("extra_filters", "extra_filters[]")

DEV = '{team="dev"}'
OPS = '{team="ops"}'


def _claim(*filters: str, **labels: str) -> VMAccessClaim:
    return VMAccessClaim(tenant=TenantID(), labels=tuple(labels.items()), filters=tuple(filters), mode=AccessMode.FULL)


NOBODY = _claim()
BY_LABEL = _claim(team="dev")
BY_FILTER = _claim(DEV)
BY_BOTH = _claim(DEV, '{env=~"a|b"}', team="dev", env="prod")


def _route(path: str, method: str = "POST") -> Route:
    return match_route(path, method, cluster=True).route


QUERY = _route("/api/v1/query")
LABELS = _route("/api/v1/labels")
VALUES = _route("/prometheus/api/v1/label/job/values")
WRITE = _route("/api/v1/write")
DELETE = _route("/api/v1/admin/tsdb/delete_series")
STATIC = _route("/vmui/", "GET")
TAG_SERIES = _route("/tags/tagSeries")
RELABEL = _route("/metric-relabel-debug")


# --- what is added -------------------------------------------------------------------------------------------------


@each(
    ("route", "claim", "query", "expected"),
    [
        pytest.param(QUERY, NOBODY, "query=m", "query=m", id="nothing to enforce"),
        pytest.param(QUERY, BY_LABEL, "", "extra_label=team%3Ddev", id="a label"),
        pytest.param(QUERY, BY_LABEL, "query=m", "query=m&extra_label=team%3Ddev", id="a label, after the client's"),
        pytest.param(QUERY, BY_FILTER, "", "extra_filters[]=%7Bteam%3D%22dev%22%7D", id="a filter"),
        pytest.param(
            QUERY,
            BY_BOTH,
            "",
            "extra_label=team%3Ddev&extra_label=env%3Dprod"
            "&extra_filters[]=%7Bteam%3D%22dev%22%7D&extra_filters[]=%7Benv%3D~%22a%7Cb%22%7D",
            id="labels and filters, in the claim's order",
        ),
        pytest.param(
            QUERY, _claim(team="a&b=c;d%zz e+f"), "", "extra_label=team%3Da%26b%3Dc%3Bd%25zz%20e%2Bf", id="odd value"
        ),
        pytest.param(QUERY, _claim(team="d\u00e9v"), "", "extra_label=team%3Dd%C3%A9v", id="a value in UTF-8"),
        pytest.param(DELETE, BY_LABEL, "match[]=m", "match[]=m&extra_label=team%3Ddev", id="deleting"),
        pytest.param(DELETE, BY_FILTER, "", "extra_filters[]=%7Bteam%3D%22dev%22%7D", id="deleting, a filter"),
        pytest.param(WRITE, BY_LABEL, "", "extra_label=team%3Ddev", id="writing, a label"),
        pytest.param(WRITE, BY_FILTER, "", "", id="writing, a filter: writes have none"),
        pytest.param(
            WRITE, BY_BOTH, "", "extra_label=team%3Ddev&extra_label=env%3Dprod", id="writing, labels and filters"
        ),
        pytest.param(STATIC, BY_BOTH, "a=1", "a=1", id="a static page"),
    ],
)
def test_what_is_added(route: Route, claim: VMAccessClaim, query: str, expected: str) -> None:
    assert enforce(route, claim, query, None, cluster=False) == (expected, None)


@each("route", [LABELS, VALUES], ids=["labels", "values"])
@each(
    ("claim", "expected"),
    [
        pytest.param(NOBODY, [], id="nothing to enforce"),
        pytest.param(BY_LABEL, ['{team="dev"}'], id="a label"),
        pytest.param(BY_FILTER, ['{team="dev"}'], id="a filter"),
        pytest.param(_claim('{b="c"}', '{d!=""}'), ['{b="c"}', '{d!=""}'], id="filters, which are alternatives"),
        pytest.param(BY_BOTH, ['{team="dev",env="prod"}'], id="labels, to which the filters are added anyway"),
        pytest.param(_claim(team='a"b\\c\u00e9'), ['{team="a\\"b\\\\c\u00e9"}'], id="a value that is quoted"),
        pytest.param(_claim(team="a\nb"), ['{team="a\\nb"}'], id="a line feed, which a claim cannot have"),
    ],
)
def test_a_label_listing_gets_a_match(route: Route, claim: VMAccessClaim, expected: list[str]) -> None:
    """-search.ignoreExtraFiltersAtLabelsAPI makes VictoriaMetrics ignore filters here, unless there is a match[]."""
    query, form = enforce(route, claim, "start=1", "", cluster=False)
    assert go_query.named(go_query.parse_query(query), "match[]") == expected
    assert form == ""


@pytest.mark.parametrize(
    ("query", "form"),
    [
        pytest.param("match[]=m", None, id="in the URL"),
        pytest.param("match%5B%5D=m", None, id="in the URL, encoded"),
        pytest.param("match=m", None, id="in the URL, its other name"),
        pytest.param("", "match[]=m", id="in the form"),
        pytest.param("a=1", "b=2&%6Datch=m", id="in the form, its other name, encoded"),
    ],
)
def test_a_match_of_the_client_stays_the_only_one(query: str, form: str | None) -> None:
    """Several are alternatives: one more would widen the client's."""
    sent = go_query.arguments("POST", *enforce(LABELS, BY_BOTH, query, form, cluster=False))
    assert go_query.named(sent, "match[]", "match") == ["m"]
    assert go_query.named(sent, "extra_label") == ["team=dev", "env=prod"]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("Match[]=m", id="capitals"),
        pytest.param("+match[]=m", id="a blank before"),
        pytest.param("match[]%20=m", id="a blank after"),
        pytest.param("match[=m", id="half a bracket"),
        pytest.param("match[]x=m", id="something after"),
        pytest.param("=match[]", id="a value"),
        pytest.param("match%255B%5D=m", id="encoded twice"),
    ],
)
def test_what_only_looks_like_a_match_does_not_keep_ours_away(query: str) -> None:
    sent = go_query.parse_query(enforce(LABELS, BY_LABEL, query, None, cluster=False)[0])
    assert go_query.named(sent, "match[]") == ['{team="dev"}']


@each("route", [pytest.param(route, id=route.path) for route in ROUTES if route.filters is Filters.BIND])
def test_only_label_listings_get_a_match(route: Route) -> None:
    query, _ = enforce(route, BY_LABEL, "", None, cluster=False)
    lists_labels = route.path.removeprefix("/prometheus") in ("/api/v1/labels", "/api/v1/label/<name...>/values")
    assert ("match[]" in query) is lists_labels


# A claim's label may have any name without "=" and control characters, and VictoriaMetrics takes them all.
printable = st.text(alphabet="ab_:.xXuU019-\"'`{}[],\\!~ \u00e9\u65e5\U0001f600", min_size=1, max_size=6)


@given(st.dictionaries(printable, printable, min_size=1, max_size=3))
@example({"team-name": "dev", "1st": "x", "a.b:c": 'q"', '"': "\\", "\u00e9": "\u00e9", "or": "x", "a b": "{}"})
def test_labels_as_a_selector_mean_the_labels(labels: dict[str, str]) -> None:
    claim = VMAccessClaim(tenant=TenantID(), labels=tuple(labels.items()), filters=(), mode=AccessMode.FULL)
    (match,) = enforcement_of(claim).matches
    selector = parse_selector(unquote(match.removeprefix("match[]=")))
    assert selector.alternatives == (
        tuple(Matcher(name=name, operator="=", value=value) for name, value in labels.items()),
    )


# --- filters on the metric name ------------------------------------------------------------------------------------


@each(
    ("text", "sent"),
    [
        pytest.param("total", r'{__name__=~"total(?:\\b|\\B)"}', id="a name alone"),
        pytest.param('{__name__="total"}', r'{__name__=~"total(?:\\b|\\B)"}', id="equality"),
        pytest.param('{"total"}', r'{__name__=~"total(?:\\b|\\B)"}', id="a name in quotes"),
        pytest.param(r'{__\x6eame__="total"}', r'{__name__=~"total(?:\\b|\\B)"}', id="a label name with an escape"),
        pytest.param(r'{"__name__"="tot\x61l"}', r'{__name__=~"total(?:\\b|\\B)"}', id="a value with an escape"),
        pytest.param('total{a="b"}', r'{__name__=~"total(?:\\b|\\B)",a="b"}', id="with another"),
        pytest.param(
            'total{a="1" or b!~"2"}',
            r'{__name__=~"total(?:\\b|\\B)",a="1" or __name__=~"total(?:\\b|\\B)",b!~"2"}',
            id="in front of alternatives",
        ),
        pytest.param(
            '{a="1" or __name__="x",b="2"}', r'{a="1" or __name__=~"x(?:\\b|\\B)",b="2"}', id="in one alternative"
        ),
        pytest.param('{__name__=~"total"}', r'{__name__=~"(?:total)(?:\\b|\\B)"}', id="a regex that is a word"),
        pytest.param('{__name__=~"a|b"}', r'{__name__=~"(?:a|b)(?:\\b|\\B)"}', id="a regex that is a list"),
        pytest.param('{__name__=~"|a"}', r'{__name__=~"(?:|a)(?:\\b|\\B)"}', id="a regex that matches nothing, too"),
        pytest.param('{__name__=~"total_.*"}', r'{__name__=~"(?:total_.*)(?:\\b|\\B)"}', id="a prefix"),
        pytest.param(
            r'{__name__="a.b+c\\d(e)[f]{g}^h$i?j*k|l"}',
            r'{__name__=~"a\\.b\\+c\\\\d\\(e\\)\\[f\\]\\{g\\}\\^h\\$i\\?j\\*k\\|l(?:\\b|\\B)"}',
            id="a name with what a regex reads",
        ),
        pytest.param('total{"a-b"="c"}', r'{__name__=~"total(?:\\b|\\B)",a\-b="c"}', id="a spelling for old releases"),
        pytest.param('{__name__=~"a",__name__!="b"}', r'{__name__=~"(?:a)(?:\\b|\\B)",__name__!="b"}', id="and not"),
        pytest.param('{__name__!="total"}', '{__name__!="total"}', id="another name"),
        pytest.param('{__name__!~"a|b"}', '{__name__!~"a|b"}', id="none of a list"),
        pytest.param('{__name__=~".+"}', '{__name__=~".+"}', id="any name"),
        pytest.param('{__name__=~".*"}', '{__name__=~".*"}', id="any name or none"),
        pytest.param('{__name__=""}', '{__name__=""}', id="no name"),
        pytest.param('{__name__!=""}', '{__name__!=""}', id="a name"),
        pytest.param("{team = 'dev'}", "{team = 'dev'}", id="no filter on names: as it was written"),
        pytest.param('{name="total"}', '{name="total"}', id="a label that is called name"),
    ],
)
@each("route", [QUERY, DELETE], ids=["read", "delete"])
def test_a_filter_on_the_metric_name_is_looked_up_as_it_is(route: Route, text: str, sent: str) -> None:
    """Else the storage joins it with a name of the client's: total and secret_(total|x) find secret_total."""
    values = go_query.parse_query(enforce(route, _claim(text), "", None, cluster=False)[0])
    assert values == [("extra_filters[]", sent)]


@pytest.mark.parametrize(
    ("claim", "labels", "filters", "match"),
    [
        pytest.param(
            _claim(__name__="to.tal"),
            [],
            [r'{__name__=~"to\\.tal(?:\\b|\\B)"}'],
            r'{__name__=~"to\\.tal(?:\\b|\\B)"}',
            id="alone",
        ),
        pytest.param(
            _claim(team="dev", __name__="total"),
            ["team=dev"],
            [r'{__name__=~"total(?:\\b|\\B)"}'],
            r'{team="dev",__name__=~"total(?:\\b|\\B)"}',
            id="with a label",
        ),
        pytest.param(
            _claim(DEV, '{a="b" or c="d"}', __name__="total"),
            [],
            [
                r'{team="dev",__name__=~"total(?:\\b|\\B)"}',
                r'{a="b",__name__=~"total(?:\\b|\\B)" or c="d",__name__=~"total(?:\\b|\\B)"}',
            ],
            r'{__name__=~"total(?:\\b|\\B)"}',
            id="with filters, in each of their alternatives",
        ),
    ],
)
def test_a_label_that_is_the_metric_name_is_a_filter_on_reads(
    claim: VMAccessClaim, labels: list[str], filters: list[str], match: str
) -> None:
    for route in (QUERY, DELETE, LABELS):
        own = f"extra_filters={OPS}&extra_label=__name__=x&extra_filters[]={OPS}"
        query, form = enforce(route, claim, own, own, cluster=False)
        sent = go_query.arguments("POST", query, form)
        assert go_query.named(sent, "extra_label") == labels
        assert go_query.named(sent, *FILTER_KEYS) == filters
        assert go_query.named(sent, "match[]") == ([match] if route is LABELS else [])
    written = go_query.parse_query(enforce(WRITE, claim, "extra_label=__name__=x", None, cluster=False)[0])
    assert go_query.named(written, "extra_label") == [f"{name}={value}" for name, value in claim.labels]
    assert go_query.named(written, *FILTER_KEYS) == []


# --- trace ---------------------------------------------------------------------------------------------------------

TRACE_SPELLINGS = [
    "trace=1",
    "trace=",
    "trace",
    "tr%61ce=1",
    "%74%72%61%63%65=yes",
    "Trace=1",
    "TRACE=true",
    "+trace=1",
    "trace%20=1",
    "trace=0&trace=1",
]


@each("pair", TRACE_SPELLINGS)
@pytest.mark.parametrize("route", [QUERY, DELETE, STATIC, WRITE], ids=["read", "delete", "static", "write"])
@pytest.mark.parametrize(
    ("claim", "cluster"),
    [
        pytest.param(BY_LABEL, False, id="label"),
        pytest.param(BY_FILTER, False, id="filter"),
        pytest.param(NOBODY, True, id="tenant"),
        pytest.param(BY_BOTH, True, id="all"),
    ],
)
def test_a_restricted_token_gets_no_trace(pair: str, route: Route, claim: VMAccessClaim, cluster: bool) -> None:
    """It tells how many series the storage found before it applied the token's filters."""
    query, form = enforce(route, claim, f"a=1&{pair}&traces=1", f"{pair}&b=2&traceid=x", cluster=cluster)
    assert query.startswith("a=1&traces=1")
    assert form == "b=2&traceid=x"
    keys = [key for key, _ in go_query.arguments("POST", query, form)]
    assert not any(key.strip().lower() == "trace" for key in keys)


@each("pair", TRACE_SPELLINGS)
def test_a_token_for_the_whole_of_a_single_node_may_trace(pair: str) -> None:
    assert enforce(QUERY, NOBODY, f"a=1&{pair}", pair, cluster=False) == (f"a=1&{pair}", pair)


@each("pair", ["nocache=0", "noc%61che=", "NoCache=0", "nocache%20=0", "nocache=0&nocache=1"])
@each("path", ["/api/v1/query", "/prometheus/api/v1/query_range"])
def test_a_path_for_all_tenants_is_not_cached(path: str, pair: str) -> None:
    """The cache of the backend does not see which tenant a query there is held to."""
    sent = enforce(_route(path), BY_LABEL, f"a=1&{pair}", f"{pair}&b=2", cluster=True, multitenant=True)
    arguments = go_query.arguments("POST", *sent)
    assert [pair for pair in arguments if pair[0].strip().lower() == "nocache"] == [("nocache", "1")]
    assert ("extra_label", "team=dev") in arguments


def test_other_paths_are_cached() -> None:
    assert enforce(QUERY, NOBODY, "nocache=0", "nocache=1", cluster=True) == ("nocache=0", "nocache=1")
    assert enforce(LABELS, NOBODY, "a=1", None, cluster=True, multitenant=True)[0] == "a=1"


# --- what is removed -----------------------------------------------------------------------------------------------

LABEL_SPELLINGS = [
    "extra_label=team=ops",
    "extra_label=",
    "extra_label",
    "extra%5Flabel=team%3Dops",
    "%65%78%74%72%61%5f%6c%61%62%65%6c=team=ops",
    "Extra_Label=team=ops",
    "+extra_label=team=ops",
    "extra_label%20=team=ops",
    "extra_label%00=team=ops",
    "extra_label[]=team=ops",
    "extra_labels=team=ops",
    "%09%0aextra_label=team=ops",
]
FILTER_SPELLINGS = [
    f"extra_filters={OPS}",
    f"extra_filters[]={OPS}",
    f"extra_filters%5B%5D={OPS}",
    f"extra_filters%5b]={OPS}",
    f"%65xtra_filters[]={OPS}",
    f"extra_filter={OPS}",
    f"EXTRA_FILTERS[]={OPS}",
    f"extra_filters[0]={OPS}",
    f"extra_filters+={OPS}",
    f"+extra_filters[]={OPS}",
    "extra_filters[]",
    "extra_filters=",
]


@each("pair", LABEL_SPELLINGS)
@each("route", [QUERY, DELETE, WRITE, STATIC], ids=["read", "delete", "write", "static"])
def test_a_label_of_the_client_is_removed_from_url_and_form(route: Route, pair: str) -> None:
    query, form = enforce(route, BY_LABEL, f"a=1&{pair}&b=2&{pair}", f"{pair}&c=3&{pair}", cluster=False)
    plain = "a=1&b=2" if route is STATIC else "a=1&b=2&extra_label=team%3Ddev"
    assert (query, form) == (plain, "c=3")


@each("pair", FILTER_SPELLINGS)
@each("route", [QUERY, DELETE, STATIC], ids=["read", "delete", "static"])
def test_a_filter_of_the_client_is_removed_from_url_and_form(route: Route, pair: str) -> None:
    query, form = enforce(route, BY_FILTER, f"a=1&{pair}&b=2&{pair}", f"{pair}&c=3&{pair}", cluster=False)
    plain = "a=1&b=2" if route is STATIC else "a=1&b=2&extra_filters[]=%7Bteam%3D%22dev%22%7D"
    assert (query, form) == (plain, "c=3")


@each(
    ("claim", "pair"),
    [
        pytest.param(BY_LABEL, f"extra_filters[]={OPS}", id="a filter beside a label"),
        pytest.param(BY_LABEL, f"extra_filters={OPS}", id="a filter of the other spelling beside a label"),
        pytest.param(BY_FILTER, "extra_label=team=ops", id="a label beside a filter"),
        pytest.param(NOBODY, "extra_label=team=ops", id="a label of a token without any"),
        pytest.param(NOBODY, f"extra_filters={OPS}", id="a filter of a token without any"),
        pytest.param(BY_BOTH, "xextra_label=a=b", id="a key that ends like a label"),
        pytest.param(BY_BOTH, "extra-label=a=b", id="a key that is near a label"),
        pytest.param(BY_BOTH, "extra=a", id="a key that begins like one"),
        pytest.param(BY_BOTH, "query=extra_label=team=ops", id="a value"),
        pytest.param(BY_BOTH, "=extra_label", id="a value without a key"),
        pytest.param(BY_BOTH, "extra%255Flabel=a=b", id="a key that is encoded twice"),
        pytest.param(BY_BOTH, "id=1", id="an id where it means nothing"),
    ],
)
def test_what_can_only_narrow_or_means_nothing_stays(claim: VMAccessClaim, pair: str) -> None:
    query, form = enforce(QUERY, claim, pair, pair, cluster=False)
    assert query.split("&")[0] == pair
    assert form == pair


@each("pair", ["id=1", "ID=1", "%69d=1", "+id%20=1", "id"])
@each("claim", [NOBODY, BY_BOTH], ids=["nobody", "dev"])
def test_the_relabel_tools_lose_their_target(claim: VMAccessClaim, pair: str) -> None:
    """``id`` names a scrape target of the server, whose configuration the tools show, to anybody."""
    assert enforce(RELABEL, claim, f"{pair}&metric=m", f"a=1&{pair}", cluster=False) == ("metric=m", "a=1")


@each("place", ["URL", "form"])
@each("pair", ["extra_label=team=dev;x", "a=%zz", "a=b c"])
@each("claim", [NOBODY, BY_BOTH], ids=["nobody", "dev"])
@each("route", [QUERY, WRITE, STATIC], ids=["read", "write", "static"])
def test_an_argument_that_go_would_drop_is_refused(route: Route, claim: VMAccessClaim, pair: str, place: str) -> None:
    with pytest.raises(BadRequest, match=f"^the {place} has"):
        enforce(route, claim, pair if place == "URL" else "", pair if place == "form" else None, cluster=False)


def test_an_absent_form_stays_absent_and_an_empty_one_empty() -> None:
    assert enforce(QUERY, BY_LABEL, "", None, cluster=False)[1] is None
    assert enforce(QUERY, BY_LABEL, "", "", cluster=False)[1] == ""
    assert enforce(QUERY, BY_LABEL, "", "&extra_label=a=b&&", cluster=False)[1] == ""


# --- the laws ------------------------------------------------------------------------------------------------------


_KEYS = ["query", "match[]", "idx", "iid", "id", "ID", "extra", "extra_label", "extra_labels", "extra_filters[]", "x]"]
_KEYS += ["EXTRA_LABEL", "%65xtra_label", "+extra_filter", "extra_filter%5B%5D", "time", "", "a.b", "a-b", "a%5B%5D"]
_VALUES = st.text(alphabet="aZ0%2fF+=\"'[]{}~!$-:<,;#& \u00e9", max_size=8)
_PAIRS = st.one_of(st.builds("{}={}".format, st.sampled_from(_KEYS), _VALUES), st.sampled_from(_KEYS), _VALUES)


def _judged_one_by_one(route: Route, claim: VMAccessClaim, arguments: str) -> str | None:
    """What stays of the client's ``arguments``, as the rules say it; None where they are refused."""
    try:
        pairs = split_pairs(arguments, "form")
    except BadRequest:
        return None
    enforced = ("extra_label",) * bool(claim.labels) + ("extra_filter",) * bool(claim.filters)
    return "&".join(p for p in pairs if not key_of(p).startswith(enforced) and key_of(p) not in route.dropped)


@given(st.sampled_from([QUERY, WRITE, STATIC, RELABEL]), st.lists(_PAIRS, max_size=5))
@example(RELABEL, ["id=1"])
@example(QUERY, ["a=1"] * MAX_ARGUMENTS)
@example(QUERY, ["a=1"] * (MAX_ARGUMENTS + 1))
@pytest.mark.parametrize("claim", [NOBODY, BY_LABEL, BY_FILTER, BY_BOTH], ids=["nobody", "label", "filter", "both"])
def test_what_stays_is_what_stays_of_each_pair(claim: VMAccessClaim, route: Route, pairs: list[str]) -> None:
    arguments = "&".join(pairs)
    expected = _judged_one_by_one(route, claim, arguments)
    try:
        _, kept = enforce(route, claim, "", arguments, cluster=False)
    except BadRequest:
        kept = None
    assert kept == expected


@pytest.mark.parametrize("key", sorted({key for route in ROUTES for key in route.dropped}))
def test_an_argument_that_no_client_may_send_goes_from_the_plainest_query(key: str) -> None:
    route = next(route for route in ROUTES if key in route.dropped)
    assert enforce(route, NOBODY, f"a=1&{key}=1&b=2", None, cluster=False)[0] == "a=1&b=2"


def _spelled(key: str, choices: list[int]) -> str:
    """``key`` with each character as it is, percent-encoded, or in the other case."""
    spelled = ""
    for at, character in enumerate(key):
        choice = choices[at % len(choices)]
        if choice == 0:
            spelled += character
        elif choice == 1:
            spelled += f"%{ord(character):02x}"
        elif choice == 2:
            spelled += f"%{ord(character):02X}"
        else:
            spelled += character.swapcase()
    return spelled


keys = st.builds(
    lambda before, key, choices, after: before + _spelled(key, choices) + after,
    st.sampled_from(["", "", "+", "%20", "%09", "%00", "x"]),
    st.sampled_from(
        [
            *("extra_label", "extra_filters", "extra_filters[]", "extra_filter", "extra_labels", "extra_label[]"),
            *("match[]", "match", "query", "id", "start", ""),
        ]
    ),
    st.sampled_from([[0], [0], [1], [2], [3], [0, 1], [2, 0, 0], [0, 0, 0, 3], [0, 0, 0, 0, 0, 1], [3, 1, 0]]),
    st.sampled_from(["", "", "+", "%20", "[]", "%5b%5D", "s", "%00"]),
)
values = st.sampled_from(
    ["team=ops", "team%3Dops", OPS, "%7Bteam%3D%22ops%22%7D", "", "m", "=", "%ff", "extra_label=a=b"]
)
pairs = st.builds(
    lambda key, equals, value: key + equals + value if equals else key, keys, st.sampled_from(["=", ""]), values
)
queries = st.lists(pairs, max_size=6).map("&".join)

names = st.sampled_from(["team", "env", "a-b", "d\u00e9", "x&y", "p;q"])
texts = st.sampled_from(["dev", "a&b", "a;b", "%zz", "+ +", "\u00e9", 'q"'])
SENT_AS = {
    'm{a=~"b;c|d&e%f"}': r'{__name__=~"m(?:\\b|\\B)",a=~"b;c|d&e%f"}',
    "m": r'{__name__=~"m(?:\\b|\\B)"}',
}
selectors = st.sampled_from(['{team="dev"}', '{a="+"}', *SENT_AS])
claims = st.builds(
    lambda labels, filters: VMAccessClaim(
        tenant=TenantID(), labels=tuple(labels.items()), filters=tuple(filters), mode=AccessMode.FULL
    ),
    st.dictionaries(names, texts, max_size=3),
    st.lists(selectors, max_size=2, unique=True),
)
routes = st.sampled_from(ROUTES)


@given(routes, claims, queries, st.none() | queries)
@example(QUERY, BY_FILTER, "extra_filters%5B%5D=m", f'query={{__name__!=""}}&extra_filters={OPS}')
@example(QUERY, BY_BOTH, "extra_label=a=b&extra_filters=m&extra_filters[]=m", "extra_label=a=b&extra_filters=m")
def test_where_the_token_has_its_own_no_argument_of_the_client_survives(
    route: Route, claim: VMAccessClaim, query: str, form: str | None
) -> None:
    sent_query, sent_form = enforce(route, claim, query, form, cluster=False)
    binds = route.filters is Filters.BIND
    for method in ("GET", "POST"):
        sent = go_query.arguments(method, sent_query, sent_form)
        if claim.labels:
            enforced = [f"{name}={value}" for name, value in claim.labels] if binds else []
            assert go_query.named(sent, "extra_label") == enforced
        if claim.filters:
            enforced = [SENT_AS.get(text, text) for text in claim.filters] if binds and route.access != "write" else []
            assert go_query.named(sent, *FILTER_KEYS) == enforced


@given(routes, claims, queries, st.none() | queries)
def test_all_other_arguments_survive(route: Route, claim: VMAccessClaim, query: str, form: str | None) -> None:
    def others(values: go_query.Values) -> go_query.Values:
        return [
            (key, value)
            for key, value in values
            if not key.strip().lower().startswith(("extra_label", "extra_filter", "match", "id", "trace"))
        ]

    sent_query, sent_form = enforce(route, claim, query, form, cluster=False)
    assert others(go_query.parse_query(sent_query)) == others(go_query.parse_query(query))
    assert (sent_form is None) is (form is None)
    assert others(go_query.parse_query(sent_form or "")) == others(go_query.parse_query(form or ""))


@given(routes, claims, queries, st.none() | queries)
@example(LABELS, BY_LABEL, "", None)
def test_enforcing_twice_is_enforcing_once(route: Route, claim: VMAccessClaim, query: str, form: str | None) -> None:
    once = enforce(route, claim, query, form, cluster=False)
    twice = enforce(route, claim, *once, cluster=False)
    # The order among different keys means nothing to VictoriaMetrics; that of equal keys does.
    assert sorted(once[0].split("&"), key=lambda pair: pair.partition("=")[0]) == (
        sorted(twice[0].split("&"), key=lambda pair: pair.partition("=")[0])
    )
    assert once[1] == twice[1]


@given(routes, claims, st.text(max_size=40) | queries, st.none() | st.text(max_size=40))
def test_any_text_is_enforced_or_refused(route: Route, claim: VMAccessClaim, query: str, form: str | None) -> None:
    try:
        sent_query, sent_form = enforce(route, claim, query, form, cluster=False)
    except BadRequest:
        return
    assert sent_query.isascii()
    assert sent_query.isprintable()
    assert " " not in sent_query
    assert sent_form is None or sent_form.isascii()


# --- limits of the backend -----------------------------------------------------------------------------------------


@each(
    "count",
    [
        pytest.param(9_999, id="as many as Go reads"),
        pytest.param(10_000, id="one more"),
        pytest.param(50_000, id="many"),
    ],
)
@each("route", [QUERY, WRITE, DELETE], ids=["read", "write", "delete"])
def test_the_label_is_read_however_many_arguments_there_are(route: Route, count: int) -> None:
    """Go reads none of a query's arguments if they are too many, and the query itself may stand in the form."""
    try:
        query, _ = enforce(route, BY_LABEL, "&".join(["a"] * count), "query=m", cluster=False)
    except BadRequest:
        return
    assert go_query.named(go_query.parse_query(query), "extra_label") == ["team=dev"]


def test_a_fragment_does_not_go_before_the_enforced_arguments() -> None:
    """A proxy before the backend may cut it off, and the filters with it. In a form it is a character as others."""
    with pytest.raises(BadRequest, match=r"^the URL has a raw number sign"):
        enforce(QUERY, BY_LABEL, "a=1#b", None, cluster=False)
    assert enforce(QUERY, NOBODY, "a=%23", "a=1#b", cluster=False) == ("a=%23", "a=1#b")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param(go_query.MAX_FORM_SIZE, ["m"], id="as large as Go reads"),
        pytest.param(go_query.MAX_FORM_SIZE + 1, ['{team="dev"}'], id="one byte more"),
    ],
)
def test_a_match_in_a_form_counts_where_go_reads_the_form(size: int, expected: list[str]) -> None:
    form = "match[]=m&a="
    sent = go_query.arguments("POST", *enforce(LABELS, BY_LABEL, "", form + "a" * (size - len(form)), cluster=False))
    assert go_query.named(sent, "match[]") == expected


# --- what is remembered --------------------------------------------------------------------------------------------


@each("labels", [1, 20], ids=str)
def test_the_memory_of_remembered_claims_is_what_is_counted(labels: int) -> None:
    _remembered.clear()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(500):
            names = {f"label{each}": f"value {number} of {each}" for each in range(labels)}
            enforcement_of(_claim(f'{{team="{number}"}}', __name__=f"metric_{number}", **names))
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(_remembered) == 500
    assert _remembered.used / 2 < used <= _remembered.used
    _remembered.clear()
