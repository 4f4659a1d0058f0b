"""How Go, and so VictoriaMetrics, reads arguments: net/url.ParseQuery and net/http.Request.ParseForm.

The yardstick for what a backend makes of a rewritten request. Written from Go's rules and sharing no code with the
product: a pair that Go drops is dropped here, so a test sees a filter that was lost.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

MAX_PARAMETERS: Final = 10_000
"""With more (Go 1.24.12 and 1.25.6 on), not one argument of the query is read, and VictoriaMetrics goes on without."""

MAX_FORM_SIZE: Final = 10 * 1024 * 1024
"""Bytes of an urlencoded body. Of a larger one not one argument is read, and VictoriaMetrics goes on without."""

BODY_METHODS: Final = ("POST", "PUT", "PATCH")
"""With any other method the body is not looked at."""

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

Values = list[tuple[str, str]]


def parse_query(text: str) -> Values:
    """The decoded pairs of an urlencoded text, in order; bytes that are no UTF-8 as surrogates."""
    if text.count("&") + 1 > MAX_PARAMETERS:
        return []
    values = []
    for pair in text.split("&"):
        if not pair or ";" in pair or _BAD_ESCAPE.search(pair):
            continue
        key, _, value = pair.partition("=")
        values.append((_unescape(key), _unescape(value)))
    return values


def _unescape(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "surrogateescape")


def arguments(method: str, query: str, form: str | None) -> Values:
    """All that any release could take for an argument: 1.79.5 reads body and URL, newer ones prefer the URL's."""
    read = form is not None and method in BODY_METHODS and len(form) <= MAX_FORM_SIZE
    body = parse_query(form) if form is not None and read else []
    return body + parse_query(query)


def named(values: Values, *names: str) -> list[str]:
    """The values of the keys ``names``, spelled exactly so."""
    return [value for key, value in values if key in names]
