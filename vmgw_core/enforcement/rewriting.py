"""The upstream request: its path, arguments, headers and body."""

from __future__ import annotations

from collections.abc import Callable

from vmgw_core.backends import Backend
from vmgw_core.base import Value
from vmgw_core.http import URLENCODED, Headers, RequestHead, read_form, split_pairs

from .admission import Body, Grant, Policy, form_type
from .arguments import enforce, narrowing
from .upstream_headers import filtered_headers, upstream_headers


class UpstreamRequest(Value):
    """What the backend receives. ``body`` is None if the client's body is streamed or there is none.

    ``forwarded`` are the headers, Host first, without those that a rewritten form adds.
    """

    __slots__ = ("backend", "body", "forwarded", "method", "target")

    def __init__(self, backend: Backend, method: str, target: str, forwarded: Headers, body: bytes | None) -> None:
        self.backend = backend
        self.method = method
        self.target = target
        self.forwarded = forwarded
        self.body = body

    def fields(self) -> tuple[Backend, str, str, Headers, bytes | None]:
        return self.backend, self.method, self.target, self.forwarded, self.body

    @property
    def headers(self) -> Headers:
        """All headers."""
        if self.body is None:
            return self.forwarded
        length = str(len(self.body)).encode()
        return (*self.forwarded, (b"Content-Type", URLENCODED.encode()), (b"Content-Length", length))


HoldToGuards = Callable[[str, str | None], tuple[str, str | None]]
"""Takes the query and the form to send, and returns them as the guards allow. Raises ``QueryGuarded``."""


def rewrite(
    policy: Policy, grant: Grant, head: RequestHead, form: bytes | None, guarded: HoldToGuards | None = None
) -> UpstreamRequest:
    """Write the request that the backend gets.

    Args:
        form: the whole body if ``grant.body`` is ``Body.HOLD``, else None.
        guarded: None if there are no guards.

    Raises:
        Refusal: the arguments cannot be made binding, or the form cannot be read.
    """
    query, text = head.query, None
    if grant.body is Body.HOLD:
        # The body of a GET has no meaning (RFC 9110, section 9.3.1), and Go does not read it.
        text = read_form(form_type(head), form or b"") if head.method == "POST" else ""
    all_tenants = grant.match.multitenant and grant.token is not None  # without tokens, nobody is held to a tenant
    query, text = enforce(grant.route, grant.claim, query, text, cluster=policy.cluster, multitenant=all_tenants)
    if guarded is not None:
        query, text = guarded(query, text)
    if grant.filter is not None:
        return _filtered(policy, grant, head, query, text)
    path = grant.backend.base + grant.path
    return UpstreamRequest(
        grant.backend,
        head.method,
        f"{path}?{query}" if query else path,
        upstream_headers(policy, grant, head),
        None if text is None else text.encode("ascii"),
    )


def _filtered(policy: Policy, grant: Grant, head: RequestHead, query: str, text: str | None) -> UpstreamRequest:
    """Write the request for an answer that the gateway filters: it is whole, also for HEAD, and fits into a URL."""
    assert grant.filter is not None
    pairs = grant.pairs = (*split_pairs(query, "URL"), *split_pairs(text or "", "form"))
    enforced = narrowing(grant.claim, lists_labels=grant.filter.lists_labels) if grant.filter.binds else ()
    target = grant.backend.base + grant.filter.target(pairs, enforced)
    return UpstreamRequest(grant.backend, "GET", target, filtered_headers(policy, grant, head), None)


def names_request(policy: Policy, grant: Grant, head: RequestHead, path: str) -> UpstreamRequest:
    """Write the gateway's own request for the metric names that the token can see."""
    query = "&".join(("start=0", *narrowing(grant.claim, lists_labels=True)))
    target = f"{grant.backend.base}{path}?{query}"
    return UpstreamRequest(grant.backend, "GET", target, filtered_headers(policy, grant, head), None)


def moved(request: UpstreamRequest, backend: Backend) -> UpstreamRequest:
    """Return the request for another backend of its group, as :func:`rewrite` would write it."""
    (name, _), *headers = request.forwarded  # Host, which upstream_headers puts first
    target = backend.base + request.target.removeprefix(request.backend.base)
    forwarded = ((name, backend.host_header.encode()), *headers)
    return UpstreamRequest(backend, request.method, target, forwarded, request.body)
