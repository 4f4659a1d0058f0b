"""Explanations of requests.

    explain(policy, head, form, now)     decide now, and explain
    describe(policy, head, outcome)      explain an earlier decision

There are no rules here: the details come from the values that the decision returned, up to the step that refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote_plus

from vmgw_core import errors
from vmgw_core.backends import Concurrency
from vmgw_core.base import Access
from vmgw_core.enforcement import Body, Cycle, Gateway, Grant, Policy, State, UpstreamRequest, answer, match_of
from vmgw_core.errors import BodyTooLarge, Refusal, UnsupportedBody
from vmgw_core.http import RequestHead, read_form
from vmgw_core.limits import Guard, Guards, Limiter, slot_usages
from vmgw_core.limits.model import Usage
from vmgw_core.tokens import BasicCredentials, Token, VMAccessClaim, is_api_key

from .model import ArgumentsReport, Explanation, Pair, RefusalReport, Step, TokenReport, UpstreamReport, Verdict
from .text import report_step
from .token_report import credential_report, judge_token, report_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far a request came."""

    now: float
    """When it was decided, Unix seconds."""
    grant: Grant | None = None
    upstream: UpstreamRequest | None = None
    refusal: Refusal | None = None
    form: bytes | None = None
    """The client's form, if it was held."""
    limits: tuple[Usage, ...] | None = None
    """The limits that apply to the request; None if none are enforced."""
    guards: tuple[Guard, ...] = ()
    """The guards that apply to it."""
    answer: str = ""
    """What was left out of a filtered response."""
    shadow: str = ""
    """How the candidate configuration decides differently, if it does."""


def explain(
    policy: Policy,
    head: RequestHead,
    form: bytes | None,
    now: float,
    *,
    limiter: Limiter | None = None,
    slots: Concurrency | None = None,
    guards: Guards | None = None,
    live: float | None = None,
) -> Explanation:
    """Decide on a request at the Unix time ``now``, and explain the decision.

    ``form`` is the body; only a form on a read or delete route is read. The request is counted in ``limiter`` at
    ``now``, but not the rows of its body. ``live`` is the time of the clock of a limiter that is in use: then the
    request is judged by the counts of that moment, and not counted. It takes no slot; ``slots`` are only shown.
    """
    cycle, usage = Cycle(head, at=now, started=now), None
    try:
        gateway = Gateway(policy=policy, clock=lambda: now, limiter=limiter if live is None else None, guards=guards)
        if live is not None:
            cycle.authorize(gateway)  # it waits for nothing, as a password takes long to check
        elif not cycle.authorize(gateway, lambda: None):
            assert policy.credentials is not None
            policy.credentials.check_all()
            cycle.recheck(gateway, now, last=True)
        if limiter is not None and cycle.grant is not None:
            usage = usages(limiter, slots, cycle.grant, now if live is None else live)
        cycle.enter()
        if limiter is not None and live is not None and cycle.grant is not None:
            refusal = limiter.judge(cycle.grant.subject, cycle.grant.route.access, live, head.content_length)
            if refusal is not None:
                raise refusal
        cycle.count(now)
        cycle.prepare()
        if cycle.state is State.FORM:
            cycle.form(form or b"")
    except Refusal as refusal:
        cycle.refuse(refusal)
    outcome = Outcome(
        now=now,
        grant=cycle.grant,
        upstream=cycle.upstream,
        refusal=cycle.refusal,
        form=form,
        limits=usage,
        guards=cycle.guards,
    )
    return describe(policy, head, outcome)


def describe(policy: Policy, head: RequestHead, outcome: Outcome) -> Explanation:
    """Explain the decision on ``head`` under ``policy``."""
    refusal, grant, upstream = outcome.refusal, outcome.grant, outcome.upstream
    refused_at = None if refusal is None else _step_of(refusal, outcome)
    last = refused_at or (Step.BODY if upstream is None else Step.UPSTREAM)
    reached = tuple(Step)[: tuple(Step).index(last) + 1]
    token, report = _token(policy, head, outcome) if Step.TOKEN in reached else (None, None)
    url, form = (None, None)
    if grant is not None and Step.ARGUMENTS in reached:
        after = None if upstream is None else upstream.target.partition("?")[2]
        url, form = _compared(head.target.partition("?")[2], after), _form_arguments(head, grant, outcome)
    story = Explanation(
        verdict=Verdict.REFUSED if refusal else Verdict.PENDING if upstream is None else Verdict.ADMITTED,
        time=outcome.now,
        method=head.method,
        path=head.target.partition("?")[0],
        client=head.client,
        refusal=None if refusal is None else _refusal(policy, head, refusal, last),
        match=match_of(policy, head) if grant is None else grant.match,
        token=report,
        claims=_admitted_claims(grant) if grant is not None else () if token is None else token.grants.alternatives,
        entries=() if token is None else token.grants.sources,
        body=None if grant is None else grant.body.value,
        url_arguments=url,
        form_arguments=form,
        limits=outcome.limits,
        guards=outcome.guards,
        upstream=None if upstream is None else _upstream(head, upstream),
        filtered=grant is not None and grant.filter is not None,
        answer=outcome.answer,
        shadow=outcome.shadow,
    )
    return replace(story, steps=tuple(filter(None, (report_step(story, step) for step in reached))))


def usages(limiter: Limiter, slots: Concurrency | None, grant: Grant, now: float) -> tuple[Usage, ...]:
    """Return the limits that apply to a request, with their usage. ``now`` is on the clock of ``limiter``."""
    of_slots = () if slots is None else slot_usages(slots.uses(grant.subject))
    if grant.route.access is Access.DELETE:
        return of_slots
    reads = grant.route.access is Access.READ
    found = limiter.status_of(grant.subject, now)
    return (*(usage for usage in found if usage.limit.type.of_reads is reads), *of_slots)


def own_page(head: RequestHead, now: float) -> Explanation:
    """Return the explanation of a page of the gateway itself."""
    return Explanation(
        verdict=Verdict.OWN_PAGE,
        time=now,
        method=head.method,
        path=head.target.partition("?")[0],
        client=head.client,
    )


_STEP_OF: Final = (
    ((errors.MalformedHead, errors.HeadTooLarge, errors.TargetTooLong, errors.RequestTimeout), Step.HEAD),
    ((errors.TokenRefused, errors.KeysUnavailable, errors.SignatureNotChecked, errors.CrossSite), Step.TOKEN),
    (errors.AccessDenied, Step.MODE),
    ((errors.FiltersIgnored, errors.TenantIgnored), Step.FILTERS),
    (errors.ForeignTenant, Step.TENANT),
    (errors.NotServed, Step.BACKEND),
    ((errors.RateLimited, errors.UsageUnknown, errors.TooManyRows), Step.LIMITS),
    ((errors.BackendUnreachable, errors.BackendTimeout), Step.UPSTREAM),
)


def _admitted_claims(grant: Grant) -> tuple[VMAccessClaim]:
    """Return the claim that the request was admitted with, and all classes of limits that hold it."""
    return (replace(grant.claim, limit_class=", ".join(sorted(grant.subject.classes))),)


def _step_of(refusal: Refusal, outcome: Outcome) -> Step:
    for types, step in _STEP_OF:
        if isinstance(refusal, types):
            return step
    if outcome.upstream is not None:
        # After a complete decision only the rows of a body can still exceed a limit.
        return Step.LIMITS if isinstance(refusal, BodyTooLarge) else Step.UPSTREAM
    if outcome.grant is not None:
        return Step.BODY if isinstance(refusal, BodyTooLarge) and outcome.form is None else Step.ARGUMENTS
    return Step.BODY if isinstance(refusal, BodyTooLarge | UnsupportedBody) else Step.ROUTE


def _refusal(policy: Policy, head: RequestHead, refusal: Refusal, step: Step) -> RefusalReport:
    seen = answer(policy, head, refusal)
    return RefusalReport(
        step=step,
        code=refusal.code,
        message=refusal.message,
        status=refusal.status,
        answer_status=seen.status,
        answer=json.loads(seen.body)["error"] if seen.body else "a browser is led to the login",
    )


def _token(policy: Policy, head: RequestHead, outcome: Outcome) -> tuple[Token | None, TokenReport | None]:
    """Return the token if it is valid, and its report in any case."""
    if not policy.auth:
        return None, None
    token = None if outcome.grant is None else outcome.grant.token
    try:
        text = policy.token_source.find(head.headers)
    except Refusal:
        return token, None if token is None else credential_report(token)
    if isinstance(text, BasicCredentials) or (policy.token_source.machines and is_api_key(text)):
        return token, None if token is None else credential_report(token)
    in_cookie = policy.token_source.may_be_cookie(head.headers)
    if token is not None:
        return token, replace(report_of(text, token.key), in_cookie=in_cookie)
    story = judge_token(policy.verifier, text, outcome.now)
    return story.token, replace(story.report, in_cookie=in_cookie)


def _form_arguments(head: RequestHead, grant: Grant, outcome: Outcome) -> ArgumentsReport | None:
    if grant.body is not Body.HOLD or head.method != "POST":
        return None
    try:
        before = read_form(head.values(b"content-type")[0].decode("latin-1"), outcome.form or b"")
    except Refusal:
        return None
    upstream = outcome.upstream
    return _compared(before, None if upstream is None else (upstream.body or b"").decode("ascii"))


def _compared(before: str, after: str | None) -> ArgumentsReport:
    old = [pair for pair in before.split("&") if pair]
    new = None if after is None else [pair for pair in after.split("&") if pair]
    removed, added = Counter(old), Counter(new or ())
    return ArgumentsReport(
        before=_decoded(old),
        after=None if new is None else _decoded(new),
        removed=() if new is None else _decoded((removed - added).elements()),
        added=_decoded((added - removed).elements()),
    )


def _decoded(pairs: Iterable[str]) -> tuple[Pair, ...]:
    split = (pair.partition("=") for pair in pairs)
    return tuple(
        (unquote_plus(key, errors="replace"), unquote_plus(value, errors="replace")) for key, _, value in split
    )


def _upstream(head: RequestHead, upstream: UpstreamRequest) -> UpstreamReport:
    backend = upstream.backend
    sent = {name.lower() for name, _ in upstream.headers}
    came = dict.fromkeys(name.lower() for name, _ in head.headers)
    return UpstreamReport(
        flag=backend.flag,
        method=upstream.method,
        url=f"{backend.scheme}://{backend.host_header}{upstream.target}",
        dropped_headers=tuple(name.decode("latin-1") for name in came if name not in sent),
    )
