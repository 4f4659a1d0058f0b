"""One request, from its checked head to the end of its response, without I/O.

A carrier (the fast lane, the flow lane, explain, replay) owns sockets and buffers; a :class:`Cycle` owns the rules.
The carrier reports what happened, one method per event. The cycle moves to the next state and raises the ``Refusal``
that ends the request, if there is one. The states, in the manner of h11:

    HEAD ── authorize ──> AUTHORIZED ── enter ──> ENTERED ── count ──> COUNTED ── prepare ──┐
                              └─ queue ─> QUEUED ── place ─┘                                │
              ┌──────────────────────┬─────────────────────┬────────────────────────────────┘
              v                      v                     v
            FORM ── form ─────> READY <── body ── METERED            (READY: ``upstream`` is complete)
                                 │ ^
                             ask v │ unreachable, lost: once more, or another backend
                               ASKED ── responded ──> RESPONDING ── end ──> ENDED

- Only READY leads to a backend, and only ``prepare`` and ``form`` lead to READY.
- A refusal leads to REFUSED from every state but ENDED. If ``responding`` is set, the client already has a part of the
  backend's response, and the carrier must cut the connection instead of answering.
- An event in a state that does not allow it is a defect: the cycle is then refused, and ``WrongState`` is raised.
- ``end`` is allowed in every state, any number of times: it gives back what the request took up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NoReturn

from vmgw_core.backends import BackendGroup, Concurrency, Member
from vmgw_core.base import Access
from vmgw_core.errors import BackendTimeout, BackendUnreachable, InternalError, Refusal, TooManyAtOnce
from vmgw_core.http import RequestHead
from vmgw_core.limits import Limiter
from vmgw_core.rows import RowMeter, row_counter

from .admission import Body, Grant, Policy, admit, too_large
from .rewriting import UpstreamRequest, moved, rewrite


class State(Enum):
    """How far a request came."""

    HEAD = "head"
    """Nothing is decided."""
    AUTHORIZED = "authorized"
    """Its route and token let it pass."""
    QUEUED = "queued"
    """It waits for a place among the concurrent requests."""
    ENTERED = "entered"
    """It has its place."""
    COUNTED = "counted"
    """Its tenant's limits let it pass."""
    FORM = "form"
    """Its form is being held, to be rewritten."""
    METERED = "metered"
    """Its body goes through the meter, which has not let out a byte yet."""
    READY = "ready"
    """``upstream`` is what a backend may be sent."""
    ASKED = "asked"
    """A backend was sent a part of it, or is being connected to."""
    RESPONDING = "responding"
    """The client was sent the head of the backend's response."""
    REFUSED = "refused"
    """The gateway answers in place of a backend."""
    ENDED = "ended"


_STREAMING: Final = frozenset((State.METERED, State.READY, State.ASKED, State.RESPONDING))
_NO_PLACE: Final = "as many requests are under way as may be at once: -maxConcurrentRequests or PerTenant"


class WrongState(Exception):
    """A carrier reported an event that the state does not allow: a defect."""


def _ignore(member: Member) -> None:
    """Nobody wants to know."""


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
    max_queue: float = 0.0
    backend_changed: Callable[[Member], None] = _ignore
    """Called when one of several backends is set aside, or answers again."""

    @property
    def counts_rows(self) -> bool:
        """Whether some limit needs the rows of bodies."""
        return self.limiter is not None and self.limiter.counts_rows


class Cycle:
    """One request. ``at`` is Unix time in seconds; what the other times count from is up to the carrier."""

    __slots__ = (
        "_held", "_places", "_retried", "_tried", "_waiter", "asked", "at", "gateway", "grant", "head", "kept_form",
        "member", "meter", "own_page", "refusal", "responding", "sent", "started", "state", "upstream",
    )  # fmt: skip

    def __init__(self, head: RequestHead, *, at: float, started: float) -> None:
        self.head = head
        self.at = at
        """When the token is judged."""
        self.started = started
        """When the head was complete."""
        self.state = State.HEAD
        self.gateway: Gateway | None = None
        self.own_page = False
        """Whether the gateway itself answers with a page; nothing is decided then."""
        self.grant: Grant | None = None
        self.meter: RowMeter | None = None
        self.upstream: UpstreamRequest | None = None
        self.refusal: Refusal | None = None
        self.responding = False
        """Whether the client was sent a part of the backend's response."""
        self.member: Member | None = None
        """The backend that was chosen, with what is known of it."""
        self.asked = 0.0
        """When the backend was asked; 0 while no response is expected."""
        self.sent = 0
        """Bytes of the response's content that the client was sent."""
        self.kept_form: bytes | None = None
        """The client's form, if the carrier keeps it to show or to capture it."""
        self._held = 0
        self._places: Concurrency | None = None
        self._retried = False
        self._tried: tuple[Member, ...] = ()
        self._waiter: Callable[[], None] | None = None

    @property
    def policy(self) -> Policy | None:
        """The policy that the request is judged by."""
        return None if self.gateway is None else self.gateway.policy

    # Each event below sets the state to REFUSED before it does anything: whatever is raised, nothing goes on.

    # --- the head --------------------------------------------------------------------------------------------------

    def authorize(self, gateway: Gateway | None) -> None:
        """Check the route and the token: HEAD to AUTHORIZED.

        Args:
            gateway: what is in force; None if no configuration was accepted.

        Raises:
            Refusal: it may not pass.
        """
        self._leave(State.HEAD, "authorize")
        if gateway is None:
            raise InternalError("the gateway has no usable configuration")
        self.gateway = gateway
        self.grant = admit(gateway.policy, self.head, self.at)
        self.state = State.AUTHORIZED

    def enter(self) -> bool:
        """Take a place among the concurrent requests: AUTHORIZED to ENTERED. False: there is none, queue or refuse."""
        self._leave(State.AUTHORIZED, "enter")
        gateway, grant = self._admitted()
        places = gateway.concurrency
        if places is not None:
            if not places.enter(grant.subject.tenant):
                self.state = State.AUTHORIZED
                return False
            self._places = places
        self.state = State.ENTERED
        return True

    def queue(self, waiter: Callable[[], None]) -> None:
        """Wait for a place: AUTHORIZED to QUEUED. ``waiter`` is called once the state is ENTERED.

        Raises:
            TooManyAtOnce: nobody may wait, or too many do.
        """
        self._leave(State.AUTHORIZED, "queue")
        gateway, grant = self._admitted()
        assert gateway.concurrency is not None
        if not gateway.max_queue or not gateway.concurrency.wait(grant.subject.tenant, self._place):
            raise self._no_place(gateway.concurrency)
        self._waiter = waiter
        self.state = State.QUEUED

    def expire(self) -> None:
        """``max_queue`` has passed without a place: QUEUED to REFUSED. Always raises ``TooManyAtOnce``."""
        self._leave(State.QUEUED, "expire")
        gateway, grant = self._admitted()
        assert gateway.concurrency is not None
        gateway.concurrency.give_up(grant.subject.tenant, self._place)
        raise self._no_place(gateway.concurrency)

    def _place(self) -> None:
        """Called by ``Concurrency``, which has counted the place as taken."""
        assert self.state is State.QUEUED
        assert self._waiter is not None
        assert self.gateway is not None
        self._places = self.gateway.concurrency
        self.state = State.ENTERED
        self._waiter()

    def count(self, now: float) -> None:
        """Hold the tenant to its limits, and have the body of a write counted and checked: ENTERED to COUNTED.

        Args:
            now: seconds of the limiter's clock.

        Raises:
            Refusal: it is beyond a limit, or its head says that its body cannot be read.
        """
        self._leave(State.ENTERED, "count")
        gateway, grant = self._admitted()
        limiter = gateway.limiter
        if limiter is not None:
            limiter.admit(grant.subject, grant.route.access, now)
        policy = gateway.policy
        if grant.route.access is Access.WRITE and (policy.check_label_names or gateway.counts_rows):
            counter = row_counter(
                grant.route, self.head, max_decoded=policy.max_decoded, check=policy.check_label_names
            )
            if counter is not None and grant.body is not Body.NONE:
                self.meter = RowMeter(counter, self._take)
        self.state = State.COUNTED

    def prepare(self) -> None:
        """Write the upstream request: COUNTED to READY, or to FORM or METERED if the body decides.

        Raises:
            Refusal: the arguments cannot be made binding.
        """
        self._leave(State.COUNTED, "prepare")
        _, grant = self._admitted()
        if grant.body is Body.HOLD:
            self.state = State.FORM
            return
        self._rewrite(None)
        self.state = State.READY if self.meter is None else State.METERED

    # --- the body --------------------------------------------------------------------------------------------------

    def hold(self, size: int) -> None:
        """``size`` more bytes of the form have come. Raises ``BodyTooLarge``: the form is not read on."""
        self._leave(State.FORM, "hold")
        gateway, _ = self._admitted()
        self._held += size
        if self._held > gateway.policy.max_form_size:
            raise too_large(gateway.policy)
        self.state = State.FORM

    def form(self, form: bytes) -> None:
        """The form is complete: FORM to READY.

        Raises:
            Refusal: the form cannot be read, is too large, or its arguments cannot be made binding.
        """
        self.hold(len(form) - self._held)
        self._leave(State.FORM, "form")
        self._rewrite(form)
        self.state = State.READY

    def body(self, content: bytes, *, end: bool) -> bytes:
        """More of a body that streams; returns what the backend may be sent now. METERED to READY with the first byte.

        Raises:
            Refusal: the rest may not pass.
        """
        state = self.state
        if state not in _STREAMING:
            self._wrong("body")
        if self.meter is None:
            return content
        self.state = State.REFUSED
        passed = self.meter.feed(content)
        if end:
            passed += self.meter.finish()
        self.state = State.READY if state is State.METERED and (passed or end) else state
        return passed

    def rows(self, rows: int) -> None:
        """The body is not there, but it is known to carry so many rows: count them, in state METERED.

        Raises:
            Refusal: they are beyond a limit.
        """
        self._leave(State.METERED, "rows")
        self._take(rows)
        self.state = State.METERED

    # --- the backend -----------------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """The request is on its way to the backend of ``upstream``: READY to ASKED. ``now`` starts the clock."""
        self._leave(State.READY, "ask")
        assert self.member is not None
        if not self.asked:
            self.member.begin()
        self.asked = now
        self.state = State.ASKED

    def unreachable(self, refusal: Refusal) -> None:
        """No byte was sent, so any request may go to another backend: ASKED to READY.

        Raises:
            Refusal: ``refusal``, if every backend was tried.
        """
        self._leave(State.ASKED, "unreachable")
        self._failed(dead=True)
        if not self._move():
            raise refusal
        self.state = State.READY

    def lost(self, reason: str, *, stale: bool = False) -> bool:
        """The backend broke off before the end of its response. Once, a GET without a body goes from ASKED to READY.

        Args:
            reason: what is known, for the client; may be empty.
            stale: whether the connection had been used before and ended without a byte of a response. The backend may
                just have closed an idle connection, so the same one is asked again.

        Returns:
            Whether a new connection must be opened: the other idle ones may be stale too.

        Raises:
            BackendUnreachable: the request may not be sent again.
        """
        state = self.state
        if state is not State.ASKED and state is not State.RESPONDING:
            self._wrong("lost")
        self.state = State.REFUSED
        assert self.upstream is not None
        _, grant = self._admitted()
        first = state is State.ASKED and not self._retried
        stale = stale and first
        if not stale:
            self._failed(dead=state is State.ASKED)
        flag = self.upstream.backend.flag
        if first and self.upstream.method == "GET" and grant.body is Body.NONE and (stale or self._move()):
            self._retried = True
            self.state = State.READY
            return stale
        text = reason or "it broke off before it answered"
        raise BackendUnreachable(f"-{flag}: the backend failed: {text}")

    def late(self) -> None:
        """The backend did not respond in time. Always raises ``BackendTimeout``."""
        if self.state not in _STREAMING:
            self._wrong("late")
        self.state = State.REFUSED
        assert self.upstream is not None
        if self.asked:
            self._failed(dead=False)
        raise BackendTimeout(f"-{self.upstream.backend.flag}: the backend did not answer in time")

    def responded(self, now: float) -> None:
        """The head of the backend's response is there, and goes to the client: ASKED to RESPONDING."""
        self._leave(State.ASKED, "responded")
        member = self.member
        assert member is not None
        member.durations.add(now - self.asked)
        if not member.up:
            member.up = True
            self._tell(member)
        self.responding = True
        self.state = State.RESPONDING

    # --- the end ---------------------------------------------------------------------------------------------------

    def refuse(self, refusal: Refusal) -> None:
        """Note why the gateway answers: what an event raised, or what the carrier found itself."""
        # A traceback holds the frames of the carrier, and would keep them for as long as the cycle is kept.
        refusal.__traceback__ = refusal.__context__ = refusal.__cause__ = None
        self.refusal = refusal
        if self.state is not State.ENDED:
            self.state = State.REFUSED

    def end(self) -> None:
        """The client has its response, or has left: give back what the request took up."""
        queued, self.state = self.state is State.QUEUED, State.ENDED
        self._forsake()
        if queued:
            gateway, grant = self._admitted()
            assert gateway.concurrency is not None
            gateway.concurrency.give_up(grant.subject.tenant, self._place)
        elif self._places is not None:
            _, grant = self._admitted()
            places, self._places = self._places, None
            for waiter in places.leave(grant.subject.tenant):
                waiter()

    def verdict(self, status: int | None) -> str:
        """``admitted``, ``refused`` (by the gateway), or ``failed`` (in the gateway or the backend, or broken off).

        Args:
            status: of the response; None if there was none.
        """
        if self.refusal is not None and self.refusal.status < 500:
            return "refused"
        return "admitted" if self.refusal is None and status is not None else "failed"

    # --- within ----------------------------------------------------------------------------------------------------

    def _leave(self, state: State, event: str) -> None:
        """Leave ``state``; what follows must set another one, or the request is refused."""
        if self.state is not state:
            self._wrong(event)
        self.state = State.REFUSED

    def _wrong(self, event: str) -> NoReturn:
        state = self.state
        if state is not State.ENDED:
            self.state = State.REFUSED
        raise WrongState(f"{event} in state {state.value}")

    def _admitted(self) -> tuple[Gateway, Grant]:
        assert self.gateway is not None
        assert self.grant is not None
        return self.gateway, self.grant

    def _take(self, rows: int) -> None:
        """Count rows that are about to pass. Raises ``Refusal``: they are beyond a limit."""
        gateway, grant = self._admitted()
        if gateway.limiter is not None and gateway.counts_rows:
            gateway.limiter.take_rows(grant.subject, rows, gateway.clock())

    def _no_place(self, places: Concurrency) -> TooManyAtOnce:
        places.refused += 1
        return TooManyAtOnce(_NO_PLACE)

    def _group(self) -> BackendGroup:
        gateway, grant = self._admitted()
        group = gateway.policy.backends(grant.route)
        assert group is not None
        return group

    def _rewrite(self, form: bytes | None) -> None:
        """Choose the backend and write the request that it gets."""
        gateway, grant = self._admitted()
        group = self._group()
        member = self.member = group.only or group.choose()
        assert member is not None
        if member.backend is not grant.backend:
            grant = self.grant = grant._replace(backend=member.backend)
        self.upstream = rewrite(gateway.policy, grant, self.head, form)

    def _move(self) -> bool:
        """Point the request at a backend that has not been tried; return False if there is none."""
        group = self._group()
        _, grant = self._admitted()
        assert self.member is not None
        assert self.upstream is not None
        self._tried += (self.member,)
        member = None if group.only else group.choose(self._tried)
        if member is None:
            return False
        self._forsake()
        self.member = member
        self.grant = grant._replace(backend=member.backend)
        self.upstream = moved(self.upstream, member.backend)
        return True

    def _forsake(self) -> None:
        """The backend is no longer expected to respond."""
        if self.asked:
            self.asked = 0.0
            assert self.member is not None
            self.member.end()

    def _failed(self, *, dead: bool) -> None:
        """The backend did not respond, or not in time. One that is ``dead`` is set aside."""
        member = self.member
        assert member is not None
        member.errors += 1
        if member.up and dead:
            member.up = False
            self._tell(member)

    def _tell(self, member: Member) -> None:
        if self._group().only is None:
            assert self.gateway is not None
            self.gateway.backend_changed(member)
