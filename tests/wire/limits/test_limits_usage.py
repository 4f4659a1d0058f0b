"""The gateway with a datasource, and replicas of it with Redis: what clients get, started as users start it."""

from __future__ import annotations

import functools
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support.wire.client import Client
from tests.support.wire.processes import Gateway, Program, run_command
from tests.support.wire.servers import Redis, VictoriaMetrics
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream, never
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway
from vmgw_core.base.tenants import TenantID

PATH = "/api/v1/labels"


@pytest.fixture
def limits(tmp_path: Path) -> Path:
    path = tmp_path / "limits.yaml"
    path.write_text("limits: [{type: queries, value: 100}]")
    return path


def statuses(gateway: Gateway, token: str, requests: int) -> list[int]:
    return [gateway.client(token).get(PATH).status for _ in range(requests)]


def sees(gateway: Gateway, replicas: int) -> bool:
    return gateway.metric("vmgateway_ratelimit_replicas") == replicas


def flags(upstream: RecordingUpstream, limits: Path, key_file: Path) -> tuple[str, ...]:
    return (
        *("-enable.auth", "-enable.rateLimit", f"-auth.publicKeyFiles={key_file}", f"-ratelimit.config={limits}"),
        *(f"-read.url={upstream.url}", f"-write.url={upstream.url}", "-clusterMode"),
    )


def counter(metric: str, values: list[int]) -> str:
    now = int(time.time() * 1000) - 500
    labels = f'accountID="1",projectID="5",test="{metric}"'
    return "".join(
        f"vm_tenant_select_requests_total{{{labels}}} {value} {now - 5000 * (len(values) - 1 - place)}\n"
        for place, value in enumerate(values)
    )


def test_usage_of_the_datasource_is_held_to(
    program: Program,
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    victoria_metrics: VictoriaMetrics,
    limits: Path,
    key: SigningKey,
    key_file: Path,
    metric: str,
) -> None:
    victoria_metrics.import_prometheus(counter(metric, [0, 95]))
    gateway = start_gateway(
        *flags(upstream, limits, key_file),
        f"-datasource.url={victoria_metrics.url}",
        f"-ratelimit.extraLabels=test={metric}",
        "-ratelimit.refreshInterval=200ms",
        program=program,
    )
    gateway.wait_until(
        lambda: gateway.metric("vmgateway_ratelimit_measured", type="queries") == 1, what="has asked the datasource"
    )
    token = key.mint(tenant(1, 5))
    answers = statuses(gateway, token, 8)
    assert answers[:5] == [200] * 5
    assert answers[5:] == [429] * 3
    assert statuses(gateway, key.mint(tenant(15)), 1) == [200], "another tenant"
    assert len(upstream.requests) == 6
    assert gateway.metric("vmgateway_tenant_usage", tenant=str(TenantID(1, 5))) == 100
    assert gateway.metric("vmgateway_ratelimit_data_age_seconds", type="queries") > 0
    assert gateway.metric("vmgateway_ratelimit_refresh_duration_seconds_count") > 0


def test_a_datasource_that_is_down(
    start_gateway: StartGateway, upstream: RecordingUpstream, limits: Path, key: SigningKey, key_file: Path
) -> None:
    with RecordingUpstream() as down:
        pass
    given = (*flags(upstream, limits, key_file), f"-datasource.url={down.url.replace('//', '//u:hunter2@')}")
    gateway = start_gateway(*given)
    gateway.wait_for_log(r"warn\t.*cannot refresh usage: -datasource\.url: Connection refused; the last known usage")
    assert statuses(gateway, key.mint(tenant(1, 5)), 1) == [200]
    assert gateway.metric("vmgateway_ratelimit_refresh_errors_total", source="datasource") >= 1
    assert "hunter2" not in gateway.log()
    closed = start_gateway(*given, "-ratelimit.failClosed")
    assert statuses(closed, key.mint(tenant(1, 5)), 1) == [503]
    assert len(upstream.requests) == 1


def answers(client: Client, status: int) -> bool:
    return client.get(PATH).status == status


def test_usage_may_become_so_old(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    victoria_metrics: VictoriaMetrics,
    key: SigningKey,
    key_file: Path,
    limits: Path,
    metric: str,
) -> None:
    """No sample is newer than the one here, so the usage ages."""
    victoria_metrics.import_prometheus(counter(metric, [0, 95]))
    given = (*flags(upstream, limits, key_file), f"-datasource.url={victoria_metrics.url}", "-ratelimit.failClosed")
    given = (*given, f"-ratelimit.extraLabels=test={metric}", "-ratelimit.refreshInterval=200ms")
    for age, status in (("1h", 200), ("1s", 503)):
        client = start_gateway(*given, f"-ratelimit.maxUsageAge={age}").client(key.mint(tenant(1, 5)))
        eventually(functools.partial(answers, client, status))


def test_a_slow_datasource_is_in_no_request_s_way(
    start_gateway: StartGateway, upstream: RecordingUpstream, limits: Path, key: SigningKey, key_file: Path
) -> None:
    silent = never()
    with RecordingUpstream(lambda _: silent) as hanging:
        gateway = start_gateway(*flags(upstream, limits, key_file), f"-datasource.url={hanging.url}")
        gateway.wait_until(lambda: hanging.requests, what="asks")
        assert statuses(gateway, key.mint(tenant(1, 5)), 101) == [200] * 100 + [429]
        gateway.stop()  # nor in that of the end


def test_replicas_share_what_they_count(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    redis_server: Redis,
    limits: Path,
    key: SigningKey,
    key_file: Path,
    metric: str,
) -> None:
    given = (
        *flags(upstream, limits, key_file),
        f"-ratelimit.storage=redis://:%{{SECRET}}@127.0.0.1:{redis_server.port}",
        f"-ratelimit.storageKeyPrefix={metric}",
    )
    replicas = [start_gateway(*given, env={"SECRET": "pass%20word"}) for _ in range(2)]
    for replica in replicas:
        replica.wait_until(partial(sees, replica, 2), what="sees the other")
    token = key.mint(tenant(1, 5))

    def passed() -> int:
        return sum(request.path.endswith(PATH) for request in upstream.requests)

    def ask_both() -> bool:
        for replica in replicas:
            statuses(replica, token, 5)
        return passed() >= 100

    replicas[0].wait_until(ask_both, what="is used up together with the other")
    assert passed() == 100
    assert [statuses(replica, token, 5) for replica in replicas] == [[429] * 5] * 2
    assert all("pass%20word" not in replica.log() and Redis.password not in replica.log() for replica in replicas)


def test_redis_down_and_back(
    start_gateway: StartGateway, upstream: RecordingUpstream, limits: Path, key: SigningKey, key_file: Path
) -> None:
    with Redis() as server:
        given = (*flags(upstream, limits, key_file), f"-ratelimit.storage={server.url}")
        one, two = (start_gateway(*given) for _ in range(2))
        one.wait_until(lambda: sees(one, 2), what="sees the other")
        server.kill()
        one.wait_for_log(r"cannot exchange counts with other replicas: -ratelimit\.storage: ")
        token = key.mint(tenant(1, 5))
        statuses(one, token, 20)
        assert len(upstream.requests) == 20, "local limits go on"
        assert one.metric("vmgateway_ratelimit_exchange_errors_total") > 0
        server.start()
        one.wait_for_log("counts are exchanged with other replicas again")

        def used_up() -> bool:
            statuses(two, token, 10)
            return len(upstream.requests) >= 99  # the other keeps room for one, having no use for more

        two.wait_until(used_up, what="may use what is left, and knows what was used meanwhile")
        statuses(two, token, 3)
        assert 99 <= len(upstream.requests) <= 100
        server.signal(signal.SIGSTOP)
        try:
            assert statuses(one, key.mint(tenant(15)), 3) == [200] * 3, "a Redis that hangs is in no request's way"
        finally:
            server.signal(signal.SIGCONT)


def test_a_bad_configuration_is_one_line(upstream: RecordingUpstream, limits: Path, key_file: Path) -> None:
    ended = run_command(*flags(upstream, limits, key_file), "-dryRun", "-datasource.url=http://u:hunter2@vm:port")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "vmgateway: -datasource.url: the URL cannot be read; expected http://host:port\n"
