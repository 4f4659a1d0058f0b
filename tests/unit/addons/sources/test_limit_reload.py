"""Limits that are read again: changed ones are put in force, a bad file changes nothing and is told once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.addons.configured import GatewayState, configured
from vmgw_addons.sources.limit_reload import LimitsReload
from vmgw_addons.state import Reloads
from vmgw_core.credentials import read_credentials
from vmgw_core.tokens import Grants

LIMITS = "limits:\n- type: queries\n  value: {}\n  resolution: minute\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "limits.yml"
    path.write_text(LIMITS.format(5))
    return path


@pytest.fixture
def state(file: Path) -> GatewayState:
    flags = {"enable.rateLimit": "true", "ratelimit.config": str(file), "ratelimit.configCheckInterval": "60s"}
    return configured(**flags)


def reloading(state: GatewayState) -> LimitsReload:
    return LimitsReload(state.in_force, state.background, state.limit_reloads)


def values(state: GatewayState) -> list[int]:
    limiter = state.configured.limiter
    return [limit.value for limit in limiter.limits] if limiter is not None else []


def test_a_changed_file_is_put_in_force_from_the_second_look_on(state: GatewayState, file: Path) -> None:
    reload = reloading(state)
    limiter = state.configured.limiter
    file.write_text(LIMITS.format(7))
    assert asyncio.run(reload.step()) == 60.0
    assert values(state) == [5]  # they were read at the start just now
    asyncio.run(reload.step())
    assert values(state) == [7]
    assert state.configured.limiter is limiter
    assert state.limit_reloads == Reloads(success=1)


def test_an_unchanged_file_is_no_reload(state: GatewayState) -> None:
    asyncio.run(reloading(state).check())
    assert state.limit_reloads == Reloads()


def test_a_bad_file_is_told_once_until_it_is_good(
    state: GatewayState, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloading(state)
    file.write_text("limits: 3")
    for _ in range(2):
        asyncio.run(reload.check())
    assert values(state) == [5]
    assert state.limit_reloads == Reloads(error=2)
    assert len(caplog.messages) == 1
    assert "the old limits stay in force" in caplog.messages[0]


def test_without_an_interval_nothing_is_read(state: GatewayState, file: Path) -> None:
    state.change(settings=replace(state.configured.settings, ratelimit_config_check_interval=0.0))
    reload = reloading(state)
    file.write_text(LIMITS.format(7))
    for _ in range(2):
        assert asyncio.run(reload.step()) == 1.0
    assert values(state) == [5]


def test_a_class_that_a_grant_names_does_not_go_away(
    state: GatewayState, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = state.configured.policy
    assert policy is not None
    named = read_credentials(
        f"keys: [{{name: a, sha256: {'a' * 64}, grant: {{limits: gold}}}}]",
        "credentials.yaml",
        grants=Grants.from_claims,
        seed=bytes(32),
    )
    state.change(policy=replace(policy, credentials=named))
    file.write_text(LIMITS.format(7))
    asyncio.run(reloading(state).check())
    assert values(state) == [5]
    assert "credentials.yaml, line 1: keys[0].grant.limits: no limit of -ratelimit.config has" in caplog.messages[0]
    file.write_text(LIMITS.format(7) + "  class: gold\n")
    asyncio.run(reloading(state).check())
    assert values(state) == [7]
