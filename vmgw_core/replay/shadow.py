"""The shadow: a candidate configuration that judges the requests of a running gateway, without any effect on them.

Rules of this file:

- The head is judged, and the form if the live gateway has read it. The rows of a write are those that the live gateway
  has counted.
- The limiter and the backends are the shadow's own. Nothing is asked or fetched.
- A refusal that does not come from a configuration (a backend that fails, a client that is too slow, too many
  requests at once) is not compared. Nor is what the shadow cannot know: such a request is undecided.
- All differences are counted. A bounded number of them is explained, since that costs more than the decision.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import Final

from vmgw_core.base import BoundedCache, text_bytes
from vmgw_core.enforcement import Cycle, Gateway, Grant, UpstreamRequest, moved
from vmgw_core.errors import (
    BadBody,
    BodyTooLarge,
    PasswordUnchecked,
    RateLimited,
    Refusal,
    RequestTimeout,
    TokenExpired,
    TokenNotYetValid,
    TokenRefused,
    TooManyAtOnce,
    TooManyRows,
)
from vmgw_core.http import RequestHead, facts_cache, facts_of
from vmgw_core.tokens import BasicCredentials, KeySet, Token, TokenRules, TokenVerifier
from vmgw_core.tokens.verifier import DEFAULT_CACHE_BYTES

from .judge import Difference, admitted, compare, refused, take_body
from .record import ADMITTED, Outcome, sent_of
from .redaction import redact_target
from .report import reason_of
from .tally import Change, shown

LISTED: Final = 20
"""Explanations that are kept, and that may come at once."""
EXPLAINED_EVERY: Final = 5.0
"""Seconds after which one more difference is explained."""

_REFUSED_BYTES: Final = 4 << 20
_REFUSED_ENTRY: Final = 500
"""The memory of an exception, without its text."""
_OF_LIMITS: Final = frozenset((RateLimited.code, TooManyRows.code))
_NOT_COMPARED: Final = (RequestTimeout, TooManyAtOnce)


class ShadowCounts:
    """What a shadow has found. It stays over reloads."""

    def __init__(self) -> None:
        self.requests = 0
        """Requests that were judged."""
        self.undecided = 0
        """Those of them that could not be compared."""
        self.failures = 0
        """Requests that could not be judged because of a defect."""
        self.differences: Counter[Difference] = Counter()
        self.last: deque[tuple[float, str]] = deque(maxlen=LISTED)
        """The last explanations with their times, in Unix seconds."""
        self._budget = float(LISTED)
        self._explained = 0.0

    def may_explain(self, now: float) -> bool:
        """Take one explanation from the budget; return False if there is none. ``now`` never goes back."""
        self._budget = min(LISTED, self._budget + (now - self._explained) / EXPLAINED_EVERY)
        self._explained = now
        if self._budget < 1:
            return False
        self._budget -= 1
        return True


class ShadowTokens(TokenVerifier):
    """Verifies tokens, and remembers those that it refuses: the live gateway may accept them again and again."""

    def __init__(self, keys: KeySet | None, *, rules: TokenRules, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        super().__init__(keys, rules=rules, cache_bytes=cache_bytes)
        self._refused: BoundedCache[str, TokenRefused] = BoundedCache(_REFUSED_BYTES, _refused_bytes)

    def replace_keys(self, keys: KeySet | None) -> None:
        super().replace_keys(keys)
        self._refused.clear()

    def verify(self, token: str, now: float) -> Token:
        known = self._refused.get(token)
        if known is not None:
            raise type(known)(str(known))
        try:
            return super().verify(token, now)
        except (TokenExpired, TokenNotYetValid):
            raise  # cached, and may be valid later
        except TokenRefused as refusal:
            self._refused.put(token, type(refusal)(str(refusal)))
            raise


def _refused_bytes(token: str, refusal: TokenRefused) -> int:
    return _REFUSED_ENTRY + text_bytes(token, str(refusal))


class Shadow:
    """Judges requests by ``gateway``, which has no concurrency limit, no keys to wait for and nobody to ask.

    ``same_limits``: whether its limits are those in force. Then ``gateway`` has no limiter, and a request that a limit
    refuses is not compared.
    """

    def __init__(self, gateway: Gateway, counts: ShadowCounts, *, same_limits: bool = False) -> None:
        self.gateway = gateway
        self.counts = counts
        self.same_limits = same_limits
        self._facts = facts_cache()

    def judge(self, live: Cycle, form: bytes | None, now: float) -> str:
        """Judge the request of ``live``, whose decision is known; return a line if the decisions differ and it is
        explained, else an empty text. Sets ``live.shadow``.

        ``form`` is the client's form if it was read. ``now`` is on the clock of the limiter.
        """
        live.shadow = ""
        if live.gateway is None or (live.refusal is None and live.upstream is None):
            return ""  # nothing was decided: the client has left
        other, doubt = self._decide(self._head_of(live.head), live, form, now)
        other.upstream = _as_sent(live, other)
        self.counts.requests += 1
        if self._is_undecided(live, other, doubt):
            self.counts.undecided += 1
            return ""
        return "" if self._agree(live, other) else self._told(live, other, now)

    def _head_of(self, head: RequestHead) -> RequestHead:
        """Return ``head`` without what the live gateway has computed of it, which stays as it is."""
        facts = facts_of(head.headers, self._facts)
        made = RequestHead(head.method, head.target, head.headers, head.client, facts)
        made.certificate = head.certificate
        return made

    def _decide(self, head: RequestHead, live: Cycle, form: bytes | None, now: float) -> tuple[Cycle, str]:
        """Return the shadow's cycle after its decision, and the doubt of :func:`take_body`."""
        cycle, doubt = Cycle(head, at=live.at, started=now), ""
        rows = None if live.meter is None else live.meter.rows
        try:
            try:
                cycle.authorize(self.gateway)
            except PasswordUnchecked:
                if not self._take_over_password(live):
                    raise
                cycle = Cycle(head, at=live.at, started=now)
                cycle.authorize(self.gateway)
            cycle.enter()
            cycle.count(now)
            cycle.prepare()
            doubt = take_body(cycle, form, rows)
        except Refusal as refusal:
            cycle.refuse(refusal)
        return cycle, doubt

    def _take_over_password(self, live: Cycle) -> bool:
        """Take a password as checked if the live gateway has checked it against the same hash."""
        mine, theirs = self.gateway.policy.credentials, None if live.policy is None else live.policy.credentials
        given = self.gateway.policy.token_source.find(live.head.headers)
        if mine is None or theirs is None or not isinstance(given, BasicCredentials):
            return False
        return mine.take_over(given, theirs)

    def _is_undecided(self, live: Cycle, other: Cycle, doubt: str) -> bool:
        refusal = live.refusal
        if _is_no_decision(other.refusal) or (live.upstream is None and _is_no_decision(refusal)):
            return True
        if other.refusal is not None:
            return False
        if isinstance(refusal, RateLimited | TooManyRows):
            return self._counts_less(live)
        if live.upstream is not None and refusal is not None and not _is_no_decision(refusal):
            return True  # of the body, which the shadow has not seen
        if isinstance(refusal, BadBody) or (isinstance(refusal, BodyTooLarge) and live.received > 0):
            return True
        return bool(doubt) and live.upstream is not None

    def _counts_less(self, live: Cycle) -> bool:
        """Whether a limit may have refused ``live`` by counts that the shadow does not have."""
        gateway = live.gateway
        assert gateway is not None
        others = gateway.ask is not None or (gateway.limiter is not None and gateway.limiter.measured)
        return self.same_limits or others

    def _agree(self, live: Cycle, other: Cycle) -> bool:
        """Whether the decisions are the same. It costs less than to compare outcomes."""
        refusal = _refusal_of(live)
        if refusal is not None or other.refusal is not None:
            return refusal is not None and other.refusal is not None and refusal.code == other.refusal.code
        mine, theirs = _granted(live), _granted(other)
        return (
            _tenants(mine) == _tenants(theirs)
            and live.upstream == other.upstream
            and _backends(mine) == _backends(theirs)
            and _filtered_by(mine) == _filtered_by(theirs)
        )

    def _told(self, live: Cycle, other: Cycle, now: float) -> str:
        """Count a difference. Return its explanation if it may have one."""
        difference = _difference(live, other)
        self.counts.differences[difference] += 1
        live.shadow = difference.value
        if not self.counts.may_explain(now):
            return ""
        before, after = self._outcomes(live, other)
        change = Change(
            place=live.head.client,
            method=shown(live.head.method),
            target=shown(redact_target(live.head.target)),
            difference=difference,
            before=_redacted(before, live.upstream),
            after=_redacted(after, other.upstream),
            doubt="",
        )
        live.shadow = f"{difference}: {_story(change, live, other)}{reason_of(change)}"
        line = f"{change.place} {change.method} {change.target}: {live.shadow}"
        self.counts.last.append((live.at, line))
        return line

    def _outcomes(self, live: Cycle, other: Cycle) -> tuple[Outcome, Outcome]:
        assert live.policy is not None
        refusal = _refusal_of(live)
        if refusal is not None:
            before = refused(live.policy, other.head, live.grant, refusal)
        else:
            before = _admitted(_granted(live), live.upstream)
        if other.refusal is not None:
            after = refused(self.gateway.policy, other.head, other.grant, other.refusal)
        else:
            after = _admitted(_granted(other), other.upstream)
        return before, after


def _is_no_decision(refusal: Refusal | None) -> bool:
    """Whether a refusal does not come from the configuration."""
    return refusal is not None and (refusal.status >= 500 or isinstance(refusal, _NOT_COMPARED))


def _refusal_of(live: Cycle) -> Refusal | None:
    """Return the refusal that the configuration led to; None if the request was admitted, also if it failed later."""
    return None if _is_no_decision(live.refusal) else live.refusal


def _granted(cycle: Cycle) -> Grant:
    assert cycle.grant is not None
    return cycle.grant


def _as_sent(live: Cycle, other: Cycle) -> UpstreamRequest | None:
    """Return the shadow's request as ``live`` would send it to its backend, so that the rest can be compared."""
    if live.upstream is None or other.upstream is None:
        return other.upstream
    same = live.upstream.backend is other.upstream.backend
    return live.traced(other.upstream if same else moved(other.upstream, live.upstream.backend))


def _tenants(grant: Grant) -> object:
    return grant.claim.tenant if grant.tenants is None else grant.tenants


def _tenants_in_words(grant: Grant) -> str:
    return str(grant.claim.tenant) if grant.tenants is None else ",".join(sorted(map(str, grant.tenants)))


def _backends(grant: Grant) -> list[object]:
    return [member.backend for member in grant.backends.members]


def _filtered_by(grant: Grant) -> object:
    """Return what the gateway limits the response to, because the backend does not."""
    if grant.filter is None:
        return None
    claims = (grant.claim,) if grant.token is None else (grant.claim, *grant.token.grants.alternatives)
    return [(claim.tenant, claim.labels, claim.filters) for claim in claims]


def _admitted(grant: Grant, upstream: UpstreamRequest | None) -> Outcome:
    outcome = replace(admitted(grant), tenant=_tenants_in_words(grant))
    return outcome if upstream is None else replace(outcome, sent=sent_of(upstream))


def _redacted(outcome: Outcome, upstream: UpstreamRequest | None) -> Outcome:
    """Return the outcome with the upstream request as reports may show it."""
    if outcome.sent is None or upstream is None:
        return outcome
    target = redact_target(upstream.target)
    return replace(outcome, sent=replace(outcome.sent, url=outcome.sent.url.removesuffix(upstream.target) + target))


def _difference(live: Cycle, other: Cycle) -> Difference:
    """Return how decisions differ that do not agree."""
    before, after = _verdict(live, _refusal_of(live)), _verdict(other, other.refusal)
    if {before.code, after.code} & _OF_LIMITS:
        return Difference.LIMITS
    found = compare(before, after)
    if found is not None:
        return found
    mine, theirs = _granted(live), _granted(other)
    same = live.upstream == other.upstream and _filtered_by(mine) == _filtered_by(theirs)
    return Difference.OTHER_BACKEND if same else Difference.OTHER_UPSTREAM


def _verdict(cycle: Cycle, refusal: Refusal | None) -> Outcome:
    """Return the outcome without what is for reports alone, and without the upstream request."""
    if refusal is not None:
        return Outcome(code=refusal.code, status=refusal.status)
    grant = _granted(cycle)
    return Outcome(code=ADMITTED, status=0, tenant=_tenants_in_words(grant))


def _story(change: Change, live: Cycle, other: Cycle) -> str:
    """Say what the decisions were."""
    if change.difference is Difference.OTHER_BACKEND:
        old, new = (", ".join(map(str, _backends(_granted(cycle)))) for cycle in (live, other))
        return f"{old} -> {new}" if old != new else f"{old}, with other credentials"
    sent = change.before.sent, change.after.sent
    if change.difference is Difference.OTHER_UPSTREAM and sent[0] == sent[1]:
        return "the gateway limits the response to other labels, filters or tenants"
    return change.story
