"""The log of series in Redis: what a record is. tests/wire/limits/test_redis_series.py has the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.core.limiters import A, limit
from vmgw_addons.outgoing import RequestFailed
from vmgw_addons.sources.exchange import redis_series
from vmgw_addons.sources.exchange.redis_series import MAX_BODY, MAX_SERIES, RedisSeries, read, records, written
from vmgw_core.limits import MAX_KEY, Limiter, SeriesNews

KEY = "active_series/minute/1:0"
NEWS = SeriesNews("1:0", KEY, 5.0, [1, MAX_KEY])
BODY = written("me", NEWS, NEWS.series)


def record(body: bytes, at: float = 7.0) -> bytes:
    return redis_series._HEAD.pack(len(body), at) + body


@pytest.mark.parametrize(
    ("tenant", "key"),
    [("1:0", KEY), ("", "active_series/minute/total"), ("1:0", f'{KEY}/{{a="b c\n\ud800"}}'), ("1:0", "")],
)
def test_what_is_written_is_read(tenant: str, key: str) -> None:
    news = SeriesNews(tenant, key, 5.0, list(range(1, MAX_SERIES + 1)))
    assert read(written("me", news, news.series), 5.0) == ("me", news)


@pytest.mark.parametrize(
    ("body", "at"),
    [
        pytest.param(b"", 1.0, id="empty"),
        pytest.param(BODY[:-1], 1.0, id="cut off"),
        pytest.param(b"\xff\xff\xff\xff" + BODY[4:], 1.0, id="a text beyond the end"),
        pytest.param(written("me", NEWS, []), 1.0, id="no series"),
        pytest.param(written("me", NEWS, [0]), 1.0, id="zero is no hash"),
        pytest.param(written("me", NEWS, [MAX_KEY + 1]), 1.0, id="49 bits"),
        pytest.param(written("me", NEWS, [1] * (MAX_SERIES + 1)), 1.0, id="too many"),
        pytest.param(written("me", NEWS._replace(tenant="1:x"), [1]), 1.0, id="no tenant"),
        pytest.param(BODY.replace(b"me 1:0", b"me_1:0"), 1.0, id="a word is missing"),
        pytest.param(BODY.replace(b"me", b"\xff\xff"), 1.0, id="not UTF-8"),
        pytest.param(BODY, float("nan"), id="no time"),
        pytest.param(BODY, float("inf"), id="an infinite time"),
    ],
)
def test_what_no_replica_wrote_is_refused(body: bytes, at: float) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(body, at)


@given(st.binary(max_size=200), st.floats())
def test_any_bytes_are_a_record_or_a_value_error(body: bytes, at: float) -> None:
    limiter = Limiter([limit("active_series", 10)])
    try:
        for _, told, each in records(body):
            limiter.learn_series(read(each, told)[1], 1.0)
        limiter.learn_series(read(BODY[: len(body) % 60] + body, at)[1], 1.0)
    except ValueError:
        pass


def test_records_are_read_up_to_the_last_whole_one() -> None:
    data = record(BODY) + record(b"x", 8.0)
    size = len(record(BODY))
    assert list(records(data)) == [(size, 7.0, BODY), (len(data), 8.0, b"x")]
    assert list(records(data[:-1])) == [(size, 7.0, BODY)]
    assert list(records(data[: size + 5])) == [(size, 7.0, BODY)]
    with pytest.raises(ValueError, match="not a record"):
        list(records(redis_series._HEAD.pack(MAX_BODY + 1, 7.0)))


# --- a store that does as it is told ---------------------------------------------------------------------------------


class Script:
    """Gives the replies, one after the other. The last one is given again and again."""

    def __init__(self, *replies: object) -> None:
        self.replies = list(replies)
        self.asked: list[Sequence[object]] = []

    async def __call__(self, keys: Sequence[str], args: Sequence[object]) -> object:
        self.asked.append(args)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def register_script(self, text: str) -> Script:
        return self

    def told(self, ask: int = -1) -> list[tuple[float, bytes]]:
        told = self.asked[ask][5:]
        return [(float(cast("str", at)), cast("bytes", body)) for at, body in zip(told[::2], told[1::2], strict=True)]


def series_of(script: Script) -> RedisSeries:
    return RedisSeries(cast("redis.asyncio.Redis", script), "{p}:")


def sharing(*series: int, now: float = 5.0) -> Limiter:
    limiter = Limiter([limit("active_series", 100)])
    limiter.share_series(limiter.series_key)
    if series:
        limiter.take_rows(A, len(series), now, "", set(series))
    return limiter


def reply(limiter: Limiter, *found: Sequence[object], epoch: bytes = b"e" * 16) -> list[object]:
    return [limiter.series_key.hex().encode(), epoch, b"1000.5", *found]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        b"OK",
        [b"ab" * 16, b"e" * 16],
        [b"xy" * 16, b"e" * 16, b"1.0"],
        [b"ab" * 17, b"e" * 16, b"1.0"],
        [b"ab" * 16, 7, b"1.0"],
        [b"ab" * 16, b"e" * 16, b"inf", [1, 0, record(BODY)]],
        [b"ab" * 16, b"e" * 16, b"1.0", b"found"],
        [b"ab" * 16, b"e" * 16, b"1.0", [1, 0, "a text and no bytes"]],
        [b"ab" * 16, b"e" * 16, b"1.0", [1, None, b""]],
        [b"ab" * 16, b"e" * 16, b"1.0", [1, 0, record(b"x")]],
    ],
)
def test_a_reply_that_the_script_never_gives_is_an_outage(wrong: object) -> None:
    with pytest.raises(RequestFailed, match="the script returned something unexpected"):
        asyncio.run(series_of(Script(wrong)).swap(sharing(1), 5.0))


def test_what_could_not_be_told_is_told_later_with_its_age() -> None:
    limiter = sharing(1, 2)
    script = Script(RedisConnectionError("down"), RedisConnectionError("down"), reply(limiter))
    log = series_of(script)

    async def work() -> None:
        for now in (5.0, 25.0):
            with pytest.raises(RequestFailed):
                await log.swap(limiter, now)
            limiter.take_rows(A, 1, now + 10.0, "", {int(now)})
        assert not await log.swap(limiter, 65.0)
        assert [(age, sorted(read(body, 0.0)[1].series)) for age, body in script.told()] == [
            (60.0, [1, 2]),
            (40.0, [5]),
            (0.0, [25]),
        ]
        await log.swap(limiter, 66.0)
        assert script.told() == []

    asyncio.run(work())


def test_what_waits_to_be_told_is_bounded_and_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(written("x" * 16, NEWS, [1]))
    monkeypatch.setattr(redis_series, "MAX_UNTOLD", 4 * size)
    monkeypatch.setattr(redis_series, "_MAX_TOLD", 3 * size)
    limiter = sharing()
    script = Script(*[RedisConnectionError("down")] * 6, reply(limiter))
    log = series_of(script)

    async def work() -> None:
        for number in range(1, 7):
            limiter.take_rows(A, 1, 5.0, "", {number})
            with pytest.raises(RequestFailed):
                await log.swap(limiter, 5.0)
        assert await log.swap(limiter, 5.0)
        assert [read(body, 0.0)[1].series for _, body in script.told()] == [[3], [4], [5]]
        assert not await log.swap(limiter, 5.0)
        assert [read(body, 0.0)[1].series for _, body in script.told()] == [[6]]

    asyncio.run(work())


def test_a_name_that_is_too_long_is_not_told() -> None:
    limiter = Limiter([limit("active_series", 10, labels=(("a", "b" * MAX_BODY),)), limit("active_series", 10)])
    limiter.share_series(limiter.series_key)
    limiter.take_rows(A._replace(labels=(("a", "b" * MAX_BODY),)), 1, 5.0, "", {1})
    script = Script(reply(limiter))
    asyncio.run(series_of(script).swap(limiter, 5.0))
    assert [read(body, 0.0)[1].key for _, body in script.told()] == [KEY]


def test_reading_goes_on_where_it_ended_and_after_what_is_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, now = sharing(), time.monotonic()
    one, two = (record(written("other", NEWS, [number]), 1000.0) for number in (1, 2))
    script = Script(
        reply(limiter, [3, 100, one + two[:-5]], [2, 0, one]), reply(limiter, [3, 100 + len(one), two + record(b"")]),
        reply(limiter, *([number, 0, one] for number in range(10, 50))), reply(limiter),
    )  # fmt: skip
    log = series_of(script)
    monkeypatch.setattr(redis_series, "_MAX_READ", 3 * len(one) - 5)

    async def work() -> None:
        assert await log.swap(limiter, now)
        assert log._read_to == {3: 100 + len(one), 2: len(one)}
        assert next(limiter.status(now)).usage == 1
        with pytest.raises(RequestFailed):
            await log.swap(limiter, now)
        assert next(limiter.status(now)).usage == 2
        assert log._read_to == {3: 100 + len(one) + len(two) + len(record(b"")), 2: len(one)}
        await log.swap(limiter, now)
        assert sorted(log._read_to) == list(range(18, 50)), "as many as there are segments"

    asyncio.run(work())


def test_own_records_are_not_learned() -> None:
    limiter, now = sharing(), time.monotonic()
    log = series_of(script := Script())
    script.replies = [reply(limiter, [1, 0, record(written(log._writer, NEWS, [1]))])]
    asyncio.run(log.swap(limiter, now))
    assert list(limiter.status(now)) == []


def test_large_reads_are_not_all_there_is() -> None:
    limiter = sharing()
    piece = record(written("other", NEWS, [1] * MAX_SERIES), 1000.0)
    script = Script(reply(limiter, [1, 0, (piece * 5)[: redis_series._MAX_READ]]))
    assert asyncio.run(series_of(script).swap(limiter, time.monotonic()))


def test_another_key_is_taken_over() -> None:
    limiter, other = sharing(1, 2), sharing()
    script = Script(reply(other))

    async def work() -> None:
        log = series_of(script)
        await log.swap(limiter, 5.0)
        assert limiter.series_key == other.series_key
        assert next(limiter.status(5.0)).usage == 0
        await log.swap(limiter, 5.0)
        assert script.asked[-1][0] == other.series_key.hex()
        assert script.told() == []

    asyncio.run(work())


def test_who_begins_a_new_log_tells_all_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_series, "_MAX_RETOLD", 1)
    now = time.monotonic()
    limiter = sharing(1, 2, now=now)
    limiter.take_rows(A._replace(tenant=None), 1, now, "", {9})
    script = Script(reply(limiter))
    log = series_of(script)

    async def work() -> None:
        await log.swap(limiter, now)
        monkeypatch.setattr(redis_series, "token_hex", lambda size: "f" * 2 * size)
        script.replies = [reply(limiter, epoch=b"f" * 16)]
        await log.swap(limiter, now)
        assert script.told() == []
        await log.swap(limiter, now)
        assert [sorted(read(body, 0.0)[1].series) for _, body in script.told()] == [[1, 2]]
        for _ in range(2):
            await log.swap(limiter, now)
            assert script.told() == []
        script.replies = [reply(limiter, epoch=b"a" * 16)]  # another replica has begun it
        for _ in range(2):
            await log.swap(limiter, now)
            assert script.told() == []

    asyncio.run(work())
