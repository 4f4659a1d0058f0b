"""Other people's addons beside the gateway see and annotate flows, and cannot weaken a decision by accident."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mitmproxy import io
from mitmproxy.http import HTTPFlow

from tests.support.wire.client import Client
from tests.support.wire.processes import free_port
from tests.support.wire.programs import Mitmdump, opened, options
from tests.support.wire.raw import RawClient, head
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, never
from tests.support.wire.waiting import eventually

QUERY = "/api/v1/query?query=up"
IMPORT = "/api/v1/import/prometheus"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BODY = b"a 1\n" * 50_000


class Unready(Mitmdump):
    """Its addons may answer nobody, so it is ready once it says so."""

    def is_ready(self) -> bool:
        return "vmgateway" in self.log() and "listens on" in self.log()


class Failing(Unready):
    """An addon in it fails, and mitmproxy logs that with a traceback."""

    def check_end(self) -> None:
        """The traceback is that of the addon."""


class Beside:
    """A gateway with scripts before and after it, its backend, and another server that must stay alone."""

    def __init__(self, upstream: RecordingUpstream, other: RecordingUpstream, key: SigningKey, key_file: Path) -> None:
        self.upstream, self.other, self.key_file = upstream, other, key_file
        self.token = key.mint(team("dev"))
        self.stack = ExitStack()

    def start(
        self, directory: Path, script: str, place: str, *arguments: str, kind: type[Mitmdump] = Mitmdump
    ) -> Mitmdump:
        path = directory / "own.py"
        path.write_text(script.replace("OTHER", str(self.other.port)))
        port = free_port()
        given = options(enable_auth=True, auth_public_key_files=self.key_file, write_check_label_names=False)
        mode = f"reverse:{self.upstream.url}@127.0.0.1:{port}"
        before, after = ([path], []) if place == "before" else ([], [path])
        gateway = kind("--mode", mode, *given, *arguments, port=port, before=before, after=after)
        return self.stack.enter_context(gateway)

    def ask(self, port: int) -> list[int]:
        """A read, a form, an upload, a chunked upload, and a read and an upload without a token. The statuses."""
        client, nobody = Client(port, token=self.token), Client(port)
        answers = [
            client.get(f"{QUERY}&extra_label=team=ops"),
            client.post("/api/v1/query", body=b"query=up&extra_label=team=ops", headers=FORM),
            client.post(IMPORT, body=BODY),
            client.post(IMPORT, body=iter([BODY[:100], BODY[100:]])),
            nobody.get(QUERY),
            nobody.post(IMPORT, body=b"a 1\n"),
        ]
        return [answer.status for answer in answers]


@pytest.fixture
def beside(upstream: RecordingUpstream, key: SigningKey, key_file: Path) -> Iterator[Beside]:
    with RecordingUpstream() as other:
        both = Beside(upstream, other, key, key_file)
        with both.stack:
            yield both
        assert other.requests == []


def check_received(requests: list[ReceivedRequest]) -> None:
    """The backend got the four requests with a token, as if the gateway were alone."""
    assert [(request.method, request.path, request.argument("extra_label")) for request in requests] == [
        ("GET", "/api/v1/query", ["team=dev"]),
        ("POST", "/api/v1/query", ["team=dev"]),
        ("POST", IMPORT, ["team=dev"]),
        ("POST", IMPORT, ["team=dev"]),
    ]
    assert [request.body for request in requests] == [b"", b"query=up", BODY, BODY]
    for request in requests:
        assert request.argument("query") in (["up"], [])
        assert request.header("X-Own") == []
        assert request.header("AccountID") == []
        assert request.header("Authorization") == []
        assert not request.header("Host")[0].startswith("evil")


CHANGES = {
    "headers": """
def requestheaders(flow):
    flow.request.headers["X-Own"] = "1"
    flow.request.headers["AccountID"] = "7"
    flow.request.headers["Authorization"] = "Basic eDp5"
    flow.request.headers["Host"] = "evil"
request = requestheaders
""",
    "framing": """
def requestheaders(flow):
    flow.request.headers["Content-Length"] = "1"
    flow.request.headers["Transfer-Encoding"] = "gzip"
request = requestheaders
""",
    "no headers": """
def requestheaders(flow):
    flow.request.headers.clear()
request = requestheaders
""",
    "path": """
def requestheaders(flow):
    flow.request.path = "/api/v1/admin/tsdb/delete_series?match[]=a"
request = requestheaders
""",
    "query": """
def requestheaders(flow):
    flow.request.query["extra_label"] = "team=ops"
request = requestheaders
""",
    "host": """
def requestheaders(flow):
    flow.request.host, flow.request.port, flow.request.scheme = "127.0.0.1", OTHER, "http"
request = requestheaders
""",
    "url": """
def requestheaders(flow):
    flow.request.url = "http://127.0.0.1:OTHER/api/v1/query?query=all"
request = requestheaders
""",
    "method": """
def requestheaders(flow):
    flow.request.method = "DELETE"
request = requestheaders
""",
    "body": """
def request(flow):
    flow.request.content = b"query=all&extra_label=team=ops"
    flow.request.text = "query=all"
""",
    "body and trailers": """
from mitmproxy.http import Headers
def request(flow):
    flow.request.raw_content = b"GET /evil HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"
    flow.request.trailers = Headers(x="y")
""",
    "stream": """
def requestheaders(flow):
    flow.request.stream = lambda data: data.replace(b"a", b"b")
""",
    "no stream": """
def requestheaders(flow):
    flow.request.stream = False
""",
    "always stream": """
def requestheaders(flow):
    flow.request.stream = True
""",
    "another request": """
from mitmproxy import http
def requestheaders(flow):
    flow.request = http.Request.make("POST", "http://127.0.0.1:OTHER/evil", b"all")
request = requestheaders
""",
    "connection": """
def server_connect(data):
    data.server.address = ("127.0.0.1", OTHER)
""",
}


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "connection"])
def test_a_change_after_the_decision_has_no_effect(beside: Beside, change: str, tmp_path: Path) -> None:
    gateway = beside.start(tmp_path, CHANGES[change], "after")
    assert beside.ask(gateway.port) == [200, 200, 200, 200, 401, 401]
    gateway.wait_for_log("another addon changed a request after the decision: such changes have no effect")
    check_received(beside.upstream.requests)


@pytest.mark.smoke
def test_all_changes_at_once(beside: Beside, tmp_path: Path) -> None:
    parts = [CHANGES[change].replace("def request", "def ") for change in ("headers", "path", "host", "method")]
    names = ["headers", "path", "host", "method"]
    script = "class Own:\n    pass\n"
    for name, part in zip(names, parts, strict=True):
        body = part.split("def headers(flow):\n")[1].split("\nrequest")[0]
        script += f"def {name}(flow):\n{body}\n"
    script += "def requestheaders(flow):\n    headers(flow); path(flow); host(flow); method(flow)\n"
    script += "    flow.request.stream = lambda data: b'x'\n"
    script += (
        "def request(flow):\n    headers(flow); path(flow); host(flow); method(flow); flow.request.content = b'x'\n"
    )
    gateway = beside.start(tmp_path, script, "after")
    assert beside.ask(gateway.port) == [200, 200, 200, 200, 401, 401]
    check_received(beside.upstream.requests)


LEADS = {
    "after": CHANGES["connection"],
    "added later": """
from mitmproxy import ctx
class Late:
    def server_connect(self, data):
        data.server.address = ("127.0.0.1", OTHER)
def running():
    ctx.master.addons.add(Late())
""",
    "halts": "from mitmproxy.exceptions import AddonHalt\n" + CHANGES["connection"] + "    raise AddonHalt\n",
    "fails": CHANGES["connection"] + "    raise RuntimeError('own addon')\n",
    "udp": """
def server_connect(data):
    data.server.transport_protocol = "udp"
""",
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("how", LEADS)
def test_a_connection_that_is_led_elsewhere_is_not_opened(beside: Beside, how: str, place: str, tmp_path: Path) -> None:
    gateway = beside.start(tmp_path, LEADS[how], place, kind=Failing if how == "fails" else Mitmdump)
    assert beside.ask(gateway.port) == [502, 502, 502, 502, 401, 401]
    assert beside.upstream.connections == []


SWITCHES = """
def {}(flow):
    if flow.request.path not in ("/health", "/metrics"):
        flow.response.status_code = 101
"""


@pytest.mark.parametrize(("hook", "status"), [("responseheaders", 500), ("response", 200)])
def test_no_answer_of_another_addon_opens_a_tunnel_to_the_backend(
    beside: Beside, hook: str, status: int, tmp_path: Path
) -> None:
    """In the hook response the client has the response already."""
    gateway = beside.start(tmp_path, SWITCHES.format(hook), "after")
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, beside.token))
        client.send(b"GET /evil HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.receive_all().startswith(b"HTTP/1.1 %d " % status)
    gateway.wait_for_log("another addon answered 101, which would lead past the decision")
    assert [request.path for request in beside.upstream.requests] == ["/api/v1/query"]


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("hook", ["responseheaders", "response"])
@pytest.mark.parametrize("end", ["AddonHalt", "RuntimeError('own addon')"])
def test_an_addon_that_ends_a_hook_keeps_no_place_of_a_request(
    beside: Beside, end: str, hook: str, place: str, tmp_path: Path
) -> None:
    script = f"from mitmproxy.exceptions import AddonHalt\ndef {hook}(flow):\n    raise {end}\n"
    flags = options(max_concurrent_requests=1, max_queue_duration="0s")
    gateway = beside.start(tmp_path, script, place, *flags, kind=Mitmdump if end == "AddonHalt" else Failing)
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, beside.token) * 5 + head("GET", QUERY, beside.token, ["Connection: close"]))
        assert client.receive_all().count(b"HTTP/1.1 200 ") == 6
    assert gateway.metric("vmgateway_concurrent_requests_current") == 0
    assert gateway.metric("vmgateway_backend_concurrent_requests") == 0


LAYERS = """
from mitmproxy.proxy import layers
def next_layer(data):
    data.context.server.address = ("127.0.0.1", PORT)
    data.layer = layers.{}
"""


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("layer", ["TCPLayer(data.context)", "HttpLayer(data.context, layers.http.HTTPMode.regular)"])
def test_another_layer_reaches_nobody(beside: Beside, layer: str, place: str, tmp_path: Path) -> None:
    """Not even the backend, whose address is good."""
    script = LAYERS.format(layer).replace("PORT", str(beside.upstream.port))
    path = tmp_path / "own.py"
    path.write_text(script)
    port = free_port()
    given = options(enable_auth=True, auth_public_key_files=beside.key_file, read_url=beside.upstream.url)
    gateway = Unready("--listen-host", "127.0.0.1", "--listen-port", str(port), *given, port=port, **{place: [path]})  # type: ignore[arg-type]
    with gateway, RawClient(port) as client:
        client.send(head("GET", QUERY, beside.token))
        answer = client.receive_all()
        assert not answer.startswith(b"HTTP/1.1 2"), answer
    assert beside.upstream.requests == []
    assert beside.upstream.connections == []


@pytest.mark.parametrize(
    "hook", ["requestheaders", "request", "server_connect", "next_layer", "client_connected", "tls_start_server"]
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_an_addon_that_fails_weakens_nothing(beside: Beside, place: str, hook: str, tmp_path: Path) -> None:
    """mitmproxy skips the hooks of all scripts behind one that failed, but not the gateway's."""
    script = f"def {hook}(data):\n    raise RuntimeError('own addon')\n"
    gateway = beside.start(tmp_path, script, place, kind=Failing)
    if (place, hook) == ("before", "requestheaders"):
        assert beside.ask(gateway.port) == [500] * 6
        assert beside.upstream.requests == []
    else:
        assert beside.ask(gateway.port) == [200, 200, 200, 200, 401, 401]
        check_received(beside.upstream.requests)


RESPONDS = """
from mitmproxy import http
def {}(flow):
    if flow.request.path not in ("/health", "/metrics"):
        flow.response = http.Response.make(299, b"own")
"""


@pytest.mark.parametrize(("place", "hook", "uploads"), [("after", "requestheaders", 299), ("before", "request", 200)])
def test_a_response_of_another_addon_asks_no_backend(
    beside: Beside, place: str, hook: str, uploads: int, tmp_path: Path
) -> None:
    """In the hook request an upload has been forwarded already, by its own decision."""
    gateway = beside.start(tmp_path, RESPONDS.format(hook), place)
    client = gateway.client(beside.token)
    assert client.get(QUERY).status == 299
    assert client.post("/api/v1/query", body=b"query=up", headers=FORM).status == 299
    assert client.post(IMPORT, body=BODY).status == uploads
    assert [request.path for request in beside.upstream.requests] == [IMPORT] * (uploads == 200)


def test_a_refusal_cannot_be_taken_back(beside: Beside, tmp_path: Path) -> None:
    script = "def requestheaders(flow):\n    flow.response = None\nrequest = requestheaders\n"
    gateway = beside.start(tmp_path, script, "after")
    nobody = gateway.client()
    assert nobody.get(QUERY).status == 401
    assert nobody.post(IMPORT, body=BODY).status == 401
    assert nobody.post("/api/v1/query", body=b"query=up", headers=FORM).status == 401
    assert beside.upstream.requests == []


def test_a_killed_flow_reaches_no_backend(beside: Beside, tmp_path: Path) -> None:
    gateway = beside.start(
        tmp_path, "def requestheaders(flow):\n    '/health' in flow.request.path or flow.kill()\n", "after"
    )
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, beside.token))
        assert client.receive_all() == b""
    assert beside.upstream.requests == []


SEES = """
import json, pathlib
def requestheaders(flow):
    flow.metadata["own"] = "seen"
    flow.comment = "own comment"
    flow.marked = ":bug:"
def response(flow):
    flow.response.headers["X-Own"] = "answered"
    with open(LOG, "a") as log:
        log.write(json.dumps([flow.request.method, flow.request.path.partition("?")[0], flow.response.status_code,
                              "authorization" in flow.request.headers]) + "\\n")
"""


@pytest.mark.parametrize("place", ["before", "after"])
def test_other_addons_see_and_annotate_flows(beside: Beside, place: str, tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    script = SEES.replace("LOG", repr(str(tmp_path / "log")))
    gateway = beside.start(tmp_path, script, place, "-w", str(flows))
    assert beside.ask(gateway.port) == [200, 200, 200, 200, 401, 401]
    answer = gateway.client(beside.token).get(QUERY)
    gateway.stop()
    check_received(beside.upstream.requests[:4])
    seen = [line for line in (tmp_path / "log").read_text().splitlines() if "/health" not in line]
    assert seen[0] == '["GET", "/api/v1/query", 200, false]'
    assert '["POST", "/api/v1/import/prometheus", 401, false]' in seen
    assert answer.header("X-Own") == ("answered" if place == "before" else None) or answer.header("X-Own") is None
    with flows.open("rb") as file:
        saved = [flow for flow in io.FlowReader(file).stream() if isinstance(flow, HTTPFlow)]
    assert {flow.metadata["own"] for flow in saved} == {"seen"}
    assert {flow.comment for flow in saved} == {"own comment"}
    assert beside.token.encode() not in flows.read_bytes()


def test_what_an_addon_changes_before_is_judged(beside: Beside, key: SigningKey, tmp_path: Path) -> None:
    """An addon may bring the token from elsewhere; what it makes of the request is judged like any."""
    script = """
def requestheaders(flow):
    flow.request.headers["Authorization"] = "Bearer " + flow.request.headers.pop("X-Session", "")
    if flow.request.path == "/short":
        flow.request.path = "/api/v1/query?query=up&extra_label=team=ops"
    if flow.request.path == "/bad":
        flow.request.headers["X-Bad"] = "a\\r\\nAccountID: 7"
        flow.request.path = "/api/v1/query?query=up"
"""
    gateway = beside.start(tmp_path, script, "before")
    client = gateway.client()
    assert client.get("/short", headers={"X-Session": beside.token}).status == 200
    assert client.get("/bad", headers={"X-Session": beside.token}).status == 400
    assert client.get("/short").status == 401
    assert [request.argument("extra_label") for request in beside.upstream.requests] == [["team=dev"]]


def test_a_replay_is_sealed_too(beside: Beside, tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    first = beside.start(tmp_path, "", "after", "-w", str(flows))
    assert beside.ask(first.port) == [200, 200, 200, 200, 401, 401]
    first.stop()
    beside.upstream.forget()
    changes = CHANGES["path"] + CHANGES["body"].replace("def request", "def own")
    script = (
        changes.replace("request = requestheaders", "") + "def request(flow):\n    requestheaders(flow); own(flow)\n"
    )
    second = beside.start(tmp_path, script, "after", "--client-replay", str(flows))
    second.wait_until(lambda: len(beside.upstream.requests) >= 2, what="replays")
    for request in beside.upstream.requests:
        assert request.path in ("/api/v1/query", IMPORT)
        assert request.argument("extra_label") == ["team=dev"]
        assert request.body in (b"", b"query=up", BODY)


AGAIN = """
import asyncio
from mitmproxy import ctx
def requestheaders(flow):
    if flow.is_replay == "request" and FAILS:
        raise RuntimeError("own addon")
def response(flow):
    if flow.is_replay is None and flow.request.path.startswith("/api/"):
        again(flow)
def again(flow):
    if flow.live:
        asyncio.get_running_loop().call_later(0.01, again, flow)
        return
    flow.metadata.clear()
    if flow.request.raw_content is None:
        flow.request.content = b"a 1\\n"
    flow.request.scheme, flow.request.host, flow.request.port = "http", "127.0.0.1", UPSTREAM
    ctx.master.commands.call("replay.client", [flow])
"""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b"a 1\n"), ("POST", b"query=up")])
def test_a_command_of_another_addon_sends_nothing_without_a_decision(
    beside: Beside, method: str, body: bytes, fails: bool, tmp_path: Path
) -> None:
    """A refused flow, and an admitted one whose record is gone, has no token any more."""
    script = AGAIN.replace("FAILS", str(fails)).replace("UPSTREAM", str(beside.upstream.port))
    gateway = beside.start(tmp_path, script, "before", kind=Failing)
    form = body.startswith(b"query")
    path, headers = (IMPORT, {}) if body and not form else (QUERY, FORM if form else {})
    for token, status, requests in ((None, 401, 0), (beside.token, 200, 1)):
        behind = len(gateway.log())
        answer = gateway.client(token).ask(method, path, body=body or None, headers=headers)
        assert answer.status == status
        gateway.wait_for_log(r"\[replay\].*\n +<< 401 ", behind=behind)
        assert len(beside.upstream.requests) == requests


ACTS = """
from mitmproxy import ctx, http
def requestheaders(flow):
    if flow.request.path.startswith("/api/v1/labels"):
        try:
            CODE
        except Exception as error:
            flow.response = http.Response.make(299, str(error))
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ctx.options.reset()", "the options cannot be reset while the gateway runs"),
        ("ctx.master.commands.call('options.reset')", "the options cannot be reset while the gateway runs"),
        ("ctx.options.update(mode=['regular'])", "mode cannot change while the gateway runs"),
        ("ctx.options.update(server=True)", "server cannot change while the gateway runs"),
        ("ctx.options.update(listen_port=OTHER)", "listen_port cannot change while the gateway runs"),
        ("ctx.options.update(scripts=[])", "scripts cannot change while the gateway runs"),
        ("ctx.options.update(keep_host_header=False)", "keep_host_header cannot change while the gateway runs"),
        ("ctx.options.update(connection_strategy='eager')", "connection_strategy cannot change while the gateway runs"),
        ("ctx.options.update(tcp_hosts=['.*'])", "tcp_hosts cannot be used with vmgateway: it would forward"),
        ("ctx.options.update(vmgw_enable_auth=False)", "-enable.auth is not set"),
    ],
)
def test_options_that_an_addon_changes(beside: Beside, code: str, message: str, tmp_path: Path) -> None:
    gateway = beside.start(tmp_path, ACTS.replace("CODE", code), "after")
    answer = gateway.client(beside.token).get("/api/v1/labels")
    assert (answer.status, message in answer.text) == (299, True), answer.text
    assert beside.ask(gateway.port) == [200, 200, 200, 200, 401, 401]
    check_received(beside.upstream.requests)
    assert opened(gateway.pid) == [gateway.port]


HELD = """
import logging
from mitmproxy import http
held = []
def HOOK(flow):
    if flow.request.path.startswith("/api/v1/"):
        held.append(flow)
        if INTERCEPTS:
            flow.intercept()
        logging.info("own addon has the flow")
def client_connected(client):
    for flow in held:
        ACTION
"""
"""The next client that connects makes the addon act on the flow that it has."""


def held(hook: str, *, intercepts: bool, action: str) -> str:
    return HELD.replace("HOOK", hook).replace("INTERCEPTS", str(intercepts)).replace("ACTION", action)


def request_of(beside: Beside, *, upload: bool) -> bytes:
    if upload:
        return head("POST", IMPORT, beside.token, ["Content-Length: 4", "Connection: close"]) + b"a 1\n"
    return head("GET", QUERY, beside.token, ["Connection: close"])


@pytest.mark.parametrize("upload", [False, True])
@pytest.mark.parametrize(
    ("hook", "intercepts"),
    [("requestheaders", True), ("request", True), ("responseheaders", True), ("requestheaders", False)],
)
def test_a_killed_flow_ends_and_gives_its_place_back(
    beside: Beside, hook: str, intercepts: bool, upload: bool, tmp_path: Path
) -> None:
    """mitmproxy itself ends a flow only when a hook of it ends, and never one that is intercepted."""
    if not intercepts:
        beside.upstream.responder = lambda _: never()
    script = held(hook, intercepts=intercepts, action="flow.killable and flow.kill()")
    gateway = beside.start(tmp_path, script, "after", *options(max_concurrent_requests=1))
    asked = not intercepts or hook == "responseheaders" or (upload and hook == "request")
    with RawClient(gateway.port) as client:
        client.send(request_of(beside, upload=upload))
        gateway.wait_for_log("own addon has the flow")
        eventually(lambda: len(beside.upstream.requests) == int(asked))
        assert gateway.client().get("/health").status == 200
        assert client.receive_all() == b""
    assert gateway.metric("vmgateway_concurrent_requests_current") == 0
    assert gateway.metric("vmgateway_backend_concurrent_requests") == 0
    assert len(beside.upstream.requests) == int(asked)


@pytest.mark.parametrize("upload", [False, True])
@pytest.mark.parametrize("hook", ["requestheaders", "request", "responseheaders"])
def test_an_intercepted_flow_goes_on_as_it_was_decided(beside: Beside, hook: str, upload: bool, tmp_path: Path) -> None:
    action = "flow.request.path, flow.request.content = '/evil', b'evil'; flow.resume()"
    script = held(hook, intercepts=True, action=action)
    gateway = beside.start(tmp_path, script, "after", *options(max_concurrent_requests=1))
    with RawClient(gateway.port) as client:
        client.send(request_of(beside, upload=upload))
        gateway.wait_for_log("own addon has the flow")
        assert gateway.client().get("/health").status == 200
        assert client.receive_all().startswith(b"HTTP/1.1 200 ")
    [request] = beside.upstream.requests
    assert (request.path, request.body) == ((IMPORT, b"a 1\n") if upload else ("/api/v1/query", b""))
    assert request.argument("extra_label") == ["team=dev"]
    assert gateway.metric("vmgateway_concurrent_requests_current") == 0


@pytest.mark.parametrize(("hook", "upload"), [("requestheaders", False), ("requestheaders", True), ("request", False)])
def test_an_intercepted_flow_may_get_a_response(beside: Beside, hook: str, upload: bool, tmp_path: Path) -> None:
    action = "flow.response = http.Response.make(299, b'own'); flow.resume()"
    gateway = beside.start(tmp_path, held(hook, intercepts=True, action=action), "after")
    with RawClient(gateway.port) as client:
        client.send(request_of(beside, upload=upload))
        gateway.wait_for_log("own addon has the flow")
        assert gateway.client().get("/health").status == 200
        assert client.receive_all().startswith(b"HTTP/1.1 299 ")
    assert beside.upstream.requests == []
