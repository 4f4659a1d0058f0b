"""The examples of deployment/ for programs that write and read through the gateway; those that are here really run.

The addresses and files of the test stand in place of the example's.
"""

from __future__ import annotations

import shlex
import time
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.wire.deployment import DEPLOYMENT, run
from tests.support.wire.processes import Gateway, find_program
from tests.support.wire.servers import Server, VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team
from tests.wire.conftest import StartGateway

EXAMPLE: Final = "vmgateway:8431"


@pytest.fixture
def gateway(start_gateway: StartGateway, victoria_metrics: VictoriaMetrics, key_file: Path) -> Gateway:
    url = victoria_metrics.url
    return start_gateway("-enable.auth", f"-read.url={url}", f"-write.url={url}", f"-auth.publicKeyFiles={key_file}")


@pytest.fixture
def token_file(key: SigningKey, metric: str, tmp_path: Path) -> Path:
    """A token whose label ``team`` is a name of the test's own."""
    file = tmp_path / "vmgateway.token"
    file.write_text(key.mint(team(metric)))
    return file


class Example(Server):
    """A program with an example's flags: ``:PORT`` flag last, whatever the example says of files replaced."""

    def __init__(self, program: str, listen: str, *flags: str, health: str = "/health") -> None:
        self.name = program
        self.health = health
        self._listen = listen
        super().__init__(*flags)

    def command(self) -> list[str]:
        return [find_program(self.name), *self.flags, f"{self._listen}=127.0.0.1:{self.port}"]


def example_flags(path: str, **replaced: str) -> list[str]:
    """The flags of an example, with texts replaced."""
    text = (DEPLOYMENT / path).read_text()
    return [replace(flag, replaced) for flag in shlex.split(text)]


def replace(text: str, replaced: dict[str, str]) -> str:
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def test_prometheus_writes_and_scrapes_through_the_gateway(
    gateway: Gateway, victoria_metrics: VictoriaMetrics, key: SigningKey, metric: str, tmp_path: Path
) -> None:
    text = (DEPLOYMENT / "prometheus" / "prometheus.yml").read_text()
    reads, writes = tmp_path / "read.token", tmp_path / "write.token"
    reads.write_text(key.mint(team(metric, mode=1)))
    writes.write_text(key.mint(team(metric, mode=2)))
    replaced = {
        EXAMPLE: gateway.url.removeprefix("http://"),
        "/etc/prometheus/vmgateway-read.token": str(reads),
        "/etc/prometheus/vmgateway.token": str(writes),
        "retry_on_http_429: true": "retry_on_http_429: true\n      batch_send_deadline: 200ms",
        "15s": "1s",
    }
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(replace(text, replaced))
    run(find_program("promtool"), "check", "config", str(configuration))
    for name in (metric, "other"):
        victoria_metrics.import_prometheus(f'job:{name}{{team="{name}"}} 7\n')
    flags = (f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'data'}", "--log.level=warn")
    with Example("prometheus", "--web.listen-address", *flags, health="/-/ready") as prometheus:
        written = prometheus.wait_until(
            lambda: victoria_metrics.series(f'vmgateway_info{{team="{metric}"}}'), what="writes"
        )
        assert written[0]["job"] == "vmgateway"

        def federated() -> list[dict[str, Any]]:
            query = {"query": '{__name__=~"job:.*"}'}
            result: list[dict[str, Any]] = prometheus.client.get("/api/v1/query", query).json()["data"]["result"]
            return result

        found = prometheus.wait_until(federated, what="scrapes /federate")
        assert {item["metric"]["__name__"] for item in found} == {f"job:{metric}"}
        assert "level=error" not in prometheus.log()


def test_vmagent_scrapes_the_gateway_and_writes_through_it(
    gateway: Gateway, victoria_metrics: VictoriaMetrics, token_file: Path, metric: str, tmp_path: Path
) -> None:
    scrape = tmp_path / "scrape.yml"
    host = gateway.url.removeprefix("http://")
    scrape.write_text(replace((DEPLOYMENT / "prometheus" / "scrape.yml").read_text(), {EXAMPLE: host, "15s": "1s"}))
    replaced = {
        EXAMPLE: host,
        "/etc/vmagent/scrape.yml": str(scrape),
        "/etc/vmagent/vmgateway.token": str(token_file),
        "/var/lib/vmagent": str(tmp_path / "queue"),
    }
    with Example("vmagent", "-httpListenAddr", *example_flags("vmagent/vmagent.flags", **replaced)) as vmagent:
        vmagent.wait_until(
            lambda: victoria_metrics.series(f'vmgateway_info{{team="{metric}",job="vmgateway"}}'),
            what="writes",
        )


def test_vmalert_evaluates_and_writes_through_the_gateway(
    gateway: Gateway, victoria_metrics: VictoriaMetrics, token_file: Path, metric: str, tmp_path: Path
) -> None:
    (tmp_path / "a.rules.yml").write_text(
        f"groups: [{{name: g, interval: 1s, rules: [{{alert: A{metric}, expr: 'vector(1)'}}]}}]"
    )
    replaced = {
        EXAMPLE: gateway.url.removeprefix("http://"),
        "/etc/vmalert/*": f"{tmp_path}/*",
        "/etc/vmalert/vmgateway.token": str(token_file),
        "alertmanager:9093": "127.0.0.1:1",
    }
    flags = [*example_flags("vmalert/vmalert.flags", **replaced), "-remoteWrite.flushInterval=200ms"]
    with Example("vmalert", "-httpListenAddr", *flags) as vmalert:
        found = vmalert.wait_until(
            lambda: victoria_metrics.series(f'ALERTS{{alertname="A{metric}"}}'), what="writes its alert"
        )
        assert {labels["team"] for labels in found} == {metric}


def test_what_telegraf_sends_is_written(
    gateway: Gateway, victoria_metrics: VictoriaMetrics, token_file: Path, metric: str
) -> None:
    configuration = tomllib.loads((DEPLOYMENT / "telegraf" / "telegraf.conf").read_text())
    (output,) = configuration["outputs"]["influxdb"]
    assert output["urls"] == [f"http://{EXAMPLE}"]
    assert output["skip_database_creation"] is True, "creating a database needs full access"
    headers = {
        name: value.replace("${VMGATEWAY_TOKEN}", token_file.read_text())
        for name, value in output["http_headers"].items()
    }
    answer = gateway.client().post(
        f"/write?db={output['database']}", body=f"{metric},host=a value=7\n", headers=headers
    )
    assert answer.status == 204
    (found,) = victoria_metrics.export(f"{metric}_value")
    assert found["metric"]["team"] == metric
    assert found["metric"]["db"] == "telegraf"


def test_what_grafana_sends_is_answered(
    gateway: Gateway, victoria_metrics: VictoriaMetrics, token_file: Path, metric: str
) -> None:
    document = yaml.safe_load((DEPLOYMENT / "grafana" / "datasource.yml").read_text())
    source, as_user = document["datasources"]
    assert source["url"] == as_user["url"] == f"http://{EXAMPLE}"
    assert as_user["jsonData"]["oauthPassThru"] is True
    header = source["jsonData"]["httpHeaderName1"]
    value = source["secureJsonData"]["httpHeaderValue1"].replace("$VMGATEWAY_TOKEN", token_file.read_text())
    victoria_metrics.import_prometheus(f'{metric}{{team="{metric}"}} 7\n{metric}{{team="other"}} 8\n')
    method, now = source["jsonData"]["httpMethod"], int(time.time())
    for path, form, expected in (
        ("/api/v1/query", "query=1%2B1&time=4", "2"),
        ("/api/v1/query_range", f"query=sum(last_over_time({metric}[1h]))&start={now}&end={now + 60}&step=15", '"7"'),
        ("/api/v1/labels", f"match[]={metric}", "team"),
    ):
        sent = {header: value, "Content-Type": "application/x-www-form-urlencoded"}
        answer = gateway.client().ask(method, path, body=form, headers=sent)
        assert answer.status == 200
        assert expected in answer.text
