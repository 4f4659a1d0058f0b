"""The route table: every path that a client may use. All others are refused.

Measured on single-node and cluster VictoriaMetrics, v1.150 and 1.79.5. A row reads: access, methods, what the backend
does with a token's restrictions, a family, and paths. A read that takes GET takes HEAD too. The family says under which
prefixes a client may send the path and what a cluster calls it; ``<x>`` is one path segment, ``<x...>`` one or more,
and ``=`` nothing more than the prefix itself.

Left out on purpose, and so refused: what shows or changes the server itself (``/metrics``, ``/flags``, ``/config``,
``/targets``, ``/debug/pprof``, ``/internal``, ``/snapshot``, ``/-/reload``), what shows or changes every tenant
(``metric_names_stats/reset``, and ``/admin/tenants``, which the gateway answers itself), and of vmalert, which
VictoriaMetrics proxies as it is (``/vmalert/…``), everything but the pages and API that are listed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from vmgw_core.base import MULTITENANT, Access, TenantID, Value
from vmgw_core.errors import MethodNotAllowed, UnknownRoute


class Restriction(Enum):
    """What may restrict a token."""

    TENANT = "tenant"  # every token of a cluster
    LABELS = "labels"
    FILTERS = "filters"


class Filters(Enum):
    """How the backend treats a token's restrictions. Every path treats labels and filters alike."""

    BIND = "bind"  # it honours them all
    LEAK = "leak"  # it honours the tenant, and ignores labels and filters
    OPEN = "open"  # it ignores them all: vmalert knows no tenants, and statistics mix in totals or queries of others
    NONE = "none"  # there is nothing to filter: a static page, a stub, a parser


class Answer(Enum):
    """What an answer has that the gateway can limit to a token, where the backend does not. The value is what to ask.

    An empty value asks for the client's own path.
    """

    RULES = "/api/v1/rules"
    ALERTS = "/api/v1/rules?alerts"
    GROUP = "/api/v1/rules?group"
    RULE = "/api/v1/rules?rule"
    ALERT = "/api/v1/rules?alert"
    NOTIFIERS = "/api/v1/notifiers"
    METADATA = "/api/v1/metadata"
    TSDB = "/api/v1/status/tsdb"
    SERIES_COUNT = "/api/v1/status/tsdb?count"
    TOP_QUERIES = "/api/v1/status/top_queries"
    ACTIVE_QUERIES = "/api/v1/status/active_queries"
    METRIC_NAMES = "/api/v1/status/metric_names_stats"
    INDEX = "/api/v1/label/__name__/values"
    FIND = "/api/v1/label/__name__/values?find"
    EXPAND = "/api/v1/label/__name__/values?expand"
    TAGS = "/api/v1/labels"
    TAG_VALUES = "/api/v1/label/<tag>/values"

    @property
    def path(self) -> str:
        """The path to ask, as a single-node setup has it."""
        return self.value.partition("?")[0]

    @property
    def lists_rules(self) -> bool:
        """Whether it is made of rules, which tell to whom they belong."""
        return self.path == Answer.RULES.path


_ANSWERS: Final = {
    "/api/v1/rules": Answer.RULES,
    "/rules": Answer.RULES,
    "/vmalert/api/v1/rules": Answer.RULES,
    "/api/v1/alerts": Answer.ALERTS,
    "/alerts": Answer.ALERTS,
    "/vmalert/api/v1/alerts": Answer.ALERTS,
    "/vmalert/api/v1/group": Answer.GROUP,
    "/vmalert/api/v1/rule": Answer.RULE,
    "/vmalert/api/v1/alert": Answer.ALERT,
    "/api/v1/notifiers": Answer.NOTIFIERS,
    "/notifiers": Answer.NOTIFIERS,
    "/vmalert/api/v1/notifiers": Answer.NOTIFIERS,
    "/api/v1/metadata": Answer.METADATA,
    "/api/v1/status/tsdb": Answer.TSDB,
    "/api/v1/series/count": Answer.SERIES_COUNT,
    "/api/v1/status/top_queries": Answer.TOP_QUERIES,
    "/api/v1/status/active_queries": Answer.ACTIVE_QUERIES,
    "/api/v1/status/metric_names_stats": Answer.METRIC_NAMES,
    "/metrics/index.json": Answer.INDEX,
    "/metrics/index.json/": Answer.INDEX,
    "/metrics/find": Answer.FIND,
    "/metrics/find/": Answer.FIND,
    "/metrics/expand": Answer.EXPAND,
    "/metrics/expand/": Answer.EXPAND,
    "/tags": Answer.TAGS,
    "/tags/<tag_name>": Answer.TAG_VALUES,
}

_IGNORED: Final = {
    Filters.BIND: frozenset[Restriction](),
    Filters.LEAK: frozenset((Restriction.LABELS, Restriction.FILTERS)),
    Filters.OPEN: frozenset(Restriction),
    Filters.NONE: frozenset[Restriction](),
}

# family: (prefixes a client may use, and what a cluster has in place of each)
_FAMILIES: Final = {
    "select": (("", "/select/<tenant>/prometheus"), ("/prometheus", "/select/<tenant>/prometheus")),
    "ui": (("", "/select/<tenant>"), ("/prometheus", "/select/<tenant>/prometheus")),
    "graphite": (("", "/select/<tenant>/graphite"), ("/graphite", "/select/<tenant>/graphite")),
    "delete": (("", "/delete/<tenant>/prometheus"), ("/prometheus", "/delete/<tenant>/prometheus")),
    "insert": (("", "/insert/<tenant>/prometheus"), ("/prometheus", "/insert/<tenant>/prometheus")),
    "influx": (("", "/insert/<tenant>/influx"), ("/influx", "/insert/<tenant>/influx")),
    "protocol": (("", "/insert/<tenant>"),),  # the path itself names the protocol
    "cluster": tuple((path, "/insert/<tenant>/prometheus") for path in ("/prometheus", "/prometheus/")),
    "root": (("", ""),),  # the same path for every tenant
}

_TABLE: Final = """
read    GET,POST  bind  select    /api/v1/query /api/v1/query_range /api/v1/series /api/v1/labels
read    GET,POST  bind  select    /api/v1/label/<name...>/values /federate
read    GET,POST  bind  select    /api/v1/export /api/v1/export/csv /api/v1/export/native
read    GET,POST  leak  select    /api/v1/series/count /api/v1/metadata /api/v1/status/tsdb
read    GET,POST  open  select    /api/v1/status/active_queries /api/v1/status/top_queries
read    GET,POST  open  select    /api/v1/status/metric_names_stats
read    GET,POST  open  select    /api/v1/rules /rules /api/v1/alerts /alerts /api/v1/notifiers /notifiers
read    GET       open  select    /vmalert/ /vmalert/groups /vmalert/alerts /vmalert/alert /vmalert/rule
read    GET       open  select    /vmalert/notifiers /vmalert/api/v1/rules /vmalert/api/v1/alerts
read    GET       open  select    /vmalert/api/v1/notifiers /vmalert/api/v1/group /vmalert/api/v1/rule
read    GET       open  select    /vmalert/api/v1/alert /vmalert/static/<asset...>
read    GET,POST  none  select    /api/v1/query_exemplars /api/v1/status/buildinfo /vmalert
read    GET,POST  none  select    /expand-with-exprs /prettify-query /metric-relabel-debug /target-relabel-debug
read    GET       none  ui        /vmui /vmui/ /vmui/config.json /vmui/timezone /vmui/custom-dashboards
read    GET       none  ui        /vmui/<asset...> /graph /graph/ /graph/<asset...> /static/<asset...>
read    GET,POST  bind  graphite  /render /tags/findSeries /tags/autoComplete/tags /tags/autoComplete/values
read    GET,POST  leak  graphite  /metrics/find /metrics/find/ /metrics/expand /metrics/expand/
read    GET,POST  leak  graphite  /metrics/index.json /metrics/index.json/ /tags /tags/<tag_name>
read    GET       none  graphite  /functions /functions/<func_name>
read    GET       none  root      /favicon.ico /<any...>/favicon.ico
write   GET,POST  leak  graphite  /tags/tagSeries /tags/tagMultiSeries
write   GET,POST,PUT  bind  insert  /api/v1/write /api/v1/push
write   POST,PUT  bind  insert    /api/v1/import /api/v1/import/csv
write   POST,PUT  bind  insert    /api/v1/import/native /api/v1/import/prometheus
write   POST,PUT,DELETE  bind  insert  /api/v1/import/prometheus/metrics/job/<grouping...>
write   POST,PUT,DELETE  bind  insert  /api/v1/import/prometheus/metrics/job@base64/<grouping...>
write   POST,PUT  bind  cluster   =
write   POST,PUT  bind  influx    /write /api/v2/write
write   GET,POST  none  influx    /query
write   GET       none  protocol  /influx/health
write   POST,PUT  bind  protocol  /datadog/api/v1/series /datadog/api/v1/series/ /datadog/api/v2/series
write   POST,PUT  bind  protocol  /datadog/api/v2/series/ /datadog/api/beta/sketches /datadog/api/beta/sketches/
write   GET,POST  none  protocol  /datadog/api/v1/validate /datadog/api/v1/validate/
write   GET,POST  none  protocol  /datadog/api/v1/metadata /datadog/api/v1/metadata/
write   POST      none  protocol  /datadog/api/v1/check_run /datadog/api/v1/check_run/ /datadog/intake /datadog/intake/
write   POST,PUT  bind  protocol  /opentelemetry/v1/metrics /opentelemetry/api/v1/push
write   POST,PUT  bind  protocol  /newrelic/infra/v2/metrics/events/bulk /zabbixconnector/api/v1/history
write   POST,PUT  none  protocol  /newrelic /newrelic/inventory/deltas
write   POST,PUT  bind  protocol  /api/put /opentsdb/api/put
delete  POST      bind  delete    /api/v1/admin/tsdb/delete_series
delete  POST      bind  graphite  /tags/delSeries
"""

_PAGES: Final = frozenset((
    "/vmui", "/vmui/", "/graph", "/graph/", "/vmalert", "/vmalert/", "/vmalert/groups", "/vmalert/alerts",
    "/vmalert/alert", "/vmalert/rule", "/vmalert/notifiers", "/expand-with-exprs", "/metric-relabel-debug",
    "/target-relabel-debug",
))  # fmt: skip
"""Paths of the families ``select`` and ``ui`` that browsers show as pages."""

# A browser asks for <any path>/favicon.ico; below these words a backend may hand the path on, or act on it: some
# releases find their handlers by prefix before they look for an icon.
_NO_ICON_BELOW: Final = (
    r"(?!.*/(?:select|insert|delete|vmalert|internal|snapshot|debug|admin|-|api|write|query|federate|render|functions"
    r"|tags|metrics|influx|datadog|opentelemetry|newrelic|zabbixconnector|opentsdb|flags|config|targets)/)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path of the table under one prefix.

    ``path`` is what a client of a single-node setup sends; ``cluster_path`` what a cluster knows it as, with
    ``<tenant>`` in it (but for the family ``root``); ``prefix`` and ``cluster_prefix`` are where the two differ.
    """

    path: str
    methods: tuple[str, ...]
    access: Access
    filters: Filters
    prefix: str
    cluster_prefix: str
    single: bool
    cluster_path: str = field(init=False)
    """The path in a cluster, as a template."""
    ignored: frozenset[Restriction] = field(init=False)
    """The restrictions that the backend ignores here: a token with one of them may not use the route."""
    answer: Answer | None = field(init=False)
    """What the gateway can limit to a token in the answer, if the backend ignores some of its restrictions."""
    binds_all_tenants: bool = field(init=False)
    """Whether a path for all tenants can be held to those of the token. Graphite has no such path.

    Reads are held by labels, writes by a check of the tenants that their rows name.
    """
    is_file: bool = field(init=False)
    """Whether it is a file of a page, as vmui loads a dozen of them: it counts for no limit of queries."""
    writes_other_names: bool = field(init=False)
    """Whether the backend ignores ``extra_label=__name__=…`` here: InfluxDB makes metric names of its fields."""
    evaluates: bool = field(init=False)
    """Whether the path evaluates MetricsQL, and so fills the backend's cache of results."""
    renders: bool = field(init=False)
    """Whether the path evaluates Graphite's functions."""
    lists_labels: bool = field(init=False)
    is_page: bool = field(init=False)
    """Whether a browser shows the response as a page. For wording a response, never for a decision."""
    dropped: frozenset[str] = field(init=False)
    """Arguments to remove: with ``id`` the relabel tools show the configuration of a scrape target."""
    dropped_with_trace: frozenset[str] = field(init=False)
    """The same, with the one that asks for a trace."""
    inserts: bool = field(init=False)
    """Whether vminsert (``-write.url``) serves the path; vmselect (``-read.url``) serves all others."""

    def __post_init__(self) -> None:
        dropped = frozenset({"id"}) if self.path.endswith("-relabel-debug") else frozenset[str]()
        derived = {
            "cluster_path": self.cluster_prefix + self.path.removeprefix(self.prefix),
            "ignored": _IGNORED[self.filters],
            "answer": _ANSWERS.get(self.path.removeprefix(self.prefix)) if self.access is Access.READ else None,
            "binds_all_tenants": self.access is not Access.DELETE and not self.cluster_prefix.endswith("/graphite"),
            "is_file": self.methods == ("GET", "HEAD")
            and self.filters is Filters.NONE
            and not self.cluster_prefix.endswith("/graphite"),
            "writes_other_names": self.access is Access.WRITE
            and self.cluster_prefix.endswith("/influx")
            and self.filters is Filters.BIND,
            "evaluates": self.path.endswith(("/api/v1/query", "/api/v1/query_range")),
            "renders": self.path.endswith("/render"),
            "lists_labels": self.path.endswith(("/api/v1/labels", "/api/v1/label/<name...>/values")),
            "is_page": self.path.removeprefix(self.prefix) in _PAGES,
            "dropped": dropped,
            "dropped_with_trace": dropped | {"trace"},
            "inserts": self.cluster_prefix.startswith("/insert/"),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)


class Match(Value):
    """A route, what of the decoded path follows its prefix, and the tenant a cluster-style path names.

    ``multitenant``: the path has that word in the tenant's place, and names no tenant.
    """

    __slots__ = ("_hash", "multitenant", "rest", "route", "tenant")

    def __init__(self, route: Route, rest: str, tenant: TenantID | None, *, multitenant: bool = False) -> None:
        self.route = route
        self.rest = rest
        self.tenant = tenant
        self.multitenant = multitenant
        self._hash = hash((route.path, rest, tenant, multitenant))

    def __hash__(self) -> int:
        return self._hash  # it is a key that is looked up for every request

    def fields(self) -> tuple[Route, str, TenantID | None, bool]:
        return self.route, self.rest, self.tenant, self.multitenant


def _parse_table(table: str) -> tuple[Route, ...]:
    routes = []
    for line in table.strip().splitlines():
        access, methods, filters, family, *paths = line.split()
        if access == "read":
            methods = methods.replace("GET", "GET,HEAD")
        routes += [
            Route(
                path=prefix + path.removeprefix("="),
                methods=tuple(methods.split(",")),
                access=Access(access),
                filters=Filters(filters),
                prefix=prefix,
                cluster_prefix=cluster_prefix,
                single=family != "cluster",
            )
            for path in paths
            for prefix, cluster_prefix in _FAMILIES[family]
        ]
    return tuple(routes)


def _pattern(template: str) -> re.Pattern[str]:
    """Compile a template: ``<x>`` is one segment, ``<x...>`` one or more."""
    parts = re.split(r"(<\w+(?:\.\.\.)?>)", template)
    body = "".join(
        ".+" if part.endswith("...>") else "[^/]+" if part.startswith("<") else re.escape(part) for part in parts
    )
    return re.compile(_NO_ICON_BELOW + body if template == "/<any...>/favicon.ico" else body, re.DOTALL)


class _Index:
    """Routes by path: exact ones in a dict, those with parameters as patterns in table order."""

    def __init__(self, routes: dict[str, Route]) -> None:
        self.exact = {path: route for path, route in routes.items() if "<" not in path.replace("<tenant>", "")}
        self.patterns = [(_pattern(path), route) for path, route in routes.items() if path not in self.exact]

    def find(self, path: str) -> Route | None:
        route = self.exact.get(path)
        if route is None:
            route = next((route for pattern, route in self.patterns if pattern.fullmatch(path)), None)
        return route


ROUTES: Final = _parse_table(_TABLE)

_SINGLE: Final = _Index({route.path: route for route in ROUTES if route.single})
_CLUSTER: Final = _Index({route.path: route for route in ROUTES})
# What a cluster calls a path, with the tenant taken out: /select//prometheus/api/v1/query. The first row wins, so
# the plain spelling stands for both.
_NATIVE: Final = _Index(
    {route.cluster_path.replace("<tenant>", ""): route for route in reversed(ROUTES) if route.cluster_prefix}
    # Remote write is often configured with a slash at its end.
    | {"/insert//prometheus/": next(route for route in ROUTES if route.path == "/prometheus")}
)


def match_route(path: str, method: str, *, cluster: bool) -> Match:
    """Find the route of a decoded path. Raises ``UnknownRoute`` and ``MethodNotAllowed``.

    ``cluster``: whether the backends are a cluster's, which also opens ``/select/<tenant>/…`` and its siblings.
    """
    match = None
    route = (_CLUSTER if cluster else _SINGLE).find(path)
    if route is not None:
        match = Match(route=route, rest=path.removeprefix(route.prefix), tenant=None)
    elif cluster:
        match = _match_native(path)
    if match is None:
        raise UnknownRoute("the gateway does not serve this path")
    methods = match.route.methods
    if method not in methods:
        raise MethodNotAllowed(f"this path accepts {' or '.join(methods)}", methods)
    return match


def _match_native(path: str) -> Match | None:
    """Match a path as a cluster spells it: ``/select/<tenant>/…``, ``/insert/<tenant>/…`` or ``/delete/<tenant>/…``.

    ``multitenant`` may stand in the tenant's place, but never to delete.
    """
    parts = path.split("/", 3)
    if len(parts) < 4 or parts[1] not in ("select", "insert", "delete"):
        return None
    tenant = None
    if parts[2] != MULTITENANT or parts[1] == "delete":
        try:
            tenant = TenantID.parse(parts[2])
        except ValueError:
            return None
    bare = f"/{parts[1]}//{parts[3]}"
    route = _NATIVE.find(bare)
    if route is None:
        return None
    rest = bare.removeprefix(route.cluster_prefix.replace("<tenant>", ""))
    return Match(route=route, rest=rest, tenant=tenant, multitenant=tenant is None)
