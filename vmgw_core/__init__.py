"""The policy of vmgateway as a pure library: no mitmproxy, no sockets, no files, no threads, no wall clock."""

from typing import Final

from vmgw_core.backends import Backend, BackendGroup, Concurrency
from vmgw_core.base import Access, Subject, TenantID
from vmgw_core.enforcement import Body, Cycle, Gateway, Grant, Policy, State, UpstreamRequest, access_of, rewrite
from vmgw_core.enforcement.admission import admit
from vmgw_core.enforcement.rewriting import moved
from vmgw_core.errors import ConfigurationError, Refusal
from vmgw_core.http import HeaderEdit, Headers, HeadLimits, RequestHead, Response, check_fields, refusal_response
from vmgw_core.limits import Limit, Limiter, read_limits
from vmgw_core.routing import Route, match_route
from vmgw_core.rows import RowMeter, row_counter
from vmgw_core.tokens import (
    AccessMode,
    KeyRing,
    KeySet,
    Token,
    TokenVerifier,
    VerificationKey,
    VMAccessClaim,
    keys_from_jwks,
    keys_from_pem,
)

__version__: Final = "0.1.0"
BUILD: Final = "pure Python" if hasattr(admit, "__code__") else "compiled"
"""Whether mypyc has compiled what a request runs through."""

__all__ = [
    "BUILD", "Access", "AccessMode", "Backend", "BackendGroup", "Body", "Concurrency", "ConfigurationError",
    "Cycle", "Gateway", "Grant", "HeadLimits", "HeaderEdit", "Headers", "KeyRing", "KeySet", "Limit", "Limiter",
    "Policy", "Refusal", "RequestHead", "Response", "Route", "RowMeter", "State", "Subject", "TenantID", "Token",
    "TokenVerifier", "UpstreamRequest", "VMAccessClaim", "VerificationKey", "__version__", "access_of", "admit",
    "check_fields", "keys_from_jwks", "keys_from_pem", "match_route", "moved", "read_limits", "refusal_response",
    "rewrite", "row_counter",
]  # fmt: skip
