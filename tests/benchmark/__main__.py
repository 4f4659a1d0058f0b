"""The command line of ``scripts/bench``: see there."""

from __future__ import annotations

import argparse
import socket
import subprocess
import time
from pathlib import Path

from . import report, scale, writes
from .cases import CASES, MIB
from .load import Result, Results, at_half, best, load
from .plot import bar_chart
from .servers import HERE, Servers, running

MORE = ("writes", "half", "workers", "scale", "memory", "start")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("seconds", nargs="?", type=int, default=3, help="of each run of wrk")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join((*CASES, *MORE))}; by default all")
    parser.add_argument("--other", type=Path, metavar="DIRECTORY", help="a Python environment, measured too")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many rounds counts")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a chart of the ratios, as SVG")
    parser.add_argument("--scale", action="store_const", dest="cases", const=["scale"], help="only the case scale")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    chosen = options.cases or [*CASES, *MORE]
    unknown = set(chosen) - {*CASES, *MORE}
    if unknown:
        raise SystemExit(f"unknown case: {', '.join(sorted(unknown))}")
    folders = [HERE, *([options.other.absolute() / "bin"] if options.other else [])]
    found: dict[str, Results] = {}
    tables = []
    with running(folders) as servers:
        builds = list(servers.builds)
        if set(chosen) & {*CASES, "half", "memory"}:
            servers.add_all()
        for name, case in CASES.items():
            if name in chosen or (name == "get" and "half" in chosen):
                proxies = [proxy for proxy in servers.proxies if proxy.group == case.proxies]
                found[name] = best(servers, proxies, case, options.seconds, options.rounds)
                print(f"\n{report.proxies(name, found[name])}", flush=True)
        if "half" in chosen:
            tables.append(report.half_load(half(servers, found["get"], options.seconds, options.rounds)))
        if "memory" in chosen:
            memory(servers)
        for proxy in list(servers.proxies):
            if proxy.group == "all" or proxy.name != "nginx":
                servers.stop(proxy)
        if "writes" in chosen:
            tables.append(report.writes(writes.measure(servers, options.seconds, options.rounds), builds))
        if "workers" in chosen:
            workers(servers, options.seconds, options.rounds)
        if "start" in chosen:
            start_up(servers)
        if "scale" in chosen:
            tables.append(report.scale(scale.measure(servers, builds[-1], min(2, options.seconds)), builds[-1]))
        if found:
            tables.insert(0, report.goals(found, builds))
        print("", *tables, sep="\n\n")
    if options.plot:
        options.plot.write_text(chart(found, builds))


def chart(found: dict[str, Results], builds: list[str]) -> str:
    """Draw requests a second as a share of nginx's."""
    titles = {"get": "small GETs", "post": "POST forms", "connect": "new connections", "tls": "GETs over TLS"}
    names = [*(f"fast lane, {build}" for build in reversed(builds)), "vmauth"]
    groups = {
        title: {name: value for name in names if (value := report.ratio(found[case], name, "nginx")) is not None}
        for case, title in titles.items()
        if case in found
    }
    return bar_chart("Requests per second on one core, nginx = 1", groups, names)


def half(servers: Servers, highest: Results, seconds: int, rounds: int) -> dict[str, Result]:
    """Measure latencies at half of each proxy's highest load."""
    return {
        proxy.name: at_half(servers, proxy, CASES["get"], highest[proxy.name].rate, seconds, rounds)
        for proxy in servers.proxies
        if proxy.group == "all" and proxy.name.startswith(("nginx", "vmauth", "fast lane"))
    }


def memory(servers: Servers) -> None:
    """Measure the memory of each fast lane over what must not cost any."""
    for proxy in servers.proxies:
        if proxy.group != "all" or not proxy.name.startswith("fast lane"):
            continue
        url = f"http://127.0.0.1:{proxy.port}/api/v1/import/prometheus"
        print(f"\nmemory of the {proxy.name}\n  {'before':46}{proxy.memory():8.1f} MB")
        token = ["-H", f"Authorization: Bearer {proxy.token}"]
        for label, size, headers in (("a refused upload of 200 MB", 200, []), ("an upload of 500 MB", 500, token)):
            upload = servers.directory / "upload"
            with upload.open("wb") as file:
                line = b'm{a="b"} 1\n'
                for _ in range(size):
                    file.write(line * (MIB // len(line)))
            form = "%{http_code}, %{size_upload} bytes sent, %{time_total} s"
            command = ["curl", "-s", "-o", "/dev/null", "-w", form, "-T", str(upload), "-X", "POST", "-H", "Expect:"]
            done = subprocess.run([*command, *headers, url], capture_output=True, text=True, check=False)
            print(f"  {label:46}{proxy.memory():8.1f} MB   ({done.stdout})")
        for _ in range(10_000):
            with socket.create_connection(("127.0.0.1", proxy.port)) as client:
                client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                while client.recv(4096):
                    pass
        descriptors = len(list(Path(f"/proc/{proxy.process.pid}/fd").iterdir()))
        print(f"  {'10,000 connections opened and closed':46}{proxy.memory():8.1f} MB   ({descriptors} descriptors)")


def workers(servers: Servers, seconds: int, rounds: int) -> None:
    """Compare two workers with one, on both cores, which they share with load and backend."""
    for build in servers.builds:
        proxies = [servers.gateway(build, f"-workers={n}", f"-workers={n}", core="0,1", limits="") for n in (1, 2)]
        found = [max(load(servers, proxy, CASES["get"], seconds).rate for _ in range(rounds)) for proxy in proxies]
        print(
            f"\nworkers, {build}, all programs on both cores: 1: {found[0]:,.0f} req/s, 2: {found[1]:,.0f} req/s, "
            f"{found[1] / found[0]:.2f} times as many"
        )
        for proxy in proxies:
            servers.stop(proxy)


def start_up(servers: Servers) -> None:
    """Measure the time from the start to the first connection that is accepted, and the memory then."""
    for build in servers.builds:
        began = time.monotonic()
        proxy = servers.gateway(build, "start")
        print(f"\nstart, {build}: {time.monotonic() - began:.2f} s, {proxy.memory():.1f} MB")
        servers.stop(proxy)


if __name__ == "__main__":
    main()
