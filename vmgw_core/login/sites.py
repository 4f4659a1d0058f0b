"""Where a request of a browser comes from, and where a login may lead.

A browser sends cookies whoever asks for the request, so a request with a session must not come from a page of another
site. ``Sec-Fetch-Site`` says so, which no page can forge (https://www.w3.org/TR/fetch-metadata/); browsers that do not
send it name the page's ``Origin`` (RFC 6454) with every request that may change something.
"""

from __future__ import annotations

from typing import Final

from vmgw_core.errors import AmbiguousPath
from vmgw_core.http import Headers, values_of
from vmgw_core.routing import decode_path

MAX_TARGET: Final = 2048
"""Characters of a path to return to."""

_SAFE_METHODS: Final = ("GET", "HEAD")
_OWN_SITES: Final = ([b"same-origin"], [b"none"])  # none: typed, or from a bookmark


def is_safe_method(method: str) -> bool:
    """Whether a method only reads (RFC 9110, section 9.2.1)."""
    return method in _SAFE_METHODS


def may_use_session(headers: Headers, origin: str, *, safe: bool) -> bool:
    """Whether a request with these headers may use the session that its browser sends along.

    Args:
        origin: the gateway's own.
        safe: whether the request changes nothing. Then it may also be a link that somebody follows from another
            site, or come from a browser that tells nothing.
    """
    site = values_of(headers, b"sec-fetch-site")
    if site:
        return site in _OWN_SITES or (safe and values_of(headers, b"sec-fetch-mode") == [b"navigate"])
    origins = values_of(headers, b"origin")
    return origins == [origin.encode("ascii")] if origins else safe


def is_foreign(headers: Headers, *, safe: bool) -> bool:
    """Whether a browser says that a page of another site sent the request, which may use the browser's certificate.

    Clients that are no browsers say nothing. An ``Origin`` without ``Host``, as over HTTP/2, is another site's.
    ``safe``: as for :func:`may_use_session`.
    """
    if values_of(headers, b"sec-fetch-site"):
        return not may_use_session(headers, "", safe=safe)
    origins = values_of(headers, b"origin")
    return bool(origins) and not safe and origins != [b"https://" + host for host in values_of(headers, b"host")]


def is_navigation(method: str, headers: Headers) -> bool:
    """Whether a browser is about to show the response as a page, so that it can be led to a login."""
    mode = values_of(headers, b"sec-fetch-mode")
    if mode:
        return method == "GET" and mode == [b"navigate"]
    accepted = [
        each.partition(b";")[0].strip() for value in values_of(headers, b"accept") for each in value.split(b",")
    ]
    return method == "GET" and b"text/html" in accepted


def is_own_target(target: str) -> bool:
    """Whether ``target`` is a path of this gateway, with or without a query, that no browser reads as another site."""
    path = target.partition("?")[0]
    if len(target) > MAX_TARGET or not target.isascii() or not target.isprintable() or set(target) & set(' \\#"<>'):
        return False
    try:
        decode_path(path)
    except AmbiguousPath:
        return False
    return not path.startswith("//")  # which stands for another host in a Location
