"""vmalert evaluates a rule through the gateway, and writes the result through it."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.wire.processes import Program
from tests.support.wire.servers import VictoriaMetrics, Vmalert
from tests.support.wire.tokens import SigningKey, team
from tests.wire.conftest import StartGateway


def test_a_rule_sees_and_writes_the_own_team_only(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    key: SigningKey,
    key_file: Path,
    metric: str,
    program: Program,
) -> None:
    url = victoria_metrics.url
    timestamp = (int(time.time()) - 30) * 1000
    victoria_metrics.import_prometheus(
        f'{metric}{{team="dev"}} 40 {timestamp}\n{metric}{{team="ops"}} 1000 {timestamp}\n'
    )
    gateway = start_gateway(
        "-enable.auth",
        f"-read.url={url}",
        f"-write.url={url}",
        f"-auth.publicKeyFiles={key_file}",
        program=program,
    )
    recorded = f"{metric}:sum"
    rules = f"groups: [{{name: g, rules: [{{record: '{recorded}', expr: 'sum({metric})'}}]}}]"
    with Vmalert(
        rules,
        datasource_url=gateway.url,
        remote_write_url=gateway.url,
        bearer_token=key.mint(team("dev")),
    ) as vmalert:
        vmalert.wait_until(lambda: victoria_metrics.series(recorded), what="writes its result")
    (series,) = victoria_metrics.export(recorded)
    assert series["metric"] == {"__name__": recorded, "team": "dev"}
    assert set(series["values"]) == {40}
