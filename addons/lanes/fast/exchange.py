"""One request of the fast lane, from its head to the end of its response. It carries a :class:`Cycle`.

Rules of this file:
- a backend gets a request only after a complete decision, in one place (:meth:`Exchange.send`);
- every request gets one response: once its head is out, a failure closes the connection instead;
- what cannot be forwarded is not read: the client's bytes wait in the kernel while the backend is busy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from vmgw_core.answers import Filtered
from vmgw_core.enforcement import Body, Cycle, State, UpstreamRequest
from vmgw_core.errors import BackendFailure, Cause, InternalError, Refusal
from vmgw_core.http import NOT_SHARED, Response
from vmgw_core.tokens import KEY_WAIT

from .connection import BackendConnection, HeaderLines, head_bytes
from .response_head import Framing, ResponseHead
from .services import Services

logger = logging.getLogger(__name__)

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Client(Protocol):
    """The connection that a request came from."""

    old: bool
    """Whether the request is HTTP/1.0."""
    lines: HeaderLines

    def write(self, data: bytes) -> None:
        """Send a piece of a response."""

    def abort(self) -> None:
        """Close the connection at once."""

    def hold(self, held: bool) -> None:
        """Stop reading, or go on."""

    def resume(self) -> None:
        """Read on after the request has waited in the queue."""

    def await_response(self) -> None:
        """The backend has the whole request: from now on its response is due."""

    def sending(self) -> None:
        """The response has begun: from now on the client may be too slow."""

    def retiring(self) -> bool:
        """Whether the connection closes after this response."""

    def body_is_read(self) -> bool:
        """Whether the request's body has been received to its end."""

    def exchanged(self, exchange: Exchange) -> None:
        """The response is complete."""


class Exchange:
    """A request and its response. The client's connection feeds it, and is told when it is over."""

    __slots__ = (
        "answer", "chunking", "client", "connecting", "connection", "cycle", "form", "keep_alive", "over", "queue",
        "request_done", "response_status", "services", "tap", "timer",
    )  # fmt: skip

    def __init__(self, services: Services, client: Client, cycle: Cycle, *, keep_alive: bool) -> None:
        self.services = services
        self.client = client
        self.cycle = cycle
        self.keep_alive = keep_alive
        self.answer: ResponseHead | None = None  # of a response that is filtered
        self.connection: BackendConnection | None = None
        self.connecting: asyncio.Future[None] | None = None
        self.form: bytearray | None = None
        self.queue: list[bytes] = []
        self.request_done = False
        self.response_status = 0
        self.chunking = False
        self.timer: asyncio.TimerHandle | None = None  # while it is queued, or waits for keys
        self.over = False
        tapping = services.tapping
        self.tap = None if tapping is None else tapping()

    # Whatever calls one of the public methods, a failure in it ends the request: see ``failed``.

    # --- the request -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Judge the head. Forward the request, or respond, as far as that is possible now."""
        try:
            cycle, services = self.cycle, self.services
            head = cycle.head
            page = services.pages.page_for(head.method, head.target, head.headers)
            if page is not None:
                cycle.own_page = True
                self._show(page)
                return
            if services.access_control.authorize(cycle, self.recheck):
                self._enter()
            else:
                self.timer = asyncio.get_running_loop().call_later(KEY_WAIT, lambda: self.recheck(last=True))
        except Exception as error:
            self.failed(error)

    def recheck(self, *, last: bool = False) -> None:
        """Decide on the token again: keys were fetched, or ``last``, it has waited for as long as it may."""
        if self.over:
            return
        try:
            if not self.services.access_control.recheck(self.cycle, last=last):
                return
            assert self.timer is not None
            self.timer.cancel()
            self.timer = None
            self._enter()
        except Exception as error:
            self.failed(error)
        if not self.queued:
            self.client.resume()

    def _enter(self) -> None:
        """Take a slot and go on, or wait for one."""
        cycle = self.cycle
        if cycle.enter():
            self._proceed()
            return
        cycle.queue(self.granted)
        assert cycle.gateway is not None
        self.timer = asyncio.get_running_loop().call_later(cycle.gateway.max_queue, self.expire)

    def _proceed(self) -> None:
        """Count the request, which has its slot, and forward what is there of it."""
        if self.cycle.count(time.monotonic(), self.counted):
            self._prepare()

    def _prepare(self) -> None:
        """Forward what is there of the request, which is counted."""
        cycle = self.cycle
        cycle.prepare()
        assert cycle.grant is not None
        self.request_done = cycle.grant.body is Body.NONE
        if cycle.state is State.READY:
            self.send()
        elif cycle.state is State.FORM:
            self.form = bytearray()
        if not self.request_done and not self.over and cycle.head.awaits_continue and not self.client.old:
            self.client.write(_CONTINUE)

    def receive(self, content: bytes, done: bool) -> None:
        """Take more of the request's body; ``done``: this is its end."""
        try:
            self.request_done = done
            cycle = self.cycle
            if cycle.own_page:
                return  # the page is on its way, and takes no body
            if self.tap is not None:
                self.tap.sent(content)
            if self.form is None:
                content = cycle.body(content, end=done, waiter=self.body_counted)
                if cycle.awaiting:
                    self.client.hold(True)
                else:
                    self._forward(content)
                return
            cycle.hold(len(content))
            self.form += content
            if done:
                form, self.form = bytes(self.form), None
                if self.tap is not None:
                    self.tap.keep_form(cycle, form)
                cycle.form(form)
                self.send()
        except Exception as error:
            self.failed(error)

    def _forward(self, content: bytes) -> None:
        """Send ``content`` to the backend, in the framing that the request's head announces."""
        if self.cycle.head.content_length is None:
            content = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
            if self.request_done:
                content += b"0\r\n\r\n"
        if self.connection is not None:
            self.connection.write(content)
            if self.request_done and self.response_status:
                self.client.sending()
            elif self.request_done:
                self.client.await_response()
        else:
            if content:
                self.queue.append(content)
            if self.cycle.state is State.READY:
                self.send()

    # --- the queue for a slot, and limits that processes share ----------------------------------------------------

    @property
    def queued(self) -> bool:
        """Whether the request waits: for keys, a slot of the concurrency limit, or an answer of other processes."""
        return self.timer is not None or self.cycle.awaiting

    def counted(self) -> None:
        """The other processes have answered. Go on, or respond with the refusal."""
        if self.over:
            return
        try:
            self.cycle.counted()
            self._prepare()
        except Exception as error:
            self.failed(error)
        self.client.resume()

    def body_counted(self) -> None:
        """The other processes have answered. Forward the piece of the body that waited, or refuse the rest."""
        if self.over:
            return
        self.client.hold(False)
        try:
            self._forward(self.cycle.resumed())
        except Exception as error:
            self.failed(error)
        self.client.resume()

    def granted(self) -> None:
        """The request has a slot. Go on once whoever gave it up has done the rest of its work."""
        if self.over:
            return
        assert self.timer is not None
        self.timer.cancel()
        asyncio.get_running_loop().call_soon(self.dequeue)

    def dequeue(self) -> None:
        """Go on after the queue."""
        if self.over:
            return
        self.timer = None
        try:
            self._proceed()
        except Exception as error:
            self.failed(error)
        self.client.resume()

    def expire(self) -> None:
        """Refuse the request after it has waited for as long as it may."""
        try:
            self.cycle.expire()
        except Exception as error:
            self.failed(error)

    # --- the backend -----------------------------------------------------------------------------------------------

    def send(self, *, fresh: bool = False) -> None:
        """Send the request over an idle connection, or over a new one: always, if ``fresh``."""
        cycle = self.cycle
        assert cycle.upstream is not None
        names = None if cycle.filter is None else cycle.names_request(time.monotonic())
        if names is not None:
            self.client.hold(True)
            task = self.services.background.once("metric_names", self.look_up(names))
            self.connecting = None if task.done() else task
            return
        cycle.ask(time.perf_counter())
        connection = None if fresh else self.services.pool.take(cycle.upstream.backend)
        if connection is not None:
            self.use(connection)
        else:
            self.client.hold(True)
            task = self.services.background.once("backend_connect", self.connect(cycle.upstream))
            self.connecting = None if task.done() else task

    async def connect(self, upstream: UpstreamRequest) -> None:
        """Open a connection and send the request over it."""
        try:
            connection = await self.services.pool.connect(upstream.backend)
            self.connecting = None
            if self.over:
                self.services.pool.release(connection)
            else:
                self.client.hold(False)
                self.use(connection)
        except Exception as error:
            self.connecting = None
            if isinstance(error, BackendFailure):
                self.unreachable(error)
            else:
                self.failed(error)

    async def look_up(self, request: UpstreamRequest) -> None:
        """Ask for the metric names that the token can see, then send the client's request."""
        try:
            names = await self.services.fetch_names(request)
            self.connecting = None
            if not self.over:
                self.client.hold(False)
                self.cycle.names(names, time.monotonic())
                self.send()
        except Exception as error:
            self.connecting = None
            self.client.hold(False)
            self.failed(error)

    def unreachable(self, failure: BackendFailure) -> None:
        """No connection: ask another backend, or respond."""
        if self.over:
            return
        self.client.hold(False)
        try:
            self.cycle.unreachable(failure)
            self.send()
        except Exception as error:
            self.failed(error)

    def use(self, connection: BackendConnection) -> None:
        """Send what there is of the request so far."""
        upstream = self.cycle.upstream
        assert upstream is not None
        self.connection = connection
        data = head_bytes(upstream, self.client.lines)
        if upstream.body is not None:
            data += upstream.body
        elif self.queue:
            data += b"".join(self.queue)
            self.queue.clear()
        connection.send(self, data, is_head=upstream.method == "HEAD")
        if self.request_done:
            self.client.await_response()

    def backend_writable(self, writable: bool) -> None:
        """The backend takes no more for now, or again."""
        self.client.hold(not writable)

    def backend_lost(self, reason: str, cause: Cause = Cause.CLOSED) -> None:
        """The backend closed the connection: send the request once more if that is safe, else respond."""
        connection, self.connection = self.connection, None
        assert connection is not None
        if self.over:
            return
        self.client.hold(False)
        try:
            self.send(fresh=self.cycle.lost(reason, cause, stale=connection.uses > 1 and not reason))
        except Exception as error:
            self.failed(error)

    def too_late(self) -> None:
        """The response is overdue."""
        if self.cycle.upstream is None:  # queued, or a page of the gateway itself: these have timeouts of their own
            self.client.await_response()
            return
        try:
            self.cycle.late()
        except Exception as error:
            self.failed(error)

    # --- the response ----------------------------------------------------------------------------------------------

    def received(self, head: ResponseHead | None, content: bytes, done: bool) -> None:
        """Forward more of the backend's response."""
        if self.over:
            return
        try:
            if self.cycle.filter is not None:
                self._collect(head, content, done)
                return
            data = b"" if head is None else self._response_head(head)
            if head is not None and not done:
                self.client.sending()
            if content:
                self.cycle.sent += len(content)
                if self.cycle.series is not None:
                    self.cycle.series.feed(content)
                if self.tap is not None:
                    self.tap.received(content)
                data += b"%x\r\n%b\r\n" % (len(content), content) if self.chunking else content
            if done and self.chunking:
                data += b"0\r\n\r\n"
            if data:
                self.client.write(data)
            if done:
                if not self.request_done and self.connection is not None:
                    self.connection.abort()  # the rest of the request goes nowhere
                self.connection = None
                self.finish(self.response_status)
        except Exception as error:
            self.failed(error)

    def _collect(self, head: ResponseHead | None, content: bytes, done: bool) -> None:
        """Keep a response that is filtered, and respond once it is complete."""
        if head is not None:
            self.answer = head
            self.cycle.responded(time.perf_counter())
        if content:
            self.cycle.collect(content)
        if done:
            assert self.answer is not None
            self.connection = None
            make = self.cycle.filtering(self.answer.status, self.answer.headers)
            if self.cycle.filters_long(self.answer.headers):
                self.client.hold(True)
                self.connecting = self.services.background.once("answer_filter", self._filter(make))
            else:
                self._respond(self.cycle.filtered(make()))

    async def _filter(self, make: Callable[[], Filtered]) -> None:
        """Make a large answer in a thread, and respond."""
        try:
            found = await self.services.filters.call(make)
            self.connecting = None
            self._respond(self.cycle.filtered(found))
        except Exception as error:
            self.connecting = None
            self.failed(error)

    def _response_head(self, head: ResponseHead) -> bytes:
        """Return the response's head for the client, in a framing that the client understands."""
        self.response_status = head.status
        if self.tap is not None:
            self.tap.responded(head.status, head.headers)
        self.cycle.responded(time.perf_counter())
        response_log = self.services.in_force.configured.response_log
        if response_log is not None:
            response_log.watch(self.cycle, head.status, head.headers)
        elif self.cycle.wants_series:
            self.cycle.watch(head.status, head.headers)
        client = self.client
        if not self.request_done or self.services.process.draining or client.retiring():
            self.keep_alive = False
        written = self.services.backend_head(head)
        gateway = self.cycle.gateway
        assert gateway is not None
        if gateway.policy.login is not None and self.cycle.is_private:
            written += b"%b: %b\r\n" % NOT_SHARED
        if gateway.tells_limits:
            written += self._limit_lines()
        if head.framing is Framing.CHUNKED or head.framing is Framing.CLOSE:
            if client.old:
                self.keep_alive = False
            else:
                self.chunking = True
                written += b"Transfer-Encoding: chunked\r\n"
        return written + self._connection_lines() + b"\r\n"

    def _limit_lines(self) -> bytes:
        """Return what the client is told of its limits."""
        return b"".join(b"%b: %b\r\n" % header for header in self.cycle.limit_headers())

    def _connection_lines(self) -> bytes:
        """Return what the client must know of its connection (RFC 9112, section 9.3)."""
        if not self.keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self.client.old else b""

    def failed(self, error: Exception) -> None:
        """Respond to a request that ``error`` ended: a refusal of the cycle's, or a defect."""
        if not isinstance(error, Refusal):
            logger.error("a request crashed", exc_info=error)
            error = InternalError("the gateway failed on this request")
        self.refuse(error)

    def refuse(self, refusal: Refusal) -> None:
        """Respond in place of the backend, or close the connection if a response has begun."""
        if self.over:
            return
        self._drop_backend()
        if self.cycle.responding:
            self.cycle.refuse(refusal)
            self._end(None)
            self.client.abort()
            return
        self._respond(self.services.access_control.refuse(self.cycle, refusal))

    def _respond(self, response: Response) -> None:
        """Send a response of the gateway itself."""
        if self.services.process.draining or self.client.retiring() or not self.client.body_is_read():
            self.keep_alive = False
        content = self.cycle.head.method != "HEAD"
        lines = self._limit_lines() + self._connection_lines()
        self.client.write(self.services.own_response(response, lines, content=content))
        self.cycle.sent = len(response.body) if content else 0
        if self.tap is not None:
            self.tap.responded(response.status, response.headers)
            self.tap.received(response.body if content else b"")
        self.finish(response.status)

    def _show(self, page: Response | Awaitable[Response]) -> None:
        """Respond with a page of the gateway itself, now or once it is there."""
        if isinstance(page, Response):
            self._respond(page)
            return
        self.client.hold(True)
        self.connecting = self.services.background.once("own_page", self._show_later(page))

    async def _show_later(self, page: Awaitable[Response]) -> None:
        try:
            response = await page
            self.connecting = None
            self._respond(response)
        except Exception as error:
            self.connecting = None
            self.failed(error)

    # --- the end ---------------------------------------------------------------------------------------------------

    def finish(self, status: int) -> None:
        """The response is complete."""
        self._end(status)
        self.client.exchanged(self)

    def abandon(self) -> None:
        """The client has left."""
        self._drop_backend()
        self._end(None)

    def _drop_backend(self) -> None:
        """Close the backend's connection: the backend never sees the end of a request that was cut off."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
            self.client.hold(False)
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def _end(self, status: int | None) -> None:
        """Count the request, once."""
        if not self.over:
            self.over = True
            if self.timer is not None:
                self.timer.cancel()
            self.cycle.end(left=status is None)
            self.services.finished(self.cycle, status)
            if self.tap is not None:
                self.services.captured(self.tap, self.cycle, complete=status is not None)
