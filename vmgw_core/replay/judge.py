"""Decides captured requests again, and compares the decisions.

The time of a decision is that of the capture, so a token does not expire meanwhile. If the file lacks something that
the verdict needs (a signature, a large form), the verdict says so in ``doubt``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from vmgw_core.enforcement import Cycle, Gateway, Grant, Policy, State, route_of
from vmgw_core.errors import BadSignature, Refusal, UnknownCredentials
from vmgw_core.http import RequestHead, refusal_response
from vmgw_core.limits import Guards, Limiter
from vmgw_core.tokens.unverified import peek

from .evidence import RecordedTokens, token_of
from .record import ADMITTED, Captured, Outcome, Sent, sent_of
from .redaction import redact_text

_SIGNATURE: Final = "the signature of the token is not in the file"
_CREDENTIAL: Final = "the credential is not in the file"
_FORM: Final = "the form is not in the file"
_ROWS: Final = "the number of rows of the body is not in the file"


class Difference(StrEnum):
    """How two decisions on a request differ: the first that applies."""

    NEWLY_REFUSED = "newly refused"
    NEWLY_ADMITTED = "newly admitted"
    OTHER_REFUSAL = "other refusal"
    OTHER_TENANT = "other tenant"
    OTHER_UPSTREAM = "other upstream request"
    OTHER_BACKEND = "other backend"  # only of a shadow: replays compare whole URLs
    LIMITS = "limits"  # only of a shadow: one of the two verdicts is that of a limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A decision on a captured request. ``doubt`` says what is unknown, or is empty."""

    outcome: Outcome
    doubt: str = ""


class Judge:
    """Applies one policy to captured requests, in their order, and the limits at the times of the capture.

    ``trusting``: whether to trust the evidence of records.
    """

    def __init__(
        self, policy: Policy, limiter: Limiter | None = None, guards: Guards | None = None, *, trusting: bool = True
    ) -> None:
        self.tokens = RecordedTokens(policy.verifier.keys, rules=policy.verifier.rules, trusting=trusting)
        self.policy = replace(policy, verifier=self.tokens)
        self.gateway = Gateway(policy=self.policy, clock=lambda: self._now, limiter=limiter, guards=guards)
        self._now = 0.0

    def authorize(self, cycle: Cycle, captured: Captured, gateway: Gateway | None = None) -> None:
        """Authorize the request, or raise its ``Refusal``; ``tokens.doubtful`` says whether that is in doubt.

        ``gateway``: the gateway for the next events, if it is not the judge's own.
        """
        self.tokens.evidence, self.tokens.doubtful = captured.evidence, False
        if captured.evidence is not None and captured.evidence.credential is not None:
            raise UnknownCredentials(_CREDENTIAL)
        cycle.authorize(gateway or self.gateway)

    def judge(self, captured: Captured) -> Verdict:
        if captured.evidence is not None and captured.evidence.credential is not None and captured.outcome is not None:
            return Verdict(outcome=captured.outcome, doubt=_CREDENTIAL)
        cycle, doubt = Cycle(captured.head, at=captured.at, started=captured.at), ""
        self._now = captured.at
        try:
            self.authorize(cycle, captured)
            cycle.enter()
            cycle.count(captured.at)
            cycle.prepare()
            doubt = take_body(cycle, captured.form, captured.rows)
        except Refusal as refusal:
            outcome = refused(self.policy, captured.head, cycle.grant, refusal)
        else:
            assert cycle.grant is not None
            sent = None if cycle.upstream is None else sent_of(cycle.upstream)
            outcome = replace(admitted(cycle.grant), sent=sent)
        if self.tokens.doubtful and (outcome.admitted or outcome.code == BadSignature.code):
            doubt = _SIGNATURE  # other refusals do not depend on the signature
        return Verdict(outcome=outcome, doubt=doubt)


def take_body(cycle: Cycle, form: bytes | None, rows: int | None) -> str:
    """Pass what is known of the body to the cycle; return the doubt, or an empty text.

    Raises ``Refusal`` if the form cannot be rewritten, or the rows exceed a limit.
    """
    if cycle.state is State.FORM:
        if form is None:
            return _FORM
        cycle.form(form)
    elif cycle.state is State.METERED and cycle.gateway is not None and cycle.gateway.counts_rows:
        if rows is None:
            return _ROWS
        cycle.rows(rows)
    return ""


def compare(before: Outcome, after: Outcome, *, any_backend: bool = False) -> Difference | None:
    """Return how ``after`` differs from ``before``, apart from wording and, with ``any_backend``, the backend."""
    if before.admitted != after.admitted:
        return Difference.NEWLY_REFUSED if before.admitted else Difference.NEWLY_ADMITTED
    if (before.code, before.status) != (after.code, after.status):
        return Difference.OTHER_REFUSAL
    if before.admitted and before.tenant != after.tenant:
        return Difference.OTHER_TENANT
    if before.sent is not None and after.sent is not None:
        old, new = (_anywhere(sent) if any_backend else sent for sent in (before.sent, after.sent))
        if old != new:
            return Difference.OTHER_UPSTREAM
    return None


def essence(outcome: Outcome, *, any_backend: bool = False) -> Outcome:
    """Return what :func:`compare` compares of an outcome: all but the wording, and the backend with ``any_backend``."""
    sent = outcome.sent
    return replace(outcome, reason="", sent=_anywhere(sent) if any_backend and sent is not None else sent)


def _anywhere(sent: Sent) -> Sent:
    return replace(sent, url="/" + sent.url.partition("//")[2].partition("/")[2])


def admitted(grant: Grant) -> Outcome:
    """Return the outcome of a grant, without the upstream request."""
    route = grant.route
    return Outcome(code=ADMITTED, status=0, tenant=str(grant.claim.tenant), access=route.access.value, route=route.path)


def refused(policy: Policy, head: RequestHead, grant: Grant | None, refusal: Refusal) -> Outcome:
    """Return the outcome of a refusal, after ``grant`` if there was one.

    Without a grant, route and tenant are those that the request asked for. They are for reports only.
    """
    route = route_of(policy, head) if grant is None else grant.route
    access = None if route is None else route.access
    return Outcome(
        code=refusal.code,
        status=refusal_response(refusal, access=access).status,
        reason=redact_text(refusal.message),
        tenant=_claimed_tenant(policy, head) if grant is None else str(grant.claim.tenant),
        access=None if access is None else access.value,
        route=None if route is None else route.path,
    )


def _claimed_tenant(policy: Policy, head: RequestHead) -> str | None:
    """Return the tenant in the request's token, which may be invalid; None if it has none."""
    token = token_of(head, policy.token_source)
    claims = None if token is None else peek(token).claims
    try:
        return None if claims is None else ",".join(map(str, policy.verifier.rules.grants(claims).tenants))
    except Refusal:
        return None
