"""Writes of one megabyte: what reading their rows and label names costs."""

from __future__ import annotations

from tests.bench_rows import lines, remote_write
from tests.support.core.bodies import TIME, snappy

from .cases import MIB, Case, post
from .load import Results, best
from .servers import ROWS, Servers

_OFF = "-write.checkLabelNames=false"


def bodies() -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Return target, content of about a megabyte, and headers for each protocol."""
    text = lines('http_requests_total{instance="host-%d:9100",job="node",method="GET",code="200"} %d')
    values, times = ",".join(["1.5"] * 100), ",".join(str(TIME * 1000 + n) for n in range(100))
    json = "\n".join(
        f'{{"metric":{{"__name__":"m","n":"{n}"}},"values":[{values}],"timestamps":[{times}]}}' for n in range(550)
    )
    influx = lines("cpu,host=host-%d,region=eu user=%d,system=2i,idle=97.5 1700000000000000000")
    remote = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    return {
        "Prometheus text": ("/api/v1/import/prometheus", text, {}),
        "JSON lines": ("/api/v1/import", json.encode(), {}),
        "InfluxDB lines": ("/write", influx, {}),
        "remote write": ("/api/v1/write", snappy(remote_write()), remote),
    }


def measure(servers: Servers, seconds: int, rounds: int) -> dict[str, tuple[int, Results]]:
    """Return the size of a write and the results, by protocol."""
    proxies = []
    for build in servers.builds:
        proxies += [
            servers.gateway(build, "no row read", _OFF, group="writes"),
            servers.gateway(build, "names checked", group="writes"),
            servers.gateway(build, "rows counted", _OFF, group="writes", limits=ROWS),
            servers.gateway(build, "both", group="writes", limits=ROWS),
        ]
    found = {}
    for name, (target, content, headers) in bodies().items():
        path = servers.directory / "body"
        path.write_bytes(content)
        case = Case(target=target, script=post(str(path), headers), size=len(content), connections=8)
        found[name] = len(content), best(servers, proxies, case, seconds, rounds)
        print(f"\nwrites of {len(content) / MIB:.1f} MB, {name}")
        for proxy in proxies:
            print(f"  {proxy.name:28}{found[name][1][proxy.name].rate * len(content) / 1e6:7.0f} MB/s")
    for proxy in proxies:
        servers.stop(proxy)
    return found
