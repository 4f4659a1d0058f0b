"""cycle: every event in every state, who is asked again after a failure, and that nothing stays taken at the end."""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import keys
from tests.support.core.bodies import zstd
from tests.support.core.limiters import limit
from tests.support.core.tenant_bodies import zabbix
from tests.support.each import each
from vmgw_core.access import read_access_policy
from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup, Member
from vmgw_core.backends.concurrency import Concurrency, Seat
from vmgw_core.base.tenants import Subject, TenantID
from vmgw_core.enforcement.admission import Policy
from vmgw_core.enforcement.cycle import Cycle, Gateway, State, WrongState
from vmgw_core.errors import (
    AccessDenied,
    BackendFailure,
    BackendTimeout,
    BackendUnreachable,
    BadBody,
    BadLabels,
    BadRequest,
    BodyTooLarge,
    Cause,
    InternalError,
    QueryGuarded,
    RateLimited,
    Refusal,
    TooManyAtOnce,
    TooManyRows,
    UnknownKey,
)
from vmgw_core.http.head import RequestHead
from vmgw_core.limits.config import read_limits
from vmgw_core.limits.guards import Guards
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit, LimitType
from vmgw_core.limits.sharing.account import Reply, Want
from vmgw_core.tokens import TokenRules
from vmgw_core.tokens.keyring import MAX_WAITING, KeyRing
from vmgw_core.tokens.verifier import TokenVerifier

NOW: Final = float(keys.NOW)
FIRST, SECOND = (Backend.parse(f"http://vm{number}:8428", "read.url") for number in (1, 2))
WRITE: Final = Backend.parse("http://vminsert:8480", "write.url")
FORM: Final = (b"Content-Type", b"application/x-www-form-urlencoded")
TOKEN: Final = keys.compact({"alg": "RS256"}, keys.claims(vm_access={"tenant_id": {"account_id": 7}}))
KEY: Final = keys.ec_key()
OTHER_KEY: Final = keys.ec_key(name="other")
SIGNED: Final = keys.sign(keys.claims(), KEY, {"alg": "ES256", "kid": "new"})
READER: Final = keys.compact({"alg": "RS256"}, keys.claims(vm_access={"mode": 1}))
ROWS: Final = b"a 1\nb 2\n"


def gateway(*backends: Backend, **parts: Any) -> Gateway:  # noqa: ANN401
    policy = Policy(
        verifier=TokenVerifier(None),
        cluster=False,
        read=BackendGroup(backends or (FIRST,)),
        write=BackendGroup((WRITE,)),
        filters_responses=True,
        max_form_size=100,
        tell_why=False,
        check_label_names=False,
    )
    return replace(Gateway(policy=policy, clock=lambda: 1.0), **parts)


def metering(rows: int = 10) -> Gateway:
    return gateway(limiter=Limiter([limit("rows_inserted", rows)]))


def cycle(method: str = "GET", target: str = "/api/v1/query?query=up", *headers: tuple[bytes, bytes],
          token: str = TOKEN) -> Cycle:  # fmt: skip
    authorization = (b"Authorization", b"Bearer " + token.encode())
    head = RequestHead(method=method, target=target, headers=(authorization, *headers), client="192.0.2.1")
    return Cycle(head, at=NOW, started=1.0)


def form() -> Cycle:
    return cycle("POST", "/api/v1/query", FORM, (b"Transfer-Encoding", b"chunked"))


def write() -> Cycle:
    return cycle("POST", "/api/v1/import/prometheus", (b"Transfer-Encoding", b"chunked"))


class Accounts:
    """What other processes share: it answers when a test says so, or at once."""

    def __init__(self, *, granted: bool = True, at_once: bool = False) -> None:
        self.granted, self.at_once = granted, at_once
        self.asked: list[tuple[Sequence[Want], Callable[[Sequence[Reply] | None], None]]] = []

    def ask(self, wants: Sequence[Want], done: Callable[[Sequence[Reply] | None], None]) -> None:
        self.asked.append((wants, done))
        if self.at_once:
            self.answer()

    def answer(self) -> None:
        wants, done = self.asked[-1]
        done([Reply(granted=self.granted, extra=0, part=0, wait=9.0, used=want.limit) for want in wants])


def shared(rule: Limit) -> Limiter:
    limiter = Limiter([rule])
    limiter.learn_peers({}, 1, 0.0)
    limiter.accounts_found()
    return limiter


def sharing(accounts: Accounts, limit_type: str = "queries") -> Gateway:
    return gateway(limiter=shared(limit(limit_type, 10)), ask=accounts.ask)


def admit(made: Cycle, by: Gateway) -> Cycle:
    """Up to the state that follows ``prepare``."""
    made.authorize(by)
    assert made.enter()
    made.count(1.0)
    made.prepare()
    return made


def asked(made: Cycle, by: Gateway) -> Cycle:
    admit(made, by).ask(1.0)
    return made


# --- every event in every state ------------------------------------------------------------------------------------

BUSY: Final = TenantID(7, 0)


def full() -> Gateway:
    """One place, which is taken."""
    places = Concurrency(1, 0)
    assert places.enter(Seat(Subject(BUSY)))
    return gateway(concurrency=places, max_queue=1.0)


def rotating() -> tuple[Gateway, KeyRing]:
    """A gateway without keys, whose endpoint is due to be asked."""
    ring = KeyRing(jwks_endpoints=["https://idp.example/jwks"])
    by = gateway(keys=ring)
    return replace(by, policy=replace(by.policy, verifier=TokenVerifier(ring.keyset))), ring


def checking() -> Cycle:
    """A cycle that waits for keys."""
    made = cycle(token=SIGNED)
    assert not made.authorize(rotating()[0], lambda: None)
    return made


def reach(state: State) -> Cycle:
    """A cycle in ``state``."""
    if state is State.CHECKING:
        return checking()
    made = write() if state is State.METERED else form() if state is State.FORM else cycle()
    if state in (State.METERED, State.FORM):
        return admit(made, metering())
    if state is State.ENDED:
        made.end()
    elif state is State.REFUSED:
        made.refuse(BadRequest("no"))
    elif state is not State.HEAD:
        by = {State.QUEUED: full(), State.COUNTING: sharing(Accounts())}.get(state, gateway())
        for wanted, event in (
            (State.AUTHORIZED, lambda: made.authorize(by)),
            (State.QUEUED, lambda: made.queue(lambda: None)) if state is State.QUEUED else (State.ENTERED, made.enter),
            (State.COUNTED, lambda: made.count(1.0)),
            (State.READY, made.prepare),
            (State.ASKED, lambda: made.ask(1.0)),
            (State.RESPONDING, lambda: made.responded(2.0)),
        ):
            event()
            if state in (wanted, made.state):
                break
    assert made.state is state
    return made


EVENTS: Final[dict[str, Callable[[Cycle], object]]] = {
    "authorize": lambda made: made.authorize(gateway()),
    "recheck": lambda made: made.recheck(gateway(), NOW),
    "enter": Cycle.enter,
    "queue": lambda made: made.queue(lambda: None),
    "expire": Cycle.expire,
    "count": lambda made: made.count(1.0),
    "counted": Cycle.counted,
    "resumed": Cycle.resumed,
    "prepare": Cycle.prepare,
    "hold": lambda made: made.hold(1),
    "form": lambda made: made.form(b"query=up"),
    "body": lambda made: made.body(ROWS, end=True),
    "rows": lambda made: made.rows(2),
    "ask": lambda made: made.ask(1.0),
    "unreachable": lambda made: made.unreachable(BackendUnreachable("no")),
    "lost": lambda made: made.lost(""),
    "late": Cycle.late,
    "responded": lambda made: made.responded(2.0),
    "refuse": lambda made: made.refuse(BadRequest("no")),
    "end": Cycle.end,
}
AFTER: Final[dict[str, dict[State, State]]] = {
    "authorize": {State.HEAD: State.AUTHORIZED},
    "recheck": {State.CHECKING: State.AUTHORIZED},
    "enter": {State.AUTHORIZED: State.ENTERED},
    "queue": {State.AUTHORIZED: State.REFUSED},  # without -maxQueueDuration nobody waits
    "expire": {State.QUEUED: State.REFUSED},
    "count": {State.ENTERED: State.COUNTED},
    "counted": {},  # nobody has answered
    "resumed": {},  # nobody was asked
    "prepare": {State.COUNTED: State.READY},
    "hold": {State.FORM: State.FORM},
    "form": {State.FORM: State.READY},
    "body": {
        State.METERED: State.READY,
        State.READY: State.READY,
        State.ASKED: State.ASKED,
        State.RESPONDING: State.RESPONDING,
    },
    "rows": {State.METERED: State.METERED},
    "ask": {State.READY: State.ASKED},
    "unreachable": {State.ASKED: State.REFUSED},
    "lost": {State.ASKED: State.REFUSED, State.RESPONDING: State.REFUSED},
    "late": dict.fromkeys((State.METERED, State.READY, State.ASKED, State.RESPONDING), State.REFUSED),
    "responded": {State.ASKED: State.RESPONDING},
    "refuse": {state: State.ENDED if state is State.ENDED else State.REFUSED for state in State},
    "end": dict.fromkeys(State, State.ENDED),
}


def expected_error(event: str, state: State) -> str:
    if event == "form":
        return state.value
    early = event == "counted" and state is State.COUNTING
    return f"^{event} in state {state.value}{', before other processes have answered' if early else ''}$"


@each("event", EVENTS)
@pytest.mark.parametrize("state", State)
def test_every_event_in_every_state(state: State, event: str) -> None:
    made = reach(state)
    if event == "queue" and made.gateway is not None:
        made.gateway = replace(made.gateway, concurrency=Concurrency(1, 0))
    expected = AFTER[event].get(state)
    if expected is None:
        with pytest.raises(WrongState, match=expected_error(event, state)):
            EVENTS[event](made)
        assert made.state is (State.ENDED if state is State.ENDED else State.REFUSED)
        return
    try:
        EVENTS[event](made)
    except Refusal:
        assert expected is State.REFUSED
    assert made.state is expected


@given(
    st.lists(st.sampled_from(sorted(EVENTS)), max_size=12), st.sampled_from(["cycle", "form", "write"]), st.booleans()
)
def test_whatever_happens_nothing_stays_taken_and_nothing_unauthorized_is_sent(
    events: list[str], kind: str, queued: bool
) -> None:
    places = Concurrency(1, 0)
    by = gateway(FIRST, SECOND, concurrency=places, max_queue=1.0, limiter=Limiter([limit("rows_inserted", 5)]))
    if queued:
        places.enter(Seat(Subject(BUSY)))
    made = {"cycle": cycle, "form": form, "write": write}[kind]()
    for event in ["authorize", "enter", "count", "prepare", "ask", *events]:
        allowed = made.state in AFTER[event]
        wrong = False
        try:
            made.authorize(by) if event == "authorize" else EVENTS[event](made)
        except Refusal:
            assert made.state in (State.REFUSED, State.ENDED)
        except WrongState:
            wrong = True
        assert not (allowed and wrong)
        if made.state in (State.READY, State.ASKED, State.RESPONDING):
            assert made.grant is not None
            assert made.upstream is not None
    made.end()
    if queued:
        places.leave(Seat(Subject(BUSY)))
    assert (places.running, places.waiting) == (0, 0)
    for group in (by.policy.read, by.policy.write):
        assert group is not None
        assert [member.load for member in group.members] == [0] * len(group.members)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["answer", "end", *sorted(EVENTS)])), max_size=60),
    st.booleans(),
)
def test_every_slot_of_a_file_comes_back_however_requests_end(steps: list[tuple[int, str]], granted: bool) -> None:
    """Also of those that leave while they wait, or while other processes are being asked."""
    accounts = Accounts(granted=granted)
    slots = Concurrency(0, 0, [limit("concurrency", 2, ""), limit("concurrency", 1, "", observe=True, total=True)])
    by = replace(sharing(accounts), concurrency=slots, max_queue=1.0)
    made = [form(), *(cycle() for _ in range(4))]
    ways = {"queue": lambda one: one.queue(lambda: None), "count": lambda one: one.count(1.0, lambda: None)}
    start = [(number, event) for event in ("authorize", "enter") for number in range(5)]
    for number, event in [*start, *((number, "queue") for number in (2, 3)), *steps]:
        one = made[number]
        try:
            if event == "authorize":
                one.authorize(by)
            elif event == "answer" and accounts.asked:
                wants, done = accounts.asked.pop()
                done([Reply(granted=granted, extra=0, part=0, wait=9.0, used=want.limit) for want in wants])
            elif event != "answer":
                (ways.get(event) or EVENTS[event])(one)
        except (Refusal, WrongState) as error:
            assert one.state in (State.REFUSED, State.ENDED)
            one.refuse(InternalError(str(error)))
        assert slots.running <= 2
        assert slots.waiting == sum(each.state is State.QUEUED for each in made)
    for one in made:
        one.end()
    assert (slots.running, slots.waiting, slots.in_use(), slots.by_tenant) == (0, 0, (), {})


def test_a_limit_of_a_file_refuses_and_counts_it() -> None:
    slots, limiter = Concurrency(0, 0, [limit("concurrency", 1, "")]), Limiter()
    by = gateway(limiter=limiter, concurrency=slots)
    asked(cycle(), by)
    made = cycle()
    made.authorize(by)
    assert not made.enter()
    with pytest.raises(TooManyAtOnce, match=r"^request was rate limited: tenant 7:0 has 1 of 1 concurrent requests$"):
        made.queue(lambda: None)
    assert limiter.rejects == {(LimitType.CONCURRENCY, None, "7:0"): 1}
    assert slots.refused == 1


def test_a_limit_that_observes_is_told_once_a_minute() -> None:
    now = [0.0]
    limiter = Limiter()
    slots = Concurrency(0, 0, [limit("concurrency", 1, "", observe=True)])
    by = replace(gateway(limiter=limiter, concurrency=slots), clock=lambda: now[0])
    for moment in (0.0, 1.0, 59.0, 60.0):
        now[0] = moment
        asked(cycle(), by)
    assert limiter.observed == {(LimitType.CONCURRENCY, None, "7:0"): 3}
    assert list(limiter.told) == ["tenant 7:0 has 2 of 1 concurrent requests (mode: observe)"]
    now[0] = 61.0
    asked(cycle(), by)
    assert list(limiter.told)[1:] == ["tenant 7:0 has 5 of 1 concurrent requests (mode: observe)"]


# --- guards --------------------------------------------------------------------------------------------------------


def guarding(text: str, **parts: Any) -> Gateway:  # noqa: ANN401
    return gateway(guards=Guards(read_limits(text, "limits.yaml").guards), **parts)


@each("method", ["GET", "POST"])
def test_a_guard_refuses_a_url_and_a_form_alike(method: str) -> None:
    limiter = Limiter()
    by = guarding("guards: [{max_range: 30d}]", limiter=limiter)
    arguments = "query=m&start=-31d&end=now"
    if method == "GET":
        made = cycle(target=f"/api/v1/query_range?{arguments}")
    else:
        made = cycle("POST", "/api/v1/query_range", FORM, (b"Transfer-Encoding", b"chunked"))
    with pytest.raises(QueryGuarded, match=r"^the query spans 31d; at most 30d are allowed here"):
        admit(made, by).form(arguments.encode())
    assert (made.state, made.upstream) == (State.REFUSED, None)
    assert limiter.rejects == {("max_range", None, "7:0"): 1}


def test_a_guard_that_observes_sends_the_request_and_tells() -> None:
    limiter = Limiter()
    made = cycle(target="/api/v1/query_range?start=-31d&end=now")
    admit(made, guarding("guards: [{max_range: 30d, mode: observe}]", limiter=limiter))
    assert made.state is State.READY
    assert limiter.observed == {("max_range", None, "7:0"): 1}
    said = "tenant 7:0: the query spans 31d; at most 30d are allowed here: choose a shorter range (mode: observe)"
    assert list(limiter.told) == [said]
    assert [str(guard) for guard in made.guards] == ["max_range 30d (mode: observe)"]


def test_the_timeout_is_what_the_backend_receives() -> None:
    made = admit(cycle(target="/api/v1/query?query=up&timeout=1h"), guarding("guards: [{timeout: 5s}]"))
    assert made.upstream is not None
    assert made.upstream.target == "/api/v1/query?query=up&timeout=5s"
    other = admit(cycle(target="/api/v1/status/tsdb?timeout=1h"), guarding("guards: [{timeout: 5s}]"))
    assert other.guards == ()
    assert other.upstream is not None
    assert other.upstream.target == "/api/v1/status/tsdb?timeout=1h"
    assert cycle().guards == ()


def test_a_request_for_all_tenants_is_held_to_the_guards_of_each() -> None:
    text = "match: [{when: {sub: a}, grant: {tenant: 1}}, {when: {sub: a}, grant: {tenant: 2}}]"
    rules = TokenRules(grants=read_access_policy(text, "policy.yaml").grants)
    by = guarding("guards: [{max_range: 30d}, {max_range: 1d, account_id: 2}]")
    by = replace(by, policy=replace(by.policy, cluster=True, verifier=TokenVerifier(None, rules=rules)))
    token = keys.compact({"alg": "RS256"}, {"exp": NOW + 60, "sub": "a"})
    for path, told in (("multitenant", ["max_range 30d", "max_range 1d"]), ("1", ["max_range 30d"])):
        made = cycle(target=f"/select/{path}/prometheus/api/v1/query_range?start=-2d&end=now", token=token)
        if path == "multitenant":
            with pytest.raises(QueryGuarded, match="at most 1d are allowed"):
                admit(made, by)
        else:
            admit(made, by)
        assert [str(guard) for guard in made.guards] == told


# --- limits that processes share -----------------------------------------------------------------------------------


def entered(made: Cycle, by: Gateway) -> Cycle:
    made.authorize(by)
    assert made.enter()
    return made


@pytest.mark.parametrize("at_once", [True, False])
def test_a_query_passes_once_other_processes_have_answered(at_once: bool) -> None:
    accounts, called = Accounts(at_once=at_once), []
    made = entered(cycle(), sharing(accounts))
    assert made.count(1.0, lambda: called.append(made.awaiting)) is at_once
    if not at_once:
        assert (made.state, made.awaiting) == (State.COUNTING, True)
        accounts.answer()
        assert called == [False]
        made.counted()
    assert [want.client for want in accounts.asked[0][0]] == ["192.0.2.1"]
    made.prepare()
    assert made.state is State.READY


@pytest.mark.parametrize("at_once", [True, False])
def test_a_query_is_refused_if_they_have_used_the_limit_up(at_once: bool) -> None:
    accounts = Accounts(granted=False, at_once=at_once)
    made = entered(cycle(), sharing(accounts))

    def count() -> None:
        if not made.count(1.0, lambda: None):
            accounts.answer()
            made.counted()

    with pytest.raises(RateLimited, match="has used 10 of 10 queries per minute") as caught:
        count()
    assert caught.value.retry_after == 10
    assert made.state is State.REFUSED


def test_a_query_does_not_pass_before_they_have_answered() -> None:
    made = entered(cycle(), sharing(Accounts()))
    assert not made.count(1.0)
    with pytest.raises(WrongState, match="counted in state counting, before other processes have answered"):
        made.counted()
    assert made.state is State.REFUSED


def test_a_client_that_leaves_meanwhile() -> None:
    accounts = Accounts()
    made = entered(cycle(), sharing(accounts))
    assert not made.count(1.0)
    made.end()
    accounts.answer()
    assert made.state is State.ENDED


def test_without_somebody_to_ask_the_share_decides() -> None:
    made = entered(cycle(), replace(sharing(Accounts()), ask=None))
    assert made.count(1.0)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_body_passes_once_its_rows_are_granted(at_once: bool, pieces: int) -> None:
    accounts, called = Accounts(at_once=at_once), []
    made = entered(write(), sharing(accounts, "rows_inserted"))
    assert made.count(1.0)
    made.prepare()
    begin = ROWS if pieces == 2 else b""
    assert made.body(begin, end=False) == b""
    rest = ROWS[: 2 // pieces * 4]
    passed = made.body(rest, end=True, waiter=lambda: called.append(made.awaiting))
    if not at_once:
        assert (passed, made.state) == (b"", State.METERED)
        accounts.answer()
        assert called == [False]
        passed = made.resumed()
    assert passed == begin + rest
    assert made.state is State.READY
    assert [want.need for want in accounts.asked[0][0]] == [(begin + rest).count(b"\n")]


def test_a_large_body_waits_in_its_middle_and_goes_on() -> None:
    accounts = Accounts()
    made = entered(write(), replace(sharing(accounts, "rows_inserted"), limiter=shared(limit("rows_inserted", 10**6))))
    made.count(1.0)
    made.prepare()
    piece = ROWS * 100_000
    assert made.body(piece * 2, end=False) == b""
    accounts.answer()
    passed = made.resumed()
    assert 1 << 20 < len(passed) < 2 * len(piece)
    assert made.state is State.READY
    assert made.body(piece, end=True) == b""
    accounts.answer()
    assert passed + made.resumed() == piece * 3
    assert made.state is State.READY


def test_a_body_is_refused_if_its_rows_are_not_granted() -> None:
    accounts = Accounts(granted=False)
    made = entered(write(), sharing(accounts, "rows_inserted"))
    made.count(1.0)
    made.prepare()
    assert made.body(ROWS, end=True) == b""
    accounts.answer()
    with pytest.raises(RateLimited):
        made.resumed()
    assert made.state is State.REFUSED


@pytest.mark.parametrize("event", ["resumed", "body"])
def test_a_body_does_not_pass_before_its_rows_are_granted(event: str) -> None:
    made = entered(write(), sharing(Accounts(), "rows_inserted"))
    made.count(1.0)
    made.prepare()
    assert made.body(ROWS, end=True) == b""
    with pytest.raises(WrongState, match=f"{event} in state metered, before other processes have answered"):
        EVENTS[event](made)
    assert made.state is State.REFUSED


# --- the head ------------------------------------------------------------------------------------------------------


def test_without_a_configuration_nothing_passes() -> None:
    made = cycle()
    with pytest.raises(InternalError):
        made.authorize(None)
    assert (made.state, made.policy) == (State.REFUSED, None)


def test_a_token_without_access_is_refused() -> None:
    made = cycle("POST", "/api/v1/write", token=READER)
    with pytest.raises(AccessDenied):
        made.authorize(gateway())
    assert made.state is State.REFUSED


def fetched(by: Gateway, ring: KeyRing, *jwks: dict[str, Any], now: float = NOW) -> None:
    """End the fetch that is due with these keys, and put them in force, as the addon does."""
    [fetch] = ring.due(now)
    ring.received(fetch, keys.jwks(*jwks), now)
    by.policy.verifier.replace_keys(ring.keyset)
    ring.wake()


def test_a_request_waits_for_its_key_and_then_goes_on() -> None:
    by, ring = rotating()
    made, called = cycle(token=SIGNED), list[bool]()
    assert not made.authorize(by, lambda: called.append(made.recheck(by, NOW)))
    assert (made.state, made.checked, called) == (State.CHECKING, True, [])
    fetched(by, ring, keys.jwk(KEY, kid="new"))
    assert called == [True]
    assert made.state is State.AUTHORIZED
    ring.wake()
    assert called == [True]


def test_a_key_that_the_provider_does_not_have_either_is_refused_after_one_fetch() -> None:
    by, ring = rotating()
    made, refused = cycle(token=SIGNED), list[str]()

    def recheck() -> None:
        with pytest.raises(UnknownKey) as caught:
            made.recheck(by, NOW)
        refused.append(str(caught.value))

    assert not made.authorize(by, recheck)
    fetched(by, ring, keys.jwk(OTHER_KEY, kid="other"))
    assert refused == ['`kid` is "new"; expected "other"']
    assert made.state is State.REFUSED
    # The next one comes too soon after that fetch to cause another.
    with pytest.raises(UnknownKey):
        cycle(token=SIGNED).authorize(by, lambda: pytest.fail("it does not wait"))
    assert ring.due(NOW + 9) == ()


def test_a_request_waits_for_all_fetches_that_may_bring_its_key() -> None:
    ring = KeyRing(jwks_endpoints=["https://a.example/jwks", "https://b.example/jwks"])
    by = gateway(keys=ring)
    by = replace(by, policy=replace(by.policy, verifier=TokenVerifier(ring.keyset)))
    made = cycle(token=SIGNED)
    assert not made.authorize(by, lambda: None)
    first, second = ring.due(NOW)
    ring.failed(first, "down", NOW)
    assert not made.recheck(by, NOW)
    ring.received(second, keys.jwks(keys.jwk(KEY, kid="new")), NOW)
    by.policy.verifier.replace_keys(ring.keyset)
    assert made.recheck(by, NOW)


def test_a_kid_that_now_names_another_key_is_waited_for_too() -> None:
    ring = KeyRing(jwks_endpoints=["https://idp.example/jwks"])
    by = gateway(keys=ring)
    by = replace(by, policy=replace(by.policy, verifier=TokenVerifier(ring.keyset)))
    fetched(by, ring, keys.jwk(OTHER_KEY, kid="new"), now=NOW - 60)
    made = cycle(token=SIGNED)
    assert not made.authorize(by, lambda: None)
    fetched(by, ring, keys.jwk(KEY, kid="new"))
    assert made.recheck(by, NOW)


@pytest.mark.parametrize("leave", ["last", "refuse"])
def test_who_no_longer_waits_for_keys_is_not_called(leave: str) -> None:
    by, ring = rotating()
    made = cycle(token=SIGNED)
    assert not made.authorize(by, lambda: pytest.fail("it no longer waits"))
    if leave == "last":
        with pytest.raises(UnknownKey):
            made.recheck(by, NOW + 2, last=True)
    else:
        made.refuse(BadRequest("no"))
        made.end()
    ring.wake()


def test_who_waits_for_keys_is_called_once_at_the_end() -> None:
    by, ring = rotating()
    made, called = cycle(token=SIGNED), []
    assert not made.authorize(by, lambda: called.append(made.state))
    made.end()
    ring.wake()
    made.end()
    assert called == [State.ENDED]


def test_few_wait_at_once_and_nobody_for_keys_that_do_not_come() -> None:
    by, _ = rotating()
    waiting = [cycle(token=SIGNED) for _ in range(MAX_WAITING)]
    for made in waiting:
        assert not made.authorize(by, Mock())
    late = cycle(token=SIGNED)
    with pytest.raises(UnknownKey):
        late.authorize(by, lambda: pytest.fail("it does not wait"))
    assert (late.state, late.checked) == (State.REFUSED, False)
    waiting[0].end()
    assert not cycle(token=SIGNED).authorize(by, Mock())
    for unwilling in (replace(by, keys=None), replace(by, keys=KeyRing())):
        with pytest.raises(UnknownKey):
            cycle(token=SIGNED).authorize(unwilling, lambda: None)
    with pytest.raises(UnknownKey):
        cycle(token=SIGNED).authorize(by)


def test_a_request_waits_for_its_place_and_then_goes_on() -> None:
    by, called = full(), []
    assert by.concurrency is not None
    made = cycle()
    made.authorize(by)
    assert not made.enter()
    made.queue(lambda: called.append(made.state))
    assert by.concurrency.waiting == 1
    for waiter in by.concurrency.leave(Seat(Subject(BUSY))):
        waiter()
    assert called == [State.ENTERED]
    made.count(1.0)
    made.prepare()
    made.end()
    made.end()
    assert by.concurrency.running == 0


def test_the_place_of_one_that_ends_goes_to_the_next() -> None:
    by = gateway(concurrency=Concurrency(1, 0), max_queue=1.0)
    first, second = asked(cycle(), by), cycle()
    second.authorize(by)
    assert not second.enter()
    second.queue(lambda: None)
    first.end()
    assert second.state is State.ENTERED
    second.end()
    assert by.concurrency is not None
    assert by.concurrency.running == 0


def test_who_has_waited_long_enough_gets_no_slot() -> None:
    by = full()
    assert by.concurrency is not None
    made = cycle()
    made.authorize(by)
    made.queue(lambda: pytest.fail("it no longer waits"))
    with pytest.raises(TooManyAtOnce, match=r"^the gateway is at its limit of 1 concurrent requests \(-max"):
        made.expire()
    made.end()
    assert by.concurrency.refused == 1
    assert by.concurrency.leave(Seat(Subject(BUSY))) == []
    assert (by.concurrency.running, by.concurrency.waiting) == (0, 0)


def test_who_leaves_the_queue_is_called_once_and_gets_no_slot() -> None:
    by, called = full(), []
    assert by.concurrency is not None
    made = cycle()
    made.authorize(by)
    made.queue(lambda: called.append(made.state))
    made.end()
    made.end()
    assert called == [State.ENDED]
    assert by.concurrency.leave(Seat(Subject(BUSY))) == []
    assert (by.concurrency.running, by.concurrency.waiting) == (0, 0)


def test_a_full_queue_refuses() -> None:
    by = replace(full(), max_queue=0.0)
    made = cycle()
    made.authorize(by)
    with pytest.raises(TooManyAtOnce):
        made.queue(lambda: None)
    assert made.state is State.REFUSED


def test_a_limit_refuses_before_a_backend_is_chosen() -> None:
    by = gateway(limiter=Limiter([limit("queries", 1)]))
    asked(cycle(), by)
    made = cycle()
    made.authorize(by)
    assert made.enter()
    with pytest.raises(RateLimited):
        made.count(1.0)
    assert (made.state, made.upstream, made.member) == (State.REFUSED, None, None)


# --- the body ------------------------------------------------------------------------------------------------------


def test_a_form_is_written_anew() -> None:
    made = admit(form(), gateway())
    assert (made.state, made.upstream) == (State.FORM, None)
    made.hold(5)
    made.hold(3)
    made.form(b"query=up")
    assert made.upstream is not None
    assert made.upstream.body == b"query=up"


@pytest.mark.parametrize("whole", [False, True], ids=["as it comes", "at once"])
def test_a_form_beyond_the_limit_is_refused(whole: bool) -> None:
    made = admit(form(), gateway())
    made.hold(100)
    with pytest.raises(BodyTooLarge, match="larger than 100 bytes"):
        made.form(b"a" * 101) if whole else made.hold(1)
    assert (made.state, made.upstream) == (State.REFUSED, None)


def test_a_body_without_a_meter_streams_at_once() -> None:
    made = asked(write(), gateway())
    assert made.body(b"a 1\n", end=False) == b"a 1\n"
    assert made.body(b"b 2\n", end=True) == b"b 2\n"


def test_no_backend_is_asked_before_the_meter_lets_a_byte_out() -> None:
    made = admit(write(), metering(2))
    states = [made.state]
    assert made.body(b"a 1\n", end=False) == b""
    states.append(made.state)
    assert made.body(b"b 2\n", end=True) == ROWS
    assert [*states, made.state] == [State.METERED, State.METERED, State.READY]


def test_rows_beyond_the_limit_let_nothing_out() -> None:
    by = gateway(limiter=Limiter([limit("rows_inserted", 1)], refuse_oversized=True))
    made = admit(write(), by)
    with pytest.raises(TooManyRows):
        made.body(ROWS, end=True)
    assert made.state is State.REFUSED


def test_label_names_are_checked_without_any_limit() -> None:
    by = gateway()
    by = replace(by, policy=replace(by.policy, check_label_names=True))
    made = admit(write(), by)
    with pytest.raises(BadLabels, match="line 2"):
        made.body(b'a 1\nb{\xfe="c"} 2\n', end=True)
    made = admit(write(), by)
    made.rows(10**9)
    assert made.body(ROWS, end=True) == ROWS


def test_rows_are_counted_for_a_report_without_any_limit() -> None:
    made = admit(write(), gateway(reports_rows=True))
    assert made.meter is not None
    assert (made.body(b"a 1\n", end=False), made.meter.forwarded) == (b"", 0)
    assert (made.body(b"b 2\n", end=True), made.meter.forwarded) == (ROWS, 2)


def test_the_series_of_a_body_count_and_a_new_one_beyond_the_limit_is_refused() -> None:
    limiter = Limiter([limit("active_series", 2)])
    by = gateway(limiter=limiter)
    for body in (b"a 1\nb 2\n", b"b 3\n"):
        assert admit(write(), by).body(body, end=True) == body
    refused = admit(write(), by)
    with pytest.raises(RateLimited):
        refused.body(b"a 4\nc 5\n", end=True)
    assert [usage.usage for usage in limiter.status(1.0)] == [2]


class Turns:
    """What is left of long tasks, a step in each turn."""

    def __init__(self) -> None:
        self.steps: deque[Callable[[], None]] = deque()
        self.called = 0

    def waiter(self) -> None:
        self.called += 1

    def take(self) -> int:
        taken = 0
        while self.steps:
            self.steps.popleft()()
            taken += 1
        return taken


def many(begin: int, end: int) -> bytes:
    return b"".join(b'm{n="%d"} 1\n' % number for number in range(begin, end))


def active(limiter: Limiter) -> int:
    return next(limiter.status(1.0)).usage


def test_many_series_are_counted_in_steps() -> None:
    turns, limiter = Turns(), Limiter([limit("active_series", 6000)])
    by = gateway(limiter=limiter, later=turns.steps.append)
    made, body = admit(write(), by), many(0, 5000)
    assert made.body(body, end=True, waiter=turns.waiter) == b""
    assert (made.awaiting, made.state, turns.called, active(limiter)) == (True, State.METERED, 0, 0)
    assert turns.take() > 5
    assert (made.awaiting, turns.called, active(limiter)) == (False, 1, 5000)
    assert (made.resumed(), made.state) == (body, State.READY)
    known, new = admit(write(), by), admit(write(), by)
    for sent, numbers in ((known, body), (new, many(4000, 7000))):
        assert sent.body(numbers, end=True, waiter=turns.waiter) == b""
    turns.take()
    assert (known.resumed(), turns.called) == (body, 3)
    with pytest.raises(RateLimited):
        new.resumed()


def test_a_body_with_many_series_is_refused_after_its_steps() -> None:
    turns, limiter = Turns(), Limiter([limit("active_series", 10)])
    by = gateway(limiter=limiter, later=turns.steps.append)
    assert admit(write(), by).body(many(0, 5), end=True, waiter=turns.waiter) == many(0, 5)
    made = admit(write(), by)
    assert made.body(many(0, 5000), end=True, waiter=turns.waiter) == b""
    turns.take()
    with pytest.raises(RateLimited):
        made.resumed()
    assert (made.state, active(limiter), turns.called) == (State.REFUSED, 5, 1)


def test_rows_are_read_in_steps_before_they_pass() -> None:
    turns, limiter = Turns(), Limiter([limit("active_series", 10**6)])
    made, body = admit(write(), gateway(limiter=limiter, later=turns.steps.append)), many(0, 20_000)
    passed = b""
    for begin in range(0, len(body), 100_000):
        piece = made.body(body[begin : begin + 100_000], end=begin + 100_000 >= len(body), waiter=turns.waiter)
        assert piece == b""
        assert made.awaiting
        turns.take()
        passed += made.resumed()
    assert (passed, active(limiter)) == (body, 20_000)


def test_rows_are_read_at_once_if_nothing_may_wait() -> None:
    limiter = Limiter([limit("active_series", 10**6)])
    made, body = admit(write(), gateway(limiter=limiter)), many(0, 20_000)
    assert made.body(body[:100_000], end=False) == b""
    assert limiter.label_hashes.waiting == 0
    assert made.body(body[100_000:], end=True) == body
    assert active(limiter) == 20_000


def test_the_series_of_a_client_that_has_left_are_not_counted() -> None:
    turns, limiter = Turns(), Limiter([limit("active_series", 10**6)])
    by = gateway(limiter=limiter, later=turns.steps.append)
    left = admit(write(), by)
    left.body(many(0, 5000), end=True, waiter=turns.waiter)
    left.end()
    turns.take()
    assert (turns.called, active(limiter), limiter.label_hashes.waiting) == (1, 0, 0)


def test_a_body_that_is_cut_off_leaves_nothing_that_waits_to_be_read() -> None:
    turns, limiter = Turns(), Limiter([limit("active_series", 10**6)])
    headers = (b"Transfer-Encoding", b"chunked"), (b"Content-Encoding", b"gzip")
    made = cycle("POST", "/api/v1/import/prometheus", *headers)
    admit(made, gateway(limiter=limiter, later=turns.steps.append))
    with pytest.raises(BadBody):
        made.body(gzip.compress(many(0, 5000))[:-8], end=True, waiter=turns.waiter)
    assert limiter.label_hashes.waiting > 0
    made.end()
    assert (turns.take(), active(limiter), limiter.label_hashes.waiting) == (0, 0, 0)


def test_other_processes_are_asked_after_the_steps() -> None:
    for granted in (True, False):
        for at_once in (True, False):
            turns, accounts = Turns(), Accounts(granted=granted, at_once=at_once)
            limiter = Limiter([limit("rows_inserted", 10**6), limit("active_series", 10**6)])
            limiter.learn_peers({}, 1, 0.0)
            limiter.accounts_found()
            made = admit(write(), gateway(limiter=limiter, ask=accounts.ask, later=turns.steps.append))
            assert made.body(many(0, 5000), end=True, waiter=turns.waiter) == b""
            turns.take()
            assert made.awaiting is not at_once
            if not at_once:
                accounts.answer()
                turns.take()
            assert (turns.called, len(accounts.asked)) == (1, 1)
            if granted:
                assert made.resumed() == many(0, 5000)
            else:
                with pytest.raises(RateLimited):
                    made.resumed()
            counted = [use.usage for use in limiter.status(1.0) if use.limit.type is LimitType.ACTIVE_SERIES]
            assert counted == [5000 if granted else 0]


def test_no_series_pass_because_other_bytes_had_more_rows() -> None:
    """A body in zstd is counted in two ways. What is not decoded in one of them has rows in the other."""
    hidden = b"\n1" * (600 << 10)
    body = b"\x50\x2a\x4d\x18" + len(hidden).to_bytes(4, "little") + hidden
    body += b"".join(zstd(zabbix([("n", str(number))])) for number in range(20))
    limiter = Limiter([limit("active_series", 10)])
    by = gateway(limiter=limiter)
    assert admit(write(), by).body(many(0, 5), end=True) == many(0, 5)
    headers = (b"Transfer-Encoding", b"chunked"), (b"Content-Encoding", b"zstd")
    made = admit(cycle("POST", "/zabbixconnector/api/v1/history", *headers), by)
    assert made.body(body[: 8 + len(hidden)], end=False)
    with pytest.raises(RateLimited):
        made.body(body[8 + len(hidden) :], end=True)
    assert active(limiter) == 5


def test_rows_that_are_refused_are_not_forwarded() -> None:
    made = admit(write(), gateway(limiter=Limiter([limit("rows_inserted", 1)], refuse_oversized=True)))
    assert made.meter is not None
    with pytest.raises(TooManyRows):
        made.body(ROWS, end=True)
    assert (made.meter.rows, made.meter.forwarded) == (2, 0)


JSON: Final = ((b"Content-Type", b"application/json"),)


@each(
    ("target", "status", "watched"),
    [("/api/v1/query", 200, True), ("/api/v1/query_range", 200, True), ("/api/v1/query", 400, False),
     ("/api/v1/series", 200, False)],
)  # fmt: skip
def test_the_number_of_series_is_read_from_answers_to_queries(target: str, status: int, watched: bool) -> None:
    made = admit(cycle(target=target), gateway())
    made.watch(status, JSON)
    assert (made.series is not None) == watched


def test_nothing_is_read_from_the_answer_to_a_request_without_a_grant() -> None:
    made = cycle()
    made.watch(200, JSON)
    assert made.series is None


def test_rows_of_a_body_that_is_not_there_count() -> None:
    by = metering(3)
    admit(write(), by).rows(2)
    made = admit(write(), by)
    with pytest.raises(RateLimited):
        made.rows(2)


def test_a_write_without_a_body_needs_no_meter() -> None:
    made = admit(cycle("POST", "/api/v1/import/prometheus"), metering())
    assert (made.state, made.meter) == (State.READY, None)


# --- the backend ---------------------------------------------------------------------------------------------------


def told() -> tuple[Gateway, list[tuple[str, bool]]]:
    """Two backends, and their results: the host, and whether it succeeded again."""
    seen: list[tuple[str, bool]] = []

    def result(member: Member, failure: BackendFailure | None) -> None:
        seen.append((member.backend.host, failure is None))

    return gateway(FIRST, SECOND, backend_result=result), seen


def hosts(made: Cycle) -> tuple[str, str]:
    assert made.upstream is not None
    assert made.grant is not None
    return made.upstream.backend.host, made.grant.backend.host


def test_an_unreachable_backend_is_set_aside_and_the_next_one_asked() -> None:
    by, seen = told()
    made = asked(write_to(by), by)
    first = hosts(made)
    made.unreachable(BackendUnreachable("no"))
    assert (first, hosts(made), made.state) == (("vm1", "vm1"), ("vm2", "vm2"), State.READY)
    made.ask(2.0)
    refusal = BackendUnreachable("nobody")
    with pytest.raises(BackendUnreachable) as caught:
        made.unreachable(refusal)
    assert caught.value is refusal
    assert seen == [("vm1", False), ("vm2", False)]
    made.end()
    assert by.policy.read is not None
    assert [(member.load, member.requests, member.errors) for member in by.policy.read.members] == [(0, 1, 1)] * 2


def write_to(by: Gateway) -> Cycle:
    assert by.policy.read is not None
    return cycle()


def test_a_backend_that_responds_again_is_up() -> None:
    by, seen = told()
    asked(cycle(), by).unreachable(BackendUnreachable("no"))
    assert by.policy.read is not None
    for member in by.policy.read.members:
        member.failing, member.up = True, False
    made = asked(cycle(), by)
    made.responded(3.0)
    assert seen == [("vm1", False), (hosts(made)[0], True)]
    assert made.member is not None
    assert made.member.durations.sum == 2.0


def test_the_failure_of_the_only_backend_is_reported_with_its_cause_and_its_end_once() -> None:
    seen: list[tuple[str, Cause] | None] = []

    def result(member: Member, failure: BackendFailure | None) -> None:
        seen.append(None if failure is None else (str(failure), failure.cause))

    by = gateway(backend_result=result)
    made = asked(cycle(), by)
    with pytest.raises(BackendUnreachable):
        made.unreachable(BackendUnreachable("no", Cause.REFUSED))
    for _ in range(2):
        made = asked(cycle(), by)
        made.responded(2.0)
    assert made.member is not None
    assert made.member.up
    assert seen == [("no", Cause.REFUSED), None]


def test_how_a_backend_failed_is_its_cause() -> None:
    causes: list[Cause] = []
    by = gateway(backend_result=lambda _, failure: causes.append(failure.cause) if failure else None)
    with pytest.raises(BackendUnreachable):
        asked(cycle("POST"), by).lost("")
    with pytest.raises(BackendUnreachable):
        asked(cycle("POST"), by).lost("its response is not valid HTTP", Cause.RESPONSE)
    with pytest.raises(BackendTimeout):
        asked(cycle("POST"), by).late()
    assert causes == [Cause.CLOSED, Cause.RESPONSE, Cause.TIMEOUT]


def test_a_stale_connection_is_no_failure_and_the_same_backend_is_asked_once_more() -> None:
    by, seen = told()
    made = asked(cycle(), by)
    assert made.lost("", stale=True)
    assert (made.state, hosts(made)[0], seen) == (State.READY, "vm1", [])
    made.ask(2.0)
    with pytest.raises(BackendUnreachable, match="the connection ended before the response"):
        made.lost("", stale=True)
    assert seen == [("vm1", False)]


def test_a_get_that_was_lost_goes_to_another_backend_once() -> None:
    by, seen = told()
    made = asked(cycle(), by)
    assert not made.lost("the head of its answer is too large")
    assert (made.state, hosts(made)[0], seen) == (State.READY, "vm2", [("vm1", False)])
    made.ask(2.0)
    with pytest.raises(BackendUnreachable, match=r"^-read\.url: the backend failed: it reset"):
        made.lost("it reset")


def test_what_has_a_body_or_is_no_get_is_not_sent_again() -> None:
    by, _ = told()
    made = admit(form(), by)
    made.form(b"query=up")
    made.ask(1.0)
    with pytest.raises(BackendUnreachable):
        made.lost("", stale=True)
    made = asked(cycle("POST"), by)
    with pytest.raises(BackendUnreachable):
        made.lost("")


def test_a_backend_lost_in_the_middle_of_its_response_is_not_set_aside() -> None:
    by, seen = told()
    made = asked(cycle(), by)
    made.responded(2.0)
    with pytest.raises(BackendUnreachable) as raised:
        made.lost("it broke off before the end of its answer")
    assert raised.value.cut_off
    assert (made.responding, seen) == (True, [("vm1", False)])
    assert made.member is not None
    assert made.member.up


def test_a_late_backend_is_not_set_aside() -> None:
    by, seen = told()
    made = asked(cycle(), by)
    with pytest.raises(BackendTimeout, match=r"^-read\.url") as raised:
        made.late()
    assert not raised.value.cut_off
    assert seen == [("vm1", False)]
    assert made.member is not None
    assert (made.member.errors, made.member.up) == (1, True)


# --- the end -------------------------------------------------------------------------------------------------------


def test_a_refusal_keeps_no_frames() -> None:
    made = cycle()
    try:
        made.authorize(None)
    except Refusal as refusal:
        made.refuse(refusal)
    assert made.refusal is not None
    assert made.refusal.__traceback__ is None


@pytest.mark.parametrize(
    ("refusal", "status", "verdict"),
    [
        (None, 200, "admitted"),
        (None, 503, "admitted"),
        (None, None, "failed"),
        (BadRequest("no"), 400, "refused"),
        (BackendUnreachable("no"), 502, "failed"),
    ],
)
def test_the_verdict(refusal: Refusal | None, status: int | None, verdict: str) -> None:
    made = cycle()
    if refusal is not None:
        made.refuse(refusal)
    assert made.verdict(status) == verdict


# --- what clients are told of their limits -------------------------------------------------------------------------


def test_an_admitted_request_is_told_its_limits_if_the_gateway_tells_them() -> None:
    telling = gateway(limiter=Limiter([limit(value=2)]), tells_limits=True)
    made = cycle()
    assert made.limit_headers() == ()
    admit(made, telling)
    assert made.limit_headers() == (
        (b"RateLimit-Policy", b'"queries/minute";q=2;w=60'),
        (b"RateLimit", b'"queries/minute";r=1'),
    )
    for other in (replace(telling, tells_limits=False), replace(telling, limiter=None)):
        assert admit(cycle(), other).limit_headers() == ()
    assert admit(cycle(target="/vmui/static/x.js"), telling).limit_headers() == ()
    refused = cycle(token="x")  # noqa: S106
    with pytest.raises(Refusal):
        refused.authorize(telling)
    assert refused.limit_headers() == ()


# --- what is known when a request ends -------------------------------------------------------------------------------

STATS: Final = b'{"status":"success","data":{},"stats":{"seriesFetched":"7"}}'


def spending(*types: str) -> tuple[Limiter, Gateway]:
    limiter = Limiter([limit(each, 10) for each in types])
    return limiter, gateway(limiter=limiter)


def used(limiter: Limiter) -> dict[str, int]:
    return {usage.limit.type.value: usage.usage for usage in limiter.status(1.0)}


def answered(made: Cycle) -> None:
    """Pass the backend's response on, as the lanes do."""
    made.responded(3.0)
    if made.wants_series:
        made.watch(200, JSON)
    if made.series is not None:
        made.series.feed(STATS)
    made.sent += len(STATS)


def test_a_read_counts_its_bytes_and_series_once_it_has_ended() -> None:
    limiter, by = spending("bytes_read", "series_fetched", "bytes_written")
    made = admit(cycle(), by)
    made.ask(2.0)
    answered(made)
    assert used(limiter) == {"bytes_read": 0, "series_fetched": 0, "bytes_written": 0}
    made.end()
    made.end()
    assert used(limiter) == {"bytes_read": len(STATS), "series_fetched": 7, "bytes_written": 0}
    with pytest.raises(RateLimited, match="bytes read"):
        admit(cycle(), by)


@each(
    ("content", "left", "counted"),
    [(STATS, True, 7), (STATS[:20], True, 1), (STATS[:20], False, 0), (b"", True, 1)],
)
def test_a_client_that_drops_the_end_of_an_answer_uses_a_part_of_the_limit(
    content: bytes, left: bool, counted: int
) -> None:
    limiter, by = spending("series_fetched")
    made = admit(cycle(), by)
    made.ask(2.0)
    made.responded(3.0)
    made.watch(200, JSON)
    assert made.series is not None
    made.series.feed(content)
    made.end(left=left)
    assert used(limiter) == {"series_fetched": counted}


def test_an_answer_that_has_not_begun_or_that_the_backend_cuts_off_uses_nothing() -> None:
    limiter, by = spending("series_fetched")
    gone = admit(cycle(), by)
    gone.ask(2.0)
    gone.end(left=True)
    cut = admit(cycle(), by)
    cut.ask(2.0)
    cut.responded(3.0)
    cut.watch(200, JSON)
    with pytest.raises(BackendUnreachable) as caught:
        cut.lost("it closed")
    cut.refuse(caught.value)
    cut.end(left=True)
    assert used(limiter) == {"series_fetched": 0}


def test_a_write_counts_the_bytes_that_came() -> None:
    limiter, by = spending("bytes_written", "bytes_read")
    made = admit(write(), by)
    made.body(b"a 1\n" * 3, end=True)
    made.ask(2.0)
    made.responded(3.0)
    made.sent += 99
    made.end()
    assert used(limiter) == {"bytes_written": 12, "bytes_read": 0}


def test_a_body_is_refused_for_its_length_on_its_head() -> None:
    limiter, by = spending("bytes_written")
    limiter.spend(cycle_subject(by), {LimitType.BYTES_WRITTEN: 5}, 1.0)
    made = entered(cycle("POST", "/api/v1/import/prometheus", (b"Content-Length", b"6")), by)
    with pytest.raises(RateLimited, match="used 5 of 10 bytes written"):
        made.count(1.0)
    assert entered(cycle("POST", "/api/v1/import/prometheus", (b"Content-Length", b"5")), by).count(1.0)


def cycle_subject(by: Gateway) -> Subject:
    made = cycle()
    made.authorize(by)
    assert made.grant is not None
    return made.grant.subject


def test_the_headers_are_those_of_before_the_request_has_counted() -> None:
    limiter = Limiter([limit("bytes_read", 100)])
    made = admit(cycle(), gateway(limiter=limiter, tells_limits=True))
    made.ask(2.0)
    answered(made)
    before = made.limit_headers()
    made.end()
    assert made.limit_headers() == before
    assert before[1] == (b"RateLimit", b'"bytes_read/minute";r=100')


@pytest.mark.parametrize("how", ["refused on the head", "not asked", "refused before a response", "cut off"])
def test_what_the_backend_did_not_answer_does_not_count(how: str) -> None:
    limiter, by = spending("bytes_read")
    made = cycle()
    if how == "refused on the head":
        limiter.spend(cycle_subject(by), {LimitType.BYTES_READ: 10}, 1.0)
        with pytest.raises(RateLimited) as caught:
            admit(made, by)
        made.refuse(caught.value)
    else:
        admit(made, by)
    if how in ("refused before a response", "cut off"):
        made.ask(2.0)
    if how == "cut off":
        made.responded(3.0)
        made.sent = 4
    if how != "not asked":
        made.refuse(BackendUnreachable("gone", Cause.CLOSED))
    if not made.responding:
        made.sent = 500  # the gateway's own page
    made.end()
    assert used(limiter) == {"bytes_read": {"refused on the head": 10, "cut off": 4}.get(how, 0)}


def test_nothing_counts_without_such_limits() -> None:
    limiter, by = spending("queries")
    made = admit(cycle(), by)
    made.ask(2.0)
    answered(made)
    made.end()
    assert made.series is None
    assert used(limiter) == {"queries": 1}


def test_files_of_vmui_have_no_bytes() -> None:
    limiter, by = spending("bytes_read")
    made = admit(cycle(target="/vmui/"), by)
    made.ask(2.0)
    made.responded(3.0)
    made.sent = 500
    made.end()
    assert used(limiter) == {}
