"""What ``scripts/bench-rows`` runs."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.core.bodies import CASES, TIME, double, item, label, number, snappy, zstd
from tests.support.core.counting import counter_of
from tests.support.wire.metering import METER
from tests.support.wire.processes import Gateway, find_program, free_port
from tests.support.wire.servers import Server, VictoriaMetrics
from tests.support.wire.tokens import SigningKey
from vmgw_core.rows.meter import RowMeter

SERIES = 10_000


def remote_write() -> bytes:
    """A block as vmagent sends it: 10,000 series of one sample and seven labels."""
    fixed = b"".join(label(*pair) for pair in (("job", "node"), ("method", "GET"), ("code", "200"), ("env", "prod")))
    return b"".join(
        item(
            1,
            label("__name__", "http_requests_total"),
            label("instance", f"host-{n % 500}:9100"),
            label("path", f"/api/v1/path-{n}"),
            fixed,
            item(2, double(1, n), number(2, (TIME + n) * 1000)),
        )
        for n in range(SERIES)
    )


def lines(template: str) -> bytes:
    return "\n".join(template % (n, n) for n in range(SERIES)).encode()


def bodies() -> Iterator[tuple[str, str, bytes]]:
    """Name, target and body, not encoded."""
    yield "Prometheus text", "/api/v1/import/prometheus", lines('requests_total{instance="host-%d",job="node"} %d')
    values, times = ",".join(["1.5"] * 100), ",".join(str(TIME * 1000 + n) for n in range(100))
    yield "JSON lines", "/api/v1/import", b"\n".join(
        b'{"metric":{"__name__":"m","n":"%d"},"values":[%s],"timestamps":[%s]}' % (n, values.encode(), times.encode())
        for n in range(300)
    )  # fmt: skip
    csv = "/api/v1/import/csv?format=1:label:host,2:time:unix_s,3:metric:a,4:metric:b"
    yield "CSV", csv, lines("host-%d,1700000000,%d,2.5")
    block = (9).to_bytes(4, "big") + b"m\x01n\x011\x01xyz" + (100).to_bytes(4, "big")
    header = b"\x02\x02\xd0\x0f\x00\x02\x02"
    yield (
        "native",
        "/api/v1/import/native",
        bytes(16) + (block + header + b"\x20" + bytes(32) + b"\x3b" + bytes(59)) * 5000,
    )
    yield "InfluxDB line", "/write", lines("cpu,host=host-%d,region=eu user=%d,system=2i,idle=97.5 1700000000000000000")
    yield "InfluxDB line, quoted", "/write", lines('cpu,host=host-%d user=%d,text="a b, c" 1700000000000000000')
    for name in ("DataDog v1", "DataDog v2", "New Relic", "OpenTSDB list"):
        case = next(case for case in CASES if case.name == name)
        document = json.loads(case.body)
        if isinstance(document, dict):
            document["series"] *= 2000
        else:
            document *= 2000
        yield name, case.target, json.dumps(document).encode()
    for name in ("DataDog sketches", "OpenTelemetry"):
        case = next(case for case in CASES if case.name == name)
        yield name, case.target, case.body * 3000


def rate(target: str, body: bytes, encoding: str, size: int, *, check: bool = False) -> float:
    """MB/s of decoded bytes through a meter, in pieces of 64 KiB. ``check``: with a check of label names."""
    headers = ((b"Content-Encoding", encoding.encode()),) if encoding else ()
    best = 0.0
    for _ in range(5):
        meter = RowMeter(counter_of(target, headers, check=check), lambda rows: None)
        start = time.perf_counter()
        for offset in range(0, len(body), 65536):
            meter.feed(body[offset : offset + 65536])
        meter.finish()
        best = max(best, size / (time.perf_counter() - start) / 1e6)
    return best


class Sink(Server):
    """nginx that reads bodies and drops them."""

    name = "nginx"
    health = "/health"

    def command(self) -> list[str]:
        configuration = self.directory / "nginx.conf"
        configuration.write_text(
            f"""daemon off; worker_processes 1; pid {self.directory}/pid; error_log stderr; events {{}}
            http {{ access_log off; client_max_body_size 0; keepalive_requests 1000000;
            client_body_temp_path {self.directory}; server {{ listen 127.0.0.1:{self.port};
            location = /health {{ return 200; }} location / {{ return 204; }} }} }}"""
        )
        return [find_program("nginx"), "-p", str(self.directory), "-e", "stderr", "-c", str(configuration)]


@contextmanager
def gateway_to(backend: Server) -> Iterator[tuple[Gateway, str]]:
    key = SigningKey.generate()
    with tempfile.TemporaryDirectory() as directory:
        pem, script = Path(directory, "key.pem"), Path(directory, "meter.py")
        pem.write_text(key.public_pem)
        script.write_text(METER)
        flags = (f"-write.url={backend.url}", f"-auth.publicKeyFiles={pem}")
        with Gateway("-enable.auth", *flags, program="mitmdump", scripts=[script], port=free_port()) as gateway:
            yield gateway, key.mint()


def processor_time(gateway: Gateway) -> float:
    """Seconds that the gateway has computed, in user and kernel."""
    fields = Path(f"/proc/{gateway.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stream(
    gateway: Gateway, token: str, body: bytes, encoding: str, seconds: float, *, counted: bool
) -> tuple[float, float]:
    """Requests a second over one connection, and milliseconds that the gateway computed for each."""
    headers = {"Authorization": f"Bearer {token}", "Content-Encoding": encoding}
    if counted:
        headers["X-Rows"] = str(1 << 60)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    requests, start, before = 0, time.perf_counter(), processor_time(gateway)
    while time.perf_counter() - start < seconds:
        connection.request("POST", "/api/v1/write", body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 204, answer.status
        requests += 1
    connection.close()
    return requests / (time.perf_counter() - start), (processor_time(gateway) - before) / requests * 1000


def main(seconds: float) -> None:
    message = remote_write()
    print("MB/s of decoded bytes, one core", *("plain", "gzip", "zstd", "plain, checked"), sep="\t")
    for name, target, body in bodies():
        rates = [rate(target, encoded, encoding, len(body)) for encoding, encoded in
                 (("", body), ("gzip", gzip.compress(body, 1)), ("zstd", zstd(body)))]  # fmt: skip
        rates.append(rate(target, body, "", len(body), check=True))
        print(f"{name:31}", *(f"{number:.0f}" for number in rates), sep="\t")
    for encoding, encoded in (("snappy", snappy(message)), ("zstd", zstd(message))):
        for check in (False, True):
            name = f"remote write, {encoding}{', checked' if check else ''}"
            print(f"{name:31}", f"{rate('/api/v1/write', encoded, encoding, len(message), check=check):.0f}", sep="\t")
    print(f"\nremote write, {SERIES} samples a request: requests a second, and how many times slower with counting")
    for backend_type in (Sink, VictoriaMetrics):
        with backend_type() as backend, gateway_to(backend) as (gateway, token):
            for encoding, encoded in (("snappy", snappy(message)), ("zstd", zstd(message))):
                if encoding == "zstd" and backend_type is VictoriaMetrics:
                    continue  # 1.79.5 does not take it
                runs = [
                    [
                        stream(gateway, token, encoded, encoding, seconds / 6, counted=counted)
                        for counted in (False, True)
                    ]
                    for _ in range(3)
                ]
                slower = statistics.median(plain[0] / counted[0] for plain, counted in runs)
                milliseconds = (statistics.median(run[counted][1] for run in runs) for counted in (False, True))
                print(
                    f"{backend.name:18}{encoding:8}{len(encoded) // 1024} KiB",
                    f"{slower:.2f} times slower",
                    "ms computed: " + " / ".join(f"{number:.2f}" for number in milliseconds),
                    *(f"{plain[0]:.0f}/{counted[0]:.0f}" for plain, counted in runs),
                    sep="\t",
                )


if __name__ == "__main__":
    main(float(sys.argv[1]))
