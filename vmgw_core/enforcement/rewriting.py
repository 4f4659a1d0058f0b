"""The upstream request: its path, arguments, headers and body."""

from __future__ import annotations

from typing import NamedTuple

from vmgw_core.backends import Backend
from vmgw_core.http import Headers, RequestHead, read_form
from vmgw_core.routing import upstream_path

from .admission import Body, Grant, Policy, form_type
from .arguments import enforce
from .upstream_headers import upstream_headers


class UpstreamRequest(NamedTuple):
    """What the backend receives. ``body`` is None if the client's body is streamed or there is none."""

    backend: Backend
    method: str
    target: str
    headers: Headers
    body: bytes | None


def rewrite(policy: Policy, grant: Grant, head: RequestHead, form: bytes | None) -> UpstreamRequest:
    """Write the request that the backend gets.

    Args:
        form: the whole body if ``grant.body`` is ``Body.HOLD``, else None.

    Raises:
        Refusal: the arguments cannot be made binding, or the form cannot be read.
    """
    claim = grant.claim
    query = head.target.partition("?")[2]
    text = None
    if grant.body is Body.HOLD:
        # The body of a GET has no meaning (RFC 9110, section 9.3.1), and Go does not read it.
        text = read_form(form_type(head.headers), form or b"") if head.method == "POST" else ""
    all_tenants = grant.match.multitenant and grant.token is not None  # without tokens, nobody is held to a tenant
    query, text = enforce(grant.route, claim, query, text, cluster=policy.cluster, multitenant=all_tenants)
    path = upstream_path(grant.match, claim.tenant, grant.backend, cluster=policy.cluster)
    body = None if text is None else text.encode("ascii")
    return UpstreamRequest(
        backend=grant.backend,
        method=head.method,
        target=f"{path}?{query}" if query else path,
        headers=upstream_headers(policy, grant, head, body),
        body=body,
    )


def moved(request: UpstreamRequest, backend: Backend) -> UpstreamRequest:
    """Return the request for another backend of its group, as :func:`rewrite` would write it."""
    (name, _), *headers = request.headers  # Host, which upstream_headers puts first
    return request._replace(
        backend=backend,
        target=backend.base + request.target.removeprefix(request.backend.base),
        headers=((name, backend.host_header.encode()), *headers),
    )
