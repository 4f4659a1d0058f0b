"""Two replicas behind HAProxy and behind nginx, with the configurations of deployment/; one goes away under load."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.client import Client
from tests.support.wire.deployment import DEPLOYMENT, TEMPORARY, run
from tests.support.wire.processes import Gateway, find_program
from tests.support.wire.servers import Server
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from tests.support.wire.write_bodies import JSON_LINE
from tests.wire.conftest import StartGateway


class Balancer(Server):
    """A load balancer of deployment/, on a port of its own and with these replicas."""

    health = "/health"

    def __init__(self, replicas: list[Gateway]) -> None:
        self.replicas = replicas
        super().__init__()

    def configuration(self, example: str) -> Path:
        """The example with the test's addresses."""
        text = (DEPLOYMENT / example).read_text()
        for number, replica in enumerate(self.replicas, start=1):
            assert f"vmgateway-{number}:8431" in text
            text = text.replace(f"vmgateway-{number}:8431", f"127.0.0.1:{replica.port}")
        for listen in ("bind :8427", "listen 8427;"):
            text = text.replace(listen, listen.replace(":8427", "8427").replace("8427", f"127.0.0.1:{self.port}"))
        assert "127.0.0.1" in text
        file = self.directory / Path(example).name
        file.write_text(self.local(text))
        return file

    def local(self, text: str) -> str:
        """What else a test changes."""
        return text


class HAProxy(Balancer):
    name = "haproxy"

    def command(self) -> list[str]:
        file = str(self.configuration("haproxy/haproxy.cfg"))
        run(find_program("haproxy"), "-c", "-f", file)
        return [find_program("haproxy"), "-db", "-f", file]

    def check_end(self) -> None:
        assert self.exit_code in (0, 128 + signal.SIGTERM, -signal.SIGTERM)


class Nginx(Balancer):
    name = "nginx"

    def local(self, text: str) -> str:
        paths = "".join(f"    {name}_temp_path {self.directory}/{name};\n" for name in TEMPORARY)
        return text.replace("http {\n", f"http {{\n{paths}", 1)

    def command(self) -> list[str]:
        file = str(self.configuration("nginx/nginx.conf"))
        common = [find_program("nginx"), "-p", str(self.directory), "-e", "stderr", "-c", file, "-g"]
        common.append(f"daemon off; master_process off; pid {self.directory}/pid;")
        run(*common, "-t")
        return common


class Load:
    """Clients that go on with requests until they are told to stop; what became of each is kept."""

    def __init__(self, port: int, token: str) -> None:
        self.stopped = threading.Event()
        self.client = Client(port, token=token)
        self.statuses: dict[str, list[int]] = {"GET": [], "POST": []}
        self.written: list[int] = []
        self.threads = [threading.Thread(target=work) for work in (self.read, self.read, self.read, self.write)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def read(self) -> None:
        while not self.stopped.is_set():
            try:
                self.statuses["GET"].append(self.client.get("/api/v1/query?query=up").status)
            except OSError:
                self.statuses["GET"].append(0)

    def write(self) -> None:
        """As vmagent does: what was not answered well is sent again."""
        number = 0
        while not self.stopped.is_set():
            try:
                status = self.client.post(f"/api/v1/import?n={number}", body=JSON_LINE).status
            except OSError:
                status = 0
            self.statuses["POST"].append(status)
            if status == 204:
                self.written.append(number)
                number += 1

    def goes_on(self) -> None:
        """Wait for some more requests of each kind."""
        before = {kind: len(statuses) for kind, statuses in self.statuses.items()}
        eventually(
            lambda: all(len(self.statuses[kind]) > number + 30 for kind, number in before.items()),
            what="more requests",
        )


@pytest.fixture
def backend() -> Iterator[RecordingUpstream]:
    with RecordingUpstream(lambda request: Reply(status=204 if request.method == "POST" else 200, body=b"")) as server:
        yield server


@pytest.fixture
def replicas(
    start_gateway: StartGateway, backend: RecordingUpstream, key_file: Path, request: pytest.FixtureRequest
) -> list[Gateway]:
    """Two gateways. A test of draining gives them the time that a load balancer needs to see it."""
    delay = "2s" if "drains" in request.node.name else "0"
    flags = ("-enable.auth", f"-read.url={backend.url}", f"-write.url={backend.url}", f"-http.shutdownDelay={delay}")
    return [start_gateway(*flags, f"-auth.publicKeyFiles={key_file}") for _ in range(2)]


def served(gateway: Gateway) -> float:
    return gateway.metric("vmgateway_requests_total", outcome="admitted")


@pytest.mark.parametrize("balancer", [HAProxy, Nginx])
def test_a_replica_is_killed_and_comes_back(
    balancer: type[Balancer], replicas: list[Gateway], backend: RecordingUpstream, key: SigningKey
) -> None:
    first, second = replicas
    with balancer(replicas) as proxy, Load(proxy.port, key.mint()) as load:
        load.goes_on()
        assert served(first) > 0
        assert served(second) > 0
        first.kill()
        load.goes_on()
        load.goes_on()
        first.start()
        eventually(lambda: served(first) > 0, what="the replica is used again")
        load.goes_on()
    assert set(load.statuses["GET"]) == {200}, "a GET can be tried again, so none is lost"
    arrived = {int(request.argument("n")[0]) for request in backend.requests if request.method == "POST"}
    assert set(load.written) <= arrived, "what was answered well has been written"
    assert load.statuses["POST"].count(204) == len(load.written)
    failed = [status for status in load.statuses["POST"] if status != 204]
    assert len(failed) <= 2, "a write that was on its way is told of, and only that"
    assert set(failed) <= {0, 502, 503}, "never one that makes vmagent drop it"


def test_a_replica_that_drains_costs_no_request_at_all(
    replicas: list[Gateway], backend: RecordingUpstream, key: SigningKey
) -> None:
    first, second = replicas
    with HAProxy(replicas) as proxy, Load(proxy.port, key.mint()) as load:
        load.goes_on()
        first.stop()
        load.goes_on()
        first.start()
        eventually(lambda: served(first) > 0, what="the replica is used again")
        second.stop()
        load.goes_on()
    assert set(load.statuses["GET"]) == {200}
    assert set(load.statuses["POST"]) == {204}
