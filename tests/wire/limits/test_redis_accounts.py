"""The accounts in a real Redis: its script has the rules of the core, and it may fail at any moment."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.addons.replicas import KEY, Replica, run
from tests.support.wire.servers import Redis
from vmgw_addons.sources.exchange.redis_accounts import SCRIPT, _read, _written
from vmgw_addons.sources.exchange.redis_exchange import RedisExchange
from vmgw_core.limits.sharing.account import Account, Reply, Want
from vmgw_core.limits.sharing.queue import MAX_CLAIMS

WANT = st.tuples(
    st.sampled_from([0.0, 0.001, 0.07, 0.5, 3.2, 20.0, 61.0, -0.5, -86400.0]),  # seconds that pass before it
    st.integers(0, 12),  # needed
    st.integers(0, 9),  # more
    st.sampled_from(["a", "b", "c", ""]),  # for whom
    st.integers(0, 4),  # of the last reply that are given back
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.25, 30.0, 60.25, 61.0]), st.integers(1, 5)), max_size=3),
)


@pytest.fixture(params=[(), ("--appendonly", "yes")], ids=["keeps nothing", "keeps everything"])
def own_redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    with Redis(*request.param) as server:
        yield server


class Compared:
    """The account of the script and that of the core, which are asked the same."""

    def __init__(self, server: Redis, prefix: str) -> None:
        self.store = server.connect()
        self.script = self.store.register_script(SCRIPT.replace("redis.call('TIME')", "{tonumber(ARGV[4]), 0}"))
        self.keys = [f"{{{prefix}}}:epoch", f"{{{prefix}}}:account"]
        self.store.delete(*self.keys)
        self.account = Account()
        self.now = 1_750_000_000.0
        self.part = 0
        """Of the last reply."""

    def ask(self, want: Want) -> None:
        """Ask both. Replies, parts and queues are the same."""
        expected = self.account.take(want, self.now)
        _, reply = self.script(keys=self.keys, args=["", "first", json.dumps([_written(want)]), repr(self.now)])
        found = _read(reply)
        assert replace(found, wait=0.0) == replace(expected, wait=0.0)
        assert found.wait == pytest.approx(expected.wait, abs=0.002)
        self.part = found.part
        known = self.store.eval("return cjson.encode(cmsgpack.unpack(redis.call('GET', KEYS[1])))", 1, self.keys[1])
        parts, claims = (written or [] for written in json.loads(known))  # Lua has one kind of empty table
        assert dict(zip(parts[::2], parts[1::2], strict=True)) == self.account.parts
        assert [claims[at] for at in range(0, len(claims), 3)] == list(self.account.queue.claims)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(1, [(0.0, 1, 0, "a", 0, []), (0.0, 1, 0, "b", 0, []), (-86400.0, 1, 0, "c", 0, []), (64.0, 1, 0, "c", 0, [])])
@given(st.integers(1, 40), st.lists(WANT, max_size=40))
def test_the_script_and_the_core_give_the_same_replies(
    redis_server: Redis,
    metric: str,
    limit: int,
    steps: Sequence[tuple[float, int, int, str, int, list[tuple[float, int]]]],
) -> None:
    compared = Compared(redis_server, metric)
    for gap, need, extra, client, returned, spent in steps:
        compared.now += gap
        want = Want(
            key=KEY,
            seconds=60,
            limit=limit,
            need=need,
            extra=extra,
            client=client if need else "",
            returned=((compared.part, returned),) if returned else (),
            spent=tuple(spent),
        )
        compared.ask(want)


DAY = 86400
OF_A_DAY = st.tuples(
    st.sampled_from([0.0, 0.5, 3600.0, 30_000.0, -0.5, -3.0 * DAY]),  # seconds that pass before it
    st.sampled_from([-1, 0, 0, 0, 0, 1, 2, 400]),  # how many days the process' clock is ahead
    st.integers(0, 12),  # needed
    st.integers(0, 9),  # more
    st.integers(0, 4),  # of the last reply that are given back
    st.lists(st.tuples(st.integers(-1, 2), st.integers(1, 5)), max_size=3),  # used in another day
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(1, 40), st.lists(OF_A_DAY, max_size=40))
def test_the_script_and_the_core_give_the_same_replies_for_days(
    redis_server: Redis,
    metric: str,
    limit: int,
    steps: Sequence[tuple[float, int, int, int, int, list[tuple[int, int]]]],
) -> None:
    compared = Compared(redis_server, metric)
    for gap, ahead, need, extra, returned, spent in steps:
        compared.now += gap
        end = (int(compared.now // DAY) + 1 + ahead) * DAY
        want = Want(
            key=KEY,
            seconds=26 * 3600,
            limit=limit,
            need=need,
            extra=extra,
            client="a" if need else "",
            returned=((compared.part, returned),) if returned else (),
            spent=tuple((end + day * DAY, number) for day, number in spent),
            ends=(end, end + DAY),
        )
        compared.ask(want)
        assert 26 * 3600 < compared.store.ttl(compared.keys[1]) <= 26 * 3600 + 10
        assert compared.store.ttl(compared.keys[0]) > 32 * DAY, "the name of the store outlives every account"


def test_the_queue_of_the_script_is_bounded(redis_server: Redis, metric: str) -> None:
    store = redis_server.connect()
    script = store.register_script(SCRIPT)
    keys = [f"{{{metric}}}:epoch", f"{{{metric}}}:account"]

    def ask(need: int, client: str) -> Reply:
        want = Want(key=KEY, seconds=60, limit=1000, need=need, client=client)
        return _read(script(keys=keys, args=["", "e", json.dumps([_written(want)])])[1])

    assert ask(1000, "first").granted
    for number in range(MAX_CLAIMS + 20):
        assert not ask(1, f"client {number}").granted
    claims = json.loads(store.eval("return cjson.encode(cmsgpack.unpack(redis.call('GET', KEYS[1]))[2])", 1, keys[1]))
    assert len(claims) == 3 * MAX_CLAIMS
    assert 60 < store.ttl(keys[1]) <= 70


# --- failures ------------------------------------------------------------------------------------------------------


def test_redis_is_killed_and_comes_back(own_redis: Redis) -> None:
    """Nobody gets more than the limit, and who has room gets it at once."""

    async def work(one: Replica, two: Replica) -> None:
        for replica in (one, two, one, two):
            await replica.step()
        assert await one.admit(40) == 40
        for replica in (one, two):
            await replica.step()
        own_redis.kill()
        begin = time.monotonic()
        passed = [await one.admit(100), await two.admit(100)]
        assert passed == [30, 30]
        assert time.monotonic() - begin < 10
        own_redis.start()
        for replica in (one, two):
            await replica.until(lambda replica=replica: replica.limiter.asks)  # type: ignore[misc]
        await one.step()
        assert await one.admit(5) + await two.admit(5) == 0, "what was used before and meanwhile counts"

    run(work, RedisExchange(own_redis.url, "p"), RedisExchange(own_redis.url, "p"))


async def use_and_lose(one: Replica, two: Replica, server: Redis, prefix: str) -> None:
    """Let one of two replicas use 60 of 100 that both know of, and empty the store."""
    for replica in (one, two, one, two):
        await replica.step()
    assert await one.admit(60) == 60
    for replica in (one, two):
        await replica.step()
    store = server.connect()
    store.delete(*store.scan_iter(f"{{{prefix}}}:*"))


def test_redis_loses_everything_between_two_questions(redis_server: Redis, metric: str) -> None:
    async def work(one: Replica, two: Replica) -> None:
        await use_and_lose(one, two, redis_server, metric)
        assert await one.admit(5) == 5
        assert await two.admit(5) == 5
        for replica in (one, two, one, two):
            await replica.until(lambda replica=replica: replica.limiter.asks)  # type: ignore[misc]
            await replica.step()
        assert await two.admit(100) + await one.admit(100) == 30

    run(work, RedisExchange(redis_server.url, metric), RedisExchange(redis_server.url, metric))


def test_a_replica_that_is_idle_tells_a_redis_that_has_lost_everything(redis_server: Redis, metric: str) -> None:
    async def work(one: Replica, two: Replica) -> None:
        await use_and_lose(one, two, redis_server, metric)
        await one.until(lambda: not one.limiter.asks)  # it has noticed
        assert await two.admit(100) == 20, "its share"
        for replica in (one, two):
            await replica.until(lambda replica=replica: replica.limiter.asks)  # type: ignore[misc]
        assert await two.admit(100) == 20, "and the rest"

    run(work, RedisExchange(redis_server.url, metric), RedisExchange(redis_server.url, metric))


def test_a_redis_that_does_not_answer_delays_a_request_for_a_moment_only(own_redis: Redis) -> None:
    async def work(one: Replica) -> None:
        await one.step()
        assert await one.admit(1) == 1
        own_redis.signal(signal.SIGSTOP)
        try:
            assert await asyncio.wait_for(one.admit(200), 5) == 99
            assert str(one.exchange.accounts.failure) == "no response within 0.25 seconds"
        finally:
            own_redis.signal(signal.SIGCONT)
        await one.until(lambda: one.limiter.asks)

    run(work, RedisExchange(own_redis.url, "p"))


def test_many_questions_at_once_go_together(redis_server: Redis, metric: str) -> None:
    async def work(one: Replica, two: Replica) -> None:
        for replica in (one, two):
            await replica.step()
        passed = await asyncio.gather(*(replica.admit(1) for replica in (one, two) for _ in range(300)))
        assert 95 <= sum(passed) <= 100

    run(work, RedisExchange(redis_server.url, metric), RedisExchange(redis_server.url, metric))


def test_what_somebody_else_wrote_there_is_an_outage(redis_server: Redis, metric: str) -> None:
    async def work(one: Replica) -> None:
        await one.step()
        redis_server.connect().set(f"{{{metric}}}:account:{KEY}", "nonsense")
        assert await one.admit(5) == 5, "the share goes on"
        assert one.exchange.accounts.failure is not None

    run(work, RedisExchange(redis_server.url, metric))
