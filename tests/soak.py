"""Mixed traffic for a long time, and a record of what it costs: memory, descriptors, threads, latency.

    python -m tests.soak SECONDS [CSV] [FLAG...]        scripts/soak

Reads, forms, writes, refusals of each kind, aborted uploads and clients that leave before the answer, with and without
kept connections, against a real VictoriaMetrics. Every ``INTERVAL`` one line of CSV; at the end a verdict on growth.
"""

from __future__ import annotations

import csv
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.oracle.requests import FORM, Request
from tests.support.oracle.single_node import Asker
from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient
from tests.support.wire.servers import VictoriaMetrics, prometheus_lines
from tests.support.wire.tokens import SigningKey, team

INTERVAL: Final = 10.0
"""Seconds between two lines of the record."""
CLIENTS: Final = 4
PAUSE: Final = 0.005
"""Seconds a client rests between two requests: for memory and descriptors, time counts and not speed."""
COLUMNS: Final = ("seconds", "rss_mib", "descriptors", "threads", "requests", "p50_ms", "p99_ms", "unexpected")
LIMITS: Final = "limits:\n  - type: queries\n    value: 100000000\n  - type: rows_inserted\n    value: 1000000000\n"

MAX_GROWTH: Final = 1.05
"""Of memory from the second quarter of the time to the last."""
MAX_DESCRIPTORS: Final = 10


@dataclass(slots=True)
class Record:
    """What the clients saw since the last line."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    latencies: list[float] = field(default_factory=list)
    requests: int = 0
    unexpected: Counter[str] = field(default_factory=Counter)

    def add(self, seconds: float | None, unexpected: str = "") -> None:
        with self.lock:
            self.requests += 1
            if seconds is not None:
                self.latencies.append(seconds)
            if unexpected:
                self.unexpected[unexpected] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One client: asks at random until it is told to stop."""

    port: int
    tokens: tuple[str, ...]
    expired: str
    record: Record
    stopping: threading.Event

    def run(self, seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311
        asker = Asker(self.port)
        while not self.stopping.wait(PAUSE):
            try:
                if rng.random() < 0.04:
                    self.leave(rng)
                else:
                    self.ask(rng, asker)
            except OSError as error:
                self.record.add(None, type(error).__name__)
            if rng.random() < 0.05:
                asker.close()
        asker.close()

    def ask(self, rng: random.Random, asker: Asker) -> None:
        """One request whose answer is known."""
        request, token, expected = self.choose(rng)
        start = time.perf_counter()
        status = asker.ask(request, token).status
        self.record.add(time.perf_counter() - start, "" if status == expected else f"{request.target[:40]} {status}")

    def choose(self, rng: random.Random) -> tuple[Request, str | None, int]:
        token = rng.choice(self.tokens)
        kind = rng.random()
        if kind < 0.35:
            return (
                Request(method="GET", target=f"/api/v1/query?query=soak%7Bn%3D%22{rng.randrange(100)}%22%7D"),
                token,
                200,
            )
        if kind < 0.5:
            body = b"query=count(soak)&start=1600000000&end=1600003600&step=60&x=" + b"y" * rng.choice((0, 100, 50_000))
            headers = (("Content-Type", FORM),)
            return Request(method="POST", target="/api/v1/query_range", headers=headers, body=body), token, 200
        if kind < 0.7:
            body = prometheus_lines("soak", rng.choice((1, 10, 100))).encode()
            framing = (("Transfer-Encoding", "chunked"),) if rng.random() < 0.3 else ()
            return Request(method="POST", target="/api/v1/import/prometheus", headers=framing, body=body), token, 204
        if kind < 0.75:
            return Request(method="GET", target="/api/v1/export?match%5B%5D=soak"), token, 200
        if kind < 0.8:
            return Request(method="GET", target="/api/v1/query?query=up"), None, 401
        if kind < 0.85:
            return Request(method="GET", target="/api/v1/query?query=up"), self.expired, 401
        if kind < 0.9:  # another text each time: nothing may be remembered of it
            return (
                Request(method="GET", target="/api/v1/query?query=up"),
                f"{token[:-8]}{rng.randrange(1 << 30):08x}",
                401,
            )
        if kind < 0.94:
            return Request(method="GET", target=f"/nothing/{rng.randrange(1 << 30)}"), token, 404
        if kind < 0.97:
            return Request(method="DELETE", target="/api/v1/query"), token, 405
        return Request(method="GET", target="/api/v1/query?a=%zz"), token, 400

    def leave(self, rng: random.Random) -> None:
        """A client that goes away: in the head, in the body, or before the answer."""
        request, token, _ = self.choose(rng)
        wire = request.wire(token)
        with RawClient(self.port) as raw, suppress(OSError):
            raw.send(wire if rng.random() < 0.5 else wire[: rng.randrange(1, len(wire))])
        self.record.add(None)


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def verdict(rows: list[dict[str, float]]) -> list[str]:
    """What grew: the last quarter against the second one. The first is for caches to fill."""
    quarter = len(rows) // 4
    faults = []
    if quarter < 3:
        return ["too short a time to tell"]
    before, after = rows[quarter : 2 * quarter], rows[-quarter:]
    for column, allowed in (("rss_mib", MAX_GROWTH), ("descriptors", 0.0), ("threads", 0.0)):
        old, new = (statistics.median(row[column] for row in part) for part in (before, after))
        if new > (old * allowed if allowed else old + MAX_DESCRIPTORS):
            faults.append(f"{column} grew from {old:.1f} to {new:.1f}")
    if any(row["unexpected"] for row in rows):
        faults.append(f"{sum(row['unexpected'] for row in rows):.0f} answers were not the expected ones")
    return faults


def soak(seconds: float, path: Path, flags: list[str], interval: float = INTERVAL) -> list[str]:
    """Run it, write the record to ``path``; what is wrong."""
    with ExitStack() as stack:
        backend = stack.enter_context(VictoriaMetrics())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key = SigningKey.generate("ES256")
        (directory / "key.pem").write_text(key.public_pem)
        (directory / "limits.yaml").write_text(LIMITS)
        gateway = stack.enter_context(
            Gateway(
                *("-enable.auth", f"-read.url={backend.url}", f"-write.url={backend.url}", "-accessLog"),
                *(f"-auth.publicKeyFiles={directory / 'key.pem'}", "-enable.rateLimit"),
                *(f"-ratelimit.config={directory / 'limits.yaml'}", *flags),
            )
        )
        lifetime = int(seconds) + 3600
        tokens = tuple(key.mint(team("dev"), lifetime=lifetime, sub=str(number)) for number in range(200))
        record, stopping = Record(), threading.Event()
        traffic = Traffic(
            port=gateway.port, tokens=tokens, expired=key.mint(lifetime=-60), record=record, stopping=stopping
        )
        clients = [threading.Thread(target=traffic.run, args=(number,)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            rows = watch(gateway, record, seconds, path, interval)
        finally:
            stopping.set()
            for client in clients:
                client.join()
        gateway.wait_until(lambda: gateway.fds() < 30, what="closes what its clients have left")
    return verdict(rows) + [f"{number} times: {what}" for what, number in record.unexpected.most_common(10)]


def watch(gateway: Gateway, record: Record, seconds: float, path: Path, interval: float) -> list[dict[str, float]]:
    """One line each ``interval`` until the time is over."""
    rows: list[dict[str, float]] = []
    start = time.monotonic()
    seen = 0
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        while time.monotonic() - start < seconds:
            threading.Event().wait(interval)
            with record.lock:
                latencies, record.latencies = sorted(record.latencies) or [0.0], []
                requests = record.requests
                unexpected = record.unexpected.total() - seen
                seen += unexpected
            row: dict[str, float] = {
                "seconds": round(time.monotonic() - start, 1),
                "rss_mib": round(gateway.rss() / 2**20, 2),
                "descriptors": gateway.fds(),
                "threads": threads(gateway.pid),
                "requests": requests,
                "p50_ms": round(latencies[len(latencies) // 2] * 1000, 2),
                "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1000, 2),
                "unexpected": unexpected,
            }
            rows.append(row)
            writer.writerow(row)
            file.flush()
    return rows


def main(arguments: list[str]) -> int:
    path = Path(arguments[1] if len(arguments) > 1 else "soak.csv").resolve()
    faults = soak(float(arguments[0]), path, arguments[2:])
    print(path.read_text())
    print("\n".join(faults) or "nothing grew")
    return min(1, len(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
