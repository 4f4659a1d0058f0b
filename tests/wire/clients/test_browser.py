"""A browser behind an nginx that adds the token draws a graph from what the gateway lets through.

Debian's VictoriaMetrics comes without vmui, so a page in its place (tests/data/vmui) asks for what vmui asks for:
requests.json there, with what is to come of each for a token with labels or filters ("filtered") and for one without
("whole"). What is refused to both is what shows other tenants (/admin/tenants, vmalert) or is not in the route table;
vmui then leaves the page that needs it empty. The flags it asks for are the gateway's own.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.client import Client
from tests.support.wire.deployment import DEPLOYMENT, TEMPORARY
from tests.support.wire.processes import REPOSITORY, Gateway, find_program
from tests.support.wire.servers import Server, VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS
from tests.wire.conftest import StartGateway

VMUI: Final = REPOSITORY / "tests" / "data" / "vmui"

REQUESTS: Final = json.loads((VMUI / "requests.json").read_text())

BACKEND: Final = """
events {{}}
http {{
    types {{ text/html html; text/javascript js; text/css css; application/json json; }}
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        location = /health {{ return 200 OK; }}
        location /vmui/ {{ alias {vmui}/; }}
        location /prometheus/vmui/ {{ alias {vmui}/; }}
        location / {{ proxy_pass http://127.0.0.1:{backend}/; }}
        location /select/1:5/vmui/ {{ alias {vmui}/; }}
        location /select/1:5/prometheus/vmui/ {{ alias {vmui}/; }}
        location /select/1:5/ {{ proxy_pass http://127.0.0.1:{backend}/; }}
        location ~ /(expand-with-exprs|prettify-query|metric-relabel-debug)$ {{ return 200 "{{}}"; }}
    }}
}}
"""


class Nginx(Server):
    """nginx with a configuration; ``PORT`` in it is its own, and ``DIRECTORY`` its directory."""

    name = "nginx"

    def __init__(self, configuration: str, **files: str) -> None:
        self._configuration = configuration
        self._files = files
        super().__init__()

    def command(self) -> list[str]:
        for name, text in self._files.items():
            (self.directory / name).write_text(text)
        paths = "".join(f"{name}_temp_path {self.directory}/{name};\n" for name in TEMPORARY)
        text = self._configuration.replace("http {\n", f"http {{\n{paths}", 1)
        file = self.directory / "nginx.conf"
        file.write_text(text.replace("PORT", str(self.port)).replace("DIRECTORY", str(self.directory)))
        settings = f"daemon off; master_process off; pid {self.directory}/pid;"
        return [find_program("nginx"), "-p", str(self.directory), "-e", "stderr", "-c", str(file), "-g", settings]

    def is_ready(self) -> bool:
        return Client(self.port).get("/health").status in (200, 401)


def front(gateway: Gateway, token: str) -> Nginx:
    """The example of deployment/, with a user and a token."""
    text = (DEPLOYMENT / "nginx" / "vmui.conf").read_text()
    text = text.replace("listen 8426", "listen 127.0.0.1:PORT").replace("vmgateway:8431", f"127.0.0.1:{gateway.port}")
    text = text.replace("/etc/nginx/", "DIRECTORY/")
    files = {
        "metrics.htpasswd": "user:{PLAIN}p4ss\n",
        "vmgateway.token.conf": f'proxy_set_header Authorization "Bearer {token}";\n',
    }
    return Nginx(text, **files)


def page(url: str, directory: Path) -> str:
    """What a browser has made of a page once its requests are through."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={directory}"]
    command = [find_program("chromium"), *flags, "--virtual-time-budget=20000", "--dump-dom", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("cluster", [False, True], ids=["single-node", "cluster"])
def test_a_graph_is_drawn(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    key: SigningKey,
    key_file: Path,
    metric: str,
    tmp_path: Path,
    *,
    cluster: bool,
) -> None:
    now = int(time.time()) // 15 * 15
    samples = "".join(
        f'{metric}{{team="{name}"}} {number} {(now - 15 * number) * 1000}\n'
        for name in (metric, f"not-{metric}")
        for number in range(20)
    )
    victoria_metrics.import_prometheus(samples)
    token = key.mint(team(metric, tenant_id={"account_id": 1, "project_id": 5}))
    backend = BACKEND.format(port="PORT", vmui=VMUI, backend=victoria_metrics.port)
    with Nginx(backend) as server:
        gateway = start_gateway(
            "-enable.auth",
            f"-read.url={server.url}",
            f"-auth.publicKeyFiles={key_file}",
            *(["-clusterMode"] if cluster else []),
        )
        with front(gateway, token) as proxy:
            assert proxy.client.get("/vmui/").status == 401, "the password of the browser's user is asked for first"
            address = f"http://user:p4ss@127.0.0.1:{proxy.port}/vmui/"
            shown = page(f"{address}#/?g0.expr={metric}&start={now - 300}&end={now}", tmp_path / "browser")
    assert "failed" not in shown, shown
    (points,) = re.findall(r'<polyline points="([^"]*)"', shown)
    assert len(points.split()) >= 20, "the one series of the own team, all of it"
    assert f"teams: {metric};" in shown
    assert "zone: UTC;" in shown
    assert "not-" not in shown
    (statuses,) = re.findall(r"statuses: ([0-9 ]+);", shown)
    asked = [request["path"] for request in REQUESTS]
    expected = [request.get("in_cluster" if cluster else "filtered", request["filtered"]) for request in REQUESTS]
    for path, status, wanted in zip(asked, map(int, statuses.split()), expected, strict=True):
        # Older releases do not have all of the pages that the gateway limits, and answer 400.
        assert status in ((200, 400) if wanted == "limited" else (wanted,)), path


@pytest.mark.parametrize("prefix", ["", "/select/1:5"], ids=["single-node", "cluster"])
def test_what_comes_of_each_request_of_vmui(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, prefix: str
) -> None:
    """In a cluster the page may also be opened at the tenant's own path: the API is beside it there too."""
    flags = ["-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}"]
    gateway = start_gateway(*flags, *(["-clusterMode"] if prefix else []))
    whole = gateway.client(key.mint(tenant(1, 5)))
    filtered = gateway.client(key.mint(tenant(1, 5, extra_labels={"team": "dev"})))
    for request in REQUESTS:
        path, form = request["path"], request.get("form")
        headers = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"} if form else {}
        for place in {"", prefix if path.startswith(("/prometheus/", "/vmui/")) else ""}:
            for client, single in ((whole, request["whole"]), (filtered, request["filtered"])):
                expected = request.get("in_cluster", single) if prefix else single
                upstream.forget()
                answer = client.ask("POST" if form else "GET", place + path, body=form, headers=headers)
                if expected == "limited":  # see test_answers and test_statistics; this backend has no such answers
                    assert answer.status in (200, 502), place + path
                    continue
                assert answer.status == expected, place + path
                if answer.status != 200 or path in ("/flags", "/admin/tenants"):
                    assert upstream.requests == []
                    continue
                (received,) = upstream.requests
                assert received.path == prefix + path.partition("?")[0]
                body = (form or "").encode()
                assert received.body == (body.removesuffix(b"&trace=1") if client is filtered or prefix else body)
                bound = "extra_label=team%3Ddev" in received.target
                assert bound is (client is filtered and "/api/v1/" in path), path


OTHER_ORIGIN: Final = """<!DOCTYPE html><pre id=out>pending</pre><script>
async function ask(path, options) {
    try {
        const answer = await fetch("GATEWAY" + path, options);
        return answer.status + " " + (await answer.text()).slice(0, 80);
    } catch (error) { return "blocked"; }
}
(async () => {
    const own = {Authorization: "Bearer TOKEN"}, form = {"Content-Type": "application/x-www-form-urlencoded"};
    const answers = [
        await ask("/api/v1/query?query=1", {headers: own}),
        await ask("/api/v1/query", {method: "POST", headers: {...own, ...form}, body: "query=2"}),
        await ask("/api/v1/import/prometheus", {method: "PUT", headers: own, body: "m 1"}),
        await ask("/api/v1/query?query=1", {headers: {Authorization: "Bearer x"}}),
        await ask("/tags/tagSeries", {method: "POST", headers: own}),
        await ask("/api/v1/query?query=3", {headers: own}),
        await ask("/api/v1/query?query=1", {headers: own, credentials: "include"}),
    ];
    document.getElementById("out").textContent = answers.join("|");
})();
</script>"""
"""A page that asks the gateway from another origin, where a token needs a preflight."""


@pytest.mark.parametrize("lane", ["fast", "flow"])
@pytest.mark.parametrize("cors", [True, False], ids=["CORS", "no CORS"])
def test_a_page_of_another_origin_reads_answers_and_errors(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    key: SigningKey,
    key_file: Path,
    tmp_path: Path,
    lane: str,
    *,
    cors: bool,
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{type: queries, value: 2}]")
    urls = (f"-read.url={upstream.url}", f"-write.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
    flags = (
        "-enable.rateLimit",
        f"-ratelimit.config={limits}",
        f"-lane={lane}",
        *(() if cors else ("-http.disableCORS",)),
    )
    gateway = start_gateway("-enable.auth", *urls, *flags)
    html = OTHER_ORIGIN.replace("GATEWAY", gateway.url).replace("TOKEN", key.mint(team("dev")))
    allowed = (("Access-Control-Allow-Origin", "*"),)  # as VictoriaMetrics sends it
    upstream.responder = lambda request: (
        Reply(headers=(("Content-Type", "text/html"),), body=html.encode())
        if request.path == "/page"
        else Reply(headers=(("Content-Type", "application/json"), *allowed), body=b"fine")
    )
    shown = page(f"{upstream.url}/page", tmp_path / "browser")
    (text,) = re.findall(r"<pre[^>]*>([^<]*)</pre>", shown)
    answers = text.split("|")
    received = [request for request in upstream.requests if request.path not in ("/page", "/favicon.ico")]
    if not cors:
        assert answers == ["blocked"] * 7
        assert received == [], "no request passes without a preflight"
        return
    assert answers[:3] == ["200 fine"] * 3
    assert [answer.partition(" ")[0] for answer in answers[3:6]] == ["401", "403", "429"]
    assert all('"status":"error"' in answer for answer in answers[3:6])
    assert answers[6] == "blocked", "no page of another origin uses the credentials of its reader"
    assert [request.method for request in received] == ["GET", "POST", "PUT"]
    assert all("extra_label=team%3Ddev" in request.target for request in received)
