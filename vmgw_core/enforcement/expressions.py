"""Which arguments of a read are queries, and what is asked of each before a backend sees it.

VictoriaMetrics parses all of them by recursion, without a bound: three million brackets in a form exhaust its stack,
and that ends the process.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus

from vmgw_core.base import Access
from vmgw_core.errors import CostlyQuery
from vmgw_core.http import key_of
from vmgw_core.routing import Route

from .graphite import check_target, check_times
from .templates import check_templates

MAX_LENGTH: Final = 32 * 1024
"""Characters of a query outside of quoted strings; VictoriaMetrics takes 16 KiB for ``query``."""

MAX_POWERS: Final = 1000
"""``^`` in a query, outside of strings: VictoriaMetrics takes 8 seconds to parse 8,000, and over 30 for 16,000."""

_METRICSQL: Final = frozenset(("query", "match[]", "match", "extra_filters", "extra_filters[]"))
_TIMES: Final = frozenset(("from", "until", "storage_step"))
# What a query with templates has in it, however it is encoded: a word, an escape, or an encoded letter of a word.
_SUSPECT: Final = ("with", "ttf", "ru", "alias", "%5c", "\\", "%c4%b0")
_ENCODED: Final = re.compile("%(?:[46][1689c]|[57][23457])")
_STRING: Final = re.compile(r"""(\#[^\n]*+|\\.)|"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|`(?:[^`\\]|\\.)*+`""", re.DOTALL)
# In a relabelling rule `if` is MetricsQL. YAML has ways to spell a word that a search does not see.
_RELABEL_SUSPECT: Final = re.compile(r"w[i\u0130]th(?!out)|ttf|\bru\b|alias|\\[xuU\n\r]|!", re.IGNORECASE)


def check_expressions(route: Route, arguments: str, sent: str) -> None:
    """Look at the queries in ``sent``, which is what the backend gets of the client's ``arguments``.

    Raises:
        CostlyQuery: one of them could stop the backend.
    """
    if route.access is Access.WRITE:
        return
    graphite, relabel = route.renders, "relabel_configs" if route.dropped else None
    if not (graphite or relabel or len(arguments) > MAX_LENGTH or _suspect(arguments)):
        return
    for pair in sent.split("&"):
        key, value = key_of(pair), unquote_plus(pair.partition("=")[2], errors="replace")
        if key in _METRICSQL:
            _check_length(value)
            check_templates(value)
        elif graphite and key == "target":
            check_target(value)
        elif graphite and key in _TIMES:
            check_times(key, value)
        elif key == relabel:
            _check_length(value)
            if _RELABEL_SUSPECT.search(value):
                raise CostlyQuery("relabel_configs has templates, tags or escapes, which the gateway does not pass on")


def _suspect(arguments: str) -> bool:
    lowered = arguments.lower()
    for word in _SUSPECT:
        if word in lowered:
            return True
    if "%" in lowered and _ENCODED.search(lowered):
        return True
    return len(lowered) > MAX_POWERS and lowered.count("^") + lowered.count("%5e") > MAX_POWERS


def _check_length(query: str) -> None:
    if len(query) <= MAX_LENGTH and query.count("^") <= MAX_POWERS:
        return
    bare = _STRING.sub(r"\1", query)
    if len(bare) > MAX_LENGTH:
        raise CostlyQuery(f"a query is longer than {MAX_LENGTH} characters, without its strings")
    if bare.count("^") > MAX_POWERS:
        raise CostlyQuery(f"a query has more than {MAX_POWERS} powers")
