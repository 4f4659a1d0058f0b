"""Chromium logs in at a real provider, uses the page of vmui, and logs out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.chromium import Chromium
from tests.support.wire.logins import cookie_key, key_file
from tests.support.wire.processes import Gateway, Program, free_port
from tests.support.wire.servers import OidcProvider, Server, VictoriaMetrics
from tests.support.wire.tokens import team
from tests.support.wire.waiting import eventually
from tests.wire.clients.test_browser import BACKEND, VMUI, Nginx
from tests.wire.conftest import StartGateway

STATUS = "fetch({0}, {1}).then(response => response.status)"


@pytest.fixture
def browser() -> Iterator[Chromium]:
    with Chromium() as started:
        yield started


@pytest.fixture
def backend(victoria_metrics: VictoriaMetrics) -> Iterator[Nginx]:
    """VictoriaMetrics, with a page in the place of vmui."""
    with Nginx(BACKEND.format(port="PORT", vmui=VMUI, backend=victoria_metrics.port)) as server:
        yield server


def status(browser: Chromium, path: str, **options: object) -> int:
    """The status that a script on the page gets."""
    found: int = browser.evaluate(STATUS.format(json.dumps(path), json.dumps(options)))
    return found


def start_login(
    start_gateway: StartGateway, provider: OidcProvider, backend: Server, keys: Path, port: int, program: Program
) -> Gateway:
    gateway = start_gateway(
        "-enable.auth",
        f"-read.url={backend.url}",
        f"-write.url={backend.url}",
        f"-auth.oidcDiscoveryEndpoints={provider.discovery_url}",
        f"-login.oidcIssuer={provider.issuer}",
        f"-login.url=http://127.0.0.1:{port}",
        "-login.clientID=web",
        f"-login.clientSecret={provider.secret('web')}",
        f"-login.cookieKeyFile={keys}",
        port=port,
        program=program,
    )
    gateway.wait_until(lambda: gateway.metric("vmgateway_keys_loaded") > 0, what="has the keys of the provider")
    return gateway


def test_from_the_login_to_the_logout(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    backend: Nginx,
    browser: Chromium,
    metric: str,
    program: Program,
    tmp_path: Path,
) -> None:
    now = int(time.time()) // 15 * 15
    victoria_metrics.import_prometheus(
        "".join(
            f'{metric}{{team="{name}"}} {number} {(now - 15 * number) * 1000}\n'
            for name in (metric, f"not-{metric}")
            for number in range(20)
        )
    )
    port = free_port()
    keys = key_file(tmp_path / "keys", cookie_key())
    client = {
        "vm_access": team(metric, tenant_id={}),
        "redirect_uris": [f"http://127.0.0.1:{port}/-/callback"],
        "lifetime": 4,
    }
    with OidcProvider({}, {"web": client}) as provider:
        gateway = start_login(start_gateway, provider, backend, keys, port, program)
        # The login, and the page with its graph: the fragment comes back too.
        browser.open(f"{gateway.url}/vmui/#/?g0.expr={metric}&start={now - 300}&end={now}")
        browser.wait_for("location.pathname === '/vmui/' && document.querySelector('polyline') !== null")
        points = browser.evaluate("document.querySelector('polyline').getAttribute('points')")
        assert len(points.split()) >= 20
        assert "not-" not in browser.evaluate("document.documentElement.outerHTML")
        assert browser.evaluate("document.cookie") == "", "no script can read the session"
        session = browser.cookies()["vmgateway-session.0"]
        assert (session["httpOnly"], session["sameSite"], session["session"]) == (True, "Lax", True)
        # The token ends, and the page notices nothing: reads and writes are repeated with the new one.
        asked = len([each for each in provider.seen() if each == "POST /token"])

        def renewed() -> bool:
            assert status(browser, f"/api/v1/query?query={metric}") == 200
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert status(browser, "/api/v1/query", method="POST", headers=form, body=f"query={metric}") == 200
            assert status(browser, "/api/v1/import/prometheus", method="POST", body=f"{metric}_written 1") == 204
            return provider.seen().count("POST /token") >= asked + 2

        eventually(renewed, within=60, what="the session is renewed twice")
        assert browser.cookies()["vmgateway-session.0"]["value"] != session["value"]
        # A page of another site sends a write, and a link leads to another site.
        browser.open(f"http://localhost:{port}/health")
        write = {"method": "POST", "body": f"{metric}_foreign 1", "credentials": "include", "mode": "no-cors"}
        assert status(browser, f"{gateway.url}/api/v1/import/prometheus", **write) == 0, "it is sent, and shows nothing"
        assert victoria_metrics.series(f"{metric}_written") != []
        assert victoria_metrics.series(f"{metric}_foreign") == []
        browser.open(f"{gateway.url}/-/login?to=//localhost:{port}/health")
        assert browser.evaluate("location.pathname") == "/-/login"
        assert "Not logged in" in browser.evaluate("document.body.innerText")
        # The logout, here and at the provider.
        browser.open(f"{gateway.url}/-/logout")
        browser.evaluate("document.querySelector('button').click()")
        browser.wait_for(f"location.origin === '{provider.url}' && document.readyState === 'complete'")
        assert not any(name.startswith("vmgateway-") for name in browser.cookies())
        browser.open(f"{gateway.url}/health")
        assert status(browser, f"/api/v1/query?query={metric}") == 401


def test_the_page_of_a_release_that_has_vmui(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    browser: Chromium,
    metric: str,
    program: Program,
    tmp_path: Path,
) -> None:
    if victoria_metrics.client.get("/vmui/").status != 200:
        pytest.skip("this release comes without vmui: name another in VICTORIA_METRICS")
    now = int(time.time())
    samples = (f'{metric}{{team="{name}"}} 1 {(now - 15 * number) * 1000}' for name in "ab" for number in range(20))
    victoria_metrics.import_prometheus("".join(f"{line}\n" for line in samples))
    port = free_port()
    client = {"vm_access": team("a"), "redirect_uris": [f"http://127.0.0.1:{port}/-/callback"]}
    with OidcProvider({}, {"web": client}) as provider:
        keys = key_file(tmp_path / "keys", cookie_key())
        gateway = start_login(start_gateway, provider, victoria_metrics, keys, port, program)
        browser.open(f"{gateway.url}/vmui/#/?g0.expr={metric}&g0.tab=1")
        words = "document.body.innerText.split(/\\s+/)"
        browser.wait_for(f"location.pathname === '/vmui/' && {words}.includes({json.dumps(metric)})")
        shown = browser.evaluate(words)
        row = shown.index(metric)
        assert shown[row : row + 3] == [metric, "a", "1"]
        assert shown.count(metric) == 1, "the series of the other team is not there"


def test_a_stolen_cookie_after_the_key_was_replaced(
    start_gateway: StartGateway, backend: Nginx, browser: Chromium, metric: str, program: Program, tmp_path: Path
) -> None:
    port, keys = free_port(), key_file(tmp_path / "keys", cookie_key())
    client = {"vm_access": team(metric), "redirect_uris": [f"http://127.0.0.1:{port}/-/callback"]}
    with OidcProvider({}, {"web": client}) as provider:
        gateway = start_login(start_gateway, provider, backend, keys, port, program)
        browser.open(f"{gateway.url}/vmui/")
        browser.wait_for("location.pathname === '/vmui/'")
        stolen = browser.cookies()["vmgateway-session.0"]["value"]
        key_file(keys, cookie_key())
        assert gateway.client().post("/-/reload").status == 200
        assert gateway.client().get("/api/v1/labels", headers={"Cookie": f"vmgateway-session.0={stolen}"}).status == 401
        assert status(browser, "/api/v1/labels") == 401
        browser.open(f"{gateway.url}/vmui/")  # its own user is led to the provider and back
        browser.wait_for("location.pathname === '/vmui/'")
        assert status(browser, "/api/v1/labels") == 200
