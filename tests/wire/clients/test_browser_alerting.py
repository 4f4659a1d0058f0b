"""vmui's pages of rules, alerts, notifiers and queries, in a browser with a restricted token: its own part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.chromium import Chromium
from tests.support.wire.client import Client
from tests.support.wire.processes import Gateway
from tests.support.wire.servers import Alerting, VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.waiting import eventually
from tests.wire.clients.test_browser import Nginx
from tests.wire.clients.test_browser_pages import PROXY

RULES: Final = """
groups:
- name: shared group
  interval: 1s
  labels: {region: eu}
  rules:
  - alert: OwnAlert
    expr: vector(1)
    labels: {team: dev, severity: page}
    annotations: {summary: "what dev reads"}
  - alert: SecretAlert
    expr: vector(3) # secret
    labels: {team: ops}
  - record: own:record
    expr: sum(vector(1))
    labels: {team: dev}
- name: secret group
  rules:
  - {record: secret_record, expr: vector(4), labels: {team: ops}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vmui:
    browser: Chromium
    api: Client
    url: str

    def page(self, path: str, *, until: str) -> str:
        """Open a page, wait until its text has ``until``, and return the text."""
        self.browser.open(f"{self.url}/health")
        self.browser.open(f"{self.url}/vmui/#{path}")
        self.browser.wait_for(f"document.body.innerText.toLowerCase().includes({json.dumps(until.lower())})")
        assert self.browser.evaluate("document.querySelectorAll('.vm-alert_error').length") == 0
        text: str = self.browser.evaluate("document.body.innerText")
        assert "secret" not in text.lower()
        assert "secret" not in self.browser.evaluate("document.documentElement.outerHTML").lower()
        return text


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def vmui(request: pytest.FixtureRequest, key: SigningKey, key_file: Path) -> Iterator[Vmui]:
    with VictoriaMetrics() as evaluated:
        flags = [f"-remoteWrite.url={evaluated.url}"]
        with Alerting(RULES, datasource_url=evaluated.url, flags=flags) as vmalert:
            eventually(lambda: len(vmalert.client.get("/api/v1/alerts").json()["data"]["alerts"] or ()) == 2)
            with VictoriaMetrics(f"-vmalert.proxyURL={vmalert.url}") as node:
                if node.client.get("/vmui/").status != 200:
                    pytest.skip("this release comes without vmui: name another in VICTORIA_METRICS")
                node.query("secret_query")
                token = key.mint(team("dev"))
                gateway_flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={node.url}")
                with (
                    Gateway(*gateway_flags, program=request.param) as gateway,
                    Nginx(PROXY.format(port=gateway.port, token=token)) as front,
                    Chromium() as browser,
                ):
                    yield Vmui(browser=browser, api=gateway.client(token), url=f"http://127.0.0.1:{front.port}")


def test_the_list_of_rules(vmui: Vmui) -> None:
    text = vmui.page("/rules", until="shared group")
    vmui.browser.evaluate("document.querySelectorAll('.vm-accordion-header').forEach(each => each.click())")
    vmui.browser.wait_for("document.body.innerText.includes('OwnAlert')")
    assert "own:record" in vmui.browser.evaluate("document.body.innerText")
    assert "Alert" in text


def test_the_pages_of_a_group_a_rule_and_an_alert(vmui: Vmui) -> None:
    (group,) = vmui.api.get("/vmalert/api/v1/rules").json()["data"]["groups"]
    rule = next(each for each in group["rules"] if each["name"] == "OwnAlert")
    (alert,) = rule["alerts"]
    text = vmui.page(f"/rules?group_id={group['id']}", until="OwnAlert")
    assert "own:record" in text
    text = vmui.page(f"/rules?group_id={group['id']}&rule_id={rule['id']}", until="what dev reads")
    for shown in ("OwnAlert", "vector(1)", "severity", "firing"):
        assert shown in text
    text = vmui.page(f"/rules?group_id={group['id']}&alert_id={alert['id']}", until="what dev reads")
    assert "vector(1)" in text


def test_the_page_of_notifiers_has_no_addresses(vmui: Vmui) -> None:
    text = vmui.page("/notifiers", until="static")
    assert "127.0.0.1" not in text


@pytest.mark.parametrize(
    ("path", "until"), [("/top-queries", "most memory to execute"), ("/active-queries", "currently no active queries")]
)
def test_the_pages_of_queries_are_empty(vmui: Vmui, path: str, until: str) -> None:
    vmui.page(path, until=until)
