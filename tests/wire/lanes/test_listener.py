"""The listener: TLS, certificates that change, HTTP/2, the PROXY protocol. The same for both lanes."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority, Certificate
from tests.support.wire.processes import Gateway, Program, free_port, run_vmgateway
from tests.support.wire.raw import RawClient, head
from tests.support.wire.tls import TLSGateway, needs_http2, trusting
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import HANGS
from tests.support.wire.write_bodies import TEXT_BLOCK
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"


@pytest.fixture
def certificate(authority: Authority, tmp_path: Path) -> Certificate:
    """A copy that a test may replace."""
    issued = authority.issue("localhost")
    mine = Certificate(cert=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    shutil.copy(issued.cert, mine.cert)
    shutil.copy(issued.key, mine.key)
    return mine


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def flags(upstream: RecordingUpstream, key_file: Path, certificate: Certificate) -> tuple[str, ...]:
    return (
        "-enable.auth", f"-read.url={upstream.url}", f"-write.url={upstream.url}", f"-auth.publicKeyFiles={key_file}",
        "-tls", f"-tlsCertFile={certificate.cert}", f"-tlsKeyFile={certificate.key}",
    )  # fmt: skip


def handshake(gateway: Gateway, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=HANGS)
    return context.wrap_socket(sock, server_hostname="localhost")


def status(gateway: Gateway, context: ssl.SSLContext, token: str) -> int:
    with handshake(gateway, context) as sock:
        sock.sendall(head("GET", QUERY, token, ["Connection: close"]))
        return int(sock.recv(4096).split(b" ")[1])


def curl(gateway: Gateway, authority: Authority, target: str, *arguments: str) -> tuple[str, str]:
    """The version of HTTP and the status that curl reports."""
    command = ["curl", "--silent", "--noproxy", "*", "--cacert", str(authority.cert), "--output", "/dev/null"]
    command += ["--write-out", "%{http_version} %{http_code}", *arguments, f"https://localhost:{gateway.port}{target}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True)
    shown, _, code = done.stdout.partition(" ")
    return shown, code


@pytest.mark.smoke
def test_requests_over_tls_are_judged_as_any(
    flags: tuple[str, ...], authority: Authority, upstream: RecordingUpstream, key: SigningKey, program: Program
) -> None:
    with TLSGateway(*flags, program=program) as gateway:
        context = trusting(authority)
        assert status(gateway, context, key.mint(team("dev"))) == 200
        assert upstream.requests[0].argument("extra_label") == ["team=dev"]
        assert status(gateway, context, "no-token") == 401
        with handshake(gateway, context) as sock:
            body = TEXT_BLOCK * 5
            sock.sendall(head("POST", "/api/v1/import/prometheus", key.mint(), [f"Content-Length: {len(body)}"]) + body)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert upstream.requests[-1].body == body
        with RawClient(gateway.port) as plain:
            plain.send(head("GET", QUERY, key.mint()))
            assert not plain.receive_all().startswith(b"HTTP/1.1 200")
    assert len(upstream.requests) == 2


def test_a_new_certificate_is_served_within_seconds_and_a_bad_one_never(
    flags: tuple[str, ...], authority: Authority, certificate: Certificate, program: Program
) -> None:
    with TLSGateway(*flags, program=program) as gateway:

        def serial() -> object:
            with handshake(gateway, trusting(authority)) as sock:
                return (sock.getpeercert() or {})["serialNumber"]

        first = serial()
        other = authority.issue("localhost")
        certificate.cert.write_bytes(other.cert.read_bytes())  # a certificate without its key, for a moment
        gateway.wait_for_log("cannot reload the certificate: .*; the old certificate stays in use")
        assert serial() == first
        certificate.key.write_bytes(other.key.read_bytes())
        gateway.wait_until(lambda: serial() != first, what="serves the new certificate")


def test_old_versions_and_suites_are_refused(
    flags: tuple[str, ...], authority: Authority, key: SigningKey, start_gateway: StartGateway
) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    with TLSGateway(*flags, "-tlsMinVersion=TLS13") as strict, TLSGateway(*flags, f"-tlsCipherSuites={suite}") as one:
        old = trusting(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            handshake(strict, old)
        assert status(strict, trusting(authority), key.mint()) == 200
        with handshake(one, old) as sock:
            assert (sock.cipher() or ("",))[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with pytest.raises(ssl.SSLError):
            handshake(one, old)


def test_mtls_demands_a_certificate_of_the_right_authority(
    flags: tuple[str, ...], authority: Authority, key: SigningKey, tmp_path: Path, program: Program
) -> None:
    clients, strangers = Authority(tmp_path, "clients"), Authority(tmp_path, "strangers")
    with TLSGateway(*flags, "-mtls", f"-mtlsCAFile={clients.cert}", program=program) as gateway:
        for issuer, accepted in ((None, False), (strangers, False), (clients, True)):
            context = trusting(authority)
            if issuer is not None:
                own = issuer.issue("client")
                context.load_cert_chain(own.cert, own.key)
            try:
                answered = status(gateway, context, key.mint()) == 200
            except (OSError, IndexError):  # in TLS 1.3 a client learns of it when it reads
                answered = False
            assert answered is accepted


@pytest.mark.smoke
@needs_http2
def test_http2_is_carried_where_it_is_enabled(
    flags: tuple[str, ...], authority: Authority, upstream: RecordingUpstream, key: SigningKey, program: Program
) -> None:
    with TLSGateway(*flags, "-http.enableHTTP2", program=program) as gateway:
        bearer = f"Authorization: Bearer {key.mint(team('dev'))}"
        assert curl(gateway, authority, QUERY, "--http2", "-H", bearer) == ("2", "200")
        assert upstream.requests[-1].argument("extra_label") == ["team=dev"]
        assert curl(gateway, authority, QUERY, "--http2") == ("2", "401")
        form = ("--http2", "-H", bearer, "-d", "query=up&extra_label=team=ops")
        assert curl(gateway, authority, "/api/v1/query", *form) == ("2", "200")
        assert upstream.requests[-1].body == b"query=up"
        write = ("--http2", "-H", bearer, "--data-binary", "m 1", "-H", "Content-Type: text/plain")
        assert curl(gateway, authority, "/api/v1/import/prometheus", *write) == ("2", "200")
        assert (upstream.requests[-1].body, upstream.requests[-1].argument("extra_label")) == (b"m 1", ["team=dev"])
        # A body without a length becomes a chunked one.
        upload = ("--http2", "-H", bearer, "-X", "POST", "-H", "Content-Length:", "-T", "-")
        assert curl(gateway, authority, "/api/v1/import/prometheus", *upload) == ("2", "200")
        assert upstream.requests[-1].header("Transfer-Encoding") == ["chunked"]
        assert curl(gateway, authority, "/api//v1/query", "--http2", "--path-as-is", "-H", bearer) == ("2", "400")
        assert len(upstream.requests) == 4
        assert curl(gateway, authority, QUERY, "--http1.1", "-H", bearer) == ("1.1", "200")


def test_http2_is_not_offered_by_default(
    flags: tuple[str, ...], authority: Authority, key: SigningKey, program: Program
) -> None:
    with TLSGateway(*flags, program=program) as gateway:
        bearer = f"Authorization: Bearer {key.mint()}"
        assert curl(gateway, authority, QUERY, "--http2", "-H", bearer) == ("1.1", "200")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["-tls"], "-tlsCertFile"),
        (["-tls", "-tlsCertFile={cert}", "-tlsKeyFile=/no/such/file"], "-tlsKeyFile"),
        (["-tls", "-tlsCertFile={key}", "-tlsKeyFile={cert}"], "-tlsCertFile"),
        (["-tls", "-tlsCertFile={cert}", "-tlsKeyFile={key}", "-tlsMinVersion=SSL3"], "-tlsMinVersion"),
        (["-tls", "-tlsCertFile={cert}", "-tlsKeyFile={key}", "-tlsCipherSuites=RC4"], "-tlsCipherSuites"),
        (["-tls", "-tlsCertFile={cert}", "-tlsKeyFile={key}", "-mtls"], "-mtlsCAFile"),
        (["-mtls"], "-mtls"),
        (["-lane=slow"], "-lane"),
        (["-workers=0"], "-workers"),
    ],
)
def test_what_cannot_be_served_stops_the_start(given: list[str], named: str, certificate: Certificate) -> None:
    flags = [flag.format(cert=certificate.cert, key=certificate.key) for flag in given]
    done = run_vmgateway("-enable.auth", "-read.url=http://127.0.0.1:1", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert named in line


# --- the PROXY protocol ---------------------------------------------------------------------------------------------


class BehindBalancer(Gateway):
    """A gateway that a balancer speaks to."""

    def is_ready(self) -> bool:
        with RawClient(self.port) as client:
            client.send(b"PROXY UNKNOWN\r\n" + head("GET", "/health", None, ["Connection: close"]))
            return client.receive_all().startswith(b"HTTP/1.1 200")


V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([198, 51, 100, 7, 192, 0, 2, 1, 0, 80, 1, 187])


@pytest.mark.parametrize("header", [b"PROXY TCP4 198.51.100.7 192.0.2.1 80 443\r\n", V2], ids=["v1", "v2"])
def test_the_client_is_the_one_that_the_balancer_names(
    header: bytes, upstream: RecordingUpstream, key_file: Path, key: SigningKey, program: Program
) -> None:
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", "-accessLog")
    with BehindBalancer(*flags, "-httpListenAddr.useProxyProtocol", program=program) as gateway:
        with RawClient(gateway.port) as client:
            client.send(header + head("GET", QUERY, key.mint()))
            assert client.receive_answer()[0] == 200
            client.send(head("GET", QUERY, key.mint()))
            assert client.receive_answer()[0] == 200
        assert [request.header("X-Forwarded-For") for request in upstream.requests] == [["198.51.100.7"]] * 2
        gateway.wait_for_log("198.51.100.7")
        with RawClient(gateway.port) as client:
            client.send(head("GET", QUERY, key.mint()))
            assert client.receive_all() == b""
        assert len(upstream.requests) == 2


def test_the_header_comes_before_tls(flags: tuple[str, ...], authority: Authority, key: SigningKey) -> None:
    with TLSGateway(*flags, "-httpListenAddr.useProxyProtocol") as gateway:
        sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=HANGS)
        sock.sendall(V2)
        with trusting(authority).wrap_socket(sock, server_hostname="localhost") as client:
            client.sendall(head("GET", QUERY, key.mint(), ["Connection: close"]))
            answer = b""
            while piece := client.recv(4096):
                answer += piece
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"status": "success"}


# --- IPv6 ------------------------------------------------------------------------------------------------------------


class OnAllAddresses(Gateway):
    """A gateway that is told no address to listen on."""

    def __init__(self, *flags: str) -> None:
        port = free_port()
        super().__init__(*flags, f"-httpListenAddr=:{port}", port=port)


def answers_at(host: str, port: int, token: str) -> int:
    """The status of a query at an address; 0 where nobody listens."""
    try:
        with socket.create_connection((host, port), timeout=HANGS) as sock:
            sock.sendall(head("GET", QUERY, token, ["Connection: close"]))
            with sock.makefile("rb") as answer:
                return int(answer.read().split(b" ")[1])
    except ConnectionRefusedError:
        return 0


@needs_ipv6
@pytest.mark.parametrize("lane", ["fast", "flow"])
@pytest.mark.parametrize("enabled", [True, False], ids=["on", "off"])
def test_ipv6_is_served_and_used_only_with_its_flag(
    key_file: Path, key: SigningKey, lane: str, *, enabled: bool
) -> None:
    with RecordingUpstream() as four, RecordingUpstream(host="::1") as six:
        flags = ["-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-lane={lane}", f"-enableTCP6={enabled}"]
        with OnAllAddresses(*flags, f"-read.url={four.url}", f"-write.url={six.url}") as gateway:
            statuses = [answers_at(host, gateway.port, key.mint()) for host in ("127.0.0.1", "::1")]
            assert statuses == [200, 200 if enabled else 0]
            assert len(four.requests) == sum(map(bool, statuses))
            written = gateway.client(key.mint()).post("/api/v1/import/prometheus", body="m 1\n").status
            assert written == (200 if enabled else 502)
            assert [request.header("Host") for request in six.requests] == [[f"[::1]:{six.port}"]] * enabled


@needs_ipv6
@pytest.mark.parametrize("enabled", [True, False], ids=["on", "off"])
def test_ipv6_behind_a_balancer(upstream: RecordingUpstream, key_file: Path, key: SigningKey, *, enabled: bool) -> None:
    """Connections with a header of the PROXY protocol are accepted by sockets of the gateway's own."""
    port = free_port()
    flags = ["-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", f"-enableTCP6={enabled}"]
    with BehindBalancer(*flags, "-httpListenAddr.useProxyProtocol", f"-httpListenAddr=:{port}", port=port) as gateway:
        for host, open_there in (("127.0.0.1", True), ("::1", enabled)):
            if not open_there:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((host, gateway.port), timeout=HANGS)
                continue
            with socket.create_connection((host, gateway.port), timeout=HANGS) as sock:
                sock.sendall(b"PROXY TCP6 2001:db8::7 2001:db8::1 80 443\r\n")
                sock.sendall(head("GET", QUERY, key.mint(), ["Connection: close"]))
                with sock.makefile("rb") as answer:
                    assert answer.read().startswith(b"HTTP/1.1 200 ")
    assert [request.header("X-Forwarded-For") for request in upstream.requests] == [["2001:db8::7"]] * (1 + enabled)
