"""Records requests and decisions, without secrets.

The recorded upstream request is written from the redacted request. So the same policy decides the same on the record,
whatever the redaction changed; tests check that law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vmgw_core.enforcement import Body, Grant, Policy, rewrite
from vmgw_core.enforcement.guards.check import hold_to_guards
from vmgw_core.errors import BackendTimeout, BackendUnreachable, CrossSite, InternalError, Refusal, RequestTimeout
from vmgw_core.http import Headers, RequestHead
from vmgw_core.limits import Guard

from .evidence import Evidence, examine, found, of_credential, token_of
from .judge import admitted, refused
from .record import Captured, Outcome, sent_of
from .redaction import redact_form, redact_headers, redact_target

_NO_DECISION: Final = (BackendUnreachable, BackendTimeout, InternalError, RequestTimeout, CrossSite)
"""Refusals that do not come from the policy: the same request may succeed later, or if another page sends it."""


def record(
    policy: Policy,
    head: RequestHead,
    *,
    at: float,
    grant: Grant | None,
    refusal: Refusal | None,
    form: bytes | None,
    rows: int | None = None,
    sample: float = 1.0,
    guards: Sequence[Guard] = (),
) -> Captured:
    """Return the record of one request that was decided at ``at``, in Unix seconds.

    ``grant`` is None if the head was refused, and ``refusal`` if the request was forwarded. ``form`` is the client's
    form if it is small enough to keep, ``rows`` those of a write if known, ``sample`` the share of requests recorded,
    and ``guards`` those that the request was held to.
    """
    in_cookie = policy.token_source.may_be_cookie(head.headers)
    if in_cookie:
        head = head.with_headers(policy.token_source.in_header(head.headers))
    headers = redact_headers(head.headers, policy.token_source.headers)
    if form is not None:
        headers, form = _redact_form(headers, head, form)
    redacted = RequestHead(method=head.method, target=redact_target(head.target), headers=headers, client=head.client)
    captured = Captured(
        head=redacted,
        at=at,
        form=form,
        rows=rows,
        evidence=_evidence(policy, head, redacted, grant),
        sample=sample,
        token_in="cookie" if in_cookie and token_of(head, policy.token_source) is not None else None,
    )
    return replace(captured, outcome=_outcome(policy, captured, grant, refusal, guards))


def _redact_form(headers: Headers, head: RequestHead, form: bytes) -> tuple[Headers, bytes | None]:
    """Return the headers with the new type of the form, and the form without secrets."""
    content_type = (head.values(b"content-type") or [b""])[0].decode("latin-1")
    found = redact_form(content_type, form)
    if found is None or found[0] == content_type:
        return headers, None if found is None else found[1]
    changed = found[0].encode("latin-1")
    return tuple((name, changed if name.lower() == b"content-type" else value) for name, value in headers), found[1]


def _evidence(policy: Policy, head: RequestHead, redacted: RequestHead, grant: Grant | None) -> Evidence | None:
    if grant is not None and grant.token is not None and grant.token.credential is not None:
        return of_credential(grant.token)
    token = token_of(head, policy.token_source)
    kept = token_of(redacted, policy.token_source)
    if token is None or kept is None:
        return None
    if grant is None or grant.token is None:
        return examine(token, kept, policy.verifier.keys, policy.verifier.rules.max_length)
    return found(grant.token.key, kept)


def _outcome(
    policy: Policy, captured: Captured, grant: Grant | None, refusal: Refusal | None, guards: Sequence[Guard]
) -> Outcome | None:
    if refusal is not None and not isinstance(refusal, _NO_DECISION):
        return refused(policy, captured.head, grant, refusal)
    if grant is None:
        return None

    def guarded(query: str, form: str | None) -> tuple[str, str | None]:
        return hold_to_guards(guards, grant.route, captured.head, query, form, captured.at, _tell_nobody)

    outcome = admitted(grant)
    if grant.body is Body.HOLD and captured.form is None:
        return outcome
    try:
        return replace(outcome, sent=sent_of(rewrite(policy, grant, captured.head, captured.form, guarded)))
    except Refusal:  # of the redacted request; the client's own was admitted
        return outcome


def _tell_nobody(guard: Guard, broken: str) -> None:
    """The gateway has told of it."""
