"""The usage report that replicas share through Redis or Valkey.

For each hour and each day the store has a hash from amount, tenant and subject to a number. Hours expire after
``HOURS_KEPT``, days after the retention. The store knows the last batch of each process, so that one whose reply was
lost can be sent again. All keys have one hash tag, so that a Redis cluster keeps them together. All work is done in
threads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from secrets import token_hex
from typing import Any, Final, TypeVar

import redis
from redis.exceptions import RedisError

from vmgw_addons.sources.exchange.redis_accounts import reason_of
from vmgw_addons.support import OneThread, StateError
from vmgw_core.errors import ConfigurationError
from vmgw_core.usage import NAMES, Amounts, Key, Line, Period, Question, Report, start_of

from .usage_table import HOURS_KEPT, MOST_LINES, TooLong

T = TypeVar("T")

TIMEOUT: Final = 5.0
"""Seconds for a connection, and for a reply."""
_BATCH_KEPT: Final = 7 * 86400  # seconds that the name of the last batch is kept
_AT_ONCE: Final = 24  # hashes read in one round trip
_SLACK: Final = 48  # hours that a hash is kept longer than it is needed
_MICROSECONDS: Final = 1_000_000  # seconds are kept as integers

SCRIPT: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local lives = cjson.decode(ARGV[3])
for index, amounts in ipairs(cjson.decode(ARGV[4])) do
    local key = KEYS[index + 1]
    for place = 1, #amounts, 2 do redis.call('HINCRBY', key, amounts[place], amounts[place + 1]) end
    redis.call('EXPIRE', key, lives[index])
end
return 1
"""


class RedisUsage:
    """The report in the store of ``-ratelimit.storage``."""

    name = "-ratelimit.storage"

    def __init__(self, url: str, prefix: str) -> None:
        """Raises ``ConfigurationError``, without the URL, if that is not one of a Redis."""
        try:
            self._client = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None, max_connections=2
            )
        except (ValueError, TypeError, RedisError):
            raise ConfigurationError("-ratelimit.storage: expected a URL such as redis://host:6379/0") from None
        self._script = self._client.register_script(SCRIPT)
        self._id = token_hex(8)
        self._base = f"{{{prefix}}}:usage:"
        self._writer = OneThread("usage report")
        self._reader = OneThread("usage report, reading")

    async def add(self, batch: str, amounts: Mapping[Key, Amounts], retention: int) -> None:
        await self._writer.call(lambda: self._add(batch, amounts, retention))

    async def tidy(self, hour: int, retention: int) -> None:
        """Do nothing: what is old expires."""

    async def read(self, question: Question, hour: int, make: Callable[[Report], T]) -> T:
        return await self._reader.call(lambda: make(self._read(question, hour)))

    async def close(self) -> None:
        await self._writer.call(self._client.close)

    def _add(self, batch: str, amounts: Mapping[Key, Amounts], retention: int) -> None:
        hashes: dict[str, list[str]] = {}
        lives: dict[str, int] = {}
        for key, each in amounts.items():
            for name, life in (self._hour(key.hour), HOURS_KEPT), (self._day(key.hour), retention):
                lives[name] = (life + _SLACK) * 3600
                added = hashes.setdefault(name, [])
                for amount, number in zip(NAMES, each.values(), strict=True):
                    if number:
                        count = round(number * _MICROSECONDS) if amount == "seconds" else number
                        added += f"{amount} {key.tenant} {key.subject}", str(count)
        keys = [f"{self._base}last:{self._id}", *hashes]
        arguments = (list(lives.values()), list(hashes.values()))
        try:
            self._script(keys=keys, args=[batch, _BATCH_KEPT, *map(json.dumps, arguments)])
        except (RedisError, OSError) as error:
            raise self._error(error) from None

    def _read(self, question: Question, hour: int) -> Report:
        found: dict[tuple[int, str, str], Amounts] = {}
        hashes = list(_hashes(question, hour))
        for begin in range(0, len(hashes), _AT_ONCE):
            some = hashes[begin : begin + _AT_ONCE]
            try:
                pipeline = self._client.pipeline(transaction=False)
                for at, whole_day in some:
                    pipeline.hgetall(self._day(at) if whole_day else self._hour(at))
                replies = pipeline.execute()
            except (RedisError, OSError) as error:
                raise self._error(error) from None
            try:
                for (at, _), reply in zip(some, replies, strict=True):
                    _sum_up(found, question, start_of(at, question.by), reply)
            except (ValueError, TypeError, AttributeError):
                raise StateError(f"{self.name}: a hash of the usage report has something unexpected") from None
            if len(found) > MOST_LINES:
                raise TooLong
        return Report(question, [Line(*who, found[who]) for who in sorted(found)])

    def _hour(self, hour: int) -> str:
        return f"{self._base}hour:{hour}"

    def _day(self, hour: int) -> str:
        return f"{self._base}day:{hour // 24}"

    def _error(self, error: BaseException) -> StateError:
        reason = reason_of(error)
        return StateError(f"{self.name}: {reason.text}", reason.cause)


def _hashes(question: Question, hour: int) -> Iterator[tuple[int, bool]]:
    """Yield the hashes that have the answer: an hour, and whether that stands for its day. ``hour``: the present one.

    The hours of an old day are gone: it is in its first hour.
    """
    first, end = question.first, min(question.end, hour + _SLACK)
    for day in range(start_of(first, Period.DAY), end, 24):
        if day < start_of(hour - HOURS_KEPT, Period.DAY):
            if first <= day:
                yield day, True
        elif first <= day and day + 24 <= end and question.by is not Period.HOUR:
            yield day, True
        else:
            for each in range(max(first, day), min(end, day + 24)):
                yield each, False


def _sum_up(
    found: dict[tuple[int, str, str], Amounts], question: Question, start: int, reply: Mapping[bytes, Any]
) -> None:
    for field, number in reply.items():
        amount, tenant, subject = field.decode().split(" ", 2)
        if question.tenant not in (None, tenant) or question.subject not in (None, subject):
            continue
        amounts = found.setdefault((start, tenant, subject), Amounts())
        value = int(number) / _MICROSECONDS if amount == "seconds" else int(number)
        setattr(amounts, amount, getattr(amounts, amount) + value)
