"""What ``scripts/bench-limits-replicas`` runs."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench_limits import ALLOWED, OFFERED, Counting, most_in_a_window, offer
from tests.support.wire.processes import Gateway
from tests.support.wire.servers import Redis, VictoriaMetrics

SCRAPE = """
scrape_configs:
  - job_name: vmselect
    scrape_interval: 5s
    static_configs: [{{targets: ["{target}"]}}]
"""


class Vmselect(Counting):
    """Counts the queries of tenant 1:0 as vmselect does, on a page to be scraped."""

    def answer(self, request: bytes) -> bytes:
        if not request.startswith(b"GET /metrics "):
            return super().answer(request)
        number = len(self.moments)
        page = (
            f'vm_http_requests_total{{path="/select/{{}}/prometheus/api/v1/query"}} {number}\n'
            f'vm_tenant_select_requests_total{{accountID="1",projectID="0"}} {number}\n'
        )
        return f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(page)}\r\n\r\n{page}".encode()


def report(what: str, backend: Counting, sent: int) -> None:
    moments = sorted(backend.moments)
    # As in bench_limits: the backend sees a request a little later than the verdict on it was taken.
    most, shorter = (most_in_a_window(moments, 60 - less) for less in (0.0, 0.1))
    beyond = [100 * max(0, number - ALLOWED) / ALLOWED for number in (most, shorter)]
    print(f"{what:42} {sent:6} {len(moments):6} {most:6} {beyond[0]:6.1f} % {beyond[1]:6.1f} %", flush=True)


def flags(directory: str, url: str, *more: str) -> tuple[str, ...]:
    file = Path(directory, "limit.yaml")
    file.write_text(f"limits: [{{type: queries, value: {ALLOWED}}}]")
    return ("-enable.rateLimit", f"-ratelimit.config={file}", "-clusterMode", f"-read.url={url}", *more)


def together(offers: Sequence[Callable[[], int]]) -> int:
    """Run all of them at once; the sum of what they sent."""
    sent = [0] * len(offers)

    def work(index: int) -> None:
        sent[index] = offers[index]()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(offers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent)


def replicas(seconds: float, shares: Sequence[float]) -> None:
    backend = Counting()
    with tempfile.TemporaryDirectory() as directory, Redis() as redis, ExitStack() as stack:
        given = flags(directory, backend.url, f"-ratelimit.storage={redis.url}")
        gateways = [stack.enter_context(Gateway(*given)) for _ in shares]
        for gateway in gateways:
            gateway.wait_until(
                lambda: all(each.metric("vmgateway_ratelimit_replicas") == len(shares) for each in gateways),
                what="sees the others",
            )
        sent = together(
            [lambda g=g, s=s: offer(g, seconds, s) for g, s in zip(gateways, shares, strict=True)]  # type: ignore[misc]
        )
    what = f"Redis, replicas with {' and '.join(f'{share:.0%}' for share in shares)} of it"
    report(what, backend, sent)


def datasource(seconds: float, *, restart: bool) -> None:
    backend = Vmselect()
    with tempfile.TemporaryDirectory() as directory:
        scrape = Path(directory, "scrape.yaml")
        scrape.write_text(SCRAPE.format(target=backend.url.removeprefix("http://")))
        with ExitStack() as stack:
            server = stack.enter_context(VictoriaMetrics(f"-promscrape.config={scrape}"))
            gateway = stack.enter_context(Gateway(*flags(directory, backend.url, f"-datasource.url={server.url}")))
            gateway.wait_until(
                lambda: gateway.metric("vmgateway_ratelimit_measured", type="queries") == 1,
                what="is told of usage",
            )
            sent = offer(gateway, seconds / 2)
            if restart:
                gateway.kill()
                gateway.start()
            sent += offer(gateway, seconds / 2)
    report("datasource, restarted" if restart else "datasource", backend, sent)


def main(seconds: float) -> None:
    print(f"{OFFERED} queries a minute offered for {seconds:.0f} s, {ALLOWED} a minute allowed")
    print(f"{'':42} {'sent':>6} {'passed':>6} {'60 s':>6} {'beyond':>8} {'(59.9 s)':>8}")
    replicas(seconds, (0.5, 0.5))
    replicas(seconds, (0.9, 0.1))
    replicas(seconds, (0.25, 0.25, 0.25, 0.25))
    datasource(seconds, restart=False)
    datasource(seconds, restart=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
