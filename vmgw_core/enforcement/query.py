"""What a read asks for, told to people: the arguments that a query log shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote_plus

from vmgw_core.base import Access
from vmgw_core.routing import Filters, Route
from vmgw_core.tokens import without_api_keys

from .cycle import Cycle

LONGEST_QUERY: Final = 16 << 10
"""Characters of a query, or of all selectors together. VictoriaMetrics refuses longer queries by default."""
_LONGEST_TIME: Final = 100
_MOST_READ: Final = 256 << 10
"""Characters of a URL or a form that arguments are looked for in."""
_TIMES: Final = {"start": "start", "end": "end", "from": "start", "until": "end", "time": "time", "step": "step"}
# Hide a token that a client has put into a query by mistake: it begins with {" in base64.
_TOKEN: Final = re.compile(r"(?<![\w-])eyJ[\w-]++\.[\w-]++\.[\w-]*+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The arguments of a read, as the client wrote them, shortened."""

    query: str | None = None
    """``query``, or ``target`` of Graphite, several joined by a line feed."""
    match: tuple[str, ...] = ()
    """``match[]``."""
    start: str | None = None
    end: str | None = None
    time: str | None = None
    step: str | None = None

    @classmethod
    def of(cls, cycle: Cycle) -> Self:
        """Read the arguments of a request that has ended. Its form is known only if it was sent to a backend.

        As in Go the form comes before the URL, and the first of several values counts.
        """
        body = cycle.upstream.body if cycle.upstream is not None else None
        form = "" if body is None else body[:_MOST_READ].decode("ascii", "replace")
        url = cycle.head.target.partition("?")[2][:_MOST_READ]
        single: dict[str, str] = {}
        targets: list[str] = []
        matches: list[str] = []
        room = LONGEST_QUERY
        for key, raw in (pair for text in (form, url) for pair in _pairs(text)):
            if key in _TIMES:
                single.setdefault(_TIMES[key], _decoded(raw, _LONGEST_TIME))
            elif key == "query":
                single.setdefault("query", _decoded(raw, LONGEST_QUERY))
            elif key in ("target", "match[]", "match") and room > 0:
                value = _decoded(raw, room)
                room -= len(value) + 1
                (targets if key == "target" else matches).append(value)
        if targets:
            single.setdefault("query", "\n".join(targets))
        return cls(match=tuple(matches), **single)


def reads_data(route: Route) -> bool:
    """Whether requests to ``route`` read series, so that a query log has them."""
    return route.access is Access.READ and route.filters is Filters.BIND


def _pairs(arguments: str) -> Iterator[tuple[str, str]]:
    for pair in arguments.split("&"):
        key, _, value = pair.partition("=")
        yield unquote_plus(key) if len(key) < 20 else "", value


def _decoded(raw: str, longest: int) -> str:
    """Decode a value, cut after ``longest`` characters, without a token that is in it."""
    text = unquote_plus(raw[: 12 * longest], errors="replace")
    text = without_api_keys(_TOKEN.sub("<token>", text), "<token>")[:longest]
    return text.encode("utf-8", "replace").decode()
