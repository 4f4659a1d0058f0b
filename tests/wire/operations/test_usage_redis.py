"""The usage report in Redis: it gives the answers of the state file, and each batch counts once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.processes import auth_flags
from tests.support.wire.servers import Redis
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway
from tests.wire.operations.test_usage import PAGE, QUERY, Sent, amounts, answers, report, traffic
from vmgw_addons.cli.main import main
from vmgw_addons.sources.kept import usage_table
from vmgw_addons.sources.kept.redis_usage import RedisUsage
from vmgw_addons.sources.kept.usage_store import FileUsage
from vmgw_addons.support import StateError, StateFile
from vmgw_core.usage import Amounts, Key, Period, Question, Report, start_of

NOW = 498_849  # 2026-11-28T09:00:00Z
EVERY = Amounts(queries=1, rows=2, bytes_in=3, bytes_out=4, seconds=0.25, series_fetched=6, refusals=7)


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def same(found: Report) -> Report:
    return found


def test_the_answers_are_those_of_the_state_file(redis_server: Redis, metric: str, tmp_path: Path) -> None:
    pick = random.Random(5)  # noqa: S311
    file = StateFile(str(tmp_path / "state"), (usage_table.TABLE,))
    stores = (FileUsage(file), RedisUsage(redis_server.url, metric))
    last = start_of(NOW - usage_table.HOURS_KEPT, Period.DAY)

    async def compare() -> None:
        for batch in range(40):
            some = {
                Key(NOW - pick.randrange(60 * 24), pick.choice(("1:0", "2:5")), pick.choice(("", "a b", "é\n"))): EVERY
                for _ in range(20)
            }
            for store in stores:
                await store.add(str(batch), some, 400 * 24)
        await stores[0].tidy(NOW, 400 * 24)
        lines = 0
        for by in Period:
            for first, end in (
                (0, NOW + 1),
                (last - 30, last + 30),
                (last, NOW + 5000),
                (NOW - 50, NOW - 3),
                (NOW - 24 * 9 + 5, NOW),
                (last - 100, last - 26),
            ):
                for whose in ({}, {"tenant": "1:0"}, {"subject": ""}, {"tenant": "2:5", "subject": "é\n"}):
                    question = Question(first=first, end=end, by=by, **whose)
                    in_file, in_redis = [await store.read(question, NOW, same) for store in stores]
                    assert in_redis == in_file
                    lines += len(in_file.lines)
        assert lines > 1000
        await file.close()
        await stores[1].close()

    asyncio.run(compare())


def test_a_batch_whose_reply_was_lost_counts_once_and_what_is_old_expires(redis_server: Redis, metric: str) -> None:
    store, key = RedisUsage(redis_server.url, metric), Key(NOW, "1:0", "a")

    async def add_twice() -> Report:
        for _ in range(2):
            await store.add("first", {key: EVERY}, 24)
        await store.add("second", {key: EVERY}, 24)
        return await store.read(Question(first=NOW, end=NOW + 1), NOW, same)

    (line,) = asyncio.run(add_twice()).lines
    assert line.amounts == Amounts(
        queries=2, rows=4, bytes_in=6, bytes_out=8, seconds=0.5, series_fetched=12, refusals=14
    )
    client = redis_server.connect()
    lives = {str(name).rpartition("usage:")[2]: client.ttl(name) for name in client.keys(f"{{{metric}}}*")}
    days = {name.partition(":")[0]: round(life / 86400) for name, life in lives.items()}
    assert (len(lives), days) == (3, {"last": 7, "day": 3, "hour": 42})
    client.hset(f"{{{metric}}}:usage:hour:{NOW}", "other", "x")
    with pytest.raises(StateError, match=r"^-ratelimit.storage: a hash of the usage report has something unexpected$"):
        asyncio.run(store.read(Question(first=NOW, end=NOW + 1, by=Period.HOUR), NOW, same))


def test_a_report_that_is_too_long_is_refused(
    redis_server: Redis, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmgw_addons.sources.kept.redis_usage.MOST_LINES", 3)
    store = RedisUsage(redis_server.url, metric)
    asyncio.run(store.add("a", {Key(NOW, "1:0", str(number)): EVERY for number in range(4)}, 24))
    with pytest.raises(usage_table.TooLong):
        asyncio.run(store.read(Question(first=NOW, end=NOW + 1), NOW, same))


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_replicas_have_one_report_that_outlives_them(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    key_file: Path,
    key: SigningKey,
    own_redis: Redis,
    lane: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream.responder = answers
    flags = [*auth_flags(upstream.url, key_file), f"-ratelimit.storage={own_redis.url}", "-usage.retention=400d"]
    first, second = (start_gateway(*flags, "-flagsAuthKey=k3y", f"-lane={lane}") for _ in range(2))
    sent = Sent()
    traffic(first, key, sent)
    traffic(second, key, sent)
    expected = {who: +counted for who, counted in sent.amounts.items()}
    report(second)  # so that it writes what it has
    assert amounts(report(first)) == expected
    first.kill()
    second.stop()  # a clean stop loses nothing
    second.start()
    assert amounts(report(second)) == expected
    assert main(["usage", f"-ratelimit.storage={own_redis.url}", "--by=month"], {}) == 0
    assert capsys.readouterr().out == second.client().get(f"{PAGE}&format=text").text

    client = second.client(key.mint(tenant(1, 5), sub="alice"))
    queries = report(second)["total"]["queries"]
    own_redis.kill()
    assert client.get(QUERY).status == 200
    second.wait_until(
        lambda: second.metric("vmgateway_failing", what="-usage.retention", reason="refused") == 1, what="tells it"
    )
    assert second.client().get(PAGE).status == 503
    assert client.get(QUERY).status == 200
    own_redis.start()  # empty: it keeps nothing on a disk here
    second.wait_until(lambda: second.client().get(PAGE).status == 200, what="writes again")
    second.wait_until(lambda: report(second)["total"]["queries"] in (2, queries + 2), what="writes what waited, once")
