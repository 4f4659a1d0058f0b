"""The series that replicas share through a real Redis: what each knows, what the store holds, and what may fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest

from tests.support.core.limiters import A, B, limit
from tests.support.wire.servers import Redis
from vmgw_addons.outgoing import RequestFailed
from vmgw_addons.sources.exchange import redis_series
from vmgw_addons.sources.exchange.redis_exchange import RedisExchange
from vmgw_core.base import Subject
from vmgw_core.errors import RateLimited
from vmgw_core.limits import Limiter
from vmgw_core.limits.windows.series_counts import LEARNING, MEMORY

LIMITS = (limit("active_series", 1_000_000), limit("active_series", 1_000_000, total=True))


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """One that a test may kill."""
    with Redis() as server:
        yield server


class Replica:
    """A gateway's limiter and its exchange of series, driven by hand."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self.limiter = Limiter(LIMITS)
        self.limiter.share_series(self.limiter.series_key)  # as the first swap does
        self.exchange = RedisExchange(redis.url, prefix)

    def write(self, *series: int, subject: Subject = A) -> None:
        self.limiter.take_rows(subject, len(series), time.monotonic(), "", set(series))

    async def swap(self) -> bool:
        return await self.exchange.swap_series(self.limiter, time.monotonic())

    async def read(self) -> None:
        """Swap until there is nothing more."""
        while await self.swap():
            pass

    def series(self) -> set[int]:
        return {series for news in self.limiter.known_series(time.monotonic()) for series in news.series}

    def known(self, subject: Subject = A) -> int:
        return self.limiter.status_of(subject, time.monotonic())[0].usage


@pytest.fixture
def run(redis_server: Redis, metric: str) -> Callable[..., None]:
    """Runs a test with so many replicas."""

    def run(work: Callable[..., Awaitable[None]], number: int, redis: Redis = redis_server) -> None:
        async def main() -> None:
            replicas = [Replica(redis, metric) for _ in range(number)]
            try:
                await work(*replicas)
            finally:
                for replica in replicas:
                    await replica.exchange.close()

        asyncio.run(main())

    return run


def keys(redis: Redis, prefix: str) -> list[str]:
    return sorted(redis.connect().scan_iter(f"{{{prefix}}}:series*"))


Run = Callable[..., None]


def test_replicas_hash_with_one_key_and_know_what_the_others_have_seen(run: Run) -> None:
    async def work(one: Replica, two: Replica, three: Replica) -> None:
        for replica in (one, two, three):
            await replica.swap()
        hashes = {replica.limiter.label_hashes.hash(b"a", b"b") for replica in (one, two, three)}
        assert len(hashes) == 1
        one.write(1, 2)
        two.write(2, 3)
        one.write(7, subject=B)
        for replica in (one, two, one, three):
            await replica.swap()
        for replica in (one, two, three):
            assert (replica.known(), replica.known(B)) == (3, 1)
            usages = replica.limiter.status(time.monotonic())
            assert [usage.usage for usage in usages if usage.limit.total] == [4]

    run(work, 3)


def test_one_that_comes_late_learns_all_and_the_newest_first(
    run: Run, redis_server: Redis, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_series, "SCRIPT", redis_series.SCRIPT.replace(str(redis_series.SEGMENT), "100000"))

    async def work(one: Replica, late: Replica) -> None:
        for part in range(6):
            one.write(*range(part * 5000 + 1, part * 5000 + 5001))
            await one.read()
        assert len(keys(redis_server, metric)) > 5
        newest = set(range(25_001, 30_001))
        while not newest <= late.series():
            assert await late.swap(), "there is more"
        assert len(late.series()) < 15_000
        await late.read()
        assert late.known() == 30_000

    run(work, 2)


def test_the_store_is_bounded(run: Run, redis_server: Redis, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = redis_series.SCRIPT.replace(str(redis_series.SEGMENT), "20000")
    monkeypatch.setattr(redis_series, "SCRIPT", script)
    most = (redis_series.SEGMENTS + 1) * 20_000

    async def work(one: Replica, live: Replica, late: Replica) -> None:
        for replica in (one, live):
            await replica.swap()
        store = redis_server.connect()
        for part in range(30):
            one.write(*range(part * 2000 + 1, part * 2000 + 2001))
            await one.swap()
            await live.read()
            assert sum(int(store.strlen(key)) for key in keys(redis_server, metric)[1:]) <= most
        assert live.known() == 60_000
        assert len(keys(redis_server, metric)) <= 2 + redis_series.SEGMENTS
        for key in keys(redis_server, metric):
            assert MEMORY < store.ttl(key) <= MEMORY + 900
        await late.read()
        assert 20_000 < late.known() < 40_000, "what the store has dropped is not known"

    run(work, 3)


def test_a_segment_that_is_gone_is_not_begun_again(run: Run, redis_server: Redis, metric: str) -> None:
    """It may expire before the rest: those who had read it would miss what comes."""

    async def work(one: Replica, two: Replica) -> None:
        for replica in (one, two):
            await replica.swap()
        one.write(*range(1, 1000))
        for replica in (one, two):
            await replica.swap()
        segment = keys(redis_server, metric)[-1]
        redis_server.connect().delete(segment)
        one.write(1001)
        for replica in (one, two):
            await replica.swap()
        assert keys(redis_server, metric)[-1] > segment
        assert two.known() == 1000

    run(work, 2)


def test_a_segment_that_has_lost_its_end_is_read_again(run: Run, redis_server: Redis, metric: str) -> None:
    """As after a restart with what was on disk, or a failover."""

    async def work(one: Replica, two: Replica) -> None:
        for replica in (one, two):
            await replica.swap()
        one.write(1)
        await one.swap()
        segment = keys(redis_server, metric)[-1]
        before = redis_server.connect().strlen(segment)
        one.write(*range(2, 100))
        for replica in (one, two):
            await replica.swap()
        shorten = "redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], 0, ARGV[1]))"
        redis_server.connect().eval(shorten, 1, segment, int(before) - 1)
        one.write(100)
        for replica in (one, two):
            await replica.swap()
        assert two.known() == 100

    run(work, 2)


def test_one_that_has_counted_alone_takes_over_the_key(run: Run, redis_server: Redis, metric: str) -> None:
    async def work(one: Replica, alone: Replica) -> None:
        one.write(1, 2)
        await one.swap()
        alone.write(11, 12, 13)
        await alone.swap()
        assert alone.limiter.series_key == one.limiter.series_key
        assert alone.known() == 2, "its own hashes mean nothing now"
        await one.swap()
        assert one.known() == 2, "and were not told"
        alone.write(3)
        for replica in (alone, one):
            await replica.swap()
        assert one.known() == alone.known() == 3

    run(work, 2)


def test_a_new_replica_does_not_change_the_key_of_those_that_run(run: Run, redis_server: Redis, metric: str) -> None:
    async def work(one: Replica, two: Replica, new: Replica, newer: Replica) -> None:
        for replica in (one, two):
            await replica.swap()
        one.write(1, 2)
        for replica in (one, two):
            await replica.swap()
        shared = one.limiter.series_key
        redis_server.connect().delete(*keys(redis_server, metric))
        new.write(11, 12, 13)
        for replica in (new, new, newer):
            await replica.swap()
        assert newer.limiter.series_key == new.limiter.series_key != shared
        for replica in (two, two, one, new, newer):
            await replica.swap()
        for replica in (one, two, new, newer):
            assert (replica.limiter.series_key, replica.known()) == (shared, 2)
        redis_server.connect().delete(*keys(redis_server, metric))
        for replica in (new, new, one, two, newer):
            await replica.read()
        for replica in (one, two, new, newer):
            assert (replica.limiter.series_key, replica.known()) == (shared, 2)

    run(work, 4)


def test_redis_killed_and_back_empty(run: Run, own_redis: Redis) -> None:
    async def work(one: Replica, two: Replica, late: Replica) -> None:
        one.write(1, 2)
        for replica in (one, two):
            await replica.swap()
        own_redis.kill()
        one.write(3)
        two.write(4, 5)
        for replica in (one, two):
            with pytest.raises(RequestFailed):
                await replica.swap()
        assert (one.known(), two.known()) == (3, 4), "each goes on with what it knows"
        one.write(6)
        own_redis.start()
        for replica in (one, two, one, two):
            await replica.read()
        assert one.known() == two.known() == 6
        await late.read()
        assert late.known() == 6, "all that was lost is told again"
        assert late.limiter.series_key == one.limiter.series_key == two.limiter.series_key

    run(work, 3, own_redis)


def test_a_store_that_was_emptied_is_filled_again(run: Run, redis_server: Redis, metric: str) -> None:
    async def work(one: Replica, two: Replica, late: Replica) -> None:
        for replica in (one, two):
            await replica.swap()
        one.write(*range(1, 20_001))
        two.write(20_001, subject=B)
        for replica in (one, two, one):
            await replica.read()
        store = redis_server.connect()
        store.delete(*keys(redis_server, metric))
        for _ in range(8):
            for replica in (two, one):
                await replica.read()
        await late.read()
        assert (late.known(), late.known(B)) == (20_000, 1)
        size = sum(int(store.strlen(key)) for key in keys(redis_server, metric)[1:])
        assert size < 2.2 * 8 * 20_000, "one of them has told it: for the tenant and for all"

    run(work, 3)


def test_a_limit_on_new_series_holds_over_all(redis_server: Redis, metric: str) -> None:
    async def main() -> None:
        now = time.monotonic()
        limiters = [Limiter([limit("new_series", 3)]) for _ in range(2)]
        exchanges = [RedisExchange(redis_server.url, metric) for _ in range(2)]
        for limiter in limiters:
            limiter.take_rows(A, 1, now - LEARNING, "", {1})
        for number, (limiter, exchange) in enumerate(zip(limiters, exchanges, strict=True)):
            await exchange.swap_series(limiter, now)
            limiter.take_rows(A, 1, now - LEARNING, "", {1})  # the key of one was another
            limiter._counters._learned = dict.fromkeys(limiter._counters._learned, now)
            limiter.take_rows(A, 1, now, "", {10 + number})
        for exchange, limiter in [*zip(exchanges, limiters, strict=True)] * 2:
            await exchange.swap_series(limiter, now)
        for limiter in limiters:
            assert limiter.status_of(A, now)[0].usage == 2
            limiter.take_rows(A, 2, now, "", {10, 11})
            with pytest.raises(RateLimited):
                limiter.take_rows(A, 2, now, "", {20, 21})
        for exchange in exchanges:
            await exchange.close()

    asyncio.run(main())


def corrupt_entry(redis: Redis, prefix: str, field: str, value: str) -> None:
    redis.connect().hset(f"{{{prefix}}}:series", field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("key", value) for value in ("", "x", "ab" * 15, "ab" * 1000, "g" * 32)),
        *(("epoch", value) for value in ("", "x" * 16, "ab" * 1000)),
        *(("newest", value) for value in ("", "-1", "1e300", "nan", "inf", "0.5", "many")),
    ],
)
def test_a_log_whose_description_is_wrong_is_begun_anew(
    run: Run, redis_server: Redis, metric: str, field: str, value: str
) -> None:
    async def work(one: Replica, two: Replica) -> None:
        for replica in (one, two):
            await replica.swap()
        corrupt_entry(redis_server, metric, field, value)
        one.write(1)
        two.write(2)
        for replica in (one, two, one, two):
            await replica.swap()
        assert one.known() == two.known() == 2

    run(work, 2)


@pytest.mark.parametrize(
    "garbage",
    [
        b"x",
        b"\0" * 100,
        b"\xff" * 100_000,
        redis_series._HEAD.pack(20, 1e300) + b"\0" * 20,
        redis_series._HEAD.pack(2, float("nan")) + b"no",
    ],
)
def test_what_no_replica_wrote_is_passed_over(run: Run, redis_server: Redis, metric: str, garbage: bytes) -> None:
    async def work(one: Replica, two: Replica) -> None:
        one.write(1)
        for replica in (one, two):
            await replica.swap()
        redis_server.connect().append(keys(redis_server, metric)[-1], garbage)
        known: Sequence[int] = ()
        for number in range(2, 12):
            one.write(number)
            for replica in (one, two):
                try:
                    await replica.swap()
                except RequestFailed as error:
                    assert str(error) == "the script returned something unexpected"  # noqa: PT017
            known = (*known, two.known())
        await two.read()
        assert known[-1] >= 8, "it goes on with what comes later"
        assert one.known() == 11

    run(work, 2)


def test_a_key_of_another_kind_is_an_outage(run: Run, redis_server: Redis, metric: str) -> None:
    async def work(one: Replica) -> None:
        redis_server.connect().set(f"{{{metric}}}:series", "no hash")
        with pytest.raises(RequestFailed, match=r"^WRONGTYPE$"):
            await one.swap()
        one.write(1)
        assert one.known() == 1

    run(work, 1)


def test_many_new_series_do_not_stall_the_event_loop(run: Run) -> None:
    """Between two pieces of work others have their turn: as often as there are records."""

    async def work(one: Replica, two: Replica) -> None:
        for replica in (one, two):
            await replica.swap()
        one.write(*range(1, 25_001))
        await one.read()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.get_running_loop().create_task(other())
        await two.read()
        task.cancel()
        assert two.known() == 25_000
        assert turns >= 2 * 25_000 / redis_series.MAX_SERIES

    run(work, 2)
