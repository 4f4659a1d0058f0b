"""The last part of ``scripts/bench-limits``: what several clients get of a limit that processes share."""

from __future__ import annotations

import http.client
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench_limits import Counting, most_in_a_window
from tests.support.wire.processes import Gateway
from tests.support.wire.servers import Redis

ALLOWED = 120  # a minute
TARGET = "/select/1/prometheus/api/v1/query?query=up"


class Sender(threading.Thread):
    """A client with an address of its own. An impatient one does not wait when it is told to."""

    def __init__(self, number: int, ports: Sequence[int], ends: float, *, patient: bool) -> None:
        super().__init__()
        self.address, self.ports, self.ends, self.patient = f"127.0.0.{number + 2}", ports, ends, patient
        self.passed = 0
        self.waited = 0
        self.in_vain = 0
        self.pause = threading.Event()

    def run(self) -> None:
        number = 0
        waited = False
        while time.monotonic() < self.ends:
            number += 1
            status, wait = self.ask(self.ports[number % len(self.ports)])
            self.passed += status == 200
            self.waited += waited
            self.in_vain += waited and status != 200
            waited = self.patient and status == 429
            self.pause.wait(min(wait, max(0.0, self.ends - time.monotonic())) if waited else 0.02)

    def ask(self, port: int) -> tuple[int, float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(self.address, 0))
        connection.request("GET", TARGET)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status, float(response.headers.get("Retry-After", 0))


def measure(what: str, start: Callable[[ExitStack, Sequence[str]], list[int]], seconds: float) -> None:
    """Print the share of each of four clients, the last of which waits as it is told."""
    backend = Counting()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        file = Path(directory, "limit.yaml")
        file.write_text(f"limits: [{{type: queries, value: {ALLOWED}}}]")
        ports = start(
            stack, ("-enable.rateLimit", f"-ratelimit.config={file}", "-clusterMode", f"-read.url={backend.url}")
        )
        ends = time.monotonic() + seconds
        senders = [Sender(number, ports, ends, patient=number == 3) for number in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    passed = [sender.passed for sender in senders]
    shares = " ".join(f"{100 * number / sum(passed):3.0f} %" for number in passed)
    # The backend's clock runs behind the verdicts, as in bench_limits: so a shorter window is counted too.
    beyond = [max(0, most_in_a_window(sorted(backend.moments), window) - ALLOWED) for window in (60, 59.5)]
    patient = senders[3]
    print(
        f"{what:14} {sum(passed):6} {shares} {beyond[0]:8} {beyond[1]:8}    {patient.in_vain} of {patient.waited}",
        flush=True,
    )


def workers(number: int) -> Callable[[ExitStack, Sequence[str]], list[int]]:
    def start(stack: ExitStack, flags: Sequence[str]) -> list[int]:
        gateway = stack.enter_context(Gateway(*flags, f"-workers={number}"))
        gateway.wait_until(lambda: gateway.log().count("listens on") == number, what="all listen")
        return [gateway.port]

    return start


def replicas(number: int) -> Callable[[ExitStack, Sequence[str]], list[int]]:
    def start(stack: ExitStack, flags: Sequence[str]) -> list[int]:
        redis = stack.enter_context(Redis())
        gateways = [stack.enter_context(Gateway(*flags, f"-ratelimit.storage={redis.url}")) for _ in range(number)]
        for gateway in gateways:
            gateway.wait_until(
                lambda: all(each.metric("vmgateway_ratelimit_replicas") == number for each in gateways), what="all meet"
            )
        return [gateway.port for gateway in gateways]

    return start


def main(seconds: float) -> None:
    print(f"four clients for {seconds:.0f} s, {ALLOWED} queries a minute allowed; the last client waits as it is told;")
    print("how many more than allowed the backend got in any 60 s, and in any 59.5 s")
    print(f"{'':14} {'passed':>6} {'share of each client':>23} {'60 s':>8} {'59.5 s':>8}    waited in vain")
    for number in (1, 2, 4):
        measure(f"{number} workers", workers(number), seconds)
    for number in (1, 2, 4):
        measure(f"{number} replicas", replicas(number), seconds)
