"""The series that replicas tell each other through Redis or Valkey: a log of bounded size.

The log has segments. Each replica appends what it has seen to the newest one, and reads what was appended since it last
did. One that comes late reads the newest segment first. All replicas hash with one key, which the first of them names.
One that has counted with another key until then forgets what it has counted. The epoch names the log. It changes if the
store has lost it. The replica that begins a log tells all that it knows. It may be one that has just started: its log
loses against replicas that have shared another key before.

A record is its size, the time on the server's clock, and the body. That is the size of the text that names the writer,
the tenant and the counter, then this text, then the hashes in eight bytes each.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from secrets import token_hex
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError

from vmgw_addons.outgoing import RequestFailed
from vmgw_core.base import TenantID
from vmgw_core.errors import Cause
from vmgw_core.limits import MAX_KEY, Limiter, SeriesNews

from .redis_accounts import reason_of

SEGMENT: Final = 2 << 20
"""Bytes."""
SEGMENTS: Final = 32
_KEPT: Final = 22_500  # seconds: a series is known for six hours, and up to a quarter of an hour longer
_KEY_BYTES: Final = 16
_EPOCH_BYTES: Final = 8
MAX_SERIES: Final = 2_000
"""In one record, which take some 5 ms to learn."""
MAX_BODY: Final = 48 << 10
"""Bytes of a record's body."""
_MAX_READ: Final = 64 << 10  # bytes in one exchange; the rest follows in the next one
_MAX_TOLD: Final = 256 << 10  # the same for what is told
_MAX_RETOLD: Final = 10  # lists of series at once: requests wait meanwhile
MAX_UNTOLD: Final = 16 << 20
"""Bytes that wait to be told. Beyond that the oldest are dropped."""
_HEAD: Final = struct.Struct("<Id")
_TEXT: Final = struct.Struct("<I")

SCRIPT: Final = f"""
local key, known, fresh, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local function is_hex(text, size) return text and #text == size and string.find(text, '^%x+$') end
local stored = redis.call('HMGET', KEYS[1], 'key', 'epoch', 'newest', 'first')
local newest = tonumber(stored[3])
local loses = stored[4] == '1' and stored[1] ~= key and known ~= '' and known ~= stored[2]
local valid = is_hex(stored[1], {2 * _KEY_BYTES}) and is_hex(stored[2], {2 * _EPOCH_BYTES})
if loses or not (valid and newest and newest >= 0 and newest < 1e12 and newest % 1 == 0) then
    stored, newest = {{key, fresh}}, 0
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'key', key, 'epoch', fresh, 'newest', newest, 'first', known == '' and 1 or 0)
end
redis.call('EXPIRE', KEYS[1], {_KEPT})
local base = KEYS[1] .. ':' .. stored[2] .. ':'

if stored[1] == key then
    local size = redis.call('STRLEN', base .. newest)
    for index = 6, #ARGV, 2 do
        local record = struct.pack('<I4d', #ARGV[index + 1], now - ARGV[index]) .. ARGV[index + 1]
        if size == 0 or size + #record > {SEGMENT} then
            newest = newest + 1
            redis.call('DEL', base .. (newest - {SEGMENTS}))
            redis.call('HSET', KEYS[1], 'newest', newest)
        end
        size = redis.call('APPEND', base .. newest, record)
        redis.call('EXPIRE', base .. newest, {_KEPT})
    end
end

local read_to = known == stored[2] and cjson.decode(ARGV[4]) or {{}}
local reply = {{stored[1], stored[2], string.format('%.6f', now)}}
for number = newest, math.max(1, newest - {SEGMENTS - 1}), -1 do
    if most <= 0 then break end
    local begin = read_to[tostring(number)] or 0
    if begin > redis.call('STRLEN', base .. number) then begin = 0 end  -- the store has lost its end
    local data = redis.call('GETRANGE', base .. number, begin, begin + most - 1)
    if #data > 0 then reply[#reply + 1] = {{number, begin, data}} end
    most = most - #data
end
return reply
"""


class RedisSeries:
    """The log in the store of ``client``, under keys that begin with ``base``."""

    def __init__(self, client: redis.asyncio.Redis, base: str) -> None:
        self.spent = 0.0
        """Seconds of CPU time in the last swap, during which requests had to wait."""
        self._script = client.register_script(SCRIPT)
        self._keys = [f"{base}series"]
        self._writer = token_hex(8)
        self._epoch = ""
        self._read_to: dict[int, int] = {}
        """How far each segment is read."""
        self._untold: deque[tuple[float, bytes]] = deque()
        """When the series were seen, and the body of the record."""
        self._size = 0
        self._again: Iterator[SeriesNews] | None = None
        """What else a new log should have."""

    async def swap(self, limiter: Limiter, now: float) -> bool:
        """Tell what the limiter has seen, and learn what the others have told. Raises ``RequestFailed``.

        Returns whether there is more to tell or to learn.
        """
        await self._tell_again()
        begun = time.thread_time()
        key = limiter.series_key
        limiter.share_series(key)
        self._keep(limiter.series_news(now))
        told = self._next()
        fresh = token_hex(_EPOCH_BYTES)
        arguments: list[str | int | bytes] = [key.hex(), self._epoch, fresh, json.dumps(self._read_to), _MAX_READ]
        for at, body in told:
            arguments += (repr(max(0.0, now - at)), body)
        self.spent = time.thread_time() - begun
        try:
            reply = await self._script(keys=self._keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise RequestFailed(*reason_of(error)) from None
        try:
            stored, epoch, clock, *found = reply
            for _ in told:
                self._drop()
            self._meet(limiter, bytes.fromhex(stored.decode()), epoch.decode(), fresh)
            ahead = float(clock) - time.monotonic()
            full = sum(len(data) for _, _, data in found) >= _MAX_READ
            for number, begin, data in found:
                await self._learn(limiter, int(number), int(begin), data, ahead, full)
        except (ValueError, TypeError, IndexError, AttributeError):
            raise RequestFailed("the script returned something unexpected", Cause.RESPONSE) from None
        return full or bool(self._untold)

    def _keep(self, news: Iterable[SeriesNews]) -> None:
        """Keep news until they are told."""
        for each in news:
            for begin in range(0, len(each.series), MAX_SERIES):
                body = written(self._writer, each, each.series[begin : begin + MAX_SERIES])
                if len(body) <= MAX_BODY:
                    self._untold.append((each.at, body))
                    self._size += len(body)
        while self._size > MAX_UNTOLD:
            self._drop()

    def _drop(self) -> None:
        self._size -= len(self._untold.popleft()[1])

    def _next(self) -> list[tuple[float, bytes]]:
        """Return what is to be told next."""
        told: list[tuple[float, bytes]] = []
        size = 0
        for each in self._untold:
            size += len(each[1])
            if size > _MAX_TOLD:
                break
            told.append(each)
        return told

    async def _tell_again(self) -> None:
        """Keep some of what a new log should have, to be told next."""
        while self._again is not None and self._size < _MAX_TOLD:
            some = list(islice(self._again, _MAX_RETOLD))
            self._keep(some)
            if not some:
                self._again = None
            await asyncio.sleep(0)  # requests go on meanwhile

    def _meet(self, limiter: Limiter, key: bytes, epoch: str, fresh: str) -> None:
        """Take over the key and the epoch of the store; ``fresh``: the epoch that a new log has."""
        if len(key) != _KEY_BYTES:
            raise ValueError("not a key")
        if key != limiter.series_key:
            limiter.share_series(key)
            self._untold.clear()
            self._size, self._again = 0, None
        if epoch != self._epoch:
            self._again = limiter.known_series(time.monotonic()) if epoch == fresh else None
            self._epoch, self._read_to = epoch, {}

    async def _learn(self, limiter: Limiter, number: int, begin: int, data: bytes, ahead: float, full: bool) -> None:
        """Learn the records in ``data``, which begins at ``begin`` of a segment. Raises ``ValueError``.

        ``ahead``: how many seconds the server's clock is ahead of the monotonic one. ``full``: whether the last record
        may be cut off.
        """
        end = 0
        try:
            for end, at, body in records(data):
                self._read_to[number] = begin + end
                begun = time.thread_time()
                writer, news = read(body, at - ahead)
                if writer != self._writer:
                    limiter.learn_series(news, time.monotonic())
                self.spent += time.thread_time() - begun
                await asyncio.sleep(0)  # requests go on meanwhile
            if end < len(data) and not full:
                raise ValueError("not a record")
        except ValueError:
            self._read_to[number] = begin + len(data)  # go on after what no replica wrote
            raise
        if len(self._read_to) > SEGMENTS:
            del self._read_to[min(self._read_to)]


def written(writer: str, news: SeriesNews, series: list[int]) -> bytes:
    """Return the body of a record with some of the series of ``news``."""
    text = f"{writer} {news.tenant} {news.key}".encode("utf-8", "surrogatepass")
    return _TEXT.pack(len(text)) + text + struct.pack(f"<{len(series)}Q", *series)


def read(body: bytes, at: float) -> tuple[str, SeriesNews]:
    """Return the writer of a record, and the news. Raises ``ValueError`` if no replica wrote it."""
    try:
        end = _TEXT.size + _TEXT.unpack_from(body)[0]
        packed = body[end:]
        series = list(struct.unpack(f"<{len(packed) // 8}Q", packed))
    except struct.error:
        raise ValueError("not a record") from None
    writer, tenant, key = body[_TEXT.size : end].decode("utf-8", "surrogatepass").split(" ", 2)
    if tenant:
        TenantID.parse(tenant)
    if not (0 < len(series) <= MAX_SERIES and min(series) > 0 and max(series) <= MAX_KEY and math.isfinite(at)):
        raise ValueError("not hashes of series")
    return writer, SeriesNews(tenant, key, at, series)


def records(data: bytes) -> Iterator[tuple[int, float, bytes]]:
    """Yield where each whole record of ``data`` ends, its time and its body. Raises ``ValueError`` for a wrong size."""
    begin = 0
    while begin + _HEAD.size <= len(data):
        size, at = _HEAD.unpack_from(data, begin)
        if size > MAX_BODY:
            raise ValueError("not a record")
        body = begin + _HEAD.size
        begin = body + size
        if begin > len(data):
            return
        yield begin, at, data[body:begin]
