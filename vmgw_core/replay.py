"""Judging captured requests again, and what is different then.

A request is judged as of the time it was captured, so a token that was good is not refused for its age. Where what
a verdict rests on is not in the file (a signature, a large form), the verdict is ``doubtful`` and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from .access import Access
from .answers import answer
from .captures import ADMITTED, Captured, Outcome, Sent, sent_of
from .errors import BadSignature, Refusal
from .evidence import RecordedTokens
from .gateway import Body, Grant, Policy, access_of, admit, rewrite
from .head import RequestHead
from .limits import Limiter
from .redaction import redact_text
from .rows import row_counter

_SIGNATURE: Final = "the signature of the token is not in the file"
_FORM: Final = "the form is not in the file"
_ROWS: Final = "how many rows the body carries is not in the file"


class Difference(StrEnum):
    """How two decisions about one request differ: the first of these that is true."""

    NEWLY_REFUSED = "newly refused"
    NEWLY_ADMITTED = "newly admitted"
    OTHER_REFUSAL = "other refusal"
    OTHER_TENANT = "other tenant"
    OTHER_UPSTREAM = "other upstream request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a policy decides about a captured request. ``doubt`` says what is not known, or is empty."""

    outcome: Outcome
    doubt: str = ""


class Judge:
    """Applies one policy to captured requests, in the order in which they came.

    Args:
        limiter: holds the requests to limits, at the times of their capture; None where there are none.
        trusting: whether a record's word on its token's signature is taken.
    """

    def __init__(self, policy: Policy, limiter: Limiter | None = None, *, trusting: bool = True) -> None:
        self.limiter = limiter
        self.tokens = RecordedTokens(policy.verifier.keys, rules=policy.verifier.rules, trusting=trusting)
        self.policy = replace(policy, verifier=self.tokens)

    def grant(self, captured: Captured) -> Grant:
        """Admit the request, or raise its ``Refusal``; ``tokens.doubtful`` says how sure that is."""
        self.tokens.evidence, self.tokens.doubtful = captured.evidence, False
        return admit(self.policy, captured.head, captured.at)

    def judge(self, captured: Captured) -> Verdict:
        """Decide about one request."""
        grant = None
        try:
            grant = self.grant(captured)
            uncounted = self._count(grant, captured)
            outcome, doubt = self._rewrite(grant, captured)
            doubt = doubt or uncounted
        except Refusal as refusal:
            outcome, doubt = refused(self.policy, captured.head, grant, refusal), ""
        if self.tokens.doubtful and (outcome.admitted or outcome.code == BadSignature.code):
            doubt = _SIGNATURE  # any other refusal stands, whatever the signature is
        return Verdict(outcome=outcome, doubt=doubt)

    def _count(self, grant: Grant, captured: Captured) -> str:
        """Hold the request to the limits, in the order in which the gateway does; what is in doubt then, if anything.

        Raises:
            Refusal: it is beyond a limit.
        """
        if self.limiter is None:
            return ""
        subject, access = grant.subject, grant.route.access
        self.limiter.admit(subject, access, captured.at)
        if access is not Access.WRITE or not self.limiter.counts_rows:
            return ""
        if row_counter(grant.route, captured.head, max_decoded=0) is None:
            return ""
        if captured.rows is None:
            return _ROWS
        self.limiter.take_rows(subject, captured.rows, captured.at)
        return ""

    def _rewrite(self, grant: Grant, captured: Captured) -> tuple[Outcome, str]:
        outcome = admitted(grant)
        if grant.body is Body.HOLD and captured.form is None:
            return outcome, _FORM
        return replace(outcome, sent=sent_of(rewrite(self.policy, grant, captured.head, captured.form))), ""


def compare(before: Outcome, after: Outcome, *, any_backend: bool = False) -> Difference | None:
    """How ``after`` differs from ``before``. Wordings do not count.

    Args:
        any_backend: whether the address of the backend does not count either.
    """
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


def _anywhere(sent: Sent) -> Sent:
    return replace(sent, url="/" + sent.url.partition("//")[2].partition("/")[2])


def admitted(grant: Grant) -> Outcome:
    """The outcome of a grant, without what is sent."""
    route = grant.route
    return Outcome(code=ADMITTED, status=0, tenant=str(grant.claim.tenant), access=route.access.value, route=route.path)


def refused(policy: Policy, head: RequestHead, grant: Grant | None, refusal: Refusal) -> Outcome:
    """The outcome of a refusal; ``grant`` is there when it came after one."""
    access = access_of(policy, head) if grant is None else grant.route.access
    return Outcome(
        code=refusal.code,
        status=answer(refusal, access=access).status,
        reason=redact_text(refusal.message),
        tenant=None if grant is None else str(grant.claim.tenant),
        access=None if access is None else access.value,
        route=None if grant is None else grant.route.path,
    )
