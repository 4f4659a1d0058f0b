"""Limits of days and months in both lanes, and their counts after a restart and after kill -9."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.processes import Gateway, auth_flags, children
from tests.support.wire.servers import Redis
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

QUERY: Final = "/api/v1/query?query=up"
BODY: Final = b'{"status":"success","data":{},"stats":{"seriesFetched":"7"}}'
ROW: Final = "SELECT ifnull(sum(count), 0) FROM counts WHERE key = ?"
FORGETS: Final = "a restart forgets the counts of days and months"

Start = Callable[..., Gateway]


def answers(request: ReceivedRequest) -> Reply:
    return Reply(body=BODY)


@pytest.fixture(params=["fast", "flow"])
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def limits(tmp_path: Path) -> Path:
    path = tmp_path / "limits.yaml"
    path.write_text(
        "zone: Europe/Berlin\nlimits:\n- {type: queries, value: 10, resolution: month}\n"
        f"- {{type: bytes_read, value: {8 * len(BODY)}, resolution: month, account_id: 2}}\n"
    )
    return path


@pytest.fixture
def start(start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path, limits: Path, lane: str) -> Start:
    upstream.responder = answers

    def start(*flags: str) -> Gateway:
        limited = ("-enable.rateLimit", f"-ratelimit.config={limits}", f"-lane={lane}")
        return start_gateway(*auth_flags(upstream.url, key_file), *limited, *flags)

    return start


def statuses(gateway: Gateway, token: str, number: int) -> list[int]:
    """Send each request over a connection of its own, so that it may meet any worker."""
    return [gateway.client(token).get(QUERY).status for _ in range(number)]


def in_file(state: Path, key: str) -> int:
    with closing(sqlite3.connect(f"{state.as_uri()}?mode=ro", uri=True)) as database:
        return int(database.execute(ROW, (key,)).fetchone()[0])


def all_listen(gateway: Gateway, workers: int, behind: int = 0) -> None:
    gateway.wait_until(lambda: gateway.log()[behind:].count("listens on") == workers, what="all workers listen")


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_outlive_a_restart_and_kill_9(
    start: Start, upstream: RecordingUpstream, key: SigningKey, state: Path, workers: int
) -> None:
    gateway = start(f"-ratelimit.stateFile={state}", f"-workers={workers}")
    all_listen(gateway, workers)
    token, other = key.mint(tenant(1, 5)), key.mint(tenant(2))
    assert statuses(gateway, token, 3) == [200] * 3
    assert statuses(gateway, other, 7) == [200] * 7
    behind = len(gateway.log())
    gateway.stop()  # a clean stop loses nothing
    assert in_file(state, "queries/month/1:5") == 3
    assert in_file(state, "bytes_read/month/2:0") == 7 * len(BODY)
    gateway.start()
    all_listen(gateway, workers, behind)
    assert statuses(gateway, token, 3) == [200] * 3
    gateway.wait_until(lambda: in_file(state, "queries/month/1:5") == 6, what="writes once a second")
    behind = len(gateway.log())
    gateway.kill()
    gateway.start()
    all_listen(gateway, workers, behind)
    assert statuses(gateway, token, 6) == [200] * 4 + [429] * 2
    assert len(upstream.requests) == 7 + 10
    answer = gateway.client(token).get(QUERY)
    assert answer.json()["error"] == "request was rate limited: tenant 1:5 has used 10 of 10 queries per month"
    assert 0 < int(answer.header("Retry-After") or 0) <= 31 * 86400 + 3600
    assert FORGETS not in gateway.log()

    found = statuses(gateway, other, 1)
    assert found == [200]
    gateway.wait_until(
        lambda: in_file(state, "bytes_read/month/2:0") == 8 * len(BODY), what="counts the bytes of another tenant"
    )
    gateway.wait_until(lambda: statuses(gateway, other, 3) == [429] * 3, what="tells all workers")


def test_a_worker_that_is_killed_takes_nothing_of_the_month_away(
    start: Start, upstream: RecordingUpstream, key: SigningKey, state: Path
) -> None:
    gateway, token = start(f"-ratelimit.stateFile={state}", "-workers=2"), key.mint(tenant(1, 5))
    all_listen(gateway, 2)
    assert statuses(gateway, token, 6) == [200] * 6
    gateway.wait_until(lambda: in_file(state, "queries/month/1:5") == 6, what="writes once a second")
    for number, worker in enumerate(children(gateway.pid), 3):
        os.kill(worker, signal.SIGKILL)
        all_listen(gateway, number)
    assert statuses(gateway, token, 6) == [200] * 4 + [429] * 2
    gateway.wait_until(lambda: in_file(state, "queries/month/1:5") == 10, what="writes once a second")


def test_without_a_state_file_the_log_says_that_a_restart_forgets(start: Start, key: SigningKey) -> None:
    gateway, token = start(), key.mint(tenant(1, 5))
    gateway.wait_for_log(FORGETS)
    assert statuses(gateway, token, 12) == [200] * 10 + [429] * 2
    gateway.stop()
    gateway.start()
    assert statuses(gateway, token, 12) == [200] * 10 + [429] * 2


def test_redis_keeps_the_counts_of_replicas(
    start: Start, upstream: RecordingUpstream, key: SigningKey, lane: str
) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        token = key.mint(tenant(1, 5))
        replicas = [start(f"-ratelimit.storage={redis.url}") for _ in range(2)]
        assert statuses(replicas[0], token, 3) + statuses(replicas[1], token, 3) == [200] * 6
        for replica in replicas:
            replica.kill()
            replica.start()
        assert statuses(replicas[0], token, 2) + statuses(replicas[1], token, 4) == [200] * 4 + [429] * 2
        assert len(upstream.requests) == 10
        assert all(FORGETS not in replica.log() for replica in replicas)
        for replica in replicas:
            replica.stop()


def test_a_reload_may_change_days_and_zones(start: Start, key: SigningKey, limits: Path, state: Path) -> None:
    gateway, token = start(f"-ratelimit.stateFile={state}"), key.mint(tenant(1, 5))
    assert statuses(gateway, token, 4) == [200] * 4
    limits.write_text("zone: UTC\nlimits: [{type: queries, value: 6, resolution: month}]")
    assert gateway.client().get("/-/reload").status == 200
    assert statuses(gateway, token, 4) == [200] * 2 + [429] * 2
    limits.write_text("zone: Mars/Base\nlimits: []")
    assert gateway.client().get("/-/reload").status != 200
    gateway.wait_for_log(r"line 1: zone: this system has no time zone \"Mars/Base\"")
    assert statuses(gateway, token, 1) == [429]
