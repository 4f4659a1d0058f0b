"""What ``scripts/bench`` runs: see there. Prints one table a case, each value beside its ratio to plain mitmdump."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

VENV = Path(sys.executable).parent
MIB = 1 << 20
ROUNDS = 2
PROXY_CORE, LOAD_CORE = "0", "1"

# Started by root, nginx would give up its rights, and with them the directory of this run.
USER = "user root; " if os.geteuid() == 0 else ""
NGINX = """
{user}daemon off; worker_processes 1; pid {d}/{name}.pid; error_log {d}/{name}.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 100000000; client_max_body_size 0; sendfile on;
    client_body_temp_path {d}/{name}-body; proxy_temp_path {d}/{name}-proxy; fastcgi_temp_path {d}/{name}-f;
    uwsgi_temp_path {d}/{name}-u; scgi_temp_path {d}/{name}-s;
    {content}
}}
"""
BACKEND = """
    server {{
        listen 127.0.0.1:{port} backlog=4096; root {d}/www; default_type application/json;
        location = /api/v1/export {{ try_files /large =404; }}
        location = /api/v1/import/prometheus {{ proxy_pass http://127.0.0.1:{port}/done; proxy_request_buffering on; }}
        location = /done {{ return 204; }}
        location / {{ return 200 '{{"status":"success","data":{{"resultType":"vector","result":[]}}}}'; }}
    }}
"""
PROXY = """
    upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{tls_port} ssl backlog=4096;
        ssl_certificate {d}/tls.crt; ssl_certificate_key {d}/tls.key;
        location / {{
            proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_request_buffering off; proxy_buffers 16 128k; proxy_buffer_size 128k; proxy_max_temp_file_size 0;
        }}
    }}
"""


@dataclass
class Case:
    """One kind of request. ``size`` is what one moves, in bytes, where throughput is the figure."""

    target: str
    script: str = ""
    size: int = 0
    tls: bool = False
    connections: int = 32
    close: bool = False


CASES = {
    "get": Case("/api/v1/query?query=up"),
    "post": Case(
        "/api/v1/query",
        'wrk.method="POST" wrk.body="query=up&start=1&end=2"'
        ' wrk.headers["Content-Type"]="application/x-www-form-urlencoded"',
    ),
    "write-1MB": Case(
        "/api/v1/import/prometheus", f'wrk.method="POST" wrk.body=string.rep("m{{a=\\"b\\"}} 1\\n", {MIB // 11})',
        size=MIB, connections=8,
    ),
    "answer-10MB": Case("/api/v1/export?match[]=m", size=10 * MIB, connections=4),
    "connect": Case("/api/v1/query?query=up", close=True),
    "tls": Case("/api/v1/query?query=up", tls=True),
}  # fmt: skip


@dataclass
class Proxy:
    """One program under measurement."""

    name: str
    port: int
    tls_port: int
    token: str
    process: subprocess.Popen[bytes]

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        own = int(fields[11]) + int(fields[12])
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                own += int(fields[11]) + int(fields[12])
        return own / os.sysconf("SC_CLK_TCK")

    def memory(self, field: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) / 1024


class Bench:
    """The servers of one run, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []
        self.proxies: list[Proxy] = []
        self.backend = free_port()
        key = ECKey.generate_key("P-256")
        self.public_key = key.as_pem(private=False).decode()
        (directory / "key.pem").write_text(self.public_key)
        claims = {"exp": int(time.time()) + 86400, "vm_access": {"tenant_id": {}, "extra_labels": {"team": "dev"}}}
        self.token = jwt.encode({"alg": "ES256", "typ": "JWT"}, claims, key)
        (directory / "www").mkdir()
        (directory / "www" / "large").write_bytes(b"x" * (10 * MIB))
        (directory / "limits.yaml").write_text(
            "limits:\n- {type: queries, value: 1000000000}\n- {type: rows_inserted, value: 1000000000000}\n"
        )
        (directory / "queries.yaml").write_text("limits:\n- {type: queries, value: 1000000000}\n")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        files = ["-keyout", f"{directory}/tls.key", "-out", f"{directory}/tls.crt"]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
        self.nginx("backend", LOAD_CORE, BACKEND.format(port=self.backend, d=directory))
        wait_for(self.backend)

    def start(self, core: str, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["taskset", "-c", core, *command], stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        self.processes.append(process)
        return process

    def nginx(self, name: str, core: str, content: str) -> subprocess.Popen[bytes]:
        path = self.directory / f"{name}.conf"
        path.write_text(NGINX.format(d=self.directory, name=name, content=content, user=USER))
        return self.start(core, "nginx", "-p", str(self.directory), "-c", str(path))

    def add(self, name: str, make: Callable[[int, int], subprocess.Popen[bytes]], token: str | None = None) -> None:
        port, tls_port = free_port(), free_port()
        process = make(port, tls_port)
        wait_for(port)
        self.proxies.append(Proxy(name, port, tls_port, token or self.token, process))

    def add_all(self) -> None:
        url = f"http://127.0.0.1:{self.backend}"
        d = self.directory

        def nginx(port: int, tls_port: int) -> subprocess.Popen[bytes]:
            return self.nginx(
                "proxy", PROXY_CORE, PROXY.format(d=d, port=port, tls_port=tls_port, backend=self.backend)
            )

        def vmauth(port: int, tls_port: int) -> subprocess.Popen[bytes]:
            entry = 'bearer_token: "fixed"'
            if os.environ.get("VMAUTH_JWT"):
                text = self.public_key.replace("\n", "\\n")
                entry = f'jwt: {{public_keys: ["{text}"]}}'
            (d / "vmauth.yml").write_text(f'users:\n- {entry}\n  url_prefix: "{url}"\n')
            return self.start(
                PROXY_CORE, program, f"-auth.config={d}/vmauth.yml", f"-httpListenAddr=127.0.0.1:{port}",
                env={"GOMAXPROCS": "1"},
            )  # fmt: skip

        def mitmdump(port: int, tls_port: int) -> subprocess.Popen[bytes]:
            options = ["-q", "--set", f"confdir={d}/mitmproxy", "--mode", f"reverse:{url}", "--listen-port", str(port)]
            return self.start(PROXY_CORE, str(VENV / "mitmdump"), *options)

        def gateway(*more: str) -> Callable[[int, int], subprocess.Popen[bytes]]:
            flags = [
                "-enable.auth", f"-auth.publicKeyFiles={d}/key.pem", f"-read.url={url}", f"-write.url={url}",
                "-http.connTimeout=0s", "-enable.rateLimit", *more,
            ]  # fmt: skip

            def make(port: int, tls_port: int) -> subprocess.Popen[bytes]:
                return self.start(PROXY_CORE, str(VENV / "vmgateway"), f"-httpListenAddr=127.0.0.1:{port}", *flags)

            return make

        program = os.environ.get("VMAUTH") or shutil.which("vmauth") or ""
        self.add("nginx", nginx)
        if program:
            jwt_checked = bool(os.environ.get("VMAUTH_JWT"))
            self.add("vmauth, JWT" if jwt_checked else "vmauth", vmauth, None if jwt_checked else "fixed")
        self.add("plain mitmdump", mitmdump)
        self.add("vmgateway, flow lane", gateway("-lane=flow", f"-ratelimit.config={d}/queries.yaml"))
        self.add("vmgateway, fast lane", gateway(f"-ratelimit.config={d}/queries.yaml"))
        self.add("the same, rows counted", gateway(f"-ratelimit.config={d}/limits.yaml"))

    def add_tls(self) -> None:
        """The fast lane behind a certificate; nginx has a port for it as it is."""
        d, url = self.directory, f"http://127.0.0.1:{self.backend}"
        port = free_port()
        process = self.start(
            PROXY_CORE, str(VENV / "vmgateway"), "-enable.auth", f"-auth.publicKeyFiles={d}/key.pem", "-tls",
            f"-read.url={url}", f"-httpListenAddr=127.0.0.1:{port}", f"-tlsCertFile={d}/tls.crt",
            f"-tlsKeyFile={d}/tls.key", "-http.connTimeout=0s",
        )  # fmt: skip
        wait_for(port)
        self.proxies.append(Proxy("vmgateway, fast lane", 0, port, self.token, process))

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    # --- measuring -------------------------------------------------------------------------------------------------

    def measure(self, name: str, case: Case, seconds: int) -> None:
        proxies = [p for p in self.proxies if (p.name == "nginx" or not p.port if case.tls else bool(p.port))]
        best: dict[str, tuple[float, str, str, float]] = {}
        for _ in range(ROUNDS):
            for proxy in proxies:
                result = self.load(proxy, case, seconds)
                if proxy.name not in best or result[0] > best[proxy.name][0]:
                    best[proxy.name] = result
        unit = "MB/s" if case.size else "req/s"
        print(f"\n{name}")
        columns = f"{'/nginx':>9}{'/vmauth':>9}{'/mitm':>9}{'p50':>10}{'p99':>10}{'CPU s/1000':>12}{'peak MB':>9}"
        print(f"  {'':24}{unit:>9}{columns}")
        for proxy in proxies:
            rate, p50, p99, cost = best[proxy.name]
            ratios = [f"{rate / best[base][0]:.2f}" if base in best and best[base][0] else "" for base in
                      ("nginx", next((n for n in best if n.startswith("vmauth")), ""), "plain mitmdump")]  # fmt: skip
            shown = rate * case.size / MIB if case.size else rate
            print(
                f"  {proxy.name:24}{shown:9.0f}" + "".join(f"{ratio:>9}" for ratio in ratios)
                + f"{p50:>10}{p99:>10}{cost:12.4f}{proxy.memory('VmHWM'):9.1f}"
            )  # fmt: skip

    def load(self, proxy: Proxy, case: Case, seconds: int) -> tuple[float, str, str, float]:
        script = self.directory / "load.lua"
        script.write_text(case.script)
        scheme, port = ("https", proxy.tls_port) if case.tls else ("http", proxy.port)
        command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--latency"]
        command += ["-H", f"Authorization: Bearer {proxy.token}", "-s", str(script)]
        command += ["-H", "Connection: close"] if case.close else []
        before = proxy.processor_seconds()
        out = subprocess.run(
            [*command, f"{scheme}://127.0.0.1:{port}{case.target}"], capture_output=True, text=True, check=True
        ).stdout
        spent = proxy.processor_seconds() - before
        if "Non-2xx" in out:
            return 0.0, "errors", "errors", 0.0
        rate, number = re.search(r"Requests/sec:\s+([\d.]+)", out), re.search(r"(\d+) requests in", out)
        p50, p99 = re.search(r"\n +50%\s+(\S+)", out), re.search(r"\n +99%\s+(\S+)", out)
        if rate is None or number is None or p50 is None or p99 is None:
            raise SystemExit(f"wrk printed something else:\n{out}")
        return float(rate[1]), p50[1], p99[1], spent * 1000 / max(1, int(number[1]))

    def memory(self) -> None:
        """Memory of the fast lane over what must not cost any."""
        proxy = next(p for p in self.proxies if p.name == "vmgateway, fast lane" and p.port)
        url = f"http://127.0.0.1:{proxy.port}/api/v1/import/prometheus"
        print("\nmemory of the fast lane")
        print(f"  {'before':46}{proxy.memory():8.1f} MB")
        token = ["-H", f"Authorization: Bearer {proxy.token}"]
        for label, size, headers in (("a refused upload of 200 MB", 200, []), ("an upload of 500 MB", 500, token)):
            upload = self.directory / "upload"
            with upload.open("wb") as file:
                file.truncate(size * MIB)
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

    def workers(self, seconds: int) -> None:
        """Two workers on both cores, which they share with load and backend: what the machine allows."""
        d, url = self.directory, f"http://127.0.0.1:{self.backend}"
        rates = []
        for count in (1, 2):
            port = free_port()
            process = self.start(
                "0,1", str(VENV / "vmgateway"), "-enable.auth", f"-auth.publicKeyFiles={d}/key.pem",
                f"-read.url={url}", f"-httpListenAddr=127.0.0.1:{port}", f"-workers={count}", "-http.connTimeout=0s",
            )  # fmt: skip
            wait_for(port)
            proxy = Proxy("", port, 0, self.token, process)
            rates.append(self.load(proxy, CASES["get"], seconds)[0])
        print(f"\nworkers, all programs on both cores: 1: {rates[0]:.0f} req/s, 2: {rates[1]:.0f} req/s")

    def start_up(self) -> None:
        began = time.monotonic()
        port = free_port()
        url = f"http://127.0.0.1:{self.backend}"
        self.start(
            PROXY_CORE, str(VENV / "vmgateway"), "-enable.auth", f"-auth.publicKeyFiles={self.directory}/key.pem",
            f"-read.url={url}", f"-httpListenAddr=127.0.0.1:{port}",
        )  # fmt: skip
        wait_for(port)
        print(f"\nfrom the start to the first answer of /health: {time.monotonic() - began:.2f} s")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def wait_for(port: int) -> None:
    """Until something accepts connections there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            os.sched_yield()
    raise SystemExit(f"nothing listens on port {port}")


@contextlib.contextmanager
def running() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="vmgateway-bench-") as name:
        bench = Bench(Path(name))
        try:
            yield bench
        finally:
            bench.stop()


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    chosen = sys.argv[2:] or [*CASES, "memory", "workers", "start"]
    with running() as bench:
        bench.add_all()
        if "tls" in chosen:
            bench.add_tls()
        for name, case in CASES.items():
            if name in chosen:
                bench.measure(name, case, seconds)
        if "memory" in chosen:
            bench.memory()
        if "workers" in chosen:
            bench.workers(seconds)
        if "start" in chosen:
            bench.start_up()


if __name__ == "__main__":
    main()
