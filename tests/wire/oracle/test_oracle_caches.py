"""What a backend remembers of one token's query never answers another's: the same queries, asked in turns.

VictoriaMetrics keeps results of queries, of instant ones over a long window too. Each token's answer must be its own
right value, whoever has asked before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.oracle.backends import BACKENDS, Backend, start_backend
from tests.support.wire.processes import Gateway
from tests.support.wire.tokens import SigningKey

LANES = ("fast", "flow")
MINUTES: Final = 600
VALUES: Final = {("own", "dev"): 1, ("own", "ops"): 7, ("other", "dev"): 1000, ("other", "ops"): 7000}
"""The value of each sample, by tenant and team."""

TOKENS: Final[dict[str, tuple[str, dict[str, object], tuple[str, ...]]]] = {
    "tenant": ("own", {}, ("dev", "ops")),
    "labels": ("own", {"extra_labels": {"team": "dev"}}, ("dev",)),
    "filters": ("own", {"extra_filters": ['{team="ops"}']}, ("ops",)),
    "other tenant": ("other", {}, ("dev", "ops")),
    "labels, other tenant": ("other", {"extra_labels": {"team": "ops"}}, ("ops",)),
}
"""A token's tenant, its restrictions, and the teams that it sees."""

EXPECTED: Final = {
    "max_over_time": lambda value: value,
    "min_over_time": lambda value: value,
    "avg_over_time": lambda value: value,
    "sum_over_time": lambda value: 180 * value,
    "last_over_time": lambda value: value,
}
"""What each function makes of three hours of a sample a minute."""


@dataclass(kw_only=True)
class Remembering:
    """A backend with its caches on, and a gateway of each lane."""

    backend: Backend
    gateways: dict[str, Gateway]
    key: SigningKey
    now: int

    def mint(self, token: str) -> str:
        tenant, access, _ = TOKENS[token]
        claim = self.backend.claim(**access)
        return self.key.mint(claim if tenant == "own" else claim | {"tenant_id": {"account_id": 15}})

    def tokens(self) -> list[str]:
        return [token for token, (tenant, *_) in TOKENS.items() if tenant == "own" or self.backend.cluster]


@pytest.fixture(scope="module", params=BACKENDS)
def remembering(request: pytest.FixtureRequest, key: SigningKey, key_file: Path) -> Iterator[Remembering]:
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(start_backend(request.param, cached=True))
        gateways = {
            lane: stack.enter_context(Gateway(*backend.flags, f"-auth.publicKeyFiles={key_file}", f"-lane={lane}"))
            for lane in LANES
        }
        now = int(time.time()) // 60 * 60
        for (tenant, team), value in VALUES.items():
            lines = "".join(
                f'gauge{{team="{team}"}} {value} {(now - 60 * minute) * 1000}\n' for minute in reversed(range(MINUTES))
            )
            if tenant == "own":
                backend.tenant.import_prometheus(lines)
            elif backend.cluster:
                backend.cluster.tenant("15:0").import_prometheus(lines)
        yield Remembering(backend=backend, gateways=gateways, key=key, now=now)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("path", ["", "/select/multitenant/prometheus"], ids=["own path", "multitenant"])
@pytest.mark.parametrize("function", EXPECTED)
def test_no_answer_is_another_tokens(remembering: Remembering, lane: str, path: str, function: str) -> None:
    """A path that the gateway refuses is no answer of another's either."""
    at = remembering.now - 900
    for query in (f"{function}(gauge[3h])", f"sum({function}(gauge[3h])) by (team)"):
        for _ in range(2):
            for token in remembering.tokens():
                client = remembering.gateways[lane].client(remembering.mint(token))
                answer = client.get(f"{path}/api/v1/query", {"query": query, "time": str(at)})
                if answer.status in (403, 404):
                    assert path, answer
                    continue
                assert answer.status == 200, answer
                tenant, _, teams = TOKENS[token]
                found = {item["metric"]["team"]: float(item["value"][1]) for item in answer.json()["data"]["result"]}
                assert found == {team: EXPECTED[function](VALUES[tenant, team]) for team in teams}, (token, query)
