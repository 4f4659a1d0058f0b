"""One request of the fast lane: judged, sent on, answered. The flow lane's addons take the same steps.

Rules of this file:
- a backend is spoken to only for a complete decision, in one place (:meth:`Exchange.send`);
- every request is answered once: after the head of an answer is out, whatever fails ends the connection instead;
- what cannot be sent on is not read: a client waits in the kernel while its backend, or the way to it, is busy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from vmgw_core.answers import Answer
from vmgw_core.backends import Member
from vmgw_core.errors import BackendTimeout, BackendUnreachable, InternalError, Refusal
from vmgw_core.gateway import Body, UpstreamRequest, rewrite, too_large

from . import backends
from .fast_backend import AnswerHead, BackendConnection, Framing, written
from .fast_queue import PlaceWait
from .occupancy import enter, leave
from .rate_limit import limit
from .runtime import Decision

if TYPE_CHECKING:
    from .fast_client import FastClient
    from .fast_lane import FastLane

logger = logging.getLogger(__name__)

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """A request and its answer. The client's connection feeds it, and is told when it is over."""

    __slots__ = (
        "answer_status", "begun", "chunking", "client", "connecting", "connection", "decision", "form", "keep_alive",
        "lane", "over", "queue", "request_done", "retried", "sent", "tried", "upstream", "waiting",
    )  # fmt: skip

    def __init__(self, lane: FastLane, client: FastClient, decision: Decision, *, keep_alive: bool) -> None:
        self.lane = lane
        self.client = client
        self.decision = decision
        self.keep_alive = keep_alive
        self.upstream: UpstreamRequest | None = None
        self.connection: BackendConnection | None = None
        self.connecting: asyncio.Future[None] | None = None
        self.form: bytearray | None = None
        self.queue: list[bytes] = []
        self.begun = self.request_done = False
        self.answer_status = 0
        self.sent = 0
        self.chunking = False
        self.retried = False
        self.tried: tuple[Member, ...] = ()
        self.waiting: PlaceWait | None = None  # for a place among -maxConcurrentRequests
        self.over = False

    # --- the request -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Judge the head, and send on or answer what can be by now."""
        decision, lane = self.decision, self.lane
        head = decision.head
        try:
            page = lane.pages.answer(head.method, head.target, head.headers)
            if page is not None:
                decision.own_page = True
                self.show(page)
                return
            lane.access_control.check(decision)
            if enter(lane.runtime, decision):
                self.go_on()
            else:
                self.waiting = PlaceWait(lane.runtime, decision, self.proceed, self.refuse)
        except Refusal as refusal:
            self.refuse(refusal)
        except Exception:
            self.crashed()

    def go_on(self) -> None:
        """It has its place: count it, and send on what can be by now. Raises ``Refusal``."""
        decision = self.decision
        limit(self.lane.runtime, decision, time.monotonic())
        grant = decision.grant
        assert grant is not None
        self.request_done = grant.body is Body.NONE
        if grant.body is Body.HOLD:
            self.form = bytearray()
        else:
            self.prepare(None)
            if decision.meter is None or self.request_done:
                self.begin()
        if not self.request_done and not self.over and decision.head.awaits_continue and not self.client.old:
            self.client.write(_CONTINUE)

    def prepare(self, form: bytes | None) -> None:
        """Write the request that the backend gets. Raises ``Refusal``."""
        decision = self.decision
        backends.choose(decision)
        assert decision.policy is not None
        assert decision.grant is not None
        self.upstream = decision.upstream = rewrite(decision.policy, decision.grant, decision.head, form)

    def receive(self, content: bytes, done: bool) -> None:
        """More of the request's body, and whether this is its end."""
        self.request_done = done
        if self.decision.own_page:
            return  # it is on its way, and takes no body
        try:
            if self.form is None:
                if self.decision.meter is not None:
                    content = self.decision.meter.feed(content)
                    content += self.decision.meter.finish() if done else b""
                self.pass_on(content)
                return
            self.form += content
            assert self.decision.policy is not None
            if len(self.form) > self.decision.policy.max_form_size:
                raise too_large(self.decision.policy)
            if done:
                self.prepare(bytes(self.form))
                self.form = None
                self.begin()
        except Refusal as refusal:
            self.refuse(refusal)
        except Exception:
            self.crashed()

    def pass_on(self, content: bytes) -> None:
        """Send ``content`` on, in the framing of the request's head."""
        assert self.upstream is not None
        if self.decision.head.content_length is None:
            content = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
            if self.request_done:
                content += b"0\r\n\r\n"
        if self.connection is not None:
            self.connection.write(content)
            if self.request_done and self.answer_status:
                self.client.taking()
            elif self.request_done:
                self.client.await_answer()
        else:
            if content:
                self.queue.append(content)
            if not self.begun and (content or self.request_done):
                self.begin()

    def proceed(self) -> None:
        """There is a place now: go on from where it had to wait."""
        if self.over:
            return
        self.waiting = None
        try:
            self.go_on()
        except Refusal as refusal:
            self.refuse(refusal)
        except Exception:
            self.crashed()
        self.client.go_on()

    # --- the backend -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """What the backend may see of the request is there."""
        self.begun = True
        backends.ask(self.decision)
        self.send()

    def send(self, *, anew: bool = False) -> None:
        """Send the request to its backend, over a connection that is there or, always where ``anew``, a new one."""
        assert self.upstream is not None
        connection = None if anew else self.lane.pool.take(self.upstream.backend)
        if connection is not None:
            self.use(connection)
        else:
            self.client.hold(True)
            task = self.lane.runtime.background.once("backend_connect", self.connect(self.upstream))
            self.connecting = None if task.done() else task

    async def connect(self, upstream: UpstreamRequest) -> None:
        """Open a connection and send the request over it."""
        try:
            connection = await self.lane.pool.connect(upstream.backend)
            self.connecting = None
            if self.over:
                self.lane.pool.release(connection)
            else:
                self.client.hold(False)
                self.use(connection)
        except Refusal as refusal:
            self.connecting = None
            if not self.over:
                self.unreachable(refusal)
        except Exception:
            self.connecting = None
            self.crashed()

    def unreachable(self, refusal: Refusal) -> None:
        """No connection: no byte was sent, so that any request may go to another backend."""
        backends.failed(self.decision)
        if self.turn_elsewhere():
            self.client.hold(False)
            self.send()
        else:
            self.refuse(refusal)

    def turn_elsewhere(self) -> bool:
        """Whether there is a backend that was not tried yet; the request is its own then."""
        decision = self.decision
        assert decision.member is not None
        self.tried += (decision.member,)
        if not backends.move(decision, self.tried):
            return False
        self.upstream = decision.upstream
        backends.ask(decision)
        return True

    def use(self, connection: BackendConnection) -> None:
        """Send what there is of the request so far."""
        upstream = self.upstream
        assert upstream is not None
        self.connection = connection
        data = written(upstream)
        if upstream.body is not None:
            data += upstream.body
        elif self.queue:
            data += b"".join(self.queue)
            self.queue.clear()
        connection.send(self, data, is_head=upstream.method == "HEAD")
        if self.request_done:
            self.client.await_answer()

    def backend_writable(self, writable: bool) -> None:
        """The backend takes no more for now, or again."""
        self.client.hold(not writable)

    def backend_lost(self, reason: str) -> None:
        """The backend broke off: try once more where that is safe, else answer 502."""
        connection, self.connection = self.connection, None
        assert connection is not None
        assert self.upstream is not None
        if self.over:
            return
        stale = connection.uses > 1 and not reason and not self.retried and not self.answer_status
        if not stale:
            backends.failed(self.decision, dead=not self.answer_status)
        assert self.decision.grant is not None
        again = not self.retried and not self.answer_status
        again = again and self.upstream.method == "GET" and self.decision.grant.body is Body.NONE
        if again and (stale or self.turn_elsewhere()):
            self.retried = True
            self.send(anew=stale)  # where one connection was stale, so may be the others
            return
        self.client.hold(False)
        flag = self.upstream.backend.flag
        self.refuse(BackendUnreachable(f"-{flag}: the backend failed: {reason or 'it broke off before it answered'}"))

    def too_late(self) -> None:
        """The backend did not answer in time."""
        if self.upstream is None:  # a page of the gateway's own, which says itself how long it takes
            self.client.await_answer()
            return
        if self.decision.asked:
            backends.failed(self.decision, dead=False)
        self.refuse(BackendTimeout(f"-{self.upstream.backend.flag}: the backend did not answer in time"))

    # --- the answer ------------------------------------------------------------------------------------------------

    def answered(self, head: AnswerHead | None, content: bytes, done: bool) -> None:
        """Pass the backend's answer on as it comes."""
        if self.over:
            return
        data = b"" if head is None else self.head(head)
        if content:
            self.sent += len(content)
            data += b"%x\r\n%b\r\n" % (len(content), content) if self.chunking else content
        if done and self.chunking:
            data += b"0\r\n\r\n"
        if data:
            self.client.write(data)
        if done:
            if not self.request_done and self.connection is not None:
                self.connection.abort()  # the rest of the request goes nowhere
            self.connection = None
            self.finish(self.answer_status)

    def head(self, head: AnswerHead) -> bytes:
        """The head of the answer as the client gets it, in the framing that the client understands."""
        self.answer_status = head.status
        backends.answered(self.decision)
        client = self.client
        if not self.request_done or self.lane.runtime.draining or client.retiring():
            self.keep_alive = False
        client.taking()
        written = self.lane.passed_on(head)
        if head.framing in (Framing.CHUNKED, Framing.CLOSE):
            if client.old:
                self.keep_alive = False
            else:
                self.chunking = True
                written += b"Transfer-Encoding: chunked\r\n"
        return written + self.connection_lines() + b"\r\n"

    def connection_lines(self) -> bytes:
        """What the client must know of its connection (RFC 9112, section 9.3)."""
        if not self.keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self.client.old else b""

    def refuse(self, refusal: Refusal) -> None:
        """Answer in place of the backend, or end the connection where an answer has begun."""
        if self.over:
            return
        self.drop_backend()
        if self.answer_status:
            self.decision.refused(refusal)
            self.end(None)
            self.client.abort()
            return
        self.respond(self.lane.access_control.answer(self.decision, refusal))

    def respond(self, answer: Answer) -> None:
        """Send an answer of the gateway's own."""
        if self.lane.runtime.draining or self.client.retiring() or not self.client.body_is_read():
            self.keep_alive = False
        content = self.decision.head.method != "HEAD"
        self.client.write(self.lane.own(answer, self.connection_lines(), content=content))
        self.sent = len(answer.body) if content else 0
        self.finish(answer.status)

    def show(self, page: Answer | Awaitable[Answer]) -> None:
        """Answer with a page of the gateway's own, now or once it is there."""
        if isinstance(page, Answer):
            self.respond(page)
            return
        self.client.hold(True)
        self.connecting = self.lane.runtime.background.once("own_page", self.show_later(page))

    async def show_later(self, page: Awaitable[Answer]) -> None:
        try:
            answer = await page
            self.connecting = None
            self.respond(answer)
        except Exception:
            self.connecting = None
            self.crashed()

    def crashed(self) -> None:
        """A defect: nothing was decided, or nothing goes on."""
        logger.exception("a request crashed")
        self.refuse(InternalError("the gateway failed on this request"))

    # --- the end ---------------------------------------------------------------------------------------------------

    def finish(self, status: int) -> None:
        """The answer is complete."""
        self.end(status)
        self.client.exchanged(self)

    def abandon(self) -> None:
        """The client has left."""
        self.drop_backend()
        self.end(None)

    def drop_backend(self) -> None:
        """End what goes on with the backend: it never sees the end of a request that was cut off."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
            self.client.hold(False)
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def end(self, status: int | None) -> None:
        """Count the request, once."""
        if not self.over:
            self.over = True
            if self.waiting is not None:
                self.waiting.stop()
            leave(self.decision)
            self.lane.finished(self.decision, status, self.sent)
