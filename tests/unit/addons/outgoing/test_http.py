"""HTTP of the gateway's own, to servers that misbehave: bounds, whom it trusts, and what its errors say."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from OpenSSL import crypto

from tests.support.wire.certificates import Authority
from tests.support.wire.upstream import HANG_UP, RecordingUpstream, Reply
from vmgw_addons.observability.push_metrics import PushTarget
from vmgw_addons.outgoing import RequestFailed, describe, download

_PROXY = (f"{name}_proxy" for name in ("http", "https", "all", "no"))
_ENVIRONMENT = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", *_PROXY)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


def error_of(url: str) -> str:
    with pytest.raises(RequestFailed) as caught:
        download(url)
    return str(caught.value)


@contextmanager
def raw_server(answer: bytes) -> Iterator[str]:
    """Answers one connection with these bytes, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


# --- documents -----------------------------------------------------------------------------------------------------


def test_a_document_is_fetched(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: Reply(body=b'{"keys":[]}')
    assert download(f"{upstream.url}/jwks") == b'{"keys":[]}'
    assert upstream.requests[0].target == "/jwks"
    assert upstream.requests[0].header("Accept-Encoding") == ["identity"]


@pytest.mark.parametrize("status", [204, 206, 302, 404, 503])
def test_only_200_is_a_document_and_no_redirect_is_followed(upstream: RecordingUpstream, status: int) -> None:
    upstream.responder = lambda request: Reply(
        status=status, headers=(("Location", f"{upstream.url}/elsewhere"),), body=b""
    )
    assert error_of(f"{upstream.url}/jwks") == f"status {status}"
    assert len(upstream.requests) == 1


def test_an_endless_document_is_given_up(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: Reply(body=endless())
    assert error_of(f"{upstream.url}/jwks") == "the response is larger than 1 MiB"


# --- credentials and proxies ---------------------------------------------------------------------------------------


def test_credentials_come_from_the_url_and_never_from_netrc(
    upstream: RecordingUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    download(upstream.url)
    download(upstream.url.replace("://", "://user:p%40ss@"))
    assert [request.header("Authorization") for request in upstream.requests] == [
        [],
        ["Basic " + b64encode(b"user:p@ss").decode()],
    ]


def test_a_proxy_of_the_environment_is_used(upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", upstream.url)
    download("http://keys.example/jwks")
    assert upstream.requests[0].target == "http://keys.example/jwks"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    download(f"{upstream.url}/direct")
    assert upstream.requests[1].target == "/direct"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://"])
def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    assert error_of("http://user:p4ss@keys.example/") == "the proxy cannot be used"


# --- whom it trusts ------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(authority: Authority) -> Iterator[RecordingUpstream]:
    with RecordingUpstream(tls=authority.server_context(authority.issue("keys.example"))) as server:
        yield server


def test_an_authority_that_nobody_trusts(secure: RecordingUpstream) -> None:
    assert error_of(secure.url) == "certificate verify failed: unable to get local issuer certificate"
    assert secure.requests == []


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_of_the_system_is_trusted(
    secure: RecordingUpstream, authority: Authority, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(authority.cert))
    download(secure.url)
    PushTarget(url=secure.url, shown="", labels="", headers=(), compressed=False).push(b"up 1\n")
    assert [request.method for request in secure.requests] == ["GET", "POST"]


@pytest.mark.parametrize("variable", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_so_is_one_in_a_directory(
    secure: RecordingUpstream, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    name = crypto.load_certificate(crypto.FILETYPE_PEM, authority.cert.read_bytes()).subject_name_hash()
    (folder / f"{name:08x}.0").write_bytes(authority.cert.read_bytes())
    monkeypatch.setenv(variable, str(folder))
    download(secure.url)
    assert len(secure.requests) == 1


def test_a_bundle_that_is_missing_is_named(secure: RecordingUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/missing.pem")
    assert error_of(secure.url) == "REQUESTS_CA_BUNDLE: cannot read /missing.pem: No such file or directory"
    assert secure.requests == []


# --- what errors say -----------------------------------------------------------------------------------------------

BROKEN = "the response is not valid HTTP, or incomplete"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"", "the server closed the connection without a response", id="nothing"),
        pytest.param(b"rubbish\r\n\r\n", BROKEN, id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", BROKEN, id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", BROKEN, id="no chunk"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            "the response cannot be decompressed",
            id="no gzip",
        ),
    ],
)
def test_an_answer_of_no_use(answer: bytes, reason: str) -> None:
    with raw_server(answer) as address:
        assert error_of(f"http://user:p4ss@{address}/jwks?key=p4ss") == reason


def test_a_server_that_hangs_up(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: HANG_UP
    assert error_of(f"{upstream.url.replace('http://', 'http://user:password@')}/jwks") in (
        "the server closed the connection without a response",
        "Connection reset by peer",
    )


NO_TLS = "the server does not speak TLS: write http in the URL, or another port"


def test_a_server_that_speaks_no_tls() -> None:
    with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert error_of(f"https://user:p4ss@{address}") == NO_TLS


def test_a_server_that_is_not_there() -> None:
    assert error_of("http://user:p4ss@127.0.0.1:1/?key=p4ss") == "Connection refused"


@pytest.mark.parametrize("url", ["http://[p4ss", "http://a:port/", "http://" + "p4ss" * 99])
def test_an_address_that_is_none(url: str) -> None:
    assert error_of(url) == "the address cannot be used"


def refused_with(response: requests.Response) -> requests.HTTPError:
    response.status_code = 503
    return requests.HTTPError("503 for url https://user:p4ss@host/", response=response)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(TimeoutError(), "the connection timed out", id="time"),
        pytest.param(socket.gaierror(-2, "Name or service not known"), "Name or service not known", id="name"),
        pytest.param(ssl.SSLError(1, "[SSL: A_B] a b (_ssl.c:1)"), "a b", id="TLS"),
        pytest.param(OSError(111, "https://user:p4ss@host"), "Connection refused", id="another text"),
        pytest.param(refused_with(requests.Response()), "status 503", id="status"),
        pytest.param(RuntimeError("p4ss"), "RuntimeError", id="anything else"),
    ],
)
def test_errors_are_described_in_words(error: Exception, reason: str) -> None:
    assert describe(error) == reason
