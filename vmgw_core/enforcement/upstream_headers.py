"""The headers that a backend receives."""

from __future__ import annotations

from typing import Final

from vmgw_core.answers import DROPPED_HEADERS
from vmgw_core.base import is_credential_header
from vmgw_core.http import Headers, RequestHead

from .admission import Body, Grant, Policy

# RFC 9110, section 7.6.1, and headers that could choose a tenant. Headers with credentials or identities are not
# forwarded either: see secret_names.
_NEVER_FORWARDED: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer upgrade expect host "
    b"accountid projectid x-forwarded-for storage-step".split()
)
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding", b"content-type", b"content-encoding"))


def upstream_headers(policy: Policy, grant: Grant, head: RequestHead) -> Headers:
    """Return the client's headers as the backend gets them, without those that frame a form."""
    key = (
        head.client,
        policy.token_source.headers,
        grant.backend.host_header,
        grant.body is Body.HOLD,
        policy.compression,
    )
    known = head.facts.forwarded
    if known is not None and known[0] == key:
        return known[1]
    headers = _forward(head.headers, *key)
    head.facts.forwarded = (key, headers)
    return headers


def filtered_headers(policy: Policy, grant: Grant, head: RequestHead) -> Headers:
    """Return the headers for an answer that will be filtered: it must be whole, and is best not compressed."""
    kept = tuple(
        field for field in upstream_headers(policy, grant, head) if field[0].lower() not in DROPPED_HEADERS | _FRAMING
    )
    return (*kept, (b"Accept-Encoding", b"identity"))


def _forward(
    headers: Headers, client: str, token_headers: tuple[bytes, ...], host: str, reframed: bool, compression: bool
) -> Headers:
    """Return the client's headers as a backend gets them, Host first.

    ``reframed``: the body is rewritten, and so are the headers that frame it.
    """
    values = [(name.lower(), value) for name, value in headers]
    named = {each.strip().lower() for name, value in values if name == b"connection" for each in value.split(b",")}
    # Dropping framing headers that Connection names would change where the message ends for the backend.
    dropped = _NEVER_FORWARDED | {*token_headers} | (named - _FRAMING) | (_FRAMING if reframed else set())
    if not compression:
        dropped |= {b"accept-encoding"}
    hops = [value.strip().decode("latin-1") for name, value in values if name == b"x-forwarded-for"]
    return (
        (b"Host", host.encode()),
        *(field for field in headers if field[0].lower() not in dropped and not is_credential_header(field[0])),
        (b"X-Forwarded-For", ", ".join([*hops, client]).encode("latin-1")),
    )
