"""The life of one request without I/O: ``Cycle`` takes it from its head to the end of its response.

Every lane, ``explain`` and ``replay`` run a ``Cycle``. It calls ``admit``, which decides on the head, and
``rewrite``, which writes the upstream request with the token's tenant, labels and filters.
"""

from .admission import (
    TENANTS,
    Body,
    Grant,
    Policy,
    access_of,
    answer,
    authenticate,
    awaited_by,
    identify,
    match_of,
    route_of,
    tenants_page,
)
from .arguments import NAME_AS_IT_IS, TRACE_KEY
from .cycle import Cycle, Gateway, State
from .query import Query, reads_data
from .rewriting import UpstreamRequest, moved, rewrite
from .tracing import Trace, TracedCycle, Tracer

__all__ = [
    "NAME_AS_IT_IS", "TENANTS", "TRACE_KEY", "Body", "Cycle", "Gateway", "Grant", "Policy", "Query", "State",
    "Trace", "TracedCycle", "Tracer", "UpstreamRequest", "access_of", "answer", "authenticate", "awaited_by",
    "identify", "match_of", "moved", "reads_data", "rewrite", "route_of",
    "tenants_page",
]  # fmt: skip
