"""The shadow: each kind of difference is told, what it cannot know is undecided, and nothing of a request changes."""

from __future__ import annotations

import math
from base64 import b64encode
from dataclasses import replace
from typing import Any, Final
from unittest.mock import Mock

import pytest

from tests.support.core import keys
from tests.support.core.captured import FIRST, SECOND, head, policy, posted
from tests.support.core.keys import NOW
from tests.support.core.limiters import limit
from tests.support.each import each
from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup
from vmgw_core.credentials.passwords import PasswordHash
from vmgw_core.credentials.store import Credentials
from vmgw_core.enforcement.admission import Policy
from vmgw_core.enforcement.cycle import Cycle, Gateway, State
from vmgw_core.enforcement.tracing import TracedCycle, Tracer
from vmgw_core.errors import (
    BackendUnreachable,
    BadSignature,
    InternalError,
    InvalidClaims,
    Refusal,
    RequestTimeout,
    TokenNotYetValid,
    TooManyAtOnce,
)
from vmgw_core.http.head import RequestHead
from vmgw_core.limits.limiter import Limiter
from vmgw_core.replay.judge import Difference
from vmgw_core.replay.shadow import EXPLAINED_EVERY, LISTED, Shadow, ShadowCounts, ShadowTokens
from vmgw_core.tokens.grants import Grants
from vmgw_core.tokens.keys import KeySet
from vmgw_core.tokens.rules import TokenRules
from vmgw_core.tokens.source import TokenSource
from vmgw_core.tokens.verifier import Token, TokenVerifier

FORM: Final = b"query=up"
FORM_HEADERS: Final = (("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", str(len(FORM))))
ROWS: Final = b"a 1\nb 2\n"
MALFORMED: Final = "a.b.c"
MULTITENANT: Final = "/insert/multitenant/prometheus/api/v1/import/prometheus"
RULES: Final = "/api/v1/rules"
A, B = (Backend.parse(f"http://vm{name}:8428", "read.url") for name in "ab")
SECRET: Final = Backend.parse("http://user:hush@vm:8428", "read.url")


def gateway(by: Policy | None = None, **parts: Any) -> Gateway:  # noqa: ANN401
    return Gateway(policy=by or policy(FIRST), clock=lambda: 1.0, **parts)


def granting(*alternatives: dict[str, object], **changes: Any) -> Policy:  # noqa: ANN401
    """A policy that gives this to every token of ``FIRST``, whatever the token says."""
    each_of = [Grants.from_claims({"vm_access": access}).alternatives[0] for access in alternatives]
    grants, made = Grants(alternatives=tuple(each_of)), policy(FIRST, **changes)
    return replace(made, verifier=TokenVerifier(made.verifier.keys, rules=TokenRules(grants=lambda _: grants)))


def account(number: int) -> dict[str, object]:
    return {"tenant_id": {"account_id": number}}


def write(target: str = "/api/v1/import/prometheus", *headers: tuple[str, str]) -> RequestHead:
    return head(target, ("Transfer-Encoding", "chunked"), *headers, method="POST")


class Pair:
    """A live gateway and its shadow."""

    def __init__(self, live: Policy | Gateway, shadow: Policy | Gateway, *, same_limits: bool = False) -> None:
        self.live = live if isinstance(live, Gateway) else gateway(live)
        other = shadow if isinstance(shadow, Gateway) else gateway(shadow)
        self.shadow = Shadow(other, ShadowCounts(), same_limits=same_limits)
        self.now = 1000.0
        self.line = ""

    def run(
        self,
        request: RequestHead,
        body: bytes | None = None,
        fails: Refusal | None = None,
        tracer: Tracer | None = None,
    ) -> Cycle:
        """Let the live gateway decide, and then the shadow, as a carrier does. ``fails``: what comes after it."""
        if tracer is None:
            cycle = Cycle(request, at=NOW, started=1.0)
        else:
            cycle = TracedCycle(request, at=NOW, started=1.0, tracer=tracer)
        noted: list[tuple[Cycle, bytes | None]] = []
        try:
            cycle.authorize(replace(self.live, shadow=lambda made, form: noted.append((made, form))))
            cycle.enter()
            cycle.count(self.now)
            cycle.prepare()
            if body is not None and cycle.state is State.FORM:
                cycle.form(body)
            elif body is not None:
                cycle.body(body, end=True)
            if fails is not None:
                raise fails
        except Refusal as refusal:
            cycle.refuse(refusal)
        assert len(noted) <= 1
        self.line = self.shadow.judge(*(noted or [(cycle, None)])[0], self.now)
        return cycle

    @property
    def counted(self) -> tuple[int, int, dict[Difference, int]]:
        """The requests, those undecided, and the differences."""
        counts = self.shadow.counts
        return counts.requests, counts.undecided, dict(counts.differences)


# --- the same --------------------------------------------------------------------------------------------------------


@each(
    "request_",
    {
        "query": (head(), None),
        "unknown": (head("/nope"), None),
        "bad token": (head(token=MALFORMED), None),
        "form": (posted(FORM), FORM),
        "bad form": (posted(b"query=%zz"), b"query=%zz"),
        "refused": (head(vm_access={"mode": 2}), None),
        "write": (write(), ROWS),
        "rules": (head(RULES), None),
    }.items(),
    ids=lambda case: case[0],
)
def test_the_same_configuration_changes_nothing(request_: tuple[str, tuple[RequestHead, bytes | None]]) -> None:
    pair = Pair(policy(FIRST, filters_responses=True), policy(FIRST, filters_responses=True))
    cycle = pair.run(*request_[1])
    assert pair.line == cycle.shadow == ""
    assert pair.counted == (1, 0, {})
    assert not pair.shadow.counts.last


def test_what_the_live_gateway_has_computed_of_the_headers_stays() -> None:
    other = policy(FIRST, token_source=TokenSource(headers=(b"authorization", b"x-token")), read=BackendGroup((A,)))
    cycle = Pair(policy(FIRST), other).run(head("/api/v1/query?query=up", ("X-Of", "this test")))
    assert cycle.policy is not None
    assert cycle.upstream is not None
    facts = cycle.head.facts
    assert facts.token is not None
    assert facts.token[0] is cycle.policy.token_source
    assert facts.forwarded is not None
    assert facts.forwarded[1] is cycle.upstream.forwarded


def test_the_backend_that_the_live_gateway_chose_is_no_difference() -> None:
    two = [policy(FIRST, read=BackendGroup((A, B))) for _ in range(2)]
    pair = Pair(*two)
    assert {str(pair.run(head()).upstream.backend) for _ in range(2)} == {str(A), str(B)}  # type: ignore[union-attr]
    two[1].read.choose()  # type: ignore[union-attr]
    assert {str(pair.run(head()).upstream.backend) for _ in range(2)} == {str(A), str(B)}  # type: ignore[union-attr]
    assert pair.counted == (4, 0, {})


@each("sampled", [0.0, 1.0])
@each("headers", [(), (("traceparent", f"00-{5:032x}-{7:016x}-01"), ("tracestate", "a=b")), (("tracestate", "a=b"),)])
def test_the_span_of_a_request_is_no_difference(sampled: float, headers: tuple[tuple[str, str], ...]) -> None:
    tracer = Tracer(sampled, 100, lambda: 1.0, lambda _: 1 << 150)
    two = [policy(FIRST, read=BackendGroup((A, B)), filters_responses=True) for _ in range(2)]
    pair = Pair(*two)
    for request, body in (
        (head("/api/v1/query?query=up", *headers), None),
        (head("/api/v1/query", *FORM_HEADERS, *headers, method="POST"), FORM),
        (head(RULES, *headers), None),
        (write("/api/v1/import/prometheus", *headers), ROWS),
    ):
        upstream = pair.run(request, body, tracer=tracer).upstream
        assert upstream is not None
        assert b"traceparent" in dict(upstream.forwarded)
    assert pair.counted == (4, 0, {})


# --- each kind of difference -----------------------------------------------------------------------------------------

DIFFERENT: Final[dict[str, tuple[Policy, Policy, RequestHead, bytes | None, Difference, str]]] = {
    "newly refused": (
        policy(FIRST), policy(SECOND), head(), None, Difference.NEWLY_REFUSED, "admitted -> 401 bad_signature: ",
    ),
    "newly admitted": (
        policy(SECOND), policy(FIRST), head(), None, Difference.NEWLY_ADMITTED, "401 bad_signature -> admitted: ",
    ),
    "other refusal": (
        policy(SECOND), policy(FIRST), head(vm_access={"mode": 2}), None, Difference.OTHER_REFUSAL,
        "401 bad_signature -> 403 access_denied: ",
    ),
    "tenant": (
        granting(account(1), cluster=True), granting(account(2), cluster=True), head(), None,
        Difference.OTHER_TENANT, "1:0 -> 2:0",
    ),
    "tenants of rows": (
        granting(account(1), account(2), cluster=True), granting(account(1), cluster=True), write(MULTITENANT),
        b'a{vm_account_id="1"} 1\n', Difference.OTHER_TENANT, "1:0,2:0 -> 1:0",
    ),
    "labels": (
        granting({}), granting({"extra_labels": {"team": "dev"}}), head(), None, Difference.OTHER_UPSTREAM,
        "+extra_label=team%3Ddev",
    ),
    "labels of a form": (
        granting({}), granting({"extra_filters": ['{a="b"}']}), posted(FORM), FORM, Difference.OTHER_UPSTREAM,
        "- +extra_filters[]=%7Ba%3D%22b%22%7D",
    ),
    "labels of a response": (
        granting({"extra_labels": {"team": "a"}}, filters_responses=True),
        granting({"extra_labels": {"team": "b"}}, filters_responses=True), head(RULES), None,
        Difference.OTHER_UPSTREAM, "the gateway limits the response to other labels, filters or tenants",
    ),
    "backend": (
        policy(FIRST, read=BackendGroup((A,))), policy(FIRST, read=BackendGroup((A, B))), head(), None,
        Difference.OTHER_BACKEND, "http://vma:8428 -> http://vma:8428, http://vmb:8428",
    ),
    "credentials of a backend": (
        policy(FIRST), policy(FIRST, read=BackendGroup((SECRET,))), head(), None, Difference.OTHER_BACKEND,
        "http://vm:8428, with other credentials",
    ),
    "a form that is refused": (
        policy(FIRST), policy(SECOND), posted(b"query=%zz"), b"query=%zz", Difference.OTHER_REFUSAL,
        "400 bad_request -> 401 bad_signature: ",
    ),
    "the size of a form": (
        policy(FIRST, max_form_size=2), policy(FIRST), posted(FORM), None, Difference.NEWLY_ADMITTED,
        "413 body_too_large -> admitted: the form is larger than 2 bytes (-maxFormSize)",
    ),
    "a pages filter without a token": (
        policy(auth=False, cluster=True, filters_responses=True),
        policy(auth=False, cluster=True, read=BackendGroup((A,)), filters_responses=True),
        head("/select/1/prometheus/api/v1/rules"), None, Difference.OTHER_BACKEND, "http://vm:8428 -> http://vma:8428",
    ),
}  # fmt: skip


@each("name", DIFFERENT)
def test_a_difference_is_counted_and_told(name: str) -> None:
    live, shadow, request, body, difference, story = DIFFERENT[name]
    pair = Pair(live, shadow)
    cycle = pair.run(request, body)
    assert pair.counted == (1, 0, {difference: 1})
    assert cycle.shadow is not None
    assert cycle.shadow.startswith(f"{difference.value}: {story}")
    assert pair.line == f"10.0.0.1 {request.method} {request.target}: {cycle.shadow}"
    assert list(pair.shadow.counts.last) == [(NOW, pair.line)]


@each("number", [1, 2])
def test_limits_are_counted_by_the_shadow_alone(number: int) -> None:
    live, shadow = Limiter([limit("queries", 3 - number)]), Limiter([limit("queries", number)])
    pair = Pair(gateway(limiter=live), gateway(limiter=shadow))
    cycles = [pair.run(head()) for _ in range(3)]
    assert [cycle.refusal is not None for cycle in cycles] == [False, number == 2, True]
    assert pair.counted == (3, 0, {Difference.LIMITS: 1})
    text = "429 rate_limited -> admitted" if number == 2 else "admitted -> 429 rate_limited"
    assert f": limits: {text}: request was rate limited: tenant 0:0 has used 1 of 1" in pair.shadow.counts.last[0][1]
    assert [usage.usage for usage in live.status(pair.now)] == [3 - number]
    assert [usage.usage for usage in shadow.status(pair.now)] == [number]


def test_rows_are_those_that_the_live_gateway_has_counted() -> None:
    pair = Pair(policy(FIRST), gateway(limiter=Limiter([limit("rows_inserted", 3)])))
    assert pair.run(write(), ROWS).shadow == ""
    assert str(pair.run(write(), ROWS).shadow).startswith("limits: admitted -> 429 rate_limited: ")
    assert pair.counted == (2, 0, {Difference.LIMITS: 1})


def test_a_form_that_a_live_limit_refused_unread_is_judged_by_its_head() -> None:
    pair = Pair(gateway(limiter=Limiter([limit("queries", 1)])), policy(FIRST))
    assert pair.run(posted(FORM), FORM).shadow == ""
    assert str(pair.run(posted(FORM)).shadow).startswith("limits: 429 rate_limited -> admitted: ")


def test_a_backend_that_fails_later_is_no_difference() -> None:
    pair = Pair(policy(FIRST), policy(FIRST))
    pair.run(head(), fails=BackendUnreachable("down"))
    pair.run(write(), ROWS, fails=BackendUnreachable("down"))
    assert pair.counted == (2, 0, {})


# --- undecided -------------------------------------------------------------------------------------------------------

NO_CHECK: Final = policy(FIRST, check_label_names=False)
UNDECIDED: Final[dict[str, tuple[Policy | Gateway, Policy | Gateway, RequestHead, bytes | None, Refusal | None]]] = {
    "no keys yet": (policy(FIRST), policy(keys_awaited=True, verifier=TokenVerifier(KeySet(()))), head(), None,
                    None),
    "too many at once": (policy(FIRST), policy(SECOND), posted(FORM), None, TooManyAtOnce("full")),
    "a slow client": (policy(FIRST), policy(SECOND), posted(FORM), None, RequestTimeout("slow")),
    "a defect": (policy(FIRST), policy(FIRST), posted(FORM), None, InternalError("broken")),
    "a bad label": (policy(FIRST), NO_CHECK, write(), b'a{\xff="2"} 1\n', None),
    "a body that cannot be read": (
        policy(FIRST), policy(FIRST), write("/api/v1/import/prometheus", ("Content-Encoding", "gzip")), b"nonsense",
        None,
    ),
    "rows that nobody counts": (
        NO_CHECK, gateway(limiter=Limiter([limit("rows_inserted", 1)])), write(), ROWS, None,
    ),
}  # fmt: skip


@each("name", UNDECIDED)
def test_what_the_shadow_cannot_know_is_undecided(name: str) -> None:
    live, shadow, request, body, fails = UNDECIDED[name]
    pair = Pair(live, shadow)
    assert pair.run(request, body, fails).shadow == ""
    assert pair.counted == (1, 1, {})
    assert pair.line == ""


def test_a_form_that_was_too_large_while_it_was_read_is_undecided() -> None:
    request = head(
        "/api/v1/query",
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Transfer-Encoding", "chunked"),
        method="POST",
    )
    pair = Pair(policy(FIRST, max_form_size=2), policy(FIRST))
    pair.run(request, FORM)
    assert pair.counted == (1, 1, {})


@each("why", ["same limits", "a datasource", "other processes"])
def test_a_live_limit_with_other_counts_is_undecided(why: str) -> None:
    full = Limiter([limit("queries", 1)], measured=why == "a datasource")
    ask = None if why != "other processes" else lambda wants, done: done(None)
    pair = Pair(gateway(limiter=full, ask=ask), policy(FIRST), same_limits=why == "same limits")
    pair.run(head())
    assert pair.run(head()).refusal is not None
    assert pair.counted == (2, 1, {})


def test_a_request_without_a_decision_is_not_counted() -> None:
    pair = Pair(policy(FIRST), policy(FIRST))
    assert pair.run(posted(FORM)).shadow == "", "the client has left before the end of its form"
    assert pair.shadow.judge(Cycle(head(), at=NOW, started=1.0), None, 1.0) == "", "no configuration was accepted"
    assert pair.counted == (0, 0, {})


# --- passwords -------------------------------------------------------------------------------------------------------

HASH: Final = PasswordHash.of(b"secret", bytes(16))
OTHER_HASH: Final = PasswordHash.of(b"other", bytes(16))


def with_user(known: PasswordHash, **access: object) -> Policy:
    """A policy with the user ``grafana``."""
    grants = Grants.from_claims({"vm_access": access})
    token = Token(
        grants=grants,
        expires_at=math.inf,
        not_before=None,
        subject="grafana",
        issuer=None,
        key=None,
        credential="user",
    )
    users = {b"grafana": (known, token)}
    made = Credentials(keys={}, users=users, seed=keys.NOW.to_bytes(32))
    return policy(FIRST, credentials=made, token_source=TokenSource(machines=True))


def basic(password: bytes = b"secret") -> RequestHead:
    value = b"Basic " + b64encode(b"grafana:" + password)
    return RequestHead("GET", "/api/v1/query?query=up", ((b"Authorization", value),), "10.0.0.1")


def checked(live: Policy) -> Policy:
    """The same, after the password was checked."""
    assert live.credentials is not None
    cycle = Cycle(basic(), at=NOW, started=1.0)
    assert not cycle.authorize(gateway(live), lambda: None)
    live.credentials.check_all()
    return live


def test_a_password_is_not_checked_twice() -> None:
    pair = Pair(checked(with_user(HASH)), with_user(HASH, extra_labels={"team": "dev"}))
    assert pair.run(basic()).shadow == "other upstream request: +extra_label=team%3Ddev"
    assert pair.run(basic()).shadow == "other upstream request: +extra_label=team%3Ddev"


@each("known", [HASH, OTHER_HASH], ids=["another password", "another hash"])
def test_a_password_that_was_not_checked_against_the_same_hash_is_undecided(known: PasswordHash) -> None:
    pair = Pair(checked(with_user(HASH)), with_user(known))
    pair.run(basic(b"wrong" if known is HASH else b"secret"))
    assert pair.counted == (1, 1, {})


def test_a_user_that_only_the_shadow_knows_is_undecided() -> None:
    pair = Pair(policy(FIRST), with_user(HASH))
    pair.run(basic())
    assert pair.counted == (1, 1, {})


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_refused_token_is_remembered_until_the_keys_change() -> None:
    read = Mock(side_effect=Grants.from_claims)
    tokens = ShadowTokens(policy(SECOND).verifier.keys, rules=TokenRules(grants=read))
    token = keys.sign(keys.claims(), FIRST)
    for _ in range(2):
        with pytest.raises(BadSignature, match=r"^no key verifies the signature"):
            tokens.verify(token, NOW)
    refused = keys.sign({"exp": NOW + 5, "vm_access": 1}, SECOND)
    for _ in range(2):
        with pytest.raises(InvalidClaims):
            tokens.verify(refused, NOW)
    assert read.call_count == 1
    tokens.replace_keys(policy(FIRST).verifier.keys)
    assert tokens.verify(token, NOW).expires_at == NOW + 60


def test_a_token_that_is_not_valid_yet_is_not_remembered() -> None:
    tokens = ShadowTokens(policy(FIRST).verifier.keys, rules=TokenRules())
    token = keys.sign(keys.claims(nbf=NOW + 5), FIRST)
    with pytest.raises(TokenNotYetValid):
        tokens.verify(token, NOW)
    assert tokens.verify(token, NOW + 5).not_before == NOW + 5


# --- what is told ----------------------------------------------------------------------------------------------------


def test_no_secret_is_told() -> None:
    pair = Pair(policy(FIRST), policy(FIRST, read=BackendGroup((SECRET,))))
    token = keys.sign(keys.claims(), FIRST)
    pair.run(head(f"/api/v1/query?query=up&password=hush&token={token}", token=token))
    labels = Pair(granting({}), granting({"extra_labels": {"team": "dev"}}))
    labels.run(head(f"/api/v1/query?query=up&password=hush&token={token}", token=token))
    for line in (pair.line, labels.line):
        assert "/api/v1/query?query=up&password=REDACTED&token=" in line
        assert "hush" not in line
        assert token.rpartition(".")[2] not in line
    assert labels.line.endswith(": other upstream request: +extra_label=team%3Ddev")


def test_explanations_are_bounded_and_differences_are_not() -> None:
    pair = Pair(policy(FIRST), policy(SECOND))
    told = []
    for _ in range(LISTED + 5):
        cycle = pair.run(head())
        told.append(bool(pair.line))
        assert cycle.shadow is not None
        assert cycle.shadow.startswith("newly refused")
    assert told == [True] * LISTED + [False] * 5
    assert cycle.shadow == "newly refused"
    pair.now += EXPLAINED_EVERY
    pair.run(head())
    assert pair.line
    assert pair.counted == (LISTED + 6, 0, {Difference.NEWLY_REFUSED: LISTED + 6})
    assert len(pair.shadow.counts.last) == LISTED


def test_a_failure_leaves_the_facts_of_the_headers_and_judges_no_second_time() -> None:
    def broken(_: object) -> Grants:
        raise ZeroDivisionError

    made = policy(FIRST)
    shadow = replace(made, verifier=TokenVerifier(made.verifier.keys, rules=TokenRules(grants=broken)))
    cycle = Cycle(head(), at=NOW, started=1.0)
    cycle.authorize(gateway())
    cycle.enter()
    cycle.count(1.0)
    cycle.prepare()
    facts = cycle.head.facts
    before = facts.token, facts.forwarded
    with pytest.raises(ZeroDivisionError):
        Shadow(gateway(shadow), ShadowCounts()).judge(cycle, None, 1.0)
    assert (facts.token, facts.forwarded) == before
    assert cycle.shadow == ""
