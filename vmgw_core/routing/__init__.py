"""Paths: their decoding, the table of routes, and the path of a tenant upstream.

A path that is not in the table is refused.
"""

from .path import decode_path
from .routes import ROUTES, Answer, Filters, Match, Restriction, Route, match_route
from .tenant_paths import answer_path, check_tenant, tenant_labels, upstream_path

__all__ = [
    "ROUTES", "Answer", "Filters", "Match", "Restriction", "Route", "answer_path", "check_tenant", "decode_path",
    "match_route", "tenant_labels", "upstream_path",
]  # fmt: skip
