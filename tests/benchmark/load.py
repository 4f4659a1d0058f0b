"""Load by wrk, and what it costs a proxy."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from .cases import Case
from .servers import LOAD_CORE, Proxy, Servers

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run of wrk found."""

    rate: float
    """Requests a second."""
    p50: float
    """Milliseconds, as ``p99``."""
    p99: float
    cost: float
    """Microseconds that the proxy has computed for a request."""


Results = dict[str, Result]
"""The best of the rounds for each proxy, by its name."""


def load(servers: Servers, proxy: Proxy, case: Case, seconds: int, connections: int = 0) -> Result:
    """Load a proxy. Raises ``SystemExit`` if a response is not 2xx or 3xx: then the figures mean nothing."""
    script = servers.directory / "load.lua"
    script.write_text(case.script)
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections or case.connections}", f"-d{seconds}s"]
    command += ["--latency", "--timeout", "20s", "-H", f"Authorization: Bearer {proxy.token}", "-s", str(script)]
    command += ["-H", "Connection: close"] if case.close else []
    before = proxy.processor_seconds()
    url = f"{proxy.scheme}://127.0.0.1:{proxy.port}{case.target}"
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    spent = proxy.processor_seconds() - before
    number, rate = re.search(r"(\d+) requests in", out), re.search(r"Requests/sec:\s+([\d.]+)", out)
    if "Non-2xx" in out or rate is None or number is None:
        raise SystemExit(f"{proxy.name} does not answer {case.target} as expected:\n{out}")
    return Result(
        rate=float(rate[1]),
        p50=_percentile(out, 50),
        p99=_percentile(out, 99),
        cost=spent / max(1, int(number[1])) * 1e6,
    )


def _percentile(out: str, percent: int) -> float:
    found = re.search(rf"\n +{percent}%\s+([\d.]+)(us|ms|s|m)\n", out)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def best(servers: Servers, proxies: Sequence[Proxy], case: Case, seconds: int, rounds: int) -> Results:
    """Load each proxy once a round. Other programs slow a round down, so the best of them counts."""
    found: Results = {}
    for _ in range(rounds):
        for proxy in proxies:
            result = load(servers, proxy, case, seconds)
            if proxy.name not in found or result.rate > found[proxy.name].rate:
                found[proxy.name] = result
    return found


def at_half(servers: Servers, proxy: Proxy, case: Case, highest: float, seconds: int, rounds: int) -> Result:
    """Load a proxy with half of its highest rate, and return the round with the lowest p99.

    wrk has no rate of its own: each of its connections waits for a random time before each request.
    """
    connections = 64
    delay = 2 * connections / (highest / 2) * 1000  # milliseconds; twice the mean
    waiting = Case(target=case.target, script=f"{case.script} function delay() return math.random() * {delay} end")
    results = [load(servers, proxy, waiting, seconds, connections) for _ in range(rounds)]
    return min(results, key=lambda result: result.p99)
