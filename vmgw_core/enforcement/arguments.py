"""Enforce a token's labels and filters: remove the client's arguments, add the token's.

VictoriaMetrics treats these arguments as follows (measured on the newest releases and on 1.79.5):
- several ``extra_filters`` are ORed, also across both spellings and across URL and body. So if the token has filters,
  all of the client's are removed;
- ``extra_label`` is ANDed on reads, but the last one wins on writes. So if the token has labels, the client's are
  removed;
- if the token has none, the client's own stay: they can only narrow.

Measured on v1.150, its cluster and 1.79.5:
- before a lookup the storage joins a filter on the metric name with other filters, and takes the prefix of the name
  from one and its end from another (``convertToCompositeTagFilters`` in ``lib/storage``). So a token's
  ``__name__="total"`` with a client's ``__name__=~"secret_(total|x)"`` finds ``secret_total``. It does so only for
  literal names: a regular expression that ends in ``(?:\\b|\\B)``, which always matches, is looked up as it is;
- ``trace`` shows how many series of others the storage saw before it applied the token's filters.

One more, measured on the cluster of v1.150: the cache of instant queries ignores the tenant filters on
``/select/multitenant/…`` (``EnforcedTagFilterss`` without them is its key, in ``app/vmselect/promql/eval.go``), so
that one tenant gets what another asked for. With ``nocache=1`` neither cache of results is read or filled
(``EvalConfig.MayCache``), so it is forced there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vmgw_core.base import Access, BoundedCache, text_bytes
from vmgw_core.errors import BadRequest
from vmgw_core.http import MAX_ARGUMENTS, decoded_key, encode_pair, key_of, split_pairs
from vmgw_core.routing import ROUTES, Filters, Route
from vmgw_core.tokens import Matcher, Selector, VMAccessClaim, parse_selector

from .expressions import check_expressions

LABEL_KEY = "extra_label"
FILTER_KEY = "extra_filter"
TRACE_KEY = "trace"
NO_CACHE_KEY = "nocache"
_NAME = "__name__"
NAME_AS_IT_IS = r"(?:\b|\B)"
"""Always matches, and keeps the storage from reading a regular expression as a list of names."""
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
MAX_FORM_READ = 10 << 20  # bytes: Go does not read a larger form, only the URL
MAX_REMEMBERED: Final = 14 << 20
"""Bytes of memory for claims and their arguments."""
_ENFORCEMENT_BYTES: Final = 400
_MATCH_KEYS = ("match[]", "match")
_TEXT = r"""[!"$'-:<-~]*+(?:%[0-9A-Fa-f]{2}[!"$'-:<-~]*+)*+"""
_DROPPED = "|".join(
    sorted({f"{re.escape(key)}=" for route in ROUTES for key in route.dropped} | {f"{TRACE_KEY}=", f"{NO_CACHE_KEY}="})
)
_PAIR = rf"(?!extra|{_DROPPED})[a-z_]++(?:\[\])?+={_TEXT}"
# Nearly every query: plain pairs that are never removed or refused.
_NOTHING_TO_DO = re.compile(f"(?:{_PAIR}(?:&{_PAIR})*+)?+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """A claim as URL arguments: strictly encoded ``key=value`` pairs."""

    labels: tuple[str, ...]
    """``extra_label`` on writes."""
    narrowing: tuple[str, ...]
    """``extra_label`` on reads and deletes, without the metric name, which is in ``filters``."""
    filters: tuple[str, ...]
    """``extra_filters[]`` on reads and deletes."""
    matches: tuple[str, ...]
    """``match[]`` on label listings."""


def enforcement_of(claim: VMAccessClaim) -> Enforcement:
    """Return the arguments that a claim adds."""
    found = _remembered.get(claim)
    if found is None:
        found = _enforcement(claim)
        _remembered.put(claim, found)
    return found


def _size(claim: VMAccessClaim, enforcement: Enforcement) -> int:
    pairs = text_bytes(*enforcement.labels, *enforcement.filters, *enforcement.matches)  # narrowing has the same texts
    return claim.memory + _ENFORCEMENT_BYTES + pairs


_remembered: BoundedCache[VMAccessClaim, Enforcement] = BoundedCache(MAX_REMEMBERED, _size)


def _enforcement(claim: VMAccessClaim) -> Enforcement:
    filters = _filters(claim)
    if claim.labels:
        selectors: tuple[str, ...] = (_written((_matchers(claim.labels),)),)
    else:
        selectors = filters
    labels = tuple(encode_pair(LABEL_KEY, f"{name}={value}") for name, value in claim.labels)
    return Enforcement(
        labels=labels,
        narrowing=tuple(pair for pair, (name, _) in zip(labels, claim.labels, strict=True) if name != _NAME),
        filters=tuple(encode_pair("extra_filters[]", selector) for selector in filters),
        matches=tuple(encode_pair("match[]", selector) for selector in selectors),
    )


def _filters(claim: VMAccessClaim) -> tuple[str, ...]:
    """Return the claim's filters as they are sent, with the metric name of its labels."""
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
    """Write a selector so that all releases read it, and the storage does not join its filters on the metric name."""
    kept = tuple(tuple(map(_as_it_is, matchers)) for matchers in alternatives)
    return Selector(alternatives=kept).written()


def _as_it_is(matcher: Matcher) -> Matcher:
    operator, value = matcher.operator, matcher.value
    # The storage never joins negative filters, or those that match every name or the empty one.
    if matcher.name != _NAME or operator not in ("=", "=~") or value in ("", ".*", ".+"):
        return matcher
    expression = _META.sub(r"\\\g<0>", value) if operator == "=" else f"(?:{value})"
    return Matcher(name=_NAME, operator="=~", value=expression + NAME_AS_IT_IS)


def enforce(
    route: Route, claim: VMAccessClaim, query: str, form: str | None, *, cluster: bool, multitenant: bool = False
) -> tuple[str, str | None]:
    """Return the URL query and the form to send upstream.

    Args:
        multitenant: whether the request is for ``/select/multitenant/…``, where the backend's cache mixes tenants.
        query: the client's raw query, without the question mark.
        form: the client's form as urlencoded text, or None if there is none.
        cluster: whether the backends are a cluster, whose traces show its nodes and other tenants.

    Raises:
        BadRequest: there is an argument that Go would silently drop, or a query that a proxy may cut.
        CostlyQuery: there is a query that could stop the backend.
    """
    uncached = multitenant and route.evaluates
    dropped = route.dropped
    if cluster or claim.restricted:
        dropped = route.dropped_with_trace
    if uncached:
        dropped |= {NO_CACHE_KEY}
    kept = _kept(claim, dropped, query, "URL")
    kept_form = None if form is None else _kept(claim, dropped, form, "form")
    check_expressions(route, query, kept)
    if form is not None and kept_form is not None:
        check_expressions(route, form, kept_form)
    added: tuple[str, ...] = ()
    if claim.restricted and route.filters is Filters.BIND:
        read = bool(kept_form) and len(form or "") <= MAX_FORM_READ
        added = _added(route, claim, f"{kept}&{kept_form}" if read else kept)
    if uncached:
        added += (f"{NO_CACHE_KEY}=1",)
    if added:
        kept = "&".join((kept, *added) if kept else added)
    return kept, kept_form


def narrowing(claim: VMAccessClaim, *, lists_labels: bool) -> tuple[str, ...]:
    """Return the arguments that limit a read to ``claim``. ``lists_labels``: a list of labels, without ``match[]``."""
    enforcement = enforcement_of(claim)
    found = enforcement.narrowing + enforcement.filters
    return found + enforcement.matches if lists_labels else found


def _kept(claim: VMAccessClaim, dropped: frozenset[str], arguments: str, place: str) -> str:
    """Return the client's raw arguments without keys that begin with an enforced name, in any spelling."""
    if _NOTHING_TO_DO.fullmatch(arguments) and arguments.count("&") < MAX_ARGUMENTS:
        return arguments
    if place == "URL" and "#" in arguments:
        raise BadRequest("the URL has a raw number sign, where a proxy may cut it: percent-encode it")
    prefixes: tuple[str, ...] = ()
    if claim.labels:
        prefixes += (LABEL_KEY,)
    if enforcement_of(claim).filters:
        prefixes += (FILTER_KEY,)
    keyed = [(pair, key_of(pair)) for pair in split_pairs(arguments, place)]
    return "&".join([pair for pair, key in keyed if not key.startswith(prefixes) and key not in dropped])


def _added(route: Route, claim: VMAccessClaim, client: str) -> tuple[str, ...]:
    enforcement = enforcement_of(claim)
    if route.access is Access.WRITE:
        return enforcement.labels
    added = enforcement.narrowing + enforcement.filters
    if route.lists_labels and not any(decoded_key(pair) in _MATCH_KEYS for pair in client.split("&")):
        # With -search.ignoreExtraFiltersAtLabelsAPI a backend ignores filters here, but not match[].
        added += enforcement.matches
    return added
