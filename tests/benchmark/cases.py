"""The kinds of requests that are measured, and what the gateway should reach with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20
GET: Final = "/api/v1/query?query=up"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of request."""

    target: str
    script: str = ""
    """Lua for wrk."""
    size: int = 0
    """The bytes that a request moves, if megabytes per second are the figure."""
    proxies: str = "all"
    """Which proxies are measured: see ``Proxy.group``."""
    connections: int = 32
    close: bool = False
    """Whether each request has a connection of its own."""


def post(path: str, headers: dict[str, str] | None = None) -> str:
    """Return Lua that posts the content of the file ``path``."""
    lines = [f'wrk.headers["{name}"]="{value}"' for name, value in (headers or {}).items()]
    return f'wrk.method="POST" local file=io.open("{path}","rb") wrk.body=file:read("*a") file:close() ' + " ".join(
        lines
    )


CASES: Final = {
    "get": Case(target=GET),
    "post": Case(
        target="/api/v1/query",
        script='wrk.method="POST" wrk.body="query=up&start=1&end=2"'
        ' wrk.headers["Content-Type"]="application/x-www-form-urlencoded"',
    ),
    "connect": Case(target=GET, close=True),
    "tls": Case(target=GET, proxies="tls"),
    "answer-10MB": Case(target="/api/v1/export?match[]=m", size=10 * MIB, connections=4),
}
"""Besides these, ``writes.py`` makes a case for each protocol of writes."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The fast lane should reach ``factor`` times the requests per second of the proxy ``base``."""

    case: str
    title: str
    base: str
    factor: float


GOALS: Final = (
    Goal(case="get", title="small GETs", base="vmauth", factor=4.5),
    Goal(case="get", title="small GETs", base="nginx", factor=0.45),
    Goal(case="post", title="POST forms", base="vmauth", factor=3.5),
    Goal(case="post", title="POST forms", base="nginx", factor=0.38),
    Goal(case="connect", title="a new connection for each GET", base="vmauth", factor=2.5),
    Goal(case="connect", title="a new connection for each GET", base="nginx", factor=0.6),
    Goal(case="tls", title="GETs over TLS", base="nginx", factor=0.45),
)
FLOW_GOAL: Final = 2.0
"""The flow lane should reach this many times the GETs per second of plain mitmdump."""
ROWS_GOAL: Final = 0.6
"""Writes with rows counted should reach this share of the speed of those without."""
