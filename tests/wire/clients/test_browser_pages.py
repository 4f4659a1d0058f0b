"""The gateway's own pages in a browser: they are rendered, with their style, and nothing is refused or run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.support.wire.processes import auth_flags, find_program
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import HANGS
from tests.wire.clients.test_browser import Nginx
from tests.wire.conftest import StartGateway

PROXY: Final = """
events {{}}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:PORT;
        location = /health {{ return 200 OK; }}
        location / {{
            proxy_pass http://127.0.0.1:{port};
            proxy_set_header Authorization "Bearer {token}";
        }}
    }}
}}
"""


def shown(url: str, directory: Path) -> tuple[str, str]:
    """Return the document as the browser has it, and what its console says."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-sync",
        "--enable-logging=stderr",
    ]
    flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={directory}"]
    command = [find_program("chromium"), *flags, "--virtual-time-budget=5000", "--dump-dom", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, "\n".join(line for line in ended.stderr.splitlines() if ":CONSOLE" in line)


def test_the_pages_are_rendered(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("limits: [{type: queries, value: 5}]")
    limits = ("-enable.rateLimit", f"-ratelimit.config={file}")
    usage = (f"-ratelimit.stateFile={tmp_path / 'state'}", "-usage.retention=1d")
    gateway = start_gateway(*auth_flags(upstream.url, key_file), *limits, *usage, "-flagsAuthKey=k3y")
    hostile = "<script>document.title='run'</script><img src=x onerror=document.title='run'>"
    token = key.mint(tenant(1, 5), sub=hostile)
    assert gateway.client(token).get("/api/v1/query?query=up").status == 200
    assert gateway.client(token).get("/%3Cimg%20src=x%3E").status == 404
    with Nginx(PROXY.format(port=gateway.port, token=token)) as front:
        for url, title, drawn in (
            (f"{gateway.url}/-/status?authKey=k3y", "vmgateway: status", "<meter"),
            (f"http://127.0.0.1:{front.port}/-/me", "Your access", "<meter"),
            (f"{gateway.url}/-/usage?authKey=k3y", "Usage", "<rect"),
        ):
            document, console = shown(url, tmp_path / "browser")
            assert f"<title>{title}</title>" in document
            assert "&lt;script&gt;" in document
            assert "<script" not in document
            assert "<img" not in document
            assert drawn in document
            assert console == "", "the browser refused nothing, the style least of all"
