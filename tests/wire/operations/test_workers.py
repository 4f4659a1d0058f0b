"""Several processes on one port: started, replaced, told, and ended together."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.wire.processes import Gateway, children, run_vmgateway
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"


@pytest.fixture
def gateway(start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path) -> Gateway:
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", "-workers=2")
    started = start_gateway(*flags)
    started.wait_until(lambda: started.log().count("listens on") == 2, what="both workers listen")
    return started


def runs(pid: int) -> bool:
    """Whether it is there, and no zombie that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def workers_that_answered(gateway: Gateway) -> set[str]:
    families = text_string_to_metric_families(gateway.client().get("/metrics").text)
    return {
        sample.labels["worker"]
        for family in families
        for sample in family.samples
        if sample.name == "vmgateway_requests_total" and sample.value
    }


@pytest.mark.smoke
def test_both_serve_and_metrics_count_what_either_did(gateway: Gateway, key: SigningKey) -> None:
    client = gateway.client(key.mint())
    sent = 0
    while len(workers_that_answered(gateway)) < 2:
        assert client.get(QUERY).status == 200
        sent += 1
        assert sent < 200, "one worker gets all connections"
    gateway.wait_until(
        lambda: gateway.metric("vmgateway_requests_total", outcome="admitted") == sent, what="has counted the last"
    )
    for _ in range(5):  # whichever worker is asked
        assert gateway.metric("vmgateway_requests_total", outcome="admitted") == sent


def test_a_dead_worker_is_replaced(gateway: Gateway, key: SigningKey) -> None:
    first = children(gateway.pid)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    gateway.wait_for_log("worker 0 exited with code -9, restarting it")
    gateway.wait_until(lambda: len(set(children(gateway.pid)) - set(first)) == 1, what="starts another worker")
    gateway.wait_until(lambda: gateway.log().count("listens on") == 3, what="the new worker listens")
    assert all(gateway.client(key.mint()).get(QUERY).status == 200 for _ in range(20))


def test_a_worker_that_cannot_start_again_does_not_end_the_others(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, tmp_path: Path
) -> None:
    """Such as after a crash while a file is broken: the others go on with what they have read, until it is good."""
    file = tmp_path / "key.pem"
    file.write_text(key.public_pem)
    gateway = start_gateway("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={file}", "-workers=2")
    gateway.wait_until(lambda: gateway.log().count("listens on") == 2, what="both workers listen")
    oldest = Path(f"/proc/{gateway.pid}/stat").read_text().rpartition(")")[2].split()[19]
    ticks = os.sysconf("SC_CLK_TCK")
    gateway.wait_until(
        lambda: float(Path("/proc/uptime").read_text().split()[0]) > int(oldest) / ticks + 6, what="has run for a while"
    )
    file.write_text("nonsense")
    first = children(gateway.pid)
    os.kill(first[0], signal.SIGKILL)
    gateway.wait_for_log(r"\terror\t.*cannot start: -auth.publicKeyFiles .*key.pem: ")
    gateway.wait_for_log("worker 0 exited with code 2, restarting it in 1 s")
    assert "Traceback" not in gateway.log()
    assert children(gateway.pid)[-1:] == first[1:]
    assert all(gateway.client(key.mint()).get(QUERY).status == 200 for _ in range(20))
    file.write_text(key.public_pem)
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: gateway.log().count("listens on") == 3, what="the new worker listens")
    assert gateway.exit_code is None


def test_requests_in_flight_end_before_the_workers_do(
    gateway: Gateway, upstream: RecordingUpstream, key: SigningKey
) -> None:

    gate = threading.Event()
    upstream.responder = lambda _: Reply(gate=gate)
    statuses: list[int] = []
    asking = [
        threading.Thread(target=lambda: statuses.append(gateway.client(key.mint()).get(QUERY).status)) for _ in range(8)
    ]
    for thread in asking:
        thread.start()
    eventually(lambda: len(upstream.requests) == 8, what="all requests are with the backend")
    pids = children(gateway.pid)
    gateway.signal(signal.SIGTERM)
    eventually(lambda: gateway.log().count("draining") == 2, what="both drain")
    gate.set()
    for thread in asking:
        thread.join()
    assert statuses == [200] * 8
    assert gateway.wait() == 0
    assert not any(runs(pid) for pid in pids)


def test_a_reload_reaches_all(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, tmp_path: Path
) -> None:
    file = tmp_path / "key.pem"
    file.write_text(key.public_pem)
    gateway = start_gateway("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={file}", "-workers=2")
    gateway.wait_until(lambda: gateway.log().count("listens on") == 2, what="both workers listen")
    other = SigningKey.generate("ES256")
    file.write_text(other.public_pem)
    gateway.signal(signal.SIGHUP)
    eventually(lambda: gateway.metric("vmgateway_config_reloads_total", result="success") == 2)
    assert {gateway.client(key.mint()).get(QUERY).status for _ in range(20)} == {401}
    assert {gateway.client(other.mint()).get(QUERY).status for _ in range(20)} == {200}


def test_workers_do_not_outlive_their_parent(gateway: Gateway) -> None:
    pids = children(gateway.pid)
    gateway.signal(signal.SIGKILL)
    gateway.wait()
    eventually(lambda: not any(runs(pid) for pid in pids), what="the workers leave")
    gateway.kill()


def test_a_port_that_is_taken_ends_the_start() -> None:

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ("-enable.auth", "-read.url=http://127.0.0.1:1", f"-httpListenAddr=127.0.0.1:{port}", "-workers=2")
        done = run_vmgateway(*flags)
    assert done.returncode == 2
    assert "cannot listen on" in done.stderr


def test_limits_hold_across_workers(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits:\n- {type: queries, value: 40, resolution: hour}\n")
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
    gateway = start_gateway(*flags, "-enable.rateLimit", f"-ratelimit.config={limits}", "-workers=2")
    gateway.wait_until(lambda: gateway.log().count("listens on") == 2, what="both workers listen")
    client = gateway.client(key.mint())
    assert [client.get(QUERY).status for _ in range(50)] == [200] * 40 + [429] * 10
    assert len(upstream.requests) == 40
