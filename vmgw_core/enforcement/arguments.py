"""Making a token's labels and filters binding: remove the client's, add the token's.

What VictoriaMetrics does with these arguments, measured on the newest releases and on 1.79.5:
- several ``extra_filters`` widen (they are ORed), also over the two spellings and over URL and body, so where the
  token has filters every one of the client's is removed, wherever it stands;
- ``extra_label`` narrows on reads (it is ANDed) but the last one wins on writes, so where the token has labels the
  client's are removed too;
- where the token has none, the client's own stay: they can only narrow.

Two more, measured on v1.150, its cluster and 1.79.5:
- the storage joins a filter on the metric name with other filters before it looks anything up, and takes the name's
  prefix from one filter and its end from another (``convertToCompositeTagFilters`` in ``lib/storage``), so that
  ``__name__="total"`` of a token with ``__name__=~"secret_(total|x)"`` of a client finds ``secret_total``. It does so
  for names that it knows word by word; a regular expression with ``(?:\\b|\\B)`` behind it, which always matches, is
  looked up as it is;
- ``trace`` tells how many series of others the storage saw before it applied the token's filters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vmgw_core.base import Access, BoundedCache, string_literal, text_bytes
from vmgw_core.errors import BadRequest
from vmgw_core.http import MAX_ARGUMENTS, decoded_key, encode_pair, key_of, split_pairs
from vmgw_core.routing import ROUTES, Filters, Route
from vmgw_core.tokens import Matcher, VMAccessClaim, parse_selector

LABEL_KEY = "extra_label"
FILTER_KEY = "extra_filter"
TRACE_KEY = "trace"
_NAME = "__name__"
NAME_AS_IT_IS = r"(?:\b|\B)"
"""Always matches, and keeps the storage from reading a regular expression as a list of names."""
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_MAX_FORM_READ = 10 << 20  # bytes: a larger form is not read by Go, and the URL alone counts
MAX_REMEMBERED: Final = 8 << 20
"""Bytes of memory for claims and the arguments that they become."""
_ENFORCEMENT_BYTES: Final = 400
_MATCH_KEYS = ("match[]", "match")
_TEXT = r"""[!"$'-:<-~]*+(?:%[0-9A-Fa-f]{2}[!"$'-:<-~]*+)*+"""
_DROPPED = "|".join(sorted({f"{re.escape(key)}=" for route in ROUTES for key in route.dropped} | {f"{TRACE_KEY}="}))
_PAIR = rf"(?!extra|{_DROPPED})[a-z_]++(?:\[\])?+={_TEXT}"
# Nearly every query: pairs whose keys mean what they look like, none of which is ever removed or refused.
_NOTHING_TO_DO = re.compile(f"(?:{_PAIR}(?:&{_PAIR})*+)?+")
_NO_IDENTIFIER = re.compile(r"^[^A-Za-z_:]|[^A-Za-z0-9_:.]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """A claim as URL arguments: raw ``key=value`` pairs, encoded so that no parser can lose one."""

    labels: tuple[str, ...]
    """``extra_label`` on writes."""
    narrowing: tuple[str, ...]
    """``extra_label`` on reads and deletes: all but the metric name, which is in ``filters``."""
    filters: tuple[str, ...]
    """``extra_filters[]`` on reads and deletes."""
    matches: tuple[str, ...]
    """``match[]`` on label listings."""


def enforcement_of(claim: VMAccessClaim) -> Enforcement:
    """The arguments a claim adds: ``extra_label``, ``extra_filters[]``, and for label listings ``match[]``."""
    found = _remembered.get(claim)
    if found is None:
        found = _enforcement(claim)
        _remembered.put(claim, found)
    return found


def _size(claim: VMAccessClaim, enforcement: Enforcement) -> int:
    pairs = text_bytes(*enforcement.labels, *enforcement.narrowing, *enforcement.filters, *enforcement.matches)
    return claim.memory + _ENFORCEMENT_BYTES + pairs


_remembered: BoundedCache[VMAccessClaim, Enforcement] = BoundedCache(MAX_REMEMBERED, _size)


def _enforcement(claim: VMAccessClaim) -> Enforcement:
    filters = _filters(claim)
    if claim.labels:
        selectors: tuple[str, ...] = (_written((_matchers(claim.labels),)),)
    else:
        selectors = filters
    return Enforcement(
        labels=tuple(encode_pair(LABEL_KEY, f"{name}={value}") for name, value in claim.labels),
        narrowing=tuple(encode_pair(LABEL_KEY, f"{name}={value}") for name, value in claim.labels if name != _NAME),
        filters=tuple(encode_pair("extra_filters[]", selector) for selector in filters),
        matches=tuple(encode_pair("match[]", selector) for selector in selectors),
    )


def _filters(claim: VMAccessClaim) -> tuple[str, ...]:
    """The claim's filters as they are sent, with the metric name that its labels have."""
    name = _matchers(claim.labels, only=_NAME)
    if name and not claim.filters:
        return (_written((name,)),)
    written = []
    for text in claim.filters:
        alternatives = tuple((*matchers, *name) for matchers in parse_selector(text).alternatives)
        named = any(matcher.name == _NAME for matchers in alternatives for matcher in matchers)
        written.append(_written(alternatives) if named else text)
    return tuple(written)


def _matchers(labels: tuple[tuple[str, str], ...], only: str | None = None) -> tuple[Matcher, ...]:
    return tuple(
        Matcher(name=name, operator="=", value=value) for name, value in labels if only is None or name == only
    )


def _written(alternatives: tuple[tuple[Matcher, ...], ...]) -> str:
    """A selector in the spelling that all releases read."""
    return "{" + " or ".join(",".join(map(_matcher, matchers)) for matchers in alternatives) + "}"


def _matcher(matcher: Matcher) -> str:
    operator, value = matcher.operator, matcher.value
    # Negative filters are never joined with others, nor is what matches every name or the empty one.
    if matcher.name == _NAME and operator in ("=", "=~") and value not in ("", ".*", ".+"):
        expression = _META.sub(r"\\\g<0>", value) if operator == "=" else f"(?:{value})"
        operator, value = "=~", expression + NAME_AS_IT_IS
    return f"{_escaped(matcher.name)}{operator}{string_literal(value)}"


def _escaped(name: str) -> str:
    """A label name as a MetricsQL identifier; quoted names are understood by newer releases only."""
    return _NO_IDENTIFIER.sub(lambda match: "\\" + match[0], name)


def enforce(
    route: Route, claim: VMAccessClaim, query: str, form: str | None, *, cluster: bool
) -> tuple[str, str | None]:
    """Return the URL query and the form to send upstream.

    Args:
        cluster: whether the backends are a cluster's, whose traces show its nodes and what other tenants do.
        query: the client's raw query, without the question mark.
        form: the client's form body as urlencoded text, or None where the request carries no form.

    Raises:
        BadRequest: an argument that Go would drop without a word, or a query that a proxy may cut off.
    """
    dropped = route.dropped | {TRACE_KEY} if cluster or claim.restricted else route.dropped
    pairs = _kept(claim, dropped, query, "URL")
    form_pairs = None if form is None else _kept(claim, dropped, form, "form")
    if claim.restricted and route.filters is Filters.BIND:
        read = len(form or "") <= _MAX_FORM_READ
        pairs += _added(route, claim, [*pairs, *(form_pairs or ())] if read else pairs)
    return "&".join(pairs), None if form_pairs is None else "&".join(form_pairs)


def _kept(claim: VMAccessClaim, dropped: frozenset[str], arguments: str, place: str) -> list[str]:
    """The raw pairs of the client's that stay. Any key that begins with an enforced name goes, in any spelling.

    Raises:
        BadRequest: as :func:`enforce`.
    """
    if _NOTHING_TO_DO.fullmatch(arguments) and arguments.count("&") < MAX_ARGUMENTS:
        return arguments.split("&") if arguments else []
    if place == "URL" and "#" in arguments:
        raise BadRequest("the URL has a raw number sign, behind which a proxy may cut it off: encode it")
    prefixes: tuple[str, ...] = ()
    if claim.labels:
        prefixes += (LABEL_KEY,)
    if enforcement_of(claim).filters:
        prefixes += (FILTER_KEY,)
    keyed = [(pair, key_of(pair)) for pair in split_pairs(arguments, place)]
    return [pair for pair, key in keyed if not key.startswith(prefixes) and key not in dropped]


def _added(route: Route, claim: VMAccessClaim, client: list[str]) -> tuple[str, ...]:
    enforcement = enforcement_of(claim)
    if route.access is Access.WRITE:
        return enforcement.labels
    added = enforcement.narrowing + enforcement.filters
    if _lists_labels(route) and not any(decoded_key(pair) in _MATCH_KEYS for pair in client):
        # A backend with -search.ignoreExtraFiltersAtLabelsAPI ignores filters here, unless there is a match[].
        added += enforcement.matches
    return added


def _lists_labels(route: Route) -> bool:
    return route.path.endswith(("/api/v1/labels", "/api/v1/label/<name...>/values"))
