"""Client libraries, unchanged, write and read through the gateway.

They are in an environment of their own: scripts/test makes it from requirements.txt.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.processes import REPOSITORY, Gateway, find_program
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.waiting import HANGS, eventually

PYTHON: Final = REPOSITORY / ".venv-clients" / "bin" / "python"
NODE_MODULES: Final = REPOSITORY / "tests" / "wire" / "oidc" / "node_modules"
BEGINNING: Final = "import sys\nurl, token, name = sys.argv[1:]\n"
NEEDS_LIBRARIES: Final = pytest.mark.skipif(
    not PYTHON.exists(),
    reason=".venv-clients is missing: scripts/test makes it from tests/wire/clients/requirements.txt",
)

WRITERS: Final = {
    "influxdb-client": """
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS
with InfluxDBClient(url=url, token=token, org="any", enable_gzip=True) as client:
    client.write_api(write_options=SYNCHRONOUS).write(bucket="any", record=Point(name).field("v", 7))
""",
    "influxdb3-python": """
from influxdb_client_3 import InfluxDBClient3, Point, SYNCHRONOUS, WriteOptions, write_client_options
options = write_client_options(write_options=SYNCHRONOUS)
with InfluxDBClient3(host=url, token=token, database="any", write_client_options=options) as client:
    client.write(Point(name).field("v", 7))
""",
    "datadog": """
import datadog
datadog.initialize(api_key=token, api_host=url + "/datadog", mute=False)
datadog.api.Metric.send(metric=name + "_v", points=7, tags=["a:b"])
""",
    "opentelemetry": """
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
headers = {"Authorization": "Bearer " + token}
exporter = OTLPMetricExporter(endpoint=url + "/opentelemetry/v1/metrics", headers=headers)
provider = MeterProvider(metric_readers=[PeriodicExportingMetricReader(exporter)])
provider.get_meter("test").create_counter(name + "_v").add(7)
provider.shutdown()
""",
}
NEWER: Final = {"opentelemetry"}
"""What VictoriaMetrics 1.79.5 does not know yet."""

READER: Final = """
from prometheus_api_client import PrometheusConnect
client = PrometheusConnect(url=url, headers={"Authorization": "Bearer " + token})
assert client.check_prometheus_connection()
print([item["metric"]["team"] for item in client.get_current_metric_value(metric_name=name)])
print(client.get_label_values("team"))
"""

NODE: Final = """
import {InfluxDB, Point} from "@influxdata/influxdb-client"
const [url, token, name] = process.argv.slice(2)
const api = new InfluxDB({url, token}).getWriteApi("any", "any")
api.writePoint(new Point(name).floatField("v", 7))
await api.close()
"""


@pytest.fixture(scope="module", params=["fast", "flow"])
def gateway(request: pytest.FixtureRequest, victoria_metrics: VictoriaMetrics, key_file: Path) -> Iterator[Gateway]:
    url = victoria_metrics.url
    flags = (
        "-auth.httpHeader=Authorization,DD-API-KEY",
        "-auth.httpHeaderAllowWithoutPrefix",
        f"-lane={request.param}",
    )
    urls = (f"-read.url={url}", f"-write.url={url}", f"-auth.publicKeyFiles={key_file}")
    with Gateway("-enable.auth", *urls, *flags) as gateway:
        yield gateway


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_written(victoria_metrics: VictoriaMetrics, metric: str) -> None:
    written = eventually(lambda: victoria_metrics.export(f'{{__name__=~"{metric}_v.*"}}'), what="is written")
    assert [(item["metric"]["team"], item["values"]) for item in written] == [(metric, [7])]


@NEEDS_LIBRARIES
@pytest.mark.parametrize("library", WRITERS)
def test_a_library_writes(
    gateway: Gateway, victoria_metrics: VictoriaMetrics, key: SigningKey, metric: str, library: str
) -> None:
    if library in NEWER and victoria_metrics.client.post("/opentelemetry/v1/metrics", body=b"").status == 400:
        pytest.skip("this VictoriaMetrics has no OpenTelemetry")
    run(str(PYTHON), "-c", BEGINNING + WRITERS[library], gateway.url, key.mint(team(metric)), metric)
    check_written(victoria_metrics, metric)


@NEEDS_LIBRARIES
def test_a_library_reads(gateway: Gateway, victoria_metrics: VictoriaMetrics, key: SigningKey, metric: str) -> None:
    at = int((time.time() - 60) * 1000)  # queries of "now" leave out the last 30 seconds
    victoria_metrics.import_prometheus(f'{metric}{{team="{metric}"}} 7 {at}\n{metric}{{team="other"}} 8 {at}\n')
    eventually(lambda: len(victoria_metrics.query(metric)) == 2, what="both can be queried")
    said = run(str(PYTHON), "-c", BEGINNING + READER, gateway.url, key.mint(team(metric)), metric)
    assert said.splitlines() == [f"['{metric}']", f"['{metric}']"]


def test_the_influxdb_library_of_node_writes(
    gateway: Gateway, victoria_metrics: VictoriaMetrics, key: SigningKey, metric: str
) -> None:
    if not (NODE_MODULES / "@influxdata").exists():
        pytest.skip("npm ci --prefix tests/wire/oidc installs it")
    program = NODE_MODULES.parent / f".{metric}.mjs"
    program.write_text(NODE)
    try:
        run(find_program("node"), str(program), gateway.url, key.mint(team(metric)), metric)
    finally:
        program.unlink()
    check_written(victoria_metrics, metric)
