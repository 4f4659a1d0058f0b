"""What mitmproxy leaves open by default, closed: each test is one such hole, probed over the wire."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Gateway, Program
from tests.support.wire.raw import RawClient, head
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import HANG_UP, ReceivedRequest, RecordingUpstream, Reply, never
from tests.support.wire.waiting import eventually
from tests.support.wire.write_bodies import TEXT_BLOCK
from tests.wire.conftest import StartGateway

MIB = 1 << 20
WRITE = "/api/v1/import/prometheus"
QUERY = "/api/v1/query?query=up"


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def gateway(request: pytest.FixtureRequest, backend: RecordingUpstream, key_file: Path) -> Iterator[Gateway]:
    """One for all tests of this file, so each shows as well that it left the gateway in order."""
    flags = [f"-read.url={backend.url}", f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}"]
    flags += ["-backend.connectTimeout=1s", "-backend.responseTimeout=1s"]
    with Gateway("-enable.auth", *flags, program=request.param) as gateway:
        yield gateway


@pytest.fixture
def upstream(backend: RecordingUpstream) -> RecordingUpstream:
    backend.refuse()
    backend.listen()
    backend.forget()
    backend.responder = lambda request: Reply()
    return backend


# --- refused at once, with flat memory ------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(
    "framing",
    [["Content-Length: 209715200"], ["Transfer-Encoding: chunked"]],
    ids=["content-length", "chunked"],
)
def test_a_refused_upload_is_answered_before_it_is_through(
    gateway: Gateway, upstream: RecordingUpstream, framing: list[str]
) -> None:
    gateway.client().post(WRITE, body=b"m 1")  # what is loaded on the first refusal is loaded
    before, descriptors = gateway.rss(), gateway.fds()
    chunk = b"x" * 65536 if "Content-Length" in framing[0] else b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, None, framing))
        sent = client.send_until_refused(chunk, 200 * MIB)
        assert sent < 100 * MIB
        assert b" 401 " in client.receive_all()[:20]
    assert gateway.rss() - before < 5 * MIB
    eventually(lambda: gateway.fds() <= descriptors, what="the refused connection's descriptor is given back")
    assert upstream.bytes_received == 0


def test_a_client_that_expects_100_continue_is_refused_without_it(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, None, ["Content-Length: 1000", "Expect: 100-continue"]))
        status, _ = client.receive_answer()
    assert status == 401


def test_a_client_that_expects_100_continue_gets_it_once_admitted(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Content-Length: 4", "Expect: 100-continue"]))
        assert client.receive_head().startswith(b"HTTP/1.1 100 ")
        client.send(b"m 1\n")
        assert client.receive_answer()[0] == 200
    [request] = upstream.requests
    assert request.body == b"m 1\n"
    assert request.header("expect") == []


def test_a_refused_connection_is_not_read_for_ever(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, None, ["Content-Length: 1000000"])).send(b"x")
        assert client.receive_answer()[0] == 401
        assert client.is_closed()


@pytest.mark.parametrize(("target", "status"), [("/health", 200), ("/ping", 204), ("/api/v1/import", 405), ("/x", 404)])
def test_an_answer_to_head_has_no_content(gateway: Gateway, token: str, target: str, status: int) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("HEAD", target, token))
        assert client.receive_head().startswith(f"HTTP/1.1 {status} ".encode())
        client.send(head("GET", "/health", None))
        assert client.receive_answer() == (200, b"OK")


def test_a_refusal_without_a_body_keeps_the_connection(gateway: Gateway, token: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, None))
        assert client.receive_answer()[0] == 401
        client.send(head("GET", QUERY, token))
        assert client.receive_answer()[0] == 200


@pytest.mark.parametrize(
    "framing", [["Content-Length: 20000000"], ["Transfer-Encoding: chunked"]], ids=["content-length", "chunked"]
)
def test_a_form_over_the_limit_is_refused(
    gateway: Gateway, upstream: RecordingUpstream, token: str, framing: list[str]
) -> None:
    form = ["Content-Type: application/x-www-form-urlencoded"]
    chunk = b"x" * 65536 if "Content-Length" in framing[0] else b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with RawClient(gateway.port) as client:
        client.send(head("POST", "/api/v1/query", token, [*framing, *form]))
        client.send_until_refused(chunk, 19 * MIB)
        assert b" 413 " in client.receive_all()[:20]
    assert upstream.bytes_received == 0


@pytest.mark.parametrize("kind", ["admitted", "refused", "unknown", "failed"])
def test_answered_requests_leave_nothing_behind(
    gateway: Gateway, upstream: RecordingUpstream, token: str, kind: str
) -> None:
    request = head("GET", "/x" if kind == "unknown" else QUERY, None if kind == "refused" else token)
    if kind == "failed":
        upstream.responder = lambda request: HANG_UP

    def ask(times: int) -> None:
        with RawClient(gateway.port) as client:
            for _ in range(times):
                client.send(request).receive_answer()

    ask(200)
    before = gateway.rss()
    ask(1000)
    assert gateway.rss() - before < 3 * MIB


# --- heads and bodies -----------------------------------------------------------------------------------------------


def test_an_endless_head_is_refused_with_flat_memory(gateway: Gateway) -> None:
    before = gateway.rss()
    with RawClient(gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        client.send_until_refused(b"x" * 65536, 100 * MIB)
        assert b" 431 " in client.receive_all()[:20]
    assert gateway.rss() - before < 5 * MIB


def test_trailers_are_dropped(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Transfer-Encoding: chunked"]))
        client.send(b"4\r\nm 1\n\r\n0\r\nX-Trailer: secret\r\nAccountID: 7\r\n\r\n")
        assert client.receive_answer()[0] == 200
        client.send(head("GET", QUERY, token))
        assert client.receive_answer()[0] == 200
    assert upstream.requests[0].body == b"m 1\n"
    assert all(b"secret" not in connection.raw for connection in upstream.connections)


@pytest.mark.parametrize(
    "tail",
    [b"4;" + b"x" * (1 << 20), b"0\r\nX-Trailer: " + b"x" * (1 << 20), b"zz\r\n", b"4\r\nm 1\nxx", b"-1\r\n"],
    ids=["endless-chunk-extension", "endless-trailer", "no-size", "no-line-break", "negative-size"],
)
def test_a_broken_chunked_body_closes_the_connection(
    gateway: Gateway, upstream: RecordingUpstream, token: str, tail: bytes
) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Transfer-Encoding: chunked"]))
        client.send_until_refused(tail, len(tail))
        assert client.is_closed()
    assert all(not request.complete for request in upstream.requests)


@pytest.mark.parametrize("program", ["vmgateway", "mitmdump"])
def test_what_is_pipelined_while_an_answer_is_awaited_is_bounded(program: Program, key_file: Path, token: str) -> None:
    """It has a gateway of its own, which goes on with the requests that it has read when the client has left."""
    with RecordingUpstream(lambda request: never()) as upstream:
        flags = [f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", "-backend.responseTimeout=1s"]
        with Gateway("-enable.auth", *flags, program=program) as gateway:
            before = gateway.rss()
            # It stops reading, or closes: what is sent then waits in the kernel, or has nobody to take it.
            with RawClient(gateway.port, timeout=0.5) as client:
                client.send(head("GET", QUERY, token))
                assert client.send_until_refused(head("GET", QUERY, token) * 100, 100 * MIB) < 20 * MIB
                assert gateway.rss() - before < 8 * MIB


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(body=request.target.encode())
    with RawClient(gateway.port) as client:
        client.send(b"".join(head("GET", f"/api/v1/query?query={number}", token) for number in range(5)))
        bodies = [client.receive_answer()[1] for _ in range(5)]
    assert bodies == [f"/api/v1/query?query={number}".encode() for number in range(5)]


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["Content-Length: 3", "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
        (["Content-Length: 3", "Content-Length: 3"], b"m 1"),
        (["Content-Length: +3"], b"m 1"),
        (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
        (["Transfer-Encoding : chunked"], b"0\r\n\r\n"),
        (["X-A: b", " folded: yes", "Content-Length: 3"], b"m 1"),
        (["X-A: b\rContent-Length: 3"], b"m 1"),
        (["X-A: b\nContent-Length: 3"], b"m 1"),
        (["X-A: b\0c", "Content-Length: 3"], b"m 1"),
        (["Host: other", "Content-Length: 3"], b"m 1"),
    ],
    ids=[
        "length-and-coding",
        "two-lengths",
        "signed-length",
        "unknown-coding",
        "space-before-colon",
        "folded",
        "bare-cr",
        "bare-lf",
        "nul",
        "two-hosts",
    ],
)
def test_ambiguous_heads_are_refused(
    gateway: Gateway, upstream: RecordingUpstream, token: str, lines: list[str], body: bytes
) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, lines) + body)
        received = client.receive_all()
    assert received.startswith(b"HTTP/1.1 400 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["errorType"] == "bad_data"
    assert upstream.bytes_received == 0


@pytest.mark.parametrize(
    "line",
    ["GET http://evil:81/api/v1/query HTTP/1.1", "CONNECT evil:443 HTTP/1.1", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1"],
    ids=["absolute-form", "authority-form", "asterisk", "options-asterisk"],
)
def test_only_origin_form_targets_pass(gateway: Gateway, upstream: RecordingUpstream, token: str, line: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(f"{line}\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        assert client.receive_all().startswith(b"HTTP/1.1 400 ")
    assert upstream.bytes_received == 0


# --- backends that fail ---------------------------------------------------------------------------------------------


def test_a_backend_that_is_down_is_502_and_found_again(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.refuse()
    upstream.close_idle()  # which earlier requests may have left
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, token))
        status, body = client.receive_answer()
        assert (status, json.loads(body)["errorType"]) == (502, "unavailable")
        assert str(upstream.port) not in body.decode()
        upstream.listen()
        client.send(head("GET", QUERY, token))
        assert client.receive_answer()[0] == 200


def test_a_write_to_a_backend_that_is_down_is_502(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.refuse()
    upstream.close_idle()  # which earlier requests may have left
    assert gateway.client(token).post(WRITE, body=b"m 1\n").status == 502


def test_a_backend_that_does_not_answer_is_504_and_the_connection_lives(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = lambda request: never()
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, token))
        status, body = client.receive_answer()
        assert (status, json.loads(body)["errorType"]) == (504, "timeout")
        upstream.responder = lambda request: Reply()
        client.send(head("GET", QUERY, token))
        assert client.receive_answer()[0] == 200


def test_a_backend_that_does_not_accept_is_504_with_flat_memory(
    start_gateway: StartGateway, key_file: Path, token: str, program: Program
) -> None:
    """A full accept queue drops the next SYN: connecting hangs. What the client uploads meanwhile is not queued."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        flags = (f"-write.url={url}", f"-auth.publicKeyFiles={key_file}", "-backend.connectTimeout=2s")
        gateway = start_gateway("-enable.auth", *flags, program=program)
        gateway.client().post(WRITE, body=b"m 1")
        before = gateway.rss()
        with RawClient(gateway.port) as client:
            client.send(head("POST", WRITE, token, ["Content-Length: 209715200"]))
            client.send_until_refused(TEXT_BLOCK, 200 * MIB)
            assert b" 504 " in client.receive_all()[:20]
        assert gateway.rss() - before < 8 * MIB
        for filler in fillers:
            filler.close()


class HangUpOnReuse:
    """Answers the first request of each connection and closes on the second, without a word."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def __call__(self, request: ReceivedRequest) -> Reply:
        if request.connection in self.seen:
            return HANG_UP
        self.seen.add(request.connection)
        return Reply()


def test_a_stale_connection_is_retried_once_for_a_get(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = HangUpOnReuse()
    with RawClient(gateway.port) as client:
        for _ in range(3):
            client.send(head("GET", QUERY, token))
            assert client.receive_answer()[0] == 200
    first = upstream.requests[0].connection
    assert [request.connection - first for request in upstream.requests] == [0, 0, 1, 1, 2]


def test_a_stale_connection_is_not_retried_for_a_write(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = HangUpOnReuse()
    write = head("POST", WRITE, token, ["Content-Length: 4"]) + b"m 1\n"
    with RawClient(gateway.port) as client:
        assert client.send(write).receive_answer()[0] == 200
        assert client.send(write).receive_answer()[0] == 502
    assert len(upstream.requests) == 2


def test_a_backend_that_always_hangs_up_is_asked_twice_at_most(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = lambda request: HANG_UP
    answer = gateway.client(token).get(QUERY)
    assert answer.status == 502
    assert len(upstream.requests) == 1  # the connection was new, so it was not stale


def test_a_backend_that_answers_early_is_heard(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(status=413, early=True, body=b"too much")
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Content-Length: 10485760"]))
        client.send_until_refused(TEXT_BLOCK, 10 * MIB)
        assert client.receive_answer() == (413, b"too much")


def test_a_backend_that_answers_early_and_leaves_never_counts_as_success(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    """Whether its words are still heard is a race between its reset and our reading."""
    upstream.responder = lambda request: Reply(status=413, early=True, close=True, body=b"too much")
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Content-Length: 104857600"]))
        client.send_until_refused(TEXT_BLOCK, 100 * MIB)
        assert client.receive_all()[9:12] in (b"413", b"502")


def test_an_interim_answer_is_not_taken_for_the_answer(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = lambda request: Reply(interim=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    with RawClient(gateway.port) as client:
        for _ in range(2):
            client.send(head("GET", QUERY, token))
            assert client.receive_answer()[0] == 200


def test_an_endless_head_of_a_backend_is_given_up(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(interim=b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (4 * MIB))
    assert gateway.client(token).get(QUERY).status == 502


def test_a_backend_cannot_switch_protocols(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(status=101, headers=(("Upgrade", "x"), ("Connection", "Upgrade")))
    answer = gateway.client(token).get(QUERY, headers={"Upgrade": "x", "Connection": "Upgrade"})
    assert answer.status == 502
    assert upstream.requests[0].header("upgrade") == []


def test_a_backend_with_an_invalid_answer_is_502(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(headers=(("Content-Length", "1"), ("Content-Length", "2")))
    answer = gateway.client(token).get(QUERY)
    assert (answer.status, answer.json()["errorType"]) == (502, "unavailable")


# --- streams --------------------------------------------------------------------------------------------------------


def test_bodies_stream_both_ways_with_flat_memory(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    size = 200 * MIB
    pieces = [TEXT_BLOCK * 16] * 200
    gateway.client(token).post(WRITE, body=b"m 1")
    before = gateway.rss()
    gateway.client(token).post(WRITE, body=iter(pieces), headers={"Content-Length": str(size)})
    gateway.client(token).post(WRITE, body=iter(pieces))
    assert [request.body_size for request in upstream.requests[1:]] == [size, size]
    upstream.responder = lambda request: Reply(body=iter(pieces))
    assert len(gateway.client(token).get(QUERY).body) == size
    assert gateway.rss() - before < 10 * MIB


# --- fail closed ----------------------------------------------------------------------------------------------------


BROKEN = {
    "AccessControl.requestheaders": {"get", "write", "form"},
    "Forwarding.requestheaders": {"get", "write", "form"},  # a form is prepared by its head, and judged by its body
    "Forwarding.request": {"form"},
    "GatewayStream.answer_now": set(),
}
"""The methods that a test breaks, and the requests that then cannot be answered."""


@pytest.mark.smoke
@pytest.mark.parametrize("broken", BROKEN)
def test_whatever_crashes_reaches_no_backend(
    upstream: RecordingUpstream, flags: list[str], start_gateway: StartGateway, key: SigningKey, tmp_path: Path,
    broken: str,
) -> None:  # fmt: skip
    """A script beside the gateway breaks one of its own methods; the request must not get through half judged."""
    crash = tmp_path / "crash.py"
    crash.write_text(CRASH.format(broken=broken))
    gateway = start_gateway(*flags, program="mitmdump", scripts=[crash])
    client = gateway.client(key.mint({"extra_labels": {"team": "dev"}}))
    answers = {
        "get": client.get(QUERY),
        "write": client.post(WRITE, body=b"m 1\n"),
        "form": client.post("/api/v1/query", form={"query": "up"}),
    }
    assert {kind for kind, answer in answers.items() if 500 <= answer.status < 600} == BROKEN[broken]
    whole = [kind for kind in answers if kind not in BROKEN[broken]]
    assert [answers[kind].status for kind in whole] == [200] * len(whole)
    assert len(upstream.requests) == len(whole)
    assert whole or upstream.bytes_received == 0
    assert all(request.argument("extra_label") == ["team=dev"] for request in upstream.requests)
    gateway.kill()  # its log has the tracebacks that the end of every other gateway is checked for


CRASH = """
import logging
from vmgw_addons.steps import access_control
from vmgw_addons.steps import forwarding
from vmgw_addons.lanes.flow import stream as http_stream

NAMES = {{**vars(access_control), **vars(forwarding), **vars(http_stream)}}
OWNER, METHOD = "{broken}".split(".")

def crash(*args):
    raise RuntimeError("broken on purpose")

setattr(NAMES[OWNER], METHOD, crash)
"""


@pytest.mark.smoke
def test_a_crash_in_the_lane_closes_the_connection(
    upstream: RecordingUpstream, start_gateway: StartGateway, key_file: Path, token: str, tmp_path: Path
) -> None:
    crash = tmp_path / "crash.py"
    crash.write_text(CRASH.format(broken="GatewayStream.make_server_connection"))
    gateway = start_gateway(
        "-enable.auth",
        f"-read.url={upstream.url}",
        f"-auth.publicKeyFiles={key_file}",
        program="mitmdump",
        scripts=[crash],
    )
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, token))
        assert client.is_closed()
    assert upstream.bytes_received == 0
    gateway.kill()


# --- TLS to the backends --------------------------------------------------------------------------------------------


def test_tls_to_a_backend_is_verified(
    start_gateway: StartGateway, key_file: Path, token: str, authority: Authority, program: Program, tmp_path: Path
) -> None:
    certificate = authority.issue("backend.test")
    client_certificate = authority.issue("gateway.test")
    other = Authority(tmp_path)
    cases = {
        "the right authority and name": (["tlsCAFile", "tlsServerName"], 200),
        "the right authority and address": (["tlsCAFile"], 200),
        "a name the certificate is not for": (["tlsCAFile", "otherName"], 502),
        "an unknown authority": (["tlsServerName"], 502),
        "another authority": (["otherCA", "tlsServerName"], 502),
        "no verification": (["tlsInsecureSkipVerify"], 200),
    }
    values = {
        "tlsCAFile": f"-read.tlsCAFile={authority.cert}",
        "otherCA": f"-read.tlsCAFile={other.cert}",
        "tlsServerName": "-read.tlsServerName=backend.test",
        "otherName": "-read.tlsServerName=other.test",
        "tlsInsecureSkipVerify": "-read.tlsInsecureSkipVerify",
    }
    context = authority.server_context(certificate, clients=authority)
    with RecordingUpstream(tls=context) as upstream:
        for name, (settings, expected) in cases.items() if program == "vmgateway" else list(cases.items())[2:4]:
            gateway = start_gateway(
                "-enable.auth",
                f"-read.url={upstream.url}",
                f"-auth.publicKeyFiles={key_file}",
                f"-read.tlsCertFile={client_certificate.cert}",
                f"-read.tlsKeyFile={client_certificate.key}",
                *(values[setting] for setting in settings),
                program=program,
            )
            assert gateway.client(token).get(QUERY).status == expected, name
            gateway.stop()
        assert all(connection.tls_client_certificate for connection in upstream.connections if connection.raw)


def test_a_backend_that_asks_for_a_certificate_and_gets_none_is_502(
    start_gateway: StartGateway, key_file: Path, token: str, authority: Authority
) -> None:
    context = authority.server_context(authority.issue("backend.test"), clients=authority)
    with RecordingUpstream(tls=context) as upstream:
        gateway = start_gateway(
            "-enable.auth",
            f"-read.url={upstream.url}",
            f"-auth.publicKeyFiles={key_file}",
            "-read.tlsInsecureSkipVerify",
        )
        for _ in range(20):  # whether the refusal or the request comes first is a race
            assert gateway.client(token).get(QUERY).status == 502
        assert upstream.requests == []
