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
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

from vmgw_core.enforcement import Body, Cycle, State, UpstreamRequest
from vmgw_core.errors import InternalError, Refusal
from vmgw_core.http import Response

from .connection import AnswerHead, BackendConnection, Framing, written

if TYPE_CHECKING:
    from .client import FastClient
    from .lane import FastLane

logger = logging.getLogger(__name__)

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


_P = ParamSpec("_P")


def _guarded(step: Callable[Concatenate[Exchange, _P], None]) -> Callable[Concatenate[Exchange, _P], None]:
    """Answer with what ``step`` raises: the refusal of the cycle, or 500 for a defect."""

    @wraps(step)
    def run(exchange: Exchange, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            step(exchange, *args, **kwargs)
        except Refusal as refusal:
            exchange.refuse(refusal)
        except Exception:
            exchange.crashed()

    return run


class Exchange:
    """A request and its answer. The client's connection feeds it, and is told when it is over."""

    __slots__ = (
        "answer_status", "chunking", "client", "connecting", "connection", "cycle", "form", "keep_alive",
        "lane", "over", "queue", "request_done", "timer",
    )  # fmt: skip

    def __init__(self, lane: FastLane, client: FastClient, cycle: Cycle, *, keep_alive: bool) -> None:
        self.lane = lane
        self.client = client
        self.cycle = cycle
        self.keep_alive = keep_alive
        self.connection: BackendConnection | None = None
        self.connecting: asyncio.Future[None] | None = None
        self.form: bytearray | None = None
        self.queue: list[bytes] = []
        self.request_done = False
        self.answer_status = 0
        self.chunking = False
        self.timer: asyncio.TimerHandle | None = None  # while it is queued
        self.over = False

    # --- the request -----------------------------------------------------------------------------------------------

    @_guarded
    def start(self) -> None:
        """Judge the head, and send on or answer what can be by now."""
        cycle, lane = self.cycle, self.lane
        head = cycle.head
        page = lane.pages.answer(head.method, head.target, head.headers)
        if page is not None:
            cycle.own_page = True
            self.show(page)
            return
        cycle.authorize(lane.in_force.configured.gateway)
        if cycle.enter():
            self.go_on()
        else:
            cycle.queue(self.placed)
            assert cycle.gateway is not None
            self.timer = asyncio.get_running_loop().call_later(cycle.gateway.max_queue, self.expire)

    @_guarded
    def go_on(self) -> None:
        """It has its place: count it, and send on what can be by now."""
        cycle = self.cycle
        cycle.count(time.monotonic())
        cycle.prepare()
        assert cycle.grant is not None
        self.request_done = cycle.grant.body is Body.NONE
        if cycle.state is State.FORM:
            self.form = bytearray()
        elif cycle.state is State.READY:
            self.send()
        if not self.request_done and not self.over and cycle.head.awaits_continue and not self.client.old:
            self.client.write(_CONTINUE)

    @_guarded
    def receive(self, content: bytes, done: bool) -> None:
        """More of the request's body, and whether this is its end."""
        self.request_done = done
        cycle = self.cycle
        if cycle.own_page:
            return  # it is on its way, and takes no body
        if self.form is None:
            self.pass_on(cycle.body(content, end=done))
            return
        cycle.hold(len(content))
        self.form += content
        if done:
            cycle.form(bytes(self.form))
            self.form = None
            self.send()

    def pass_on(self, content: bytes) -> None:
        """Send ``content`` on, in the framing of the request's head."""
        if self.cycle.head.content_length is None:
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
            if self.cycle.state is State.READY:
                self.send()

    # --- the queue for a place -------------------------------------------------------------------------------------

    @property
    def queued(self) -> bool:
        """Whether the request waits for a place among the concurrent ones."""
        return self.timer is not None

    def placed(self) -> None:
        """The request has a place. Go on once whoever gave it up has done the rest of its work."""
        assert self.timer is not None
        self.timer.cancel()
        asyncio.get_running_loop().call_soon(self.proceed)

    def proceed(self) -> None:
        """Go on from where the request had to wait."""
        if self.over:
            return
        self.timer = None
        self.go_on()
        self.client.go_on()

    @_guarded
    def expire(self) -> None:
        """The request has waited for as long as it may."""
        self.cycle.expire()

    # --- the backend -----------------------------------------------------------------------------------------------

    def send(self, *, fresh: bool = False) -> None:
        """Ask the backend, over a connection that is there or, always if ``fresh``, a new one."""
        cycle = self.cycle
        assert cycle.upstream is not None
        cycle.ask(time.perf_counter())
        connection = None if fresh else self.lane.pool.take(cycle.upstream.backend)
        if connection is not None:
            self.use(connection)
        else:
            self.client.hold(True)
            task = self.lane.background.once("backend_connect", self.connect(cycle.upstream))
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

    @_guarded
    def unreachable(self, refusal: Refusal) -> None:
        """No connection: ask another backend, or answer."""
        self.client.hold(False)
        self.cycle.unreachable(refusal)
        self.send()

    def use(self, connection: BackendConnection) -> None:
        """Send what there is of the request so far."""
        upstream = self.cycle.upstream
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

    @_guarded
    def backend_lost(self, reason: str) -> None:
        """The backend broke off: ask once more if that is safe, else answer."""
        connection, self.connection = self.connection, None
        assert connection is not None
        if self.over:
            return
        self.client.hold(False)
        self.send(fresh=self.cycle.lost(reason, stale=connection.uses > 1 and not reason))

    @_guarded
    def too_late(self) -> None:
        """The backend did not answer in time."""
        if self.cycle.upstream is None:  # queued, or a page of the gateway's own: these say how long they take
            self.client.await_answer()
            return
        self.cycle.late()

    # --- the answer ------------------------------------------------------------------------------------------------

    @_guarded
    def answered(self, head: AnswerHead | None, content: bytes, done: bool) -> None:
        """Pass the backend's answer on as it comes."""
        if self.over:
            return
        data = b"" if head is None else self.head(head)
        if content:
            self.cycle.sent += len(content)
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
        self.cycle.responded(time.perf_counter())
        client = self.client
        if not self.request_done or self.lane.process.draining or client.retiring():
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
        if self.cycle.responding:
            self.cycle.refuse(refusal)
            self.end(None)
            self.client.abort()
            return
        self.respond(self.lane.access_control.answer(self.cycle, refusal))

    def respond(self, answer: Response) -> None:
        """Send an answer of the gateway's own."""
        if self.lane.process.draining or self.client.retiring() or not self.client.body_is_read():
            self.keep_alive = False
        content = self.cycle.head.method != "HEAD"
        self.client.write(self.lane.own(answer, self.connection_lines(), content=content))
        self.cycle.sent = len(answer.body) if content else 0
        self.finish(answer.status)

    def show(self, page: Response | Awaitable[Response]) -> None:
        """Answer with a page of the gateway's own, now or once it is there."""
        if isinstance(page, Response):
            self.respond(page)
            return
        self.client.hold(True)
        self.connecting = self.lane.background.once("own_page", self.show_later(page))

    async def show_later(self, page: Awaitable[Response]) -> None:
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
            if self.timer is not None:
                self.timer.cancel()
            self.cycle.end()
            self.lane.finished(self.cycle, status)
