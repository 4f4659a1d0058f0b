"""Replicas that share counts: through a real Redis, and through a directory."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.addons.replicas import KEY, Replica, run
from tests.support.wire.certificates import Authority
from tests.support.wire.processes import free_port
from tests.support.wire.servers import Redis
from vmgw_addons.sources.exchange.file_exchange import FileExchange
from vmgw_addons.sources.exchange.redis_exchange import RedisExchange
from vmgw_addons.sources.exchange.usage_exchange import build_exchange
from vmgw_addons.state.exchange import Exchange
from vmgw_core.configuration.command_line import parse
from vmgw_core.errors import ConfigurationError


@pytest.fixture
def prefix(metric: str) -> str:
    return metric


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """One that a test may kill."""
    with Redis() as server:
        yield server


Make = Callable[[], Exchange]


@pytest.fixture(params=["redis", "files"])
def make(request: pytest.FixtureRequest, prefix: str, tmp_path: Path) -> Make:
    """Makes exchanges that meet."""
    if request.param == "redis":
        server: Redis = request.getfixturevalue("redis_server")
        return lambda: RedisExchange(server.url, prefix)
    return lambda: FileExchange(tmp_path, 0)


# --- both ----------------------------------------------------------------------------------------------------------


def test_counts_of_two_replicas_add_up(make: Make) -> None:
    async def work(one: Replica, two: Replica) -> None:
        for replica in (one, two, one, two):
            await replica.step()
        assert one.addon.alive == two.addon.alive == 1
        assert await one.admit(30) == 30
        for replica in (one, two, one, two):
            await replica.step()
        assert two.others()[KEY] == 30
        assert one.others().get(KEY, 0) == 0
        assert await two.admit(100) + await one.admit(100) == 70, "whoever asks gets what the other leaves"

    run(work, make(), make())


def test_a_replica_that_comes_late_learns_of_what_was_before(make: Make) -> None:
    async def work(one: Replica, two: Replica) -> None:
        assert await one.admit(100) == 100
        await one.step()
        await two.step()
        assert two.others()[KEY] == 100
        assert await two.admit(1) == 0

    run(work, make(), make())


def test_what_a_dead_replica_counted_goes_on_counting(make: Make) -> None:
    async def work(one: Replica, two: Replica, three: Replica) -> None:
        await one.admit(60)
        await one.step()
        await one.exchange.close()
        await two.until(lambda: two.others().get(KEY) == 60)
        await two.until(lambda: two.addon.alive == 0)  # 3 seconds
        assert two.others()[KEY] == 60
        await three.step()
        assert three.others()[KEY] == 60, "whoever comes later hears of it, too"
        totals, _ = two.exchange.peers.totals(time.monotonic() + 75)
        assert KEY not in totals, "until it has left the window"

    run(work, make(), make(), make())


def test_a_replica_that_ends_gives_back_what_it_has_not_used(make: Make) -> None:
    async def work(one: Replica, two: Replica) -> None:
        await one.addon.running()
        await two.addon.running()
        assert await one.admit(30) == 30  # and it has taken more
        await one.addon.done()
        assert await two.admit(1000) == 970, "what it has counted goes on counting"

    run(work, make(), make(), limit=1000)


def test_many_counters_take_several_exchanges(make: Make) -> None:
    async def work(one: Replica, two: Replica) -> None:
        counts = {f"queries/hour/{number}:0": number + 1 for number in range(12_000)}
        while await one.exchange.swap(counts, time.monotonic()):
            pass
        while await two.exchange.swap({}, time.monotonic()):
            pass
        assert two.others() == counts
        counts = {key: count for key, count in counts.items() if count > 3}
        while await one.exchange.swap(counts, time.monotonic()):
            pass
        while await two.exchange.swap({}, time.monotonic()):
            pass
        assert two.others() == counts, "what is gone is taken back"

    run(work, make(), make())


def test_a_replica_that_comes_late_reads_many_counters_before_its_first_request(make: Make) -> None:
    async def work(one: Replica, two: Replica) -> None:
        counts = {KEY: 100} | {f"queries/hour/{number}:0": 1 for number in range(12_000)}
        while await one.exchange.swap(counts, time.monotonic()):
            pass
        await two.addon.running()
        assert two.others() == counts
        assert two.addon.alive == 1
        await two.addon.done()

    run(work, make(), make())


# --- Redis ---------------------------------------------------------------------------------------------------------


def test_redis_killed_and_back(own_redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    async def work(one: Replica, two: Replica) -> None:
        await one.admit(20)
        for replica in (one, two, one):
            await replica.step()
        own_redis.kill()
        for replica in (one, two):
            await replica.step()  # finds its connection closed
            await replica.step()
            assert replica.addon.outage.failures == 2
            assert (replica.addon.outage.reason or "").endswith("-ratelimit.storage: Connection refused")
        assert two.others()[KEY] == 20, "what was known goes on counting"
        assert two.addon.alive == 1, "and the other has its share, for it may live on"
        assert await one.admit(5) == 5, "local limits go on"
        own_redis.start()
        await one.until(lambda: one.addon.outage.reason is None)
        await two.until(lambda: two.others().get(KEY) == 25)
        await one.until(lambda: one.addon.alive == 1)

    caplog.set_level("INFO")
    run(work, RedisExchange(own_redis.url, "p"), RedisExchange(own_redis.url, "p"))
    assert "again" in caplog.text
    assert Redis.password not in caplog.text
    assert "pass%20word" not in caplog.text


def test_redis_paused_and_back(own_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_addons.sources.exchange.redis_exchange.TIMEOUT", 0.2)

    async def work(one: Replica, two: Replica) -> None:
        await one.admit(20)
        for replica in (one, two):
            await replica.step()
        own_redis.signal(signal.SIGSTOP)
        try:
            begin = time.monotonic()
            await one.step()
            assert time.monotonic() - begin < 5
            assert one.addon.outage.reason is not None
            assert await one.admit(5) == 5
        finally:
            own_redis.signal(signal.SIGCONT)
        await two.until(lambda: one.addon.outage.reason is None or two.others().get(KEY) == 20)
        await one.until(lambda: one.addon.outage.reason is None)
        await two.until(lambda: two.others().get(KEY) == 25)

    run(work, RedisExchange(own_redis.url, "p"), RedisExchange(own_redis.url, "p"))


def test_a_redis_that_has_lost_everything_is_told_again(redis_server: Redis, prefix: str) -> None:
    async def work(one: Replica, two: Replica) -> None:
        await one.admit(20)
        await one.step()
        client = redis_server.connect()
        for key in client.scan_iter(f"{{{prefix}}}:*"):
            client.delete(key)
        await one.admit(1)
        await one.until(lambda: int(client.hget(counts_key(), KEY) or 0) == 21)
        await two.step()
        assert two.others()[KEY] == 21

    def counts_key() -> str:
        found = list(redis_server.connect().scan_iter(f"{{{prefix}}}:*:counts"))
        return str(found[0]) if found else "none"

    run(work, RedisExchange(redis_server.url, prefix), RedisExchange(redis_server.url, prefix))


def test_keys_have_the_prefix_and_expire(redis_server: Redis, prefix: str) -> None:
    async def work(one: Replica) -> None:
        await one.admit(1)
        await one.step()
        client = redis_server.connect()
        keys = list(client.scan_iter(f"*{prefix}*"))
        assert len(keys) == 5
        assert all(key.startswith(f"{{{prefix}}}:") for key in keys)
        for key in keys:  # the name of the store outlives the account of a month
            assert 0 < client.ttl(key) <= (33 * 86400 if key.endswith(":epoch") else 4500)

    run(work, RedisExchange(redis_server.url, prefix))


def test_replicas_of_another_prefix_are_others(redis_server: Redis, prefix: str) -> None:
    async def work(one: Replica, two: Replica) -> None:
        await one.admit(20)
        await one.step()
        await two.step()
        assert two.others() == {}
        assert two.addon.alive == 0

    run(work, RedisExchange(redis_server.url, prefix), RedisExchange(redis_server.url, prefix + "x"))


def test_what_somebody_else_wrote_there(redis_server: Redis, prefix: str) -> None:
    async def work(one: Replica) -> None:
        client = redis_server.connect()
        now = time.time_ns() // 1000
        client.zadd(f"{{{prefix}}}:replicas", {"evil": now, "odd\n": now})
        for key, count in ((KEY, "-5"), ("queries/minute/2:0", str(10**30)), ("nonsense", "7")):
            client.hset(f"{{{prefix}}}:evil:counts", key, count)
            client.zadd(f"{{{prefix}}}:evil:times", {key: now})
        await one.step()
        assert one.addon.outage.reason is None
        assert one.others() == {"queries/minute/2:0": 2**53, "nonsense": 7}
        assert await one.admit(1) == 1
        client.hset(f"{{{prefix}}}:evil:counts", "x", "many")
        client.zadd(f"{{{prefix}}}:evil:times", {"x": now + 10})
        await one.step()
        assert (one.addon.outage.reason or "").endswith("the script returned something unexpected")
        client.delete(f"{{{prefix}}}:replicas")
        client.set(f"{{{prefix}}}:replicas", "no set")
        await one.step()
        assert (one.addon.outage.reason or "").endswith("WRONGTYPE")

    run(work, RedisExchange(redis_server.url, prefix))


def test_a_wrong_password(redis_server: Redis, prefix: str) -> None:
    async def work(one: Replica) -> None:
        await one.step()
        assert (one.addon.outage.reason or "").endswith("-ratelimit.storage: AuthenticationError")
        assert await one.admit(100) == 100

    run(work, RedisExchange(f"redis://:hunter2@127.0.0.1:{redis_server.port}", prefix))


def test_tls(authority: Authority, prefix: str) -> None:
    issued = authority.issue("redis.example")
    port = free_port()
    files = ("--tls-cert-file", str(issued.cert), "--tls-key-file", str(issued.key), "--tls-auth-clients", "no")
    with Redis("--tls-port", str(port), *files) as server:
        url = f"rediss://:pass%20word@127.0.0.1:{port}"

        async def work(verified: Replica, unverified: Replica) -> None:
            await verified.admit(3)
            await verified.step()
            assert server.connect().hget(f"{{{prefix}}}:{name}:counts", KEY) == "3"
            await unverified.step()
            assert "certificate verify failed" in (unverified.addon.outage.reason or "")

        trusting = RedisExchange(f"{url}?ssl_ca_certs={authority.cert}", prefix)
        name = trusting._id
        run(work, trusting, RedisExchange(url, prefix))


@pytest.mark.parametrize(
    "flags",
    [
        ["storage=localhost:6379"],
        ["storage=http://:hunter2@localhost:6379"],
        ["storage=redis://:hunter2@localhost:port"],
        ["storage=redis://:hunter2@localhost?nonsense=1"],
        ["storage=redis://:hunter2@localhost", "storageKeyPrefix={x}"],
        ["storage=redis://:hunter2@localhost", "storageKeyPrefix="],
    ],
)
def test_a_configuration_is_refused(flags: list[str]) -> None:
    settings = parse([f"-ratelimit.{flag}" for flag in flags], {}).settings
    with pytest.raises(ConfigurationError, match=r"^-ratelimit\.storage") as caught:
        build_exchange(settings)
    assert "hunter2" not in str(caught.value)


def test_without_the_flag_there_is_no_exchange() -> None:
    assert build_exchange(parse([], {}).settings) is None


def test_the_storage_takes_the_place_of_a_workers_files(tmp_path: Path) -> None:
    files = FileExchange(tmp_path, 0)
    nothing = parse([], {}).settings
    assert build_exchange(nothing, nothing, files) is files
    settings = parse(["-ratelimit.storage=redis://127.0.0.1:1"], {}).settings
    first = build_exchange(settings, nothing, files)
    assert isinstance(first, RedisExchange)
    assert build_exchange(settings, settings, first) is first, "a reload keeps what other replicas have told"
