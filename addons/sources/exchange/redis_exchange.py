"""Exchange of counts through Redis or Valkey: one script, one round trip, changed counts only.

For each replica the store holds a hash from counter to count, and a sorted set from counter to the time when it was
published, on the server's clock. A replica reads from each peer what was published since it last did. All keys have
one hash tag, so that a Redis cluster keeps them together, and expire when nothing in them counts any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from vmgw_addons.outgoing import RequestFailed
from vmgw_core.errors import Cause, ConfigurationError
from vmgw_core.limits import Limiter, LocalCounts, PeerCounts

from .redis_accounts import RedisAccounts, reason_of
from .redis_series import RedisSeries

TIMEOUT: Final = 2.0
"""Seconds for a connection, and for an exchange."""
_KEPT: Final = 4500  # seconds: a count is valid for a window and a quarter
_MAX_COUNTERS: Final = 5000  # in one exchange, each way; the rest follows in the next one

SCRIPT: Final = """
local id, kept, most, published = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local changes, known = cjson.decode(ARGV[5]), cjson.decode(ARGV[6])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local oldest = now - kept * 1000000

local lost = 0
if published > 0 and redis.call('EXISTS', KEYS[2]) == 0 then lost = 1 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', oldest)
redis.call('ZADD', KEYS[1], now, id)

local score = now
local last = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')
if last[2] and tonumber(last[2]) >= score then score = tonumber(last[2]) + 1 end
for position = 1, #changes, 2 do
    local counter, count = changes[position], changes[position + 1]
    if count == '0' then redis.call('HDEL', KEYS[2], counter) else redis.call('HSET', KEYS[2], counter, count) end
    redis.call('ZADD', KEYS[3], score, counter)
    score = score + 1
end
local gone = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', oldest, 'LIMIT', 0, 1000)
if #gone > 0 then
    redis.call('ZREM', KEYS[3], unpack(gone))
    redis.call('HDEL', KEYS[2], unpack(gone))
end
for index = 1, 3 do redis.call('EXPIRE', KEYS[index], kept) end

local reply = {lost}
local replicas = redis.call('ZREVRANGE', KEYS[1], 0, 1023, 'WITHSCORES')
for index = 1, #replicas, 2 do
    local other = replicas[index]
    if other ~= id then
        local since = known[other] and '(' .. known[other] or '-inf'
        local counts, times = KEYS[4] .. other .. ':counts', KEYS[4] .. other .. ':times'
        local changed = redis.call('ZRANGEBYSCORE', times, since, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
        most = most - #changed / 2
        local entries = {}
        for place = 1, #changed, 2 do
            local age = math.floor((now - tonumber(changed[place + 1])) / 1000)
            entries[#entries + 1] = changed[place]
            entries[#entries + 1] = redis.call('HGET', counts, changed[place]) or '0'
            entries[#entries + 1] = age
        end
        local seen = math.floor((now - tonumber(replicas[index + 1])) / 1000)
        local document = #entries > 0 and cjson.encode(entries) or '[]'
        reply[#reply + 1] = {other, seen, changed[#changed] or known[other] or '', document}
    end
end
return reply
"""


class RedisExchange:
    """The exchange of this replica in the store of ``-ratelimit.storage``."""

    name = "-ratelimit.storage"

    def __init__(self, url: str, prefix: str) -> None:
        """Raises ``ConfigurationError``, without the URL, if that is not one of a Redis."""
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError("-ratelimit.storage: expected a URL such as redis://host:6379/0")
        if not prefix or any(char in prefix for char in "{}") or not prefix.isprintable():
            raise ConfigurationError("-ratelimit.storageKeyPrefix: expected text without braces")
        self.peers = PeerCounts()
        self.spent = 0.0
        self._local = LocalCounts()
        self._id = token_hex(8)
        self._known: dict[str, str] = {}
        """For each peer, the time up to which its counts were read, as the store writes it."""
        self._published = 0
        try:
            self._client = redis.asyncio.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None, max_connections=4
            )
            self._client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, RedisError):
            raise ConfigurationError("-ratelimit.storage: expected a URL such as redis://host:6379/0") from None
        self._script = self._client.register_script(SCRIPT)
        base = f"{{{prefix}}}:"
        self.accounts = RedisAccounts(self._client, base)
        self._series = RedisSeries(self._client, base)
        self._keys = [f"{base}replicas", f"{base}{self._id}:counts", f"{base}{self._id}:times", base]

    async def swap(self, counts: Mapping[str, int], now: float) -> bool:
        begun = time.thread_time()
        changes = dict(list(self._local.changes(counts, now).items())[:_MAX_COUNTERS])
        flat = json.dumps([text for counter, count in changes.items() for text in (counter, str(count))])
        arguments: list[str | int] = [self._id, _KEPT, _MAX_COUNTERS, self._published, flat, json.dumps(self._known)]
        self.spent = time.thread_time() - begun
        try:
            reply = await self._script(keys=self._keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise RequestFailed(*reason_of(error)) from None
        begun = time.thread_time()
        self._local.published(changes, now)
        self._published = len(counts)
        try:
            return self._take(reply, time.monotonic()) or len(changes) == _MAX_COUNTERS
        except (ValueError, TypeError, IndexError, UnicodeError, AttributeError):
            raise RequestFailed("the script returned something unexpected", Cause.RESPONSE) from None
        finally:
            self.spent += time.thread_time() - begun

    async def swap_series(self, limiter: Limiter, now: float) -> bool:
        try:
            return await self._series.swap(limiter, now)
        finally:
            self.spent = self._series.spent

    async def close(self) -> None:
        await self.accounts.close()
        await self._client.aclose()

    def _take(self, reply: Any, now: float) -> bool:  # noqa: ANN401
        """Take over the counts of the peers. Returns whether there may be more."""
        lost, *replicas = reply
        read = 0
        known = {}
        for peer, seen, since, document in replicas:
            name = peer.decode()
            self.peers.seen(name, now - max(0, int(seen)) / 1000)
            entries = iter(json.loads(document))
            for counter, count, age in zip(entries, entries, entries, strict=True):
                self.peers.update_counts(name, {str(counter): int(count)}, now - max(0, int(age)) / 1000)
                read += 1
            if since:
                known[name] = since.decode()
        self._known = known
        if lost:
            self._local.forget()
            self.accounts.ask((), lambda replies: None)  # they are gone too, and nobody else may ask
        return bool(lost) or read >= _MAX_COUNTERS
