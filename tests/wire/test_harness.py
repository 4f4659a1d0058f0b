"""The harness itself: what the other wire tests take for granted."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import socket
import ssl
import threading
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tests.support.wire import preloaded
from tests.support.wire.certificates import Authority
from tests.support.wire.client import Client
from tests.support.wire.processes import free_port, mitmproxy_option
from tests.support.wire.servers import Cluster, OidcProvider, VictoriaMetrics, Vmagent, Vmalert, prometheus_lines
from tests.support.wire.upstream import HANG_UP, RecordingUpstream, Reply, never
from tests.support.wire.waiting import HANGS, eventually


def test_upstream_records_the_head_as_it_was_sent() -> None:
    raw = b"GET /a//b?x=1&x=%32&y HTTP/1.1\r\nhost: h\r\nX-One: 1\r\nx-one:  2 \r\n\r\n"
    with RecordingUpstream() as upstream:
        with socket.create_connection(("127.0.0.1", upstream.port)) as sock:
            sock.sendall(raw)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        request = upstream.requests[0]
        assert (request.method, request.target) == ("GET", "/a//b?x=1&x=%32&y")
        assert request.headers == (("host", "h"), ("X-One", "1"), ("x-one", "2"))
        assert request.header("X-ONE") == ["1", "2"]
        assert request.argument("x") == ["1", "2"]
        assert bytes(upstream.connections[0].raw) == raw
        assert upstream.bytes_received == len(raw)


def test_upstream_keeps_a_connection_for_several_requests() -> None:
    with RecordingUpstream() as upstream:
        connection = http.client.HTTPConnection("127.0.0.1", upstream.port)
        for number in range(3):
            connection.request("GET", f"/{number}")
            assert connection.getresponse().read() == b'{"status":"success"}'
        connection.close()
        assert [request.connection for request in upstream.requests] == [0, 0, 0]


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_upstream_counts_and_hashes_a_large_body(chunked: bool) -> None:
    block = b"0123456789abcdef" * 4096
    blocks = 64
    with RecordingUpstream() as upstream:
        headers = {} if chunked else {"Content-Length": str(len(block) * blocks)}
        answer = Client(upstream.port).post("/w", body=(block for _ in range(blocks)), headers=headers)
        assert answer.status == 200
        request = upstream.requests[0]
        assert request.complete
        assert request.body_size == len(block) * blocks
        assert request.body_sha256 == hashlib.sha256(block * blocks).hexdigest()
        assert len(request.body) == 1 << 20


def test_upstream_answers_by_its_responder() -> None:
    def respond(request: object) -> Reply:
        return Reply(status=503, headers=(("Retry-After", "7"),), body=iter([b"a", b"bc"]), close=True)

    with RecordingUpstream(respond) as upstream:
        answer = Client(upstream.port).get("/")
        assert (answer.status, answer.header("retry-after"), answer.body) == (503, "7", b"abc")


def test_upstream_waits_for_a_gate() -> None:
    gate = threading.Event()
    answers = []
    with RecordingUpstream(lambda _: Reply(gate=gate)) as upstream:
        asking = threading.Thread(target=lambda: answers.append(Client(upstream.port).get("/slow")))
        asking.start()
        eventually(lambda: upstream.requests, what="the request arrived")
        assert answers == []
        gate.set()
        asking.join()
        assert answers[0].status == 200


def test_upstream_may_never_answer() -> None:
    with RecordingUpstream(lambda _: never()) as upstream, pytest.raises(TimeoutError):
        Client(upstream.port, timeout=0.1).get("/")


def test_upstream_hangs_up() -> None:
    with RecordingUpstream(lambda _: HANG_UP) as upstream, pytest.raises(http.client.RemoteDisconnected):
        Client(upstream.port).get("/")


def test_upstream_closes_on_accept() -> None:
    with RecordingUpstream() as upstream:
        upstream.close_on_accept = True
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            Client(upstream.port).get("/")
        assert upstream.requests == []


def test_upstream_answers_before_the_body() -> None:
    with RecordingUpstream(lambda _: Reply(status=413, early=True, close=True)) as upstream:
        with socket.create_connection(("127.0.0.1", upstream.port)) as sock:
            sock.sendall(b"POST /w HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")
        assert not upstream.requests[0].complete


def test_upstream_closes_idle_connections() -> None:
    with RecordingUpstream() as upstream:
        connection = http.client.HTTPConnection("127.0.0.1", upstream.port)
        connection.request("GET", "/")
        connection.getresponse().read()
        assert eventually(upstream.close_idle) == 1
        assert connection.sock is not None
        assert connection.sock.recv(1) == b""
        connection.close()


def test_upstream_refuses_and_listens_again_on_the_same_port() -> None:
    with RecordingUpstream() as upstream:
        port = upstream.port
        upstream.refuse()
        with pytest.raises(ConnectionRefusedError):
            Client(port).get("/")
        upstream.listen()
        assert upstream.port == port
        assert Client(port).get("/").status == 200


def test_upstream_asks_for_a_client_certificate(authority: Authority) -> None:
    context = authority.server_context(authority.issue("backend.test"), clients=authority)
    client = ssl.create_default_context(cafile=str(authority.cert))
    with RecordingUpstream(tls=context) as upstream:
        with (
            socket.create_connection(("127.0.0.1", upstream.port)) as sock,
            pytest.raises((ssl.SSLError, ConnectionError)),
            client.wrap_socket(sock, server_hostname="backend.test") as tls,
        ):
            tls.recv(1)
        eventually(lambda: upstream.connections[0].tls_error)
        own = authority.issue("client.test")
        client.load_cert_chain(own.cert, own.key)
        with (
            socket.create_connection(("127.0.0.1", upstream.port)) as sock,
            client.wrap_socket(sock, server_hostname="backend.test") as tls,
        ):
            tls.sendall(b"GET /secret HTTP/1.1\r\n\r\n")
            assert tls.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert upstream.connections[1].tls_server_name == "backend.test"
        assert upstream.connections[1].tls_client_certificate
        assert upstream.requests[0].target == "/secret"


@pytest.mark.parametrize(
    ("flag", "option"),
    [
        ("enable.auth", "vmgw_enable_auth"),
        ("httpListenAddr", "vmgw_http_listen_addr"),
        ("auth.publicKeyFiles", "vmgw_auth_public_key_files"),
        ("auth.httpHeaderAllowWithoutPrefix", "vmgw_auth_http_header_allow_without_prefix"),
        ("read.tlsCAFile", "vmgw_read_tls_ca_file"),
        ("enableTCP6", "vmgw_enable_tcp6"),
        ("logInvalidAuthTokens", "vmgw_log_invalid_auth_tokens"),
    ],
)
def test_flags_are_mitmproxy_options(flag: str, option: str) -> None:
    assert mitmproxy_option(flag) == option


def test_victoria_metrics_keeps_what_is_written(victoria_metrics: VictoriaMetrics, metric: str) -> None:
    victoria_metrics.import_prometheus(prometheus_lines(metric, 3, team="dev"))
    victoria_metrics.import_prometheus(f"{metric} 4\n")
    assert [item["value"][1] for item in victoria_metrics.query(f"sum({metric})")] == ["7"]
    assert {item["n"] for item in victoria_metrics.series(f'{metric}{{team="dev"}}')} == {"0", "1", "2"}
    assert [item["values"] for item in victoria_metrics.export(f'{metric}{{n="2"}}')] == [[2]]


@pytest.mark.parametrize("spelling", ["15", "15:0"])
def test_cluster_keeps_tenants_apart(cluster: Cluster, metric: str, spelling: str) -> None:
    line = f"{metric} 1\n"
    target = f"/insert/{spelling}/prometheus/api/v1/import/prometheus?extra_label=a%3Db%2Bc"
    assert cluster.client.post(target, body=line).status == 204
    assert cluster.nodes[15, 0].series(metric) == [{"__name__": metric, "a": "b+c"}]
    assert cluster.nodes[0, 0].series(metric) == cluster.nodes[1, 5].series(metric) == []
    answer = cluster.client.get(f"/select/{spelling}/prometheus/api/v1/series", {"match[]": metric, "start": "1"})
    assert answer.json()["data"] == [{"__name__": metric, "a": "b+c"}]
    assert cluster.client.get(f"/select/{spelling}/graphite/tags").status == 200
    assert cluster.client.get(f"/select/{spelling}/metrics").status == 404
    assert cluster.client.get("/select/2:0/prometheus/api/v1/labels").status == 404
    assert target in {request["target"] for request in cluster.requests()}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_openid_provider_signs_and_rotates(oidc: OidcProvider, algorithm: str) -> None:
    def verifies(token: str) -> bool:
        keys = KeySet.import_key_set(oidc.client.get("/jwks").json())
        try:
            return bool(jwt.decode(token, keys, algorithms=[algorithm]))
        except JoseError:
            return False

    discovered = oidc.client.get("/.well-known/openid-configuration").json()
    assert (discovered["issuer"], discovered["jwks_uri"]) == (oidc.issuer, oidc.jwks_url)
    token = oidc.token("dev", algorithm=algorithm)
    assert verifies(token)
    oidc.rotate()
    assert not verifies(token)
    assert verifies(oidc.token("dev", algorithm=algorithm))


def test_vmagent_delivers_what_is_pushed(victoria_metrics: VictoriaMetrics, metric: str) -> None:
    with Vmagent(f"{victoria_metrics.url}/api/v1/write", "unused") as vmagent:
        vmagent.push(prometheus_lines(metric, 20))
        eventually(lambda: len(victoria_metrics.series(metric)) == 20)


def test_vmalert_records_rules(victoria_metrics: VictoriaMetrics, metric: str) -> None:
    victoria_metrics.import_prometheus(f"{metric} 41\n")
    rules = f"groups: [{{name: g, rules: [{{record: '{metric}:plus_one', expr: '{metric} + 1'}}]}}]"
    url = victoria_metrics.url
    with Vmalert(rules, datasource_url=url, remote_write_url=url, bearer_token="unused") as vmalert:  # noqa: S106
        vmalert.wait_until(lambda: victoria_metrics.series(f"{metric}:plus_one"), what="writes its result")
    assert victoria_metrics.export(f"{metric}:plus_one")[0]["values"][0] == 42


SHOW = """
import json, os, sys, threading
open_files = sorted(os.listdir("/proc/self/fd"))[:-1]
shown = [sys.argv, dict(os.environ), os.getcwd(), open_files, sys.stdin.read(), os.getsid(0) == os.getpid()]
print(json.dumps([*shown, threading.active_count(), sys.path[0]]))
print("an error", file=sys.stderr)
sys.exit(3)
"""


def test_a_program_in_a_fork_sees_what_a_new_interpreter_sees(tmp_path: Path) -> None:
    script = tmp_path / "show"
    script.write_text(SHOW)
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        command = [str(script), "-a", "b c"]
        started = preloaded.start(command, env={"A": "b"}, cwd=tmp_path, stdout=out, stderr=err)
        assert started.wait(HANGS) == started.poll() == 3
    assert json.loads((tmp_path / "out").read_text()) == [
        command, {"A": "b"}, str(tmp_path), ["0", "1", "2"], "", True, 1, str(tmp_path),
    ]  # fmt: skip
    assert (tmp_path / "err").read_text() == "an error\n"


def test_a_program_in_a_fork_is_killed_like_any(tmp_path: Path) -> None:
    script = tmp_path / "wait"
    script.write_text("import signal\nsignal.pause()\n")
    with (tmp_path / "out").open("wb") as out:
        started = preloaded.start([str(script)], env={}, cwd=tmp_path, stdout=out, stderr=out)
    assert started.poll() is None
    started.send_signal(signal.SIGKILL)
    assert started.wait(HANGS) == -signal.SIGKILL


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
