"""The programs of one run: a backend, and the proxies in front of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.wire.tokens import SigningKey

from .cases import MIB

HERE: Final = Path(sys.executable).parent
PROXY_CORE, LOAD_CORE = "0", "1"

# Started by root, nginx would give up its rights, and with them the directory of this run.
USER = "user root; " if os.geteuid() == 0 else ""
NGINX = """
{user}daemon off; worker_processes 1; pid {d}/{name}.pid; error_log {d}/{name}.log;
events {{ worker_connections 16384; }}
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
        location ~ ^/(api/v1/import|api/v1/write|write) {{ rewrite ^ /done break; proxy_pass http://127.0.0.1:{port}; }}
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

QUERIES: Final = "limits:\n- {type: queries, value: 1000000000}\n"
ROWS: Final = QUERIES + "- {type: rows_inserted, value: 1000000000000}\n"


@dataclass(kw_only=True)
class Proxy:
    """One program under measurement."""

    name: str
    group: str
    """``all`` for the usual cases, ``tls`` for those over TLS, ``writes`` for those with rows."""
    port: int
    token: str
    process: subprocess.Popen[bytes]

    @property
    def scheme(self) -> str:
        return "https" if self.group == "tls" else "http"

    def processor_seconds(self) -> float:
        """Return the seconds that the process and its children have computed."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        total = 0
        for pid in (str(self.process.pid), *children):
            for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    total += int(thread.read_text().split()[0])  # nanoseconds; stat has hundredths of seconds
        return total / 1e9

    def memory(self, field: str = "VmRSS") -> float:
        """Return megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) / 1024


class Servers:
    """The programs of one run, in a directory of their own.

    Args:
        builds: the folder of ``vmgateway`` for each build, by its name.
        processes: gets each process that is started, to be stopped.
    """

    def __init__(self, directory: Path, builds: Mapping[str, Path], processes: list[subprocess.Popen[bytes]]) -> None:
        self.directory = directory
        self.builds = builds
        self.processes = processes
        self.proxies: list[Proxy] = []
        self.backend = free_port()
        self.url = f"http://127.0.0.1:{self.backend}"
        self.key = SigningKey.generate()
        (directory / "key.pem").write_text(self.key.public_pem)
        self.token = self.mint(0)
        (directory / "www").mkdir()
        (directory / "www" / "large").write_bytes(b"x" * (10 * MIB))
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        files = ["-keyout", f"{directory}/tls.key", "-out", f"{directory}/tls.crt"]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
        self.nginx("backend", LOAD_CORE, BACKEND.format(port=self.backend, d=directory))
        wait_for(self.backend)

    def mint(self, tenant: int) -> str:
        """Return a token of the tenant."""
        access = {"tenant_id": {"account_id": tenant, "project_id": 0}, "extra_labels": {"team": "dev"}}
        return self.key.mint(access, lifetime=24 * 3600)

    def start(self, core: str, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["taskset", "-c", core, *command], cwd="/", stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        self.processes.append(process)
        return process

    def nginx(self, name: str, core: str, content: str) -> subprocess.Popen[bytes]:
        path = self.directory / f"{name}.conf"
        path.write_text(NGINX.format(d=self.directory, name=name, content=content, user=USER))
        return self.start(core, "nginx", "-p", str(self.directory), "-c", str(path))

    def add(self, name: str, group: str, port: int, process: subprocess.Popen[bytes], token: str = "") -> Proxy:
        wait_for(port)
        proxy = Proxy(name=name, group=group, port=port, token=token or self.token, process=process)
        self.proxies.append(proxy)
        return proxy

    def gateway(
        self, build: str, lane: str, *flags: str, group: str = "all", limits: str = QUERIES, core: str = PROXY_CORE
    ) -> Proxy:
        """Start a gateway. Later flags win."""
        port, d = free_port(), self.directory
        configuration = d / f"limits-{port}.yaml"
        configuration.write_text(limits)
        process = self.start(
            core, str(self.builds[build] / "vmgateway"), f"-httpListenAddr=127.0.0.1:{port}", "-http.connTimeout=0s",
            "-enable.auth", f"-auth.publicKeyFiles={d}/key.pem", f"-read.url={self.url}", f"-write.url={self.url}",
            *(["-enable.rateLimit", f"-ratelimit.config={configuration}"] if limits else []), *flags,
        )  # fmt: skip
        return self.add(f"{lane}, {build}", group, port, process)

    def add_all(self) -> None:
        """Start nginx, vmauth, mitmdump, and both lanes of each build."""
        d, port, tls_port = self.directory, free_port(), free_port()
        content = PROXY.format(d=d, port=port, tls_port=tls_port, backend=self.backend)
        process = self.nginx("proxy", PROXY_CORE, content)
        self.add("nginx", "all", port, process)
        self.add("nginx", "tls", tls_port, process)
        if program := os.environ.get("VMAUTH") or shutil.which("vmauth"):
            self.add_vmauth(program)
        port = free_port()
        options = ["-q", "--set", f"confdir={d}/mitmproxy", "--mode", f"reverse:{self.url}", "--listen-port", str(port)]
        self.add("plain mitmdump", "all", port, self.start(PROXY_CORE, str(HERE / "mitmdump"), *options))
        for build in self.builds:
            self.gateway(build, "flow lane", "-lane=flow")
            self.gateway(build, "fast lane")
            self.gateway(
                build, "fast lane", "-tls", f"-tlsCertFile={d}/tls.crt", f"-tlsKeyFile={d}/tls.key", group="tls"
            )

    def add_vmauth(self, program: str) -> None:
        """Start vmauth, which checks a token like the gateway's if VMAUTH_JWT is set."""
        port, checks = free_port(), bool(os.environ.get("VMAUTH_JWT"))
        key = self.key.public_pem.replace("\n", "\\n")
        user = f'jwt: {{public_keys: ["{key}"]}}' if checks else 'bearer_token: "fixed"'
        configuration = self.directory / "vmauth.yml"
        configuration.write_text(f'users:\n- {user}\n  url_prefix: "{self.url}"\n')
        process = self.start(
            PROXY_CORE, program, f"-auth.config={configuration}", f"-httpListenAddr=127.0.0.1:{port}",
            env={"GOMAXPROCS": "1"},
        )  # fmt: skip
        self.add("vmauth", "all", port, process, "" if checks else "fixed")

    def stop(self, proxy: Proxy) -> None:
        """Stop one proxy."""
        self.proxies.remove(proxy)
        end([proxy.process])


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Stop the processes."""
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until something accepts connections there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            threading.Event().wait(0.02)
    raise SystemExit(f"nothing listens on port {port}")


def build_name(folder: Path) -> str:
    """Return what ``vmgateway -version`` says of the build: ``pure Python`` or ``compiled``."""
    text = subprocess.run(
        [folder / "vmgateway", "-version"], cwd="/", check=True, capture_output=True, text=True
    ).stdout
    return text.partition("(")[2].rstrip(")\n")


@contextlib.contextmanager
def running(folders: Sequence[Path]) -> Iterator[Servers]:
    """Start a backend for the builds in ``folders``; stop everything in the end."""
    builds = {build_name(folder): folder for folder in folders}
    with tempfile.TemporaryDirectory(prefix="vmgateway-bench-") as name:
        processes: list[subprocess.Popen[bytes]] = []
        try:
            yield Servers(Path(name), builds, processes)
        except SystemExit:
            print(Path(name, "log").read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            end(processes)
