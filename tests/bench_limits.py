"""What ``scripts/bench-limits`` runs."""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.support.wire.processes import Gateway
from vmgw_core.base.tenants import Access, Subject, TenantID
from vmgw_core.errors import RateLimited
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit, LimitType, Resolution

ALLOWED, OFFERED = 1000, 10_000  # a minute


def limit(
    resolution: Resolution, value: int, *, labels: tuple[tuple[str, str], ...] = (), total: bool = False
) -> Limit:
    return Limit(type=LimitType.QUERIES, resolution=resolution, value=value, tenant=None, total=total, labels=labels)


def cost(limits: Iterable[Limit], *, labels: tuple[tuple[str, str], ...] = ()) -> float:
    """Microseconds of CPU for one check, of 100 tenants in turn."""
    limiter = Limiter(limits)
    subjects = [Subject(TenantID(number), labels) for number in range(100)]
    number = 200_000
    began = time.process_time()
    for step in range(number):
        try:
            limiter.admit(subjects[step % 100], Access.READ, step * 0.001)
        except RateLimited:
            continue
    return (time.process_time() - began) / number * 1e6


def costs() -> None:
    minute, hour = Resolution.MINUTE, Resolution.HOUR
    large = [limit(minute, 10**6), limit(hour, 10**8)]
    labels = (("team", "dev"), ("env", "prod"))
    team = limit(minute, 10**6, labels=labels[:1])
    print("cost of a check, microseconds")
    print(f"  one limit, admitted              {cost(large[:1]):5.2f}")
    print(f"  two limits, admitted             {cost(large):5.2f}")
    print(f"  two limits and one for labels    {cost([*large, team], labels=labels):5.2f}")
    print(f"  two limits, refused              {cost([limit(minute, 1), limit(hour, 1)]):5.2f}")


def verdicts() -> None:
    """Ten minutes of verdicts, on a clock of their own: evenly offered, and in bursts."""
    for name, burst in (("evenly", 1), ("in bursts of 500", 500)):
        limiter = Limiter([limit(Resolution.MINUTE, ALLOWED)])
        passed: list[float] = []
        for number in range(10 * OFFERED):
            now = number // burst * burst * 60 / OFFERED
            try:
                limiter.admit(Subject(TenantID()), Access.READ, now)
            except RateLimited:
                continue
            passed.append(now)
        beyond = max(0, most_in_a_window(passed, 60) - ALLOWED)
        print(f"verdicts, offered {name:18} {len(passed):5} in 10 minutes, beyond the limit in any minute: {beyond}")


class Counting:
    """A backend of one thread for each connection, that notes when each request came."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> None:
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        received = b""
        while data := connection.recv(65536):
            received += data
            while b"\r\n\r\n" in received:
                request, _, received = received.partition(b"\r\n\r\n")
                connection.sendall(self.answer(request))

    def answer(self, request: bytes) -> bytes:
        """Note it, and say yes."""
        self.moments.append(time.monotonic())
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def offer(gateway: Gateway, seconds: float, share: float = 1.0) -> int:
    """Send ``share`` of ``OFFERED`` requests a minute, evenly, over one connection; how many were sent."""
    request = b"GET /select/1/prometheus/api/v1/query?query=up HTTP/1.1\r\nHost: gateway\r\n\r\n"
    pause = threading.Event()
    sent = 0
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        threading.Thread(target=drain, args=(client,), daemon=True).start()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * share * OFFERED / 60:
                client.sendall(request)
                sent += 1
            pause.wait(0.005)
    return sent


def drain(client: socket.socket) -> None:
    with suppress(OSError):  # it is closed in the end
        while client.recv(65536):
            pass


def most_in_a_window(moments: list[float], seconds: float) -> int:
    return max(bisect_left(moments, moment + seconds) - index for index, moment in enumerate(moments))


def overshoot(seconds: float) -> None:
    backend = Counting()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "limit.yaml")
        file.write_text(f"limits: [{{type: queries, value: {ALLOWED}}}]")
        flags = ("-enable.rateLimit", f"-ratelimit.config={file}", "-clusterMode", f"-read.url={backend.url}")
        with Gateway(*flags, "-http.connTimeout=0") as gateway:  # the one connection stays open
            sent = offer(gateway, seconds)
    # The backend's clock runs a little behind the gateway's verdict, by how long a request is under way: what is
    # within a window there may have been admitted in a slightly longer one.
    print(f"{sent} queries offered in {seconds:.0f} s, at {OFFERED} a minute, with {ALLOWED} a minute allowed")
    print(f"  got through                      {len(backend.moments):5}")
    for shorter in (0.0, 0.1):
        most = most_in_a_window(sorted(backend.moments), 60 - shorter)
        print(f"  the most in any {60 - shorter:4.1f} s           {most:5}, beyond the limit: {max(0, most - ALLOWED)}")


if __name__ == "__main__":
    from tests import bench_limits_shared  # it uses this module

    costs()
    verdicts()
    overshoot(float(sys.argv[1]))
    bench_limits_shared.main(float(sys.argv[1]))
