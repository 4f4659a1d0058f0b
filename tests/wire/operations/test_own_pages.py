"""The gateway's own pages as the flags have them: who may see them, what they hold, and the prefix before them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import re
import socket
import threading
from pathlib import Path

import pytest

from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway, Program
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway
from vmgw_addons.cli.main import main

OPEN = {"/health": 200, "/-/healthy": 200, "/-/ready": 200, "/ping": 204}
GUARDED = ["/metrics", "/flags", "/debug/pprof/", "/-/reload"]
QUERY = "/api/v1/query?query=up"


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.fixture
def flags(upstream: RecordingUpstream, key_file: Path) -> tuple[str, ...]:
    url = upstream.url.replace("://", "://user:p4ss@")
    return ("-enable.auth", f"-read.url={url}", f"-write.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")


def test_keys_and_passwords_guard_pages(
    start_gateway: StartGateway, flags: tuple[str, ...], program: Program, key: SigningKey
) -> None:
    own = ("-httpAuth.username=me", "-httpAuth.password=p4ss", "-flagsAuthKey=k3y")
    client = start_gateway(*flags, *own, program=program).client()
    for path, status in OPEN.items():
        assert client.get(path).status == status
    for path in ("/metrics", "/debug/pprof/", "/debug/pprof/profile?seconds=1"):
        refused = client.get(path)
        assert (refused.status, refused.header("WWW-Authenticate")) == (401, 'Basic realm="vmgateway", charset="UTF-8"')
        assert client.get(path, headers=basic("me:wrong")).status == 401
        assert client.get(path, headers={"Authorization": f"Bearer {key.mint()}"}).status == 401
    assert client.get("/metrics", headers=basic("me:p4ss")).status == 200
    assert client.get("/debug/pprof/", headers=basic("me:p4ss")).status == 200
    assert client.get("/flags", headers=basic("me:p4ss")).status == 401
    assert client.get("/flags?authKey=other").status == 401
    assert client.get("/flags?authKey=k3y").status == 200
    # The password of the pages is no token.
    assert client.get(QUERY, headers=basic("me:p4ss")).status == 401
    assert client.get(QUERY, headers={"Authorization": f"Bearer {key.mint()}"}).status == 200


def test_each_page_has_its_key_and_takes_it_from_a_file(
    start_gateway: StartGateway, flags: tuple[str, ...], tmp_path: Path
) -> None:
    names = ("metricsAuthKey", "flagsAuthKey", "pprofAuthKey", "reloadAuthKey")
    for name in names:
        (tmp_path / name).write_text(f"{name}\n")
    keys = [
        f"-metricsAuthKey=file://{tmp_path}/metricsAuthKey",
        f"-flagsAuthKey=file://{tmp_path}/flagsAuthKey",
        f"-pprofAuthKey=file://{tmp_path}/pprofAuthKey",
        f"-reloadAuthKey=file://{tmp_path}/reloadAuthKey",
    ]
    client = start_gateway(*flags, *keys).client()

    def statuses(key: str) -> list[int]:
        return [client.get(f"{path}?authKey={key}").status for path in GUARDED]

    assert [statuses(name) for name in names] == [[200 if page == name else 401 for page in names] for name in names]
    for name in names:
        (tmp_path / "new").write_text("second")
        (tmp_path / "new").replace(tmp_path / name)
    assert eventually(lambda: statuses("second") == [200] * 4)
    assert [statuses(name) for name in names] == [[401] * 4] * 4


def test_flags_are_shown_without_secrets(
    start_gateway: StartGateway, flags: tuple[str, ...], upstream: RecordingUpstream, program: Program
) -> None:
    more = ("-pprofAuthKey=p4ss", "-http.shutdownDelay=1ms", "-auth.jwksEndpoints=http://u:p4ss@127.0.0.1:1/a?b=p4ss")
    answer = start_gateway(*flags, *more, program=program).client().get("/flags")
    lines = answer.text.splitlines()
    assert f'-read.url="{upstream.url}"' in lines
    assert '-pprofAuthKey="secret"' in lines
    assert '-http.shutdownDelay="0.001s"' in lines
    assert '-auth.jwksEndpoints="http://127.0.0.1:1/a"' in lines
    assert "p4ss" not in answer.text.replace("httpAuth.password", "")


def test_metrics_show_process_and_python(start_gateway: StartGateway, flags: tuple[str, ...]) -> None:
    gateway = start_gateway(*flags)
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "python_info"):
        assert gateway.metric(name) > 0, name


# --- profiles --------------------------------------------------------------------------------------------------------


def test_a_profile_takes_a_bounded_time(start_gateway: StartGateway, flags: tuple[str, ...]) -> None:
    client = start_gateway(*flags).client()
    for seconds in ("0", "121", "-1", "1.5", "x", "%D9%A3", "99999999999999999999"):
        assert client.get(f"/debug/pprof/profile?seconds={seconds}").status == 400


def test_a_profile_is_taken_one_at_a_time_while_requests_go_on(
    start_gateway: StartGateway, flags: tuple[str, ...], program: Program, key: SigningKey
) -> None:
    gateway = start_gateway(*flags, program=program)
    taken: list[Answer] = []
    taking = threading.Thread(target=lambda: taken.append(gateway.client().get("/debug/pprof/profile?seconds=1")))
    before = threads(gateway)
    taking.start()
    gateway.wait_until(lambda: threads(gateway) > before, what="takes a profile")
    assert gateway.client().get("/debug/pprof/profile?seconds=1").status == 409
    assert gateway.client().ask("HEAD", "/debug/pprof/profile").status == 200
    while taking.is_alive():
        assert gateway.client(key.mint()).get(QUERY).status == 200
    (profile,) = taken
    assert profile.status == 200
    content = gzip.decompress(profile.body)
    assert b"MainThread" in content
    assert re.search(rb"/(?:access_control|exchange|client|stream|layer|status_pages)\.py", content), (
        "requests are in it"
    )


def threads(gateway: Gateway) -> int:
    """How many it has: one more while there is one that looks at the others."""
    return len(list(Path(f"/proc/{gateway.pid}/task").iterdir()))


def test_what_a_client_sends_while_a_profile_is_taken_is_not_read_into_memory(
    start_gateway: StartGateway, flags: tuple[str, ...]
) -> None:
    gateway = start_gateway(*flags)
    before, idle = gateway.rss(), threads(gateway)
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.settimeout(0.2)
        sock.sendall(b"GET /debug/pprof/profile?seconds=2 HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000\r\n\r\n")
        gateway.wait_until(lambda: threads(gateway) > idle, what="takes a profile")
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(200):
                sock.sendall(b"x" * (1 << 20))
        assert gateway.rss() - before < 30 << 20
    gateway.wait_until(lambda: gateway.client().get("/health").status == 200, what="serves on")


# --- the prefix of all paths, and headers of all answers -------------------------------------------------------------


def test_a_path_prefix_is_before_pages_and_requests(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, program: Program
) -> None:
    common = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", "-http.pathPrefix=/gw/")
    gateway = PrefixedGateway(*common, program=program)
    with gateway:
        client = gateway.client(key.mint())
        assert client.get("/gw/health").status == 200
        assert client.get("/gw/metrics").status == 200
        assert client.get(f"/gw{QUERY}").status == 200
        for path in (QUERY, "/health", "/metrics", "/gw", "/gwx/health", f"/gw/gw{QUERY}"):
            assert client.get(path).status == 404, path
    assert [request.target for request in upstream.requests] == [QUERY]


class PrefixedGateway(Gateway):
    def is_ready(self) -> bool:
        return Client(self.port).get("/gw/health").status == 200


HEADERS = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Content-Security-Policy": "default-src 'self'",
    "X-Frame-Options": "DENY",
}


def test_headers_are_in_every_answer(
    start_gateway: StartGateway, upstream: RecordingUpstream, flags: tuple[str, ...], key: SigningKey, program: Program
) -> None:
    upstream.responder = lambda _: Reply(headers=(("X-Frame-Options", "OLD"), ("Access-Control-Allow-Origin", "*")))
    names = ("-http.header.hsts", "-http.header.csp", "-http.header.frameOptions")
    more = [f"{name}={value}" for name, value in zip(names, HEADERS.values(), strict=True)]
    client = start_gateway(*flags, *more, "-http.disableCORS", program=program).client(key.mint())
    refused = client.post("/api/v1/nothing", body="x" * 100_000)
    answers = [client.get("/health"), client.get(QUERY), client.get("/nowhere"), refused, client.ask("OPTIONS", QUERY)]
    assert [answer.status for answer in answers] == [200, 200, 404, 404, 204]
    for answer in answers:
        for name, value in HEADERS.items():
            assert [given for key_, given in answer.headers if key_ == name] == [value], (answer, name)
        assert answer.header("Access-Control-Allow-Origin") is None


def test_without_these_flags_the_answer_is_the_backends(
    start_gateway: StartGateway, upstream: RecordingUpstream, flags: tuple[str, ...], key: SigningKey
) -> None:
    upstream.responder = lambda _: Reply(headers=(("X-Frame-Options", "OLD"), ("Access-Control-Allow-Origin", "*")))
    answer = start_gateway(*flags).client(key.mint()).get(QUERY)
    assert answer.header("Access-Control-Allow-Origin") == "*"
    assert answer.header("X-Frame-Options") == "OLD"
    assert answer.header("Strict-Transport-Security") is None


# --- configurations that cannot be used ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("-http.pathPrefix=/a//b", "-http.pathPrefix"),
        ("-http.header.csp=a\nb", "-http.header.csp"),
        ("-httpAuth.password=p4ss", "-httpAuth.username"),
        ("-metricsAuthKey=file:///does/not/exist", "-metricsAuthKey: cannot use /does/not/exist: No such file"),
        ("-loggerFormat=xml", "-loggerFormat"),
        ("-loggerTimezone=Atlantis", "-loggerTimezone"),
        ("-pprofAuthKye=p4ss", "did you mean -pprofAuthKey?"),
    ],
)
def test_a_bad_flag_is_one_line_and_exit_code_2(flag: str, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-enable.auth", "-read.url=http://127.0.0.1:1", flag], {}) == 2
    said, errors = capfd.readouterr()
    assert told in errors
    assert errors.count("\n") == 1
    assert "p4ss" not in said + errors
