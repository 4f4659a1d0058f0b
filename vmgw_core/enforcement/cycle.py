"""One request, from its checked head to the end of its response, without I/O.

A carrier (the fast lane, the flow lane, explain, replay) owns sockets and buffers; a :class:`Cycle` owns the rules.
The carrier reports what happened, one method per event. The cycle moves to the next state and raises the ``Refusal``
that ends the request, if there is one. The states, in the manner of h11:

    HEAD ── authorize ──> AUTHORIZED ── enter ──> ENTERED ── count ──> COUNTED ── prepare ──┐
      └──> CHECKING ─recheck─┘└─ queue ─> QUEUED ─ granted ┘ └─> COUNTING ─ counted ┘       │
              ┌──────────────────────┬─────────────────────┬────────────────────────────────┘
              v                      v                     v
            FORM ── form ─────> READY <── body ── METERED            (READY: ``upstream`` is complete)
                                 │ ^
                             ask v │ unreachable, lost: once more, or another backend
                               ASKED ── responded ──> RESPONDING ── end ──> ENDED

- Only READY leads to a backend, and only ``prepare`` and ``form`` lead to READY.
- A refusal leads to REFUSED from every state but ENDED. If ``responding`` is set, the client already has a part of the
  backend's response, and the carrier must cut the connection instead.
- An event in a state that does not allow it is a defect: the cycle is then refused, and ``WrongState`` is raised.
- ``end`` is allowed in every state, any number of times.
- If processes share a limit, ``count`` and ``body`` may have to ask for room first (``awaiting``). The carrier reports
  nothing but ``end`` until its waiter is called, and then goes on with ``counted`` or ``resumed``.
- If the cycle has a ``filter``, the carrier gives it the backend's response with ``collect``, in state RESPONDING, and
  sends the client what ``filtered`` returns of what ``filtering`` has made. Until then ``responding`` is not set, so a
  refusal can still be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from vmgw_core.answers import Filter, Filtered, VisibleNames
from vmgw_core.backends import Concurrency, Member, Seat
from vmgw_core.base import Access, tenant_name
from vmgw_core.errors import (
    Awaited,
    BackendFailure,
    BackendTimeout,
    BackendUnreachable,
    BadSignature,
    Cause,
    InternalError,
    PasswordUnchecked,
    Refusal,
    TooManyAtOnce,
    UnknownKey,
)
from vmgw_core.http import CORS, Headers, RequestHead, Response, SeriesFetched, values_of
from vmgw_core.limits import Guard, Guards, Limiter, LimitType, Question, Reply, Want, finished, rate_limit_headers
from vmgw_core.rows import RowMeter, Series, row_counter
from vmgw_core.tokens import KeyRing

from .admission import Body, Grant, Policy, admit, too_large
from .guards.check import asks_of, hold_to_guards
from .rewriting import UpstreamRequest, moved, names_request, rewrite


class State(Enum):
    """How far a request has come."""

    HEAD = "head"  # nothing is decided yet
    CHECKING = "checking"  # its token or password is being checked: keys are fetched, or the password is hashed
    AUTHORIZED = "authorized"  # its route and token allow it
    QUEUED = "queued"  # it waits for a slot of the concurrency limit
    ENTERED = "entered"  # it has its slot
    COUNTING = "counting"  # other processes share its limits, and are being asked
    COUNTED = "counted"  # the rate limits of its tenant allow it
    FORM = "form"  # its form is being read, to be rewritten
    METERED = "metered"  # its body goes through the meter, which has not passed a byte on yet
    READY = "ready"  # ``upstream`` may be sent to a backend
    ASKED = "asked"  # it is being sent to a backend, or the connection is being opened
    RESPONDING = "responding"  # the client has the head of the backend's response
    REFUSED = "refused"  # the gateway answers in place of a backend
    ENDED = "ended"


_STREAMING: Final = (State.METERED, State.READY, State.ASKED, State.RESPONDING)


_NAMES_SECONDS: Final = 30.0
"""How long the metric names that a token can see are kept."""


_FILTERED_AT_ONCE: Final = 64 << 10
"""Bytes of an answer that takes a few milliseconds to filter."""


class WrongState(Exception):
    """A carrier reported an event that the state does not allow: a defect."""


Ask = Callable[[Sequence[Want], Callable[[Sequence[Reply] | None], None]], None]
"""Asks, and calls its second argument with the replies, at once or later; with None if nobody replies in time."""


def _ignore(member: Member, failure: BackendFailure | None) -> None:
    """Do nothing."""


Later = Callable[[Callable[[], None]], None]
_Steps = Generator[None, None, Question | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What is in force when a request begins, and stays so until it ends.

    ``clock`` gives the seconds of the limiter's clock, for the rows of a body that streams; ``max_queue`` is
    ``-maxQueueDuration`` in seconds.
    """

    policy: Policy
    clock: Callable[[], float]
    limiter: Limiter | None = None
    concurrency: Concurrency | None = None
    keys: KeyRing | None = None
    """The keys that requests may wait for."""
    max_queue: float = 0.0
    backend_result: Callable[[Member, BackendFailure | None], None] = _ignore
    """Called when a request to a backend fails, and with None for the first one that does not fail after that."""
    ask: Ask | None = None
    """Asks the accounts that processes share; None if they share none."""
    later: Later | None = None
    """Does what is left of a long task soon, after others had their turn; None: it is done at once."""
    guards: Guards | None = None
    """What single queries may ask for; None if there are no guards."""
    tells_limits: bool = False
    """Whether clients get the headers of :meth:`Cycle.limit_headers` (``-ratelimit.headers``)."""
    reports_rows: bool = False
    """Whether the rows of writes are counted although no limit wants them (``-usage.retention``)."""
    shadow: Callable[[Cycle, bytes | None], None] | None = None
    """Called with the form, if there is one, before a request without a meter is rewritten (``-shadow.*``)."""

    @property
    def counts_rows(self) -> bool:
        return self.limiter is not None and self.limiter.counts_rows


class Cycle:
    """One request. ``at`` is Unix time in seconds; the carrier chooses the clock of the other times."""

    __slots__ = (
        "_answer", "_awaited", "_ending", "_failure", "_has_slot", "_held", "_late", "_limits", "_names", "_passed",
        "_retried", "_seat", "_series", "_tried", "_waiter", "answer_note", "asked", "at", "awaiting", "checked",
        "filter", "gateway", "grant", "head", "kept_form", "member", "meter", "own_page", "private_headers",
        "received", "refusal", "responding", "sent", "series", "shadow", "started", "state", "upstream",
        "wants_series",
    )  # fmt: skip

    def __init__(self, head: RequestHead, *, at: float, started: float) -> None:
        self.head = head
        self.at = at
        """The time that the token is judged at."""
        self.started = started
        """When the head was complete."""
        self.state = State.HEAD
        self.gateway: Gateway | None = None
        self.checked = False
        """Whether it has waited for keys or a password, or does."""
        self.own_page = False
        """Whether the gateway responds with a page of its own, without a decision."""
        self.private_headers: Headers = ()
        """Headers of that page with secrets, which no flow may show."""
        self.grant: Grant | None = None
        self.filter: Filter | None = None
        """The filter of the answer. If there is one, nothing goes to the client before :meth:`filtered`."""
        self.meter: RowMeter | None = None
        self.upstream: UpstreamRequest | None = None
        self.refusal: Refusal | None = None
        self.responding = False
        """Whether the client has a part of the backend's response."""
        self.member: Member | None = None
        """The chosen backend, with its load and counters."""
        self.asked = 0.0
        """When the request was sent to the backend; 0 while no response is expected."""
        self.received = 0
        """Bytes of the request's content that came from the client."""
        self.sent = 0
        """Bytes of the response's content that were sent to the client."""
        self.answer_note = ""
        """What was left out of an answer that was filtered, for the operator."""
        self.series: SeriesFetched | None = None
        """Reads the number of series from the response, if a query log wants it."""
        self.wants_series = False
        """Whether a limit wants it."""
        self.kept_form: bytes | None = None
        """The client's form, if the carrier keeps it to show or to capture it."""
        self.shadow: str | None = None
        """How the shadow's decision differs, or ""; None: it has not judged the request."""
        self._awaited: Awaited | None = None
        self._answer = bytearray()
        self._late = False
        self._limits: Headers | None = None
        self._names: frozenset[str] | None = None
        self.awaiting = False
        """Whether other processes, which share a limit, are being asked."""
        self._failure: Exception | None = None
        self._ending = False
        self._held = 0
        self._has_slot = False
        self._seat: Seat | None = None
        self._retried = False
        self._series: Series | None = None
        self._passed: bytes | None = None
        self._tried: tuple[Member, ...] = ()
        self._waiter: Callable[[], None] | None = None

    @property
    def policy(self) -> Policy | None:
        return None if self.gateway is None else self.gateway.policy

    @property
    def is_private(self) -> bool:
        """Whether the token was that of a login: caches keep responses to cookies, but not to ``Authorization``."""
        policy = self.policy
        return policy is not None and policy.token_source.may_be_cookie(self.head.headers)

    # Each event first sets the state to REFUSED, so that an exception ends the request.

    # --- the head --------------------------------------------------------------------------------------------------

    def authorize(self, gateway: Gateway | None, waiter: Callable[[], None] | None = None) -> bool:
        """Check the route and the token: HEAD to AUTHORIZED. ``gateway`` None: no configuration was accepted.

        With ``waiter``: if no key verifies the token, and keys are about to be fetched, or if a password must be
        checked, go to CHECKING and return False. ``waiter`` is called when that is done; the carrier then calls
        ``recheck``. It is called at the ``end`` too.
        """
        self._leave("authorize", State.HEAD)
        self._waiter = waiter
        return self._judge(gateway, self.at)

    def recheck(self, gateway: Gateway | None, now: float, *, last: bool = False) -> bool:
        """Check the token again: CHECKING to AUTHORIZED. Return False if there is more to wait for.

        ``now`` is Unix time. ``last``: ``KEY_WAIT`` has passed, so what is still not verified is refused.
        """
        self._leave("recheck", State.CHECKING)
        self._stop_waiting()
        if last:
            self._waiter = None
        return self._judge(gateway, now)

    def _judge(self, gateway: Gateway | None, now: float) -> bool:
        if gateway is None:
            raise InternalError("the gateway has no usable configuration")
        self.gateway = gateway
        try:
            self.grant = admit(gateway.policy, self.head, self.at)
        except (UnknownKey, BadSignature, PasswordUnchecked) as refusal:
            awaited = refusal.attempt if isinstance(refusal, PasswordUnchecked) else gateway.keys
            if self._waiter is None or awaited is None or not awaited.wait(self._waiter, now):
                raise
            self.state, self.checked, self._awaited = State.CHECKING, True, awaited
            return False
        self._waiter = None
        self.filter = self.grant.filter
        self.state = State.AUTHORIZED
        return True

    def _stop_waiting(self) -> None:
        """Do not wait for keys or a password any longer."""
        assert self._awaited is not None
        assert self._waiter is not None
        self._awaited.give_up(self._waiter)

    def enter(self) -> bool:
        """Take a slot of the concurrency limit: AUTHORIZED to ENTERED. Return False if there is none."""
        self._leave("enter", State.AUTHORIZED)
        assert self.gateway is not None
        slots = self.gateway.concurrency
        if slots is not None:
            seat = self._limit()[1]
            if not slots.enter(seat):
                self.state = State.AUTHORIZED
                return False
            self._has_slot = True
            self._observe_slot(seat)
        self.state = State.ENTERED
        return True

    def queue(self, waiter: Callable[[], None]) -> None:
        """Wait for a slot, if the queue has room: AUTHORIZED to QUEUED.

        ``waiter`` is called once it is ENTERED, or ENDED.
        """
        self._leave("queue", State.AUTHORIZED)
        gateway, _ = self._admitted()
        slots, seat = self._limit()
        if not gateway.max_queue or not slots.wait(seat, self._granted):
            raise self._no_slot(slots, seat)
        self._waiter = waiter
        self.state = State.QUEUED

    def expire(self) -> None:
        """Give up after ``max_queue`` without a slot: QUEUED to REFUSED. Always raises ``TooManyAtOnce``."""
        self._leave("expire", State.QUEUED)
        slots, seat = self._limit()
        slots.give_up(seat)
        raise self._no_slot(slots, seat)

    def _granted(self) -> None:
        """Take the slot that ``Concurrency`` has counted for this request."""
        assert self.state is State.QUEUED
        assert self._waiter is not None
        self._has_slot = True
        self._observe_slot(self._limit()[1])
        self.state = State.ENTERED
        self._waiter()

    def _observe_slot(self, seat: Seat) -> None:
        """Note the limits that would have refused the request if they did not only observe."""
        if seat.exceeded:
            gateway, _ = self._admitted()
            assert gateway.limiter is not None
            for use in seat.exceeded:
                gateway.limiter.note(LimitType.CONCURRENCY, seat.subject.tenant, gateway.clock(), beyond=str(use))

    def count(self, now: float, waiter: Callable[[], None] | None = None) -> bool:
        """Apply the rate limits at ``now`` of their clock: ENTERED to COUNTED.

        Return False if other processes have to be asked: ENTERED to COUNTING. ``waiter`` is called when they have
        answered.
        """
        self._leave("count", State.ENTERED)
        gateway, grant = self.gateway, self.grant
        assert gateway is not None
        assert grant is not None
        limiter = gateway.limiter
        if limiter is not None and not grant.route.is_file:
            size = None
            if limiter.counts_late:
                self._late, self.wants_series = True, limiter.counts_fetched
                size = self.head.content_length
            question = limiter.admit(grant.subject, grant.route.access, now, self.head.client, size)
            if question is not None and not self._ask(question, waiter):
                self.state = State.COUNTING
                return False
        if grant.route.access is Access.WRITE:
            self._set_up_meter()
        self.state = State.COUNTED
        return True

    def counted(self) -> None:
        """Take the answer of the other processes: COUNTING to COUNTED."""
        self._leave("counted", State.COUNTING)
        self._take_answer("counted", State.COUNTING)
        self._set_up_meter()
        self.state = State.COUNTED

    def _set_up_meter(self) -> None:
        """Set up the meter of a write."""
        gateway, grant = self._admitted()
        policy, limiter = gateway.policy, gateway.limiter
        if grant.route.access is not Access.WRITE:
            return
        if limiter is not None and limiter.reads_series(grant.subject):
            self._series = Series(limiter.label_hashes, grant.subject.tenant, grant.claim.labels, self.head)
        if (
            policy.check_label_names
            or gateway.counts_rows
            or gateway.reports_rows
            or grant.tenants is not None
            or self._series is not None
        ):
            counter = row_counter(
                grant.route,
                self.head,
                max_decoded=policy.max_decoded,
                check=policy.check_label_names,
                tenants=grant.tenants,
                series=self._series,
            )
            if counter is not None and grant.body is not Body.NONE:
                self.meter = RowMeter(counter, self._take)

    def prepare(self) -> None:
        """Write the upstream request: COUNTED to READY, or to FORM or METERED if the body decides."""
        self._leave("prepare", State.COUNTED)
        assert self.grant is not None
        if self.grant.body is Body.HOLD:
            self.state = State.FORM
            return
        self._rewrite(None)
        self.state = State.READY if self.meter is None else State.METERED

    # --- the body --------------------------------------------------------------------------------------------------

    def hold(self, size: int) -> None:
        """Count ``size`` more bytes of the form. Raises ``BodyTooLarge``: stop reading."""
        self._leave("hold", State.FORM)
        gateway, _ = self._admitted()
        self._held += size
        self.received += size
        if self._held > gateway.policy.max_form_size:
            raise too_large(gateway.policy)
        self.state = State.FORM

    def form(self, form: bytes) -> None:
        """Rewrite the complete form: FORM to READY."""
        self.hold(len(form) - self._held)
        self._leave("form", State.FORM)
        self._rewrite(form)
        self.state = State.READY

    def body(self, content: bytes, *, end: bool, waiter: Callable[[], None] | None = None) -> bytes:
        """Meter more of a streamed body; return the bytes to forward now. METERED to READY with the first of them.

        If other processes have to be asked, the cycle is ``awaiting`` then, and ``waiter`` is called when they have
        answered.
        """
        state = self._leave_any("body", _STREAMING)
        self.received += len(content)
        if self.meter is None:
            self.state = state
            return content
        if self.awaiting:
            raise WrongState(f"body in state {state.value}, before other processes have answered")
        self._waiter, self._ending = waiter, end
        passed = self.meter.finish(content) if end else self.meter.feed(content)
        series = self._series
        if series is not None and not self.awaiting and (series.waits or (passed and series.found)):
            # Rows are read at once, and never pass before their series are counted.
            waits = self._work(self._judging(series, 0) if passed else series.steps())
            if waits:
                self._passed, passed = passed, b""
        return self._metered(state, passed)

    def resumed(self) -> bytes:
        """Take the answer of the other processes; return the bytes to forward now, as :meth:`body`."""
        state = self._leave_any("resumed", _STREAMING)
        passed, self._passed = self._passed, None
        if self.meter is None or (passed is None and not self.meter.waits):
            raise WrongState(f"resumed in state {state.value}")
        self._take_answer("resumed", state)
        return self._metered(state, self.meter.resume() if passed is None else passed)

    def _metered(self, state: State, passed: bytes) -> bytes:
        ready = state is State.METERED and not self.awaiting and (passed or self._ending)
        self.state = State.READY if ready else state
        return passed

    def rows(self, rows: int) -> None:
        """Count the rows of a body that is not available, in state METERED."""
        self._leave("rows", State.METERED)
        self._take(rows)
        self.state = State.METERED

    # --- the backend -----------------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Note at ``now`` that the request is being sent to the backend: READY to ASKED."""
        self._leave("ask", State.READY)
        assert self.member is not None
        if not self.asked:
            self.member.begin()
        self.asked = now
        self.state = State.ASKED

    def unreachable(self, failure: BackendFailure) -> None:
        """Choose another backend, since no byte was sent: ASKED to READY. Raises ``failure`` if all were tried."""
        self._leave("unreachable", State.ASKED)
        self._failed(failure, dead=True)
        if not self._move():
            raise failure
        self.state = State.READY

    def lost(self, reason: str, cause: Cause = Cause.CLOSED, *, stale: bool = False) -> bool:
        """Handle a backend that failed before the end of its response: ASKED to READY for the one retry of a bare GET.

        ``stale``: a reused connection ended without a byte of a response. The backend may have closed an idle
        connection, so the same backend is tried again. Return whether a new connection must be opened, since the other
        idle ones may be stale too. Raises ``BackendUnreachable`` if the request may not be sent again; ``reason`` is
        for the client, and may be empty.
        """
        state = self._leave_any("lost", (State.ASKED, State.RESPONDING))
        assert self.upstream is not None
        _, grant = self._admitted()
        first = state is State.ASKED and not self._retried
        stale = stale and first
        text = reason or "the connection ended before the response"
        failure = BackendUnreachable(f"-{self.upstream.backend.flag}: the backend failed: {text}", cause)
        if not stale:
            self._failed(failure, dead=state is State.ASKED)
        if first and self.upstream.method == "GET" and grant.body is Body.NONE and (stale or self._move()):
            self._retried = True
            self.state = State.READY
            return stale
        raise failure

    def late(self) -> None:
        """Give up on a backend that did not respond in time. Always raises ``BackendTimeout``."""
        self._leave_any("late", _STREAMING)
        assert self.upstream is not None
        failure = BackendTimeout(f"-{self.upstream.backend.flag}: the backend did not respond in time")
        if self.asked:
            self._failed(failure, dead=False)
        raise failure

    def responded(self, now: float) -> None:
        """Note that the head of the backend's response goes to the client: ASKED to RESPONDING."""
        self._leave("responded", State.ASKED)
        member = self.member
        assert member is not None
        member.durations.add(now - self.asked)
        if member.failing:
            member.failing, member.up = False, True
            self._admitted()[0].backend_result(member, None)
        self.responding = self.filter is None
        self.state = State.RESPONDING

    # --- an answer that is filtered ----------------------------------------------------------------------------------

    def names_request(self, now: float) -> UpstreamRequest | None:
        """Return a request of the gateway's own, without which the answer cannot be filtered, or None.

        It asks for the metric names that the token can see; :meth:`names` takes the response. ``now`` is of any clock
        that never goes back.
        """
        path = None if self.filter is None else self.filter.names_path
        if path is None or self._names is not None:
            return None
        gateway, grant = self._admitted()
        known = gateway.policy.visible.get((path, grant.claim))
        if known is not None and now < known[0]:
            self._names = known[1].names
            return None
        return names_request(gateway.policy, grant, self.head, path)

    def names(self, found: VisibleNames, now: float) -> None:
        """Take the names in the response to :meth:`names_request`, which :func:`read_names` has read."""
        gateway, grant = self._admitted()
        assert grant.filter is not None
        assert grant.filter.names_path is not None
        self._names = found.names
        gateway.policy.visible.put((grant.filter.names_path, grant.claim), (now + _NAMES_SECONDS, found))

    def collect(self, content: bytes) -> None:
        """Keep more of the backend's response, in state RESPONDING. Raises ``AnswerTooLarge`` and ``Overloaded``."""
        self._leave("collect", State.RESPONDING)
        gateway, _ = self._admitted()
        gateway.policy.held.take(len(self._answer), len(content))
        self._answer += content
        self.state = State.RESPONDING

    def filters_long(self, headers: Headers) -> bool:
        """Whether :meth:`filtering` may take long for the complete answer, so that it is for a thread."""
        searches = self.filter is not None and self.filter.searches
        return searches or len(self._answer) > _FILTERED_AT_ONCE or bool(values_of(headers, b"content-encoding"))

    def filtering(self, status: int, headers: Headers) -> Callable[[], Filtered]:
        """Return what makes the client's answer of the backend's, which is complete. The state stays RESPONDING.

        It changes nothing, so a thread may call it. It raises ``Refusal`` if the answer cannot be limited to the token.
        """
        self._leave("filtering", State.RESPONDING)
        gateway, grant = self._admitted()
        by, answer, pairs, names = grant.filter, self._answer, grant.pairs, self._names
        assert by is not None
        largest = gateway.policy.held.largest
        self.state = State.RESPONDING
        # Those that wait for the thread have no copy of the answer yet.
        return lambda: by.apply(status, headers, bytes(answer), pairs, largest=largest, names=names)

    def filtered(self, found: Filtered) -> Response:
        """Return the client's response with what :meth:`filtering` made. The state stays RESPONDING."""
        self._leave("filtered", State.RESPONDING)
        self.answer_note = found.note
        self.sent = 0 if self.head.method == "HEAD" else len(found.body)
        self._drop_answer()
        self.state = State.RESPONDING
        return Response(status=found.status, headers=(*found.headers, *CORS), body=found.body)

    def watch(self, status: int, headers: Headers) -> None:
        """Read the number of series from the response that begins with this head, for a log, report or limit."""
        if self.grant is not None and self.grant.route.evaluates:
            self.series = SeriesFetched.of(status, headers)

    def _drop_answer(self) -> None:
        if self._answer:
            self._admitted()[0].policy.held.give_back(len(self._answer))
            self._answer = bytearray()

    def limit_headers(self) -> Headers:
        """Return the headers that tell the client its limits, for every response to an admitted request."""
        gateway, grant = self.gateway, self.grant
        if self._limits is not None:
            return self._limits
        if gateway is None or not gateway.tells_limits or grant is None or grant.route.is_file:
            return ()
        if gateway.limiter is None:
            return ()
        access = grant.route.access
        return rate_limit_headers(gateway.limiter.quotas(grant.subject, access, gateway.clock(), self.head.client))

    # --- the end ---------------------------------------------------------------------------------------------------

    def refuse(self, refusal: Refusal) -> None:
        """Note a refusal that an event raised or the carrier found."""
        # A traceback would keep the carrier's frames alive as long as the cycle.
        refusal.__traceback__ = refusal.__context__ = refusal.__cause__ = None
        self.refusal = refusal
        if self.state is State.CHECKING:
            self._stop_waiting()
        if self._seat is not None and not self._has_slot:
            self._leave_queue()
        self._drop_answer()
        if self.state is not State.ENDED:
            self.state = State.REFUSED

    def end(self, *, left: bool = False) -> None:
        """Give back what the request holds: the client has its response, or has ``left`` before. A waiter is called."""
        state, self.state = self.state, State.ENDED
        if self._answer:
            self._drop_answer()
        if self._series is not None:
            self._series.drop()
        if self._late and self.asked:
            self._limits = self.limit_headers()  # the flow lane asks for them only now
            self._spend(left)
        self._forsake()
        if state is State.CHECKING:
            self._stop_waiting()
        elif self._has_slot:
            slots, seat = self._limit()
            self._has_slot = False
            for waiter in slots.leave(seat):
                waiter()
        elif self._seat is not None:
            self._leave_queue()
        if state in (State.CHECKING, State.QUEUED) and self._waiter is not None:
            self._waiter()

    def _spend(self, left: bool) -> None:
        """Tell the limiter what the request has used that a backend was asked with."""
        gateway, grant = self._admitted()
        assert gateway.limiter is not None
        amounts: dict[LimitType, int | None] = {LimitType.BYTES_WRITTEN: self.received}
        if grant.route.access is Access.READ:
            series = 0 if self.series is None else self.series.number
            if series is None and not (left and self.refusal is None):
                series = 0  # the backend does not tell, or has failed
            passed = self.refusal is None or self.responding
            amounts = {LimitType.BYTES_READ: self.sent if passed else 0, LimitType.SERIES_FETCHED: series}
        gateway.limiter.spend(grant.subject, amounts, gateway.clock())

    def verdict(self, status: int | None) -> str:
        """Return ``admitted``, ``refused`` (by the gateway) or ``failed`` (in the gateway or the backend, or aborted).

        ``status`` of the response is None if there was none.
        """
        if self.refusal is not None and self.refusal.status < 500:
            return "refused"
        return "admitted" if self.refusal is None and status is not None else "failed"

    # --- private ---------------------------------------------------------------------------------------------------

    def _leave(self, event: str, allowed: State) -> None:
        """Leave the ``allowed`` state for REFUSED, until the event sets another one."""
        if self.state is not allowed:
            raise self._wrong(event)
        self.state = State.REFUSED

    def _leave_any(self, event: str, allowed: tuple[State, ...]) -> State:
        """Leave one of the ``allowed`` states for REFUSED, until the event sets another one. Return the state left."""
        state = self.state
        if state not in allowed:
            raise self._wrong(event)
        self.state = State.REFUSED
        return state

    def _wrong(self, event: str) -> WrongState:
        """Refuse the request: the state does not allow the event."""
        state = self.state
        if state is not State.ENDED:
            self.state = State.REFUSED
        return WrongState(f"{event} in state {state.value}")

    def _admitted(self) -> tuple[Gateway, Grant]:
        assert self.gateway is not None
        assert self.grant is not None
        return self.gateway, self.grant

    def _take(self, rows: int) -> bool:
        """Count rows that are about to be forwarded; return True if other processes have to answer first.

        Raises ``Refusal``: they exceed a limit.
        """
        gateway, grant = self._admitted()
        limiter, client = gateway.limiter, self.head.client
        if limiter is None or not (gateway.counts_rows or self._series):
            return False
        if self._series is not None:
            return self._work(self._judging(self._series, rows))
        question = limiter.take_rows(grant.subject, rows, gateway.clock(), client)
        return question is not None and not self._ask(question, self._waiter)

    def _judging(self, series: Series, rows: int) -> _Steps:
        """Read the series, and count them with their rows."""
        gateway, grant = self._admitted()
        assert gateway.limiter is not None
        yield from series.steps()
        found = series.taken()
        return (yield from gateway.limiter.taking_rows(grant.subject, rows, gateway.clock(), self.head.client, found))

    def _work(self, steps: _Steps) -> bool:
        """Take steps; return True if the waiter is called when the rest of them are taken. Raises ``Refusal``."""
        gateway, _ = self._admitted()
        later, waiter = gateway.later, self._waiter
        if later is None or waiter is None:
            return self._judged(finished(steps))
        try:
            next(steps)
        except StopIteration as end:
            return self._judged(end.value)
        self.awaiting = True
        later(lambda: self._step(steps, later, waiter))
        return True

    def _step(self, steps: _Steps, later: Later, waiter: Callable[[], None]) -> None:
        """Take one more step, and call ``waiter`` after the last one."""
        try:
            if self.state is not State.ENDED:
                next(steps)
                later(lambda: self._step(steps, later, waiter))
                return
            steps.close()
        except StopIteration as end:
            try:
                if self._judged(end.value):
                    return
            except Exception as error:
                self._failure = error
        except Exception as error:
            self._failure = error
        self.awaiting = False
        waiter()

    def _judged(self, question: Question | None) -> bool:
        """Return True if other processes have to answer first. Raises ``Refusal``."""
        gateway, _ = self._admitted()
        waits = question is not None and not self._ask(question, self._waiter)
        _note(gateway)
        return waits

    def _ask(self, question: Question, waiter: Callable[[], None] | None) -> bool:
        """Ask other processes; return False if ``waiter`` is called with their answer. Raises ``Refusal``."""
        gateway, _ = self._admitted()
        limiter = gateway.limiter
        assert limiter is not None
        at_once = True

        def answered(replies: Sequence[Reply] | None) -> None:
            self.awaiting = False
            try:
                limiter.answer(question, replies, gateway.clock())
                _note(gateway)
            except Exception as error:
                self._failure = error
            if not at_once and waiter is not None:
                waiter()

        self.awaiting = True
        if gateway.ask is None:
            answered(None)
        else:
            gateway.ask(question.wants, answered)
        at_once = False
        if self.awaiting:
            return False
        self._take_answer("ask", self.state)
        return True

    def _take_answer(self, event: str, state: State) -> None:
        """Raise what came of a question, if the request may not pass."""
        if self.awaiting:
            raise WrongState(f"{event} in state {state.value}, before other processes have answered")
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _limit(self) -> tuple[Concurrency, Seat]:
        """Return the concurrency limit, and the request's seat."""
        gateway, grant = self._admitted()
        assert gateway.concurrency is not None
        if self._seat is None:
            self._seat = Seat(grant.subject)
        return gateway.concurrency, self._seat

    def _leave_queue(self) -> None:
        """Wait for no slot any more."""
        slots, seat = self._limit()
        slots.give_up(seat)

    def _no_slot(self, slots: Concurrency, seat: Seat) -> TooManyAtOnce:
        slots.refused += 1
        gateway, _ = self._admitted()
        if gateway.limiter is not None and slots.is_at_limit(seat.subject):
            gateway.limiter.note(LimitType.CONCURRENCY, seat.subject.tenant, gateway.clock())
        return TooManyAtOnce(slots.reached(seat.subject))

    def _rewrite(self, form: bytes | None) -> None:
        gateway, grant = self._admitted()
        member = self.member = grant.backends.only or grant.backends.choose()
        assert member is not None
        grant.backend = member.backend
        if gateway.shadow is not None and self.meter is None:
            gateway.shadow(self, form)
        guarded = None if gateway.guards is None else self._guarded
        self.upstream = rewrite(gateway.policy, grant, self.head, form, guarded)

    def traced(self, request: UpstreamRequest) -> UpstreamRequest:
        """Return ``request`` with the headers that name the span of this cycle. Without traces there are none."""
        return request

    @property
    def guards(self) -> tuple[Guard, ...]:
        """The guards of the request's tenant, or of all tenants of the token if the path is for all."""
        gateway, grant = self.gateway, self.grant
        if gateway is None or gateway.guards is None or grant is None or asks_of(grant.route) is None:
            return ()
        subject, token = grant.subject, grant.token
        found = gateway.guards.of(subject)
        if grant.match.multitenant and token is not None:
            every = (gateway.guards.of(subject._replace(tenant=tenant)) for tenant in token.grants.tenants)
            found = tuple(dict.fromkeys(guard for guards in (found, *every) for guard in guards))
        return found

    def _guarded(self, query: str, form: str | None) -> tuple[str, str | None]:
        """Hold the request to its guards."""
        gateway, grant = self._admitted()
        tenant = grant.subject.tenant

        def note(guard: Guard, broken: str) -> None:
            if gateway.limiter is not None:
                told = f"tenant {tenant_name(tenant)}: {broken} (mode: observe)" if guard.observe else ""
                gateway.limiter.note(guard.member, tenant, gateway.clock(), beyond=told)

        return hold_to_guards(self.guards, grant.route, self.head, query, form, self.at, note)

    def _move(self) -> bool:
        """Point the request at a backend that has not been tried; return False if there is none."""
        _, grant = self._admitted()
        group = grant.backends
        assert self.member is not None
        assert self.upstream is not None
        self._tried += (self.member,)
        member = None if group.only else group.choose(self._tried)
        if member is None:
            return False
        self._forsake()
        self.member = member
        grant.backend = member.backend
        self.upstream = moved(self.upstream, member.backend)
        return True

    def _forsake(self) -> None:
        """Stop expecting a response of the backend."""
        if self.asked:
            self.asked = 0.0
            assert self.member is not None
            self.member.end()

    def _failed(self, failure: BackendFailure, *, dead: bool) -> None:
        """Count a failure of the backend, and eject it if it is ``dead``."""
        member = self.member
        assert member is not None
        member.errors += 1
        member.failing, member.up = True, member.up and not dead
        failure.cut_off = self.responding
        self._admitted()[0].backend_result(member, failure)


def _note(gateway: Gateway) -> None:
    """Note the series that were counted."""
    limiter, later = gateway.limiter, gateway.later
    assert limiter is not None
    if later is None:
        while limiter.note_more():
            pass
    elif limiter.unnoted:
        later(lambda: _note_more(limiter, later))


def _note_more(limiter: Limiter, later: Later) -> None:
    if limiter.note_more():
        later(lambda: _note_more(limiter, later))
