"""The names whose values a capture keeps. All other values are replaced.

Kept is what a decision reads, what the backend needs for the same answer, and what frames a message. Whatever is not
here may be a secret that nobody has heard of.
"""

from __future__ import annotations

from typing import Final

KEPT_ARGUMENTS: Final = frozenset(
    # of queries and lookups
    "query match match[] start end step time timeout limit nocache trace round_digits latency_offset max_lookback"  # noqa: SIM905
    " lookback_delta extra_label extra_filters extra_filters[] metric label date topN focusLabel le match_pattern"
    " maxLifetime storage_step stats dedup partial_response max_source_resolution"
    # of exports and imports
    " format max_rows_per_line reduce_mem_usage get_vm_proto_version db rp org bucket precision timestamp"
    # of Graphite
    " target from until now maxDataPoints tz xFilesFactor storageStep delimiter wildcards leavesOnly grouped"
    " groupByExpr automatic_variants jsonp expr tag tagPrefix valuePrefix filter path"
    # of rules and debugging pages
    " type state group rule_name[] rule_group[] file[] group_id alert_id rule_id datasource_type exclude_alerts"
    " relabel_configs verbose".split()
)
"""Names of arguments, in the case in which VictoriaMetrics reads them."""

KEPT_HEADERS: Final = frozenset(
    # of a message and its way
    b"host content-type content-length content-encoding transfer-encoding connection keep-alive te trailer upgrade"
    b" expect date via x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip"
    # of what a client wants
    b" accept accept-charset accept-encoding accept-language cache-control pragma range user-agent origin"
    b" access-control-request-method access-control-request-headers"
    # of VictoriaMetrics and what writes to it
    b" accountid projectid storage-step stream-mode x-prometheus-remote-write-version"
    b" x-victoriametrics-remote-write-version x-prometheus-remote-read-version x-server-hostname"
    # of a response
    b" access-control-allow-credentials access-control-allow-headers access-control-allow-methods"
    b" access-control-allow-origin access-control-expose-headers access-control-max-age age allow"
    b" content-disposition content-language content-security-policy etag expires last-modified location"
    b" proxy-authenticate retry-after server strict-transport-security vary www-authenticate"
    b" x-content-type-options x-frame-options".split()
)
"""Names of headers, in lower case."""

KEPT_MEMBERS: Final = frozenset(
    # of responses
    "status data resultType result value values timestamps error errorType warnings isPartial partial stats"  # noqa: SIM905
    " seriesFetched executionTimeMsec"
    # of writes
    " series points type host device interval resources name timestamp timestamps unit source_type_name sketches"
    " dogsketches distributions min max avg sum cnt n k v clock ns item key groups".split()
)
"""Names of members of JSON objects."""

LABELS: Final = frozenset(["metric", "labels", "tags", "attributes", "item_tags"])
"""Names of members whose own members are labels: these have any name, and are the data."""
