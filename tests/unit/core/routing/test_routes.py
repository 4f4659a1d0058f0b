"""routes: the table against an independent copy of what was measured, in both directions.

``tests/data/victoriametrics-routes.tsv`` says what VictoriaMetrics serves; nothing of it was taken from the product.
"""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.backends.backend import Backend
from vmgw_core.base.tenants import Access, TenantID
from vmgw_core.errors import AmbiguousPath, MethodNotAllowed, Refusal, UnknownRoute
from vmgw_core.routing.path import decode_path, encode_path
from vmgw_core.routing.routes import ROUTES, Filters, Match, Restriction, Route, match_route
from vmgw_core.routing.tenant_paths import upstream_path

TENANT: Final = TenantID(1, 5)
TENANTS: Final = ("/select/<tenant>/", "/insert/<tenant>/", "/delete/<tenant>/")
BACKEND: Final = Backend.parse("http://vm:8428", "read.url")

# Handlers that VictoriaMetrics finds by their whole path.
LOOKED_UP_WHOLE: Final = frozenset(
    prefix + path for prefix in ("", "/prometheus") for path in ("", "/", "/rules", "/alerts", "/notifiers")
)

METHODS: Final = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "post",
    "FOO",
    "",
)

# One example of each parameter of the measured table.
EXAMPLES: Final = {
    "<tenant>": "1:5",
    "<name>": "instance",
    "<asset>": "assets/index.js",
    "<tag_name>": "instance",
    "<func_name>": "sumSeries",
    "<job>[/<label>/<value>...]": "batch/instance/a",
    "<any>": "any",
    "<suffix>": "prometheus/api/v1/query",
}
# The same parameters as the route table of the product writes them.
PARAMETERS: Final = {
    "<name...>": "<name>",
    "<asset...>": "<asset>",
    "<grouping...>": "<job>[/<label>/<value>...]",
    "<any...>": "<any>",
}

# Measured, but noted beside the row without the slash: "trailing slash accepted" on /datadog/.
WITH_TRAILING_SLASH: Final = frozenset(
    (
        "/datadog/api/v1/series/",
        "/datadog/api/v2/series/",
        "/datadog/api/beta/sketches/",
        "/datadog/api/v1/validate/",
        "/datadog/api/v1/metadata/",
        "/datadog/api/v1/check_run/",
        "/datadog/intake/",
    )
)
OTHER_CLUSTER_PATHS: Final = {
    "/<any>/favicon.ico": "/<any>/favicon.ico",  # written without its first slash
}


def _example(template: str) -> str:
    for parameter, value in EXAMPLES.items():
        template = template.replace(parameter, value)
    return template


@dataclass(frozen=True)
class Row:
    """One line of the measured table. ``path`` and ``cluster_path`` are examples, ``template`` as it is written."""

    template: str
    path: str
    methods: frozenset[str]
    access: str
    cluster_path: str
    single: bool
    filters: str

    @property
    def ignored(self) -> set[Restriction]:
        """The restrictions that the backend ignores."""
        labels = {Restriction.LABELS, Restriction.FILTERS}
        return {"open": set(Restriction), "leak": labels}.get(self.filters, set())


def _rows() -> list[Row]:
    table = Path(__file__).parents[3] / "data" / "victoriametrics-routes.tsv"
    with table.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                template=line["incoming_path"],
                path=_example(line["incoming_path"]),
                methods=_methods(line["access"], line["methods"]),
                access=line["access"],
                cluster_path=_example(OTHER_CLUSTER_PATHS.get(line["incoming_path"], line["cluster_path"])),
                single=line["in_single"] != "no",
                filters=_filters(line),
            )
            for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


def _methods(access: str, methods: str) -> frozenset[str]:
    """VictoriaMetrics answers HEAD where it answers GET; a client may ask so where nothing but reading comes of it."""
    split = frozenset(methods.split(","))
    return split | {"HEAD"} if access == "read" and "GET" in split else split


def _filters(line: dict[str, str]) -> str:
    """What is to be done about a token's tenant, labels and filters; on writes filters mean nothing."""
    tenant, labels, filters = (line[f"honors_{name}"] for name in ("tenant", "extra_label", "extra_filters"))
    writes = line["access"] in ("write", "internal-never-expose")
    assert labels == filters or writes, "an endpoint that honours one of the two"
    assert tenant == "yes" or labels != "yes" or writes, "an endpoint that honours labels, and no tenant"
    return {"yes": "bind", "no": "open" if tenant == "no" else "leak", "n.a.": "none"}[labels]


ROWS: Final = _rows()
SERVED: Final = [row for row in ROWS if row.access != "internal-never-expose"]
INTERNAL: Final = [row for row in ROWS if row.access == "internal-never-expose"]

served = each("row", SERVED, ids=lambda row: row.template)
of_tenants = each("row", [row for row in SERVED if not row.path.endswith("/favicon.ico")], ids=lambda row: row.template)
cluster = pytest.mark.parametrize("cluster", [pytest.param(False, id="single"), pytest.param(True, id="cluster")])


def _routed(path: str, *, cluster: bool, method: str | None = None) -> tuple[Match, str]:
    """Where a path leads: its match, and the path at the backend for the tenant 1:5. Tries all methods by default."""
    for tried in (method,) if method is not None else METHODS:
        try:
            match = match_route(decode_path(path), tried, cluster=cluster)
        except MethodNotAllowed:
            if method is not None:
                raise
        else:
            return match, BACKEND.base + upstream_path(match, TENANT, cluster=cluster)
    raise AssertionError("a route that takes no method")


def test_the_measured_table_is_whole() -> None:
    assert len(ROWS) == 227
    assert len(INTERNAL) == 47
    assert {row.access for row in SERVED} == {"read", "write", "delete(admin)"}
    assert not any("<" in row.path + row.cluster_path for row in SERVED), "a parameter without an example"


# --- what was measured is served -----------------------------------------------------------------------------------


@cluster
@served
def test_a_measured_row_is_a_route_for_its_methods_alone(row: Row, cluster: bool) -> None:
    if not (row.single or cluster):
        return
    for method in row.methods:
        match, upstream = _routed(row.path, cluster=cluster, method=method)
        assert set(match.route.methods) == row.methods
        assert match.route.access == row.access.removesuffix("(admin)")
        assert match.route.filters.value == row.filters
        assert match.route.ignored == row.ignored
        assert match.tenant is None
        assert match.route.inserts is row.cluster_path.startswith("/insert/")
        assert upstream == (row.cluster_path if cluster else row.path)
    for method in METHODS:
        if method not in row.methods:
            with pytest.raises(MethodNotAllowed) as refusal:
                match_route(row.path, method, cluster=cluster)
            assert set(refusal.value.allow) == row.methods


@pytest.mark.parametrize("row", [pytest.param(row, id=row.template) for row in SERVED if not row.single])
def test_what_only_a_cluster_serves_is_no_route_of_single_node(row: Row) -> None:
    for method in row.methods:
        with pytest.raises(UnknownRoute):
            match_route(row.path, method, cluster=False)


@of_tenants
def test_a_cluster_path_may_be_sent_as_it_is(row: Row) -> None:
    """The upstream path of every row, sent by a client: the same route, its tenant named, the same path again."""
    for method in row.methods:
        match, upstream = _routed(row.cluster_path, cluster=True, method=method)
        assert match.tenant == TENANT
        assert match.route.filters.value == row.filters
        assert match.route.access == row.access.removesuffix("(admin)")
        assert upstream == row.cluster_path
    with pytest.raises(MethodNotAllowed):
        match_route(row.cluster_path, "PATCH", cluster=True)
    with pytest.raises(UnknownRoute):
        match_route(row.cluster_path, next(iter(row.methods)), cluster=False)


# --- what is not to be exposed is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("row", [pytest.param(row, id=row.template) for row in INTERNAL if row.path[0] == "/"])
@cluster
def test_an_internal_path_is_refused(row: Row, cluster: bool) -> None:
    spelled = [row.path, *(prefix + row.path for prefix in ("/graphite", "/select/1:5/prometheus", "/insert/1:5"))]
    if row.path != "/":
        # /prometheus/ alone is where a cluster takes remote writes.
        spelled += ["/prometheus" + row.path, row.path + "/", row.path + "/favicon.ico/", "//" + row.path]
    for path in spelled:
        for method in (*row.methods, "GET", "POST", "DELETE"):
            with pytest.raises((UnknownRoute, AmbiguousPath)):
                match_route(decode_path(path), method, cluster=cluster)


@pytest.mark.parametrize(
    "path",
    [
        "/select/multitenant",
        "/select/multitenant/",
        "/select/Multitenant/prometheus/api/v1/query",
        "/select/multitenant:0/prometheus/api/v1/query",
        "/delete/multitenant/prometheus/api/v1/admin/tsdb/delete_series",
        "/select/prometheus/api/v1/query",
        "/select/prometheus/api/v1/status/top_queries",
        "/select/graphite/render",
        "/insert/prometheus/api/v1/write",
        "/insert/influx/write",
        "/insert/datadog/api/v1/series",
        "/delete/prometheus/api/v1/admin/tsdb/delete_series",
        "/select/1:5/",
        "/select/1:5",
        "/select/",
        "/select",
        "/insert/1:5/",
        "/insert/1:5",
        "/delete/1:5/prometheus/",
        "/admin/tenants",
        "/admin/1:5/tenants",
        "/admin/api/v1/admin/status/metric_names_stats/reset",
    ],
)
@cluster
def test_a_path_for_no_one_tenant_is_refused(path: str, cluster: bool) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        with pytest.raises(UnknownRoute):
            match_route(path, method, cluster=cluster)


def test_no_route_leads_to_the_root_of_a_cluster() -> None:
    """At the root, /api/v1/status/top_queries and active_queries show the queries of all tenants."""
    leading = {route.path for route in ROUTES if not route.cluster_path.startswith(TENANTS)}
    assert leading == {"/favicon.ico", "/<any...>/favicon.ico"}


@pytest.mark.parametrize(
    "word", ["select", "insert", "delete", "vmalert", "internal", "snapshot", "debug", "admin", "-"]
)
@cluster
def test_an_icon_is_not_asked_for_below_a_word_a_backend_acts_on(word: str, cluster: bool) -> None:
    for path in (
        f"/{word}/favicon.ico",
        f"/{word}/a/favicon.ico",
        f"/a/{word}/b/favicon.ico",
        f"/a/{word}/favicon.ico",
    ):
        with pytest.raises(UnknownRoute):
            match_route(path, "GET", cluster=cluster)
    assert match_route(f"/a{word}/favicon.ico", "GET", cluster=cluster).route.filters is Filters.NONE


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/prometheus/tags/favicon.ico", id="1.79.5 lists the values of this tag"),
        pytest.param("/prometheus/graphite/tags/favicon.ico", id="as it does under both prefixes"),
        pytest.param("/api/v1/import/prometheus/favicon.ico", id="served by its prefix, a write"),
        pytest.param("/prometheus/api/v1/import/prometheus/metrics/job/favicon.ico", id="a write for a job"),
    ],
)
@cluster
def test_an_icon_is_not_asked_for_where_a_handler_is(path: str, cluster: bool) -> None:
    with pytest.raises((UnknownRoute, MethodNotAllowed)):
        match_route(path, "GET", cluster=cluster)


@of_tenants
def test_an_icon_is_not_asked_for_below_a_route_that_binds(row: Row) -> None:
    """Backends find some handlers by a prefix of the path, so what is asked for below a route may be the route."""
    for cluster in (False, True):
        try:
            match = match_route(row.path.removesuffix("/") + "/favicon.ico", "GET", cluster=cluster)
        except (UnknownRoute, MethodNotAllowed):
            continue
        icon = match.route.path == "/<any...>/favicon.ico"
        assert not icon or row.filters == "none" or row.path in LOOKED_UP_WHOLE


# --- and nothing else ----------------------------------------------------------------------------------------------


@each("route", ROUTES, ids=lambda route: route.path)
def test_a_route_was_measured(route: Route) -> None:
    template = route.path
    for ours, theirs in PARAMETERS.items():
        template = template.replace(ours, theirs)
    measured = {row.template: row for row in SERVED}
    if template in WITH_TRAILING_SLASH:
        template = template.removesuffix("/")
        assert template not in WITH_TRAILING_SLASH
    row = measured[template]
    assert set(route.methods) == row.methods
    assert route.access == row.access.removesuffix("(admin)")
    assert route.filters.value == row.filters
    assert route.single is row.single


def test_no_path_is_twice_in_the_table() -> None:
    """A second one would silently take the place of the first."""
    paths = [route.path for route in ROUTES]
    assert len(paths) == len(set(paths))
    assert {route.path for route in ROUTES} >= WITH_TRAILING_SLASH


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/api/v1/query/", id="a trailing slash"),
        pytest.param("/api/v1/Query", id="capitals"),
        pytest.param("/api/v1/query;x", id="a semicolon"),
        pytest.param("/api/v1/query ", id="a blank"),
        pytest.param("/api/v1/query\n", id="a line feed"),
        pytest.param("/api/v1/queryx", id="a longer name"),
        pytest.param("/api/v1/import/prometheusx", id="a prefix that VictoriaMetrics takes"),
        pytest.param("/functionsx", id="another prefix that VictoriaMetrics takes"),
        pytest.param("/staticx", id="a third prefix that VictoriaMetrics takes"),
        pytest.param("/static/", id="no asset"),
        pytest.param("/api/v1/label//values", id="an empty label name"),
        pytest.param("/api/v1/label/a/valuesx", id="a longer suffix"),
        pytest.param("/tags/a/b", id="a tag with a slash"),
        pytest.param("/tags/", id="no tag"),
        pytest.param("/graphite/api/v1/query", id="a prefix of the other family"),
        pytest.param("/prometheus/render", id="a prefix of the other family, Graphite's"),
        pytest.param("/prometheus/prometheus/api/v1/query", id="a prefix twice"),
        pytest.param("/prometheus/write", id="a prefix where there is none"),
        pytest.param("/prometheus/datadog/api/v1/series", id="a prefix for a protocol"),
        pytest.param("/api/v1/import/prometheus/metrics/job/", id="no job"),
        pytest.param("/api/v1/import/prometheus/metrics/job", id="no job and no slash"),
        pytest.param("/api/v1/import/prometheus/metrics/job@base64/", id="no job in base64"),
        pytest.param("/api/v1/import/prometheus/metrics/job@base32/a", id="another encoding"),
        pytest.param("/api/v1/import/prometheus/metrics/instance/a", id="another label first"),
        pytest.param("/vmalert/-/reload", id="vmalert's reload"),
        pytest.param("/vmalert/metrics", id="vmalert's metrics"),
        pytest.param("/vmalert/static", id="the folder of vmalert's files"),
        pytest.param("/vmalert/api/v1/rules/", id="vmalert's rules and a slash"),
        pytest.param("/vmalertx/api/v1/rules", id="what begins like vmalert"),
        pytest.param("/select/1:5/graphite/api/v1/query", id="a cluster path of the other family"),
        pytest.param("/select/1:5/api/v1/query", id="a cluster path without its family"),
        pytest.param("/insert/1:5/prometheus/api/v1/query", id="reading by /insert"),
        pytest.param("/select/1:5/prometheus/api/v1/write", id="writing by /select"),
        pytest.param("/select/1:5/prometheus/api/v1/admin/tsdb/delete_series", id="deleting by /select"),
        pytest.param("/delete/1:5/graphite/tags/delSeries", id="deleting tags by /delete"),
        pytest.param("/select/1:5/prometheus/favicon.ico", id="an icon of a tenant"),
        pytest.param("/select/<tenant>/prometheus/api/v1/query", id="the template itself"),
        pytest.param("/select/1:5/prometheus/prometheus/api/v1/query", id="a cluster path with a prefix twice"),
        pytest.param("/select//prometheus/api/v1/query", id="an empty tenant"),
        pytest.param("/SELECT/1:5/prometheus/api/v1/query", id="SELECT"),
        pytest.param("/prometheus/select/1:5/prometheus/api/v1/query", id="a cluster path under a prefix"),
    ],
)
@cluster
def test_what_is_near_a_route_is_none(path: str, cluster: bool) -> None:
    for method in ("GET", "POST", "PUT"):
        with pytest.raises(UnknownRoute):
            match_route(path, method, cluster=cluster)


def test_remote_write_may_have_a_trailing_slash_in_a_cluster_path() -> None:
    assert match_route("/insert/1:5/prometheus/", "POST", cluster=True).tenant == TENANT


# --- tenants in a path ---------------------------------------------------------------------------------------------


@each(
    ("text", "tenant"),
    [
        pytest.param("0", TenantID(0, 0), id="0"),
        pytest.param("7", TenantID(7, 0), id="7"),
        pytest.param("7:0", TenantID(7, 0), id="7:0"),
        pytest.param("0:7", TenantID(0, 7), id="0:7"),
        pytest.param("4294967295:4294967295", TenantID(2**32 - 1, 2**32 - 1), id="the largest"),
    ],
)
@each(
    ("template", "method"),
    [
        ("/select/{}/prometheus/api/v1/query", "GET"),
        ("/insert/{}/influx/write", "POST"),
        ("/delete/{}/prometheus/api/v1/admin/tsdb/delete_series", "POST"),
    ],
)
def test_a_tenant_is_read_from_a_cluster_path(template: str, method: str, text: str, tenant: TenantID) -> None:
    match = match_route(template.format(text), method, cluster=True)
    assert match.tenant == tenant
    assert upstream_path(match, tenant, cluster=True) == template.format(tenant)


@each(
    "text",
    [
        *(
            "",
            "07",
            "007",
            "7:",
            ":7",
            "7:00",
            "7:07",
            "7:0:0",
            "-7",
            "+7",
            "7 ",
            " 7",
            "7.0",
            "0x7",
            "1e1",
            "7;",
            "7,8",
        ),
        *(
            "4294967296",
            "7:4294967296",
            "99999999999",
            "Multitenant",
            "multitenant:0",
            "\u0667",
            "\uff17",
            "<tenant>",
            "7_0",
        ),
    ],
)
@each("template", ["/select/{}/prometheus/api/v1/query", "/insert/{}/prometheus/api/v1/write"])
def test_another_spelling_of_a_tenant_is_none(template: str, text: str) -> None:
    for method in ("GET", "POST"):
        with pytest.raises(UnknownRoute):
            match_route(template.format(text), method, cluster=True)


# --- spellings -----------------------------------------------------------------------------------------------------


def _spellings(path: str) -> list[str]:
    """Other ways to write ``path`` that a server or a proxy may take for it."""
    slashes = [at for at, character in enumerate(path) if character == "/"]
    spelled = [
        path[:at] + "%" + format(ord(path[at]), case) + path[at + 1 :] for at in range(1, len(path)) for case in "xX"
    ]
    spelled += [path[:at] + f"%25{ord(path[at]):x}" + path[at + 1 :] for at in range(1, len(path))]
    for other in (
        "//",
        "///",
        "/./",
        "/x/../",
        "/%2e/",
        "/%2e%2e/",
        "/..;/",
        "%2f",
        "%2F",
        "%252f",
        "\\",
        "%5c",
        "/\\",
        "%00/",
    ):
        spelled += [path[:at] + other + path[at + 1 :] for at in slashes]
    spelled.append("/".join("".join(f"%{ord(letter):02X}" for letter in segment) for segment in path.split("/")))
    spelled += [
        path + end for end in ("/", "//", "/.", "/..", "%2f", "#", "%23", "%00", "%0a", "%20", ";", "/%2e", "%3f")
    ]
    return spelled


@served
def test_another_spelling_is_refused_or_the_same(row: Row) -> None:
    """The gateway never judges one path and sends another: whatever passes goes upstream in its canonical spelling."""
    siblings = {row.path, row.path + "/", row.path.removesuffix("/")}
    for spelled, cluster in itertools.product(_spellings(row.path), (False, True)):
        try:
            match, upstream = _routed(spelled, cluster=cluster)
        except (AmbiguousPath, UnknownRoute):
            continue
        if "<" not in match.route.path:
            # No parameter could have taken the difference in: it is the row, or its sibling with or without a slash.
            assert unquote(spelled).replace("//", "/", 1) in siblings
        prefix = match.route.cluster_prefix.replace("<tenant>", "1:5") if cluster else match.route.prefix
        assert unquote(upstream) == prefix + match.rest
        assert encode_path(decode_path(upstream)) == upstream
        assert (match, upstream) == _routed(encode_path(unquote(spelled)), cluster=cluster)


@given(
    st.sampled_from(SERVED).map(lambda row: row.path)
    | st.lists(
        st.sampled_from(
            [
                *("/", "/select", "/insert", "/delete", "/1:5", "/7", "/multitenant", "/prometheus", "/graphite"),
                *("/api/v1", "/query", "/label", "/values", "/tags", "/a", "/static", "/vmui", "/favicon.ico"),
                *("/\n", "/<any>", "/\u00e9"),
            ]
        ),
        max_size=7,
    ).map("".join)
    | st.text(max_size=30),
    st.sampled_from(METHODS) | st.text(max_size=5),
    st.booleans(),
)
@example("/select/1:5/vmui/", "GET", True)
def test_any_path_and_method_are_a_match_or_a_refusal(path: str, method: str, cluster: bool) -> None:
    try:
        match = match_route(path, method, cluster=cluster)
    except (UnknownRoute, MethodNotAllowed):
        return
    assert method in match.route.methods
    assert path.endswith(match.rest)
    assert match.route in ROUTES
    if not cluster:
        assert match.route.prefix + match.rest == path


@cluster
def test_a_long_path_costs_no_more_than_its_length(cluster: bool) -> None:
    for path in ("/a" * 30_000, "/-" * 30_000 + "/favicon.icx", "/select/1/" * 6_000, "/api/v1/label/" + "a" * 60_000):
        with pytest.raises(UnknownRoute):
            match_route(path, "GET", cluster=cluster)


# --- the table's own words -----------------------------------------------------------------------------------------


def test_the_relabel_tools_take_no_target_id() -> None:
    dropping = {route.path for route in ROUTES if route.dropped}
    tools = ("/metric-relabel-debug", "/target-relabel-debug")
    assert dropping == {prefix + tool for prefix in ("", "/prometheus") for tool in tools}
    assert all(route.dropped == {"id"} for route in ROUTES if route.path in dropping)


@cluster
def test_a_label_name_may_hold_slashes(cluster: bool) -> None:
    for path in ("/api/v1/label/app.kubernetes.io/name/values", "/api/v1/label/app.kubernetes.io%2Fname/values"):
        match, upstream = _routed(path, cluster=cluster, method="GET")
        assert match.route.path == "/api/v1/label/<name...>/values"
        prefix = "/select/1:5/prometheus" if cluster else ""
        assert upstream == f"{prefix}/api/v1/label/app.kubernetes.io/name/values"


@cluster
def test_a_base_url_may_end_with_a_slash(cluster: bool) -> None:
    assert _routed("//api/v1/query", cluster=cluster) == _routed("/api/v1/query", cluster=cluster)


@pytest.mark.parametrize(
    "grouping", ["YmF0Y2g", "YmF0Y2g=", "a-_", "=", "YQ==/instance@base64/Yg==", "YQ==/instance/b"]
)
@cluster
def test_a_grouping_in_base64_goes_upstream_as_it_is(grouping: str, cluster: bool) -> None:
    path = f"/api/v1/import/prometheus/metrics/job@base64/{grouping}"
    for method in ("POST", "PUT", "DELETE"):
        match, upstream = _routed(path, cluster=cluster, method=method)
        assert (match.route.access, match.route.filters) == (Access.WRITE, Filters.BIND)
        assert upstream == ("/insert/1:5/prometheus" if cluster else "") + path


def test_what_all_tenants_share_is_vmalerts_and_statistics() -> None:
    """In a cluster all of it is closed: vmselect hands requests to vmalert and forgets the tenant."""
    shared = {route.path.removeprefix("/prometheus") for route in ROUTES if Restriction.TENANT in route.ignored}
    ends = ("/rules", "/alerts", "/notifiers", "/metric_names_stats", "/top_queries", "/active_queries")
    paths = {row.template.removeprefix("/prometheus") for row in SERVED}
    told = {path for path in paths if "/vmalert/" in path or path.endswith(ends)}
    assert shared == told - {"/vmalert/static/<asset>"} | {"/vmalert/static/<asset...>"}


@pytest.mark.parametrize(
    ("path", "method", "binds"),
    [
        ("/select/multitenant/prometheus/api/v1/query", "GET", True),
        ("/select/multitenant/prometheus/api/v1/labels", "HEAD", True),
        ("/select/multitenant/vmui/", "GET", True),
        ("/select/multitenant/graphite/render", "GET", False),
        ("/insert/multitenant/prometheus/api/v1/write", "POST", True),
        ("/insert/multitenant/influx/write", "POST", True),
    ],
)
def test_a_path_for_all_tenants_is_held_to_the_tokens_where_that_works(path: str, method: str, binds: bool) -> None:
    match = match_route(path, method, cluster=True)
    assert (match.multitenant, match.tenant, match.route.binds_all_tenants) == (True, None, binds)
    assert upstream_path(match, TENANT, cluster=True) == path
    with pytest.raises(UnknownRoute):
        match_route(path, method, cluster=False)


def test_deleting_takes_post_alone() -> None:
    deleting = [route for route in ROUTES if route.access is Access.DELETE]
    assert len(deleting) == 4
    assert all(route.methods == ("POST",) for route in deleting)


def test_every_refusal_of_the_table_is_for_a_client() -> None:
    with pytest.raises(MethodNotAllowed, match=r"^this path accepts GET or HEAD or POST$") as refusal:
        match_route("/api/v1/query", "PUT", cluster=False)
    assert refusal.value.allow == ("GET", "HEAD", "POST")
    with pytest.raises(UnknownRoute, match=r"^the gateway does not serve this path$"):
        match_route("/config", "GET", cluster=False)
    assert issubclass(UnknownRoute, Refusal)


def test_the_files_of_pages_evaluate_nothing() -> None:
    files = {route.path for route in ROUTES if route.is_file}
    ui = ("/vmui", "/vmui/", "/vmui/config.json", "/vmui/timezone", "/vmui/custom-dashboards", "/vmui/<asset...>",
          "/graph", "/graph/", "/graph/<asset...>", "/static/<asset...>")  # fmt: skip
    expected = {prefix + path for path in ui for prefix in ("", "/prometheus")}
    assert files == expected | {"/favicon.ico", "/<any...>/favicon.ico"}
