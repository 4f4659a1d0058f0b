"""The gateway pushes its metrics: to VictoriaMetrics, to several URLs, through failures, without telling a secret."""

from __future__ import annotations

import base64
import gzip
import re
import threading
from pathlib import Path

import pytest

from tests.support.wire.processes import Program
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.upstream import HANG_UP, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway
from vmgw_addons.cli.main import main

PATH = "/api/v1/import/prometheus"


@pytest.fixture
def flags(key_file: Path) -> tuple[str, ...]:
    return (
        "-enable.auth",
        "-read.url=http://127.0.0.1:1",
        f"-auth.publicKeyFiles={key_file}",
        "-pushmetrics.interval=100ms",
    )


def test_metrics_arrive_in_victoria_metrics(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    flags: tuple[str, ...],
    metric: str,
    program: Program,
) -> None:
    gateway = start_gateway(
        *flags,
        f"-pushmetrics.url={victoria_metrics.url}{PATH}",
        f'-pushmetrics.extraLabel=instance="{metric}",zone="a,b"',
        program=program,
    )
    names = {"vmgateway_info", "vmgateway_keys_loaded", "process_cpu_seconds_total", "python_info"}

    def found() -> list[dict[str, str]]:
        series = victoria_metrics.series(f'{{instance="{metric}"}}')
        # VictoriaMetrics shows new series one after the other.
        return series if names <= {labels["__name__"] for labels in series} else []

    series = gateway.wait_until(found, what="pushes its metrics")
    assert {labels["zone"] for labels in series} == {"a,b"}
    assert gateway.metric("vmgateway_metrics_pushes_total", result="error") == 0


def test_a_push_is_compressed_and_carries_credentials_and_headers(
    start_gateway: StartGateway, upstream: RecordingUpstream, flags: tuple[str, ...]
) -> None:
    url = upstream.url.replace("://", "://user:p%40ss@")
    gateway = start_gateway(*flags, f"-pushmetrics.url={url}{PATH}?key=p4ss", "-pushmetrics.header=My-Auth: foo: bar")
    gateway.wait_until(lambda: len(upstream.requests) > 1 and upstream.requests[0].complete, what="pushes")
    pushed = upstream.requests[0]
    assert (pushed.method, pushed.target) == ("POST", f"{PATH}?key=p4ss")
    assert pushed.header("Content-Encoding") == ["gzip"]
    assert pushed.header("My-Auth") == ["foo: bar"]
    assert pushed.header("Authorization") == [f"Basic {base64.b64encode(b'user:p@ss').decode()}"]
    assert b"\nvmgateway_keys_loaded 1.0\n" in gzip.decompress(pushed.body)
    shown = gateway.client().get("/metrics").text + gateway.client().get("/flags").text + gateway.log()
    assert "p%40ss" not in shown
    assert "p@ss" not in shown
    assert "p4ss" not in shown


def test_of_several_processes_one_pushes_for_all(
    start_gateway: StartGateway, upstream: RecordingUpstream, flags: tuple[str, ...]
) -> None:
    url = f"-pushmetrics.url={upstream.url}{PATH}"
    gateway = start_gateway(*flags, url, "-pushmetrics.disableCompression", "-workers=2")

    def workers(body: bytes) -> set[bytes]:
        return set(re.findall(rb'(?m)^vmgateway_keys_loaded\{worker="(\d)"\} 1', body))

    def complete() -> list[bytes]:
        return [request.body for request in upstream.requests if request.complete]

    gateway.wait_until(lambda: any(workers(body) == {b"0", b"1"} for body in complete()), what="pushes for both")
    gateway.wait_until(lambda: len(complete()) > 5, what="pushes on")
    assert all(b"0" in workers(body) for body in complete()), "always the same one"
    pushed = [float(re.findall(rb'pushes_total\{.*worker="0"\} (\S+)', body)[0]) for body in complete()[1:]]
    assert pushed == sorted(set(pushed)), "none is pushed twice"


def test_without_compression(start_gateway: StartGateway, upstream: RecordingUpstream, flags: tuple[str, ...]) -> None:
    gateway = start_gateway(*flags, f"-pushmetrics.url={upstream.url}{PATH}", "-pushmetrics.disableCompression")
    gateway.wait_until(lambda: upstream.requests and upstream.requests[0].complete, what="pushes")
    assert upstream.requests[0].header("Content-Encoding") == []
    assert b"\nvmgateway_keys_loaded 1.0\n" in upstream.requests[0].body


def test_a_url_that_fails_is_told_of_and_keeps_no_other_waiting(
    start_gateway: StartGateway, upstream: RecordingUpstream, flags: tuple[str, ...]
) -> None:
    replies = iter([Reply(status=503), HANG_UP, Reply(status=302, headers=(("Location", "/elsewhere"),))])
    with RecordingUpstream(lambda _: next(replies, Reply(status=204))) as failing, RecordingUpstream() as hanging:
        hanging.responder = lambda _: Reply(gate=gate)
        gate = threading.Event()
        urls = [
            f"{server.url.replace('://', '://u:p4ss@')}/{server is failing}" for server in (upstream, failing, hanging)
        ]
        gateway = start_gateway(*flags, *(f"-pushmetrics.url={url}" for url in urls))

        def pushes(server: RecordingUpstream, result: str) -> float:
            url = f"{server.url}/{server is failing}"
            return gateway.metric("vmgateway_metrics_pushes_total", result=result, url=url)

        gateway.wait_until(lambda: pushes(failing, "success") >= 2, what="pushes again after failures")
        gateway.wait_until(lambda: pushes(upstream, "success") >= 3, what="pushes to the other")
        assert pushes(failing, "error") == 3
        assert pushes(upstream, "error") == 0
        assert len(hanging.requests) == 1, "one at a time"
        assert {request.path for request in failing.requests} == {"/True"}, "a redirect is not followed"
        gateway.wait_until(lambda: gateway.log().count("cannot push metrics") == 3, what="logs each failure once")
        log = gateway.log()
        assert log.count(f"cannot push metrics to {failing.url}/True: status 503") == 1
        assert "p4ss" not in log
        gateway.stop()  # though one push has no answer
        gate.set()


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("-pushmetrics.url=p4ss", "-pushmetrics.url: expected a URL"),
        ("-pushmetrics.url=http://a,ftp://u:p4ss@b", "in item 2"),
        ("-pushmetrics.url=http://u:p4ss@a:port", "in item 1"),
        ("-pushmetrics.extraLabel=instance=foo", '-pushmetrics.extraLabel: expected name="value" in item 1'),
        ("-pushmetrics.header=p4ss", "-pushmetrics.header: expected Name: value in item 1"),
        ("-pushmetrics.interval=0", "-pushmetrics.interval: expected at least 100ms"),
    ],
)
def test_a_bad_flag_is_one_line_and_exit_code_2(
    flags: tuple[str, ...], flag: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, flag, "-dryRun"], {}) == 2
    said, errors = capfd.readouterr()
    assert told in errors
    assert errors.count("\n") == 1
    assert "p4ss" not in said + errors
