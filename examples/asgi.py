"""The gateway as an ASGI application. ``vmgw_core`` judges each request; ``forward``, which you bring, sends it on."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from time import monotonic, time
from typing import Any

import vmgw_core as core

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Response = tuple[int, core.Headers, AsyncIterable[bytes]]
Forward = Callable[[core.UpstreamRequest, AsyncIterable[bytes]], Awaitable[Response]]


class ClientLeft(Exception):
    """The client closed its connection before the end of its body."""


class Front:
    """An ASGI application over one policy."""

    def __init__(self, policy: core.Policy, forward: Forward, limiter: core.Limiter | None = None) -> None:
        self.gateway = core.Gateway(policy=policy, clock=monotonic, limiter=limiter)
        self.forward = forward

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["http_version"] not in ("1.0", "1.1"):
            raise NotImplementedError("only HTTP/1 is served: its headers tell whether there is a body")
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
        head = core.RequestHead(scope["method"], target.decode("latin-1"), headers, scope["client"][0])
        cycle = core.Cycle(head, at=time(), started=monotonic())
        try:
            core.check_fields(head)
            cycle.authorize(self.gateway)
            cycle.enter()  # always true: there is no concurrency limit here
            cycle.count(monotonic())
            cycle.prepare()
            await self.exchange(cycle, receive, send)
        except ClientLeft:
            pass  # nobody waits for a response
        except core.Refusal as refusal:
            cycle.refuse(refusal)
            if cycle.responding:
                raise  # the client has a part of the response: the server cuts the connection
            policy = self.gateway.policy
            own = core.refusal_response(refusal, access=core.access_of(policy, head), tell_why=policy.tell_why)
            await send({"type": "http.response.start", "status": own.status, "headers": own.headers})
            await send({"type": "http.response.body", "body": b"" if head.method == "HEAD" else own.body})
        finally:
            cycle.end()

    async def exchange(self, cycle: core.Cycle, receive: Receive, send: Send) -> None:
        """Forward an admitted request, and pass the response on."""
        pieces, passed = content(receive), b""
        if cycle.state is core.State.FORM:  # its arguments are rewritten, so it is held
            form = bytearray()
            async for piece, _ in pieces:
                cycle.hold(len(piece))
                form += piece
            cycle.form(bytes(form))
        while cycle.state is core.State.METERED:  # no byte goes to the backend before the meter allows it
            piece, end = await anext(pieces)
            passed += cycle.body(piece, end=end)
        while True:
            cycle.ask(monotonic())
            assert cycle.upstream is not None
            try:
                status, headers, response = await self.forward(cycle.upstream, body(cycle, passed, pieces))
                break
            except TimeoutError:
                cycle.late()
            except OSError:
                cycle.lost("")  # raises, unless another backend may be asked
        cycle.responded(monotonic())
        await send({"type": "http.response.start", "status": status, "headers": core.HeaderEdit().apply(headers)})
        async for piece in response:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


async def content(receive: Receive) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield the pieces of the client's body, each with whether it is the last."""
    end = False
    while not end:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeft
        end = not message.get("more_body", False)
        yield message.get("body", b""), end


async def body(cycle: core.Cycle, passed: bytes, pieces: AsyncIterable[tuple[bytes, bool]]) -> AsyncIterator[bytes]:
    """Yield what the backend may be sent: the rewritten form, or what the meter lets pass."""
    assert cycle.upstream is not None
    assert cycle.grant is not None
    yield cycle.upstream.body or passed
    if cycle.grant.body is core.Body.STREAM:
        async for piece, end in pieces:
            yield cycle.body(piece, end=end)


def front(url: str, public_key: str, forward: Forward) -> Front:
    """Build a gateway for the VictoriaMetrics at ``url``; ``public_key`` is the PEM that verifies tokens."""
    policy = core.Policy(
        verifier=core.TokenVerifier(core.KeySet(core.keys_from_pem(public_key, "public_key"))),
        cluster=False,
        read=core.BackendGroup([core.Backend.parse(url, "read.url")]),
        write=core.BackendGroup([core.Backend.parse(url, "write.url")]),
        max_form_size=16 << 20,
        tell_why=False,
    )
    return Front(policy, forward)
