"""mitmproxy's own options beside the gateway: each row of the table in ``docs/mitmproxy.md``."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cramjam
import pytest
from mitmproxy.version import VERSION

from tests.support.addons import bodies
from tests.support.wire.certificates import Authority
from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import REPOSITORY, free_port
from tests.support.wire.programs import Mitmdump, options, run_until_end
from tests.support.wire.raw import RawClient, head
from tests.support.wire.tls import needs_http2, trusting
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import HANGS
from vmgw_addons.process.mitmproxy_options import NEEDS_FLOWS, REFUSED

QUERY = "/api/v1/query?query=up"
IMPORT = "/api/v1/import/prometheus"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class With:
    """A gateway with some of mitmproxy's options."""

    def __init__(self, upstream: RecordingUpstream, key: SigningKey, key_file: Path) -> None:
        self.upstream, self.key_file = upstream, key_file
        self.token = key.mint(team("dev"))
        self.stack = ExitStack()
        self.port = free_port()

    def start(self, *arguments: str) -> Mitmdump:
        given = options(enable_auth=True, auth_public_key_files=self.key_file, write_check_label_names=False)
        mode = f"reverse:{self.upstream.url}@127.0.0.1:{self.port}"
        return self.stack.enter_context(Mitmdump("--mode", mode, *given, *arguments, port=self.port))

    def ask(self, **headers: str) -> Answer:
        return Client(self.port, token=self.token).get(
            QUERY, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    def write(self, body: bytes) -> Answer:
        return Client(self.port, token=self.token).post(IMPORT, body=body)

    def form(self, body: bytes) -> Answer:
        return Client(self.port, token=self.token).post("/api/v1/query", body=body, headers=FORM)

    def labels(self) -> list[list[str]]:
        return [request.argument("extra_label") for request in self.upstream.requests]


@pytest.fixture
def with_options(upstream: RecordingUpstream, key: SigningKey, key_file: Path) -> Iterator[With]:
    gateway = With(upstream, key, key_file)
    with gateway.stack:
        yield gateway


def table() -> dict[str, str]:
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", (REPOSITORY / "docs" / "mitmproxy.md").read_text(), re.MULTILINE)
    return {name: text for names, text in rows for name in re.findall(r"`([a-z_]+)`", names)}


def test_the_page_has_every_option() -> None:
    page = table()
    assert {name for name, text in page.items() if text.startswith("refused")} == set(REFUSED)
    assert {name for name, text in page.items() if text.startswith("flow lane")} == set(NEEDS_FLOWS)


CURVE = "prime256v1" if VERSION.startswith("11.") else "secp256r1"
VALUES = {
    "certs": "a.pem",
    "client_certs": "a.pem",
    "ciphers_client": "ALL",
    "ciphers_server": "ALL",
    "body_size_limit": "1m",
    "proxyauth": "any",
    "upstream_auth": "user:password",
    "map_remote": "|http://a|http://b",
    "modify_body": "/a/b",
    "request_client_cert": "true",
    "ssl_insecure": "true",
    "store_streamed_bodies": "true",
    "validate_inbound_headers": "false",
    "tls_version_client_min": "TLS1_3",
    "tls_version_client_max": "TLS1_2",
    "tls_version_server_min": "TLS1_3",
    "tls_version_server_max": "TLS1_2",
    "tls_ecdh_curve_client": CURVE,
    "tls_ecdh_curve_server": CURVE,
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.smoke if name == "ignore_hosts" else ()) for name in REFUSED]
)
def test_refused(name: str, tmp_path: Path) -> None:
    if name == "store_streamed_bodies" and VERSION.startswith("11."):
        pytest.skip("mitmproxy 11 has no such option")
    (tmp_path / "a.pem").write_text("")
    value = VALUES.get(name, "a").replace("a.pem", str(tmp_path / "a.pem"))
    arguments = [*options(enable_auth=True, read_url="http://127.0.0.1:9"), "--listen-port", str(free_port())]
    ended = run_until_end("mitmdump", *arguments, "--set", f"{name}={value}", directory=tmp_path)
    assert ended.code != 0
    ours = [line for line in ended.lines if line.startswith("vmgateway: ")]
    if ended.code == 1 and not ours:  # mitmproxy refuses what is wrong with the value itself, before it loads a script
        assert name in ("certs", "tls_version_client_min", "tls_version_server_min", "tls_version_client_max",
                        "tls_version_server_max"), ended  # fmt: skip
        return
    expected = f"vmgateway: mitmproxy's option {name} cannot be used with vmgateway: {REFUSED[name]}"
    assert (ended.code, ended.lines) == (2, [expected])


@pytest.mark.smoke
def test_flows_are_saved_without_tokens(with_options: With, tmp_path: Path) -> None:
    flows, har = tmp_path / "flows", tmp_path / "a.har"
    gateway = with_options.start("-w", str(flows), "--set", f"hardump={har}", "--set", "flow_detail=0")
    assert with_options.ask().status == 200
    gateway.stop()
    assert b"/api/v1/query" in flows.read_bytes()
    assert "/api/v1/query" in json.dumps(json.loads(har.read_text()))
    for file in (flows, har):
        assert with_options.token.rpartition(".")[2].encode() not in file.read_bytes()


def test_anticache_and_anticomp(with_options: With) -> None:
    with_options.start("--anticache", "--set", "anticomp=true", "-q")
    assert with_options.ask(If_None_Match='"a"', Accept_Encoding="gzip").status == 200
    [request] = with_options.upstream.requests
    assert (request.header("If-None-Match"), request.header("Accept-Encoding")) == ([], ["identity"])
    assert with_options.labels() == [["team=dev"]]


def test_modify_headers(with_options: With) -> None:
    changes = ["/X-Client/changed", "/~s/X-Answer/added", "/AccountID/7", "/~q & ~u none/Authorization/Bearer a"]
    gateway = with_options.start(*(part for change in changes for part in ("--modify-headers", change)))
    answer = with_options.ask(X_Client="sent")
    assert (answer.status, answer.header("X-Answer")) == (200, "added")
    [request] = with_options.upstream.requests
    assert request.header("X-Client") == ["changed"]
    assert request.header("AccountID") == []
    assert with_options.labels() == [["team=dev"]]
    assert Client(gateway.port).get(QUERY).status == 401


def test_modify_headers_may_bring_a_token(with_options: With) -> None:
    with_options.start("--modify-headers", f"/~q & !~u health/Authorization/Bearer {with_options.token}")
    assert Client(with_options.port).get(f"{QUERY}&extra_label=team=ops").status == 200
    assert with_options.labels() == [["team=dev"]]


def test_map_local(with_options: With, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"local":true}')
    with_options.start("--map-local", f"|/api/v1/query|{tmp_path}/a.json")
    assert with_options.ask().json() == {"local": True}
    assert with_options.form(b"query=up").json() == {"local": True}
    assert Client(with_options.port).get(QUERY).status == 401
    assert with_options.write(b"a 1\n").status == 200
    assert [request.path for request in with_options.upstream.requests] == [IMPORT]


def test_block_list(with_options: With) -> None:
    with_options.start("--set", "block_list=/~u import/403", "--set", "block_list=/~u labels/444")
    assert with_options.ask().status == 200
    assert with_options.write(b"a 1\n" * 100_000).status == 403
    with RawClient(with_options.port) as client:
        client.send(head("GET", "/api/v1/labels", with_options.token))
        assert client.receive_all() == b""
    assert [request.path for request in with_options.upstream.requests] == ["/api/v1/query"]


def test_connect_addr(with_options: With) -> None:
    gateway = with_options.start("--set", "connect_addr=127.0.0.1", "--set", "flow_detail=0")
    assert with_options.ask().status == 200
    gateway.wait_for_log(r"flow lane \(connect_addr chooses the address of connections\)")


def test_block_private(with_options: With) -> None:
    gateway = with_options.start("--set", "block_private=true", "--set", "flow_detail=0")
    assert with_options.ask().status == 200, "loopback is never blocked"
    gateway.wait_for_log(r"flow lane \(block_private blocks connections\)")


def test_server_replay(with_options: With, tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    first = with_options.start("-w", str(flows))
    assert with_options.ask().status == 200
    first.stop()
    with_options.upstream.forget()
    with_options.port = free_port()
    with_options.start("--server-replay", str(flows), "--set", "server_replay_reuse=true", "--set", "flow_detail=0")
    assert Client(with_options.port).get(QUERY).status == 401
    assert with_options.ask().status == 200
    assert with_options.labels() in ([], [["team=dev"]]), "mitmproxy matches the request with what is in the file"


@pytest.mark.parametrize("size", ["1", "1k"])
def test_stream_large_bodies_has_no_effect(with_options: With, size: str) -> None:
    with_options.start("--set", f"stream_large_bodies={size}")
    form = b"query=up&extra_label=team=ops&x=" + b"a" * 5000
    assert with_options.form(form).status == 200
    assert with_options.write(b"a 1\n" * 100_000).status == 200
    assert with_options.ask().status == 200
    assert with_options.labels() == [["team=dev"]] * 3
    assert [request.body_size for request in with_options.upstream.requests] == [5011, 400_000, 0]


def test_options_without_effect(with_options: With) -> None:
    with_options.start(
        "--set", "upstream_cert=false", "--set", "connection_strategy=eager", "--set", "block_global=true"
    )  # fmt: skip
    assert with_options.ask().status == 200
    assert len(with_options.upstream.connections) == 1
    assert with_options.labels() == [["team=dev"]]


def test_protocols_are_not_switched(with_options: With) -> None:
    with_options.start("--set", "websocket=true", "--set", "rawtcp=true", "--set", "http2=false")
    with RawClient(with_options.port) as client:
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a", "Sec-WebSocket-Version: 13"]
        client.send(head("GET", QUERY, with_options.token, upgrade))
        client.send(b"GET /evil HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.receive_all().startswith(b"HTTP/1.1 200 ")
    [request] = with_options.upstream.requests
    assert (request.header("Upgrade"), request.argument("extra_label")) == ([], ["team=dev"])


class Secure(Mitmdump):
    """It is ready once it accepts connections."""

    def is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=HANGS):
            return True


@needs_http2
def test_http2_is_a_flag_of_the_gateway(upstream: RecordingUpstream, key_file: Path, tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    server = authority.issue("localhost")
    flags = options(
        enable_auth=True, auth_public_key_files=key_file, tls=True, tls_cert_file=server.cert, tls_key_file=server.key,
        http_enable_http2=True,
    )  # fmt: skip
    context = trusting(authority)
    context.set_alpn_protocols(["h2"])
    with (
        Secure("--mode", f"reverse:{upstream.url}@127.0.0.1:{port}", *flags, "--set", "http2=false", port=port),
        socket.create_connection(("127.0.0.1", port)) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        assert tls.selected_alpn_protocol() == "h2"


def test_lines_of_mitmdump_show_the_host_and_the_reason(with_options: With) -> None:
    gateway = with_options.start("--set", "flow_detail=1")
    client = Client(with_options.port, token=with_options.token)
    answer = client.get("/vmalert/groups", headers={"Host": "metrics.example.com"})
    assert answer.status == 403
    gateway.wait_for_log("refused, filters_ignored: this page ")
    gateway.wait_for_log("GET http://metrics.example.com/vmalert/groups")
    assert with_options.ask().status == 200
    backend = with_options.upstream.url
    gateway.wait_for_log(rf"GET {backend}/api/v1/query")
    assert gateway.log().count("refused, ") == 1
    assert with_options.token.rpartition(".")[2] not in gateway.log()


@pytest.mark.parametrize("detail", [3, 4])
def test_lines_of_mitmdump_show_what_is_in_a_remote_write(with_options: With, detail: int) -> None:
    gateway = with_options.start("--set", f"flow_detail={detail}")
    body = bytes(cramjam.snappy.compress_raw(bodies.WRITE_REQUEST))
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    answer = Client(with_options.port, token=with_options.token).post("/api/v1/write", body=body, headers=headers)
    assert answer.status == 200
    gateway.wait_for_log(r'up\{job="shop"\} 1 @ 2023-11-14T22:13:20Z')
    assert "cannot decode" not in gateway.log()
    [request] = with_options.upstream.requests
    assert (request.body, request.header("Content-Encoding")) == (body, ["snappy"])
