"""The accounts of limits that replicas share through Redis or Valkey: one script, one round trip.

The script has the rules of ``vmgw_core/limits/sharing/account.py``. One question is on its way at a time, and what
comes meanwhile goes with the next. All keys have one hash tag, and expire when nothing in them counts any more.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from vmgw_addons.outgoing import Failure, RequestFailed, failure_of
from vmgw_core.errors import Cause
from vmgw_core.limits import (
    ACCOUNT_SLACK,
    GRACE_SECONDS,
    GRAINS,
    LEASE_SECONDS,
    MAX_CLAIMS,
    UNKNOWN_SECONDS,
    Reply,
    Want,
)

DEADLINE: Final = 0.25
"""Seconds that requests wait for a reply."""
_KEPT: Final = 33 * 86400  # seconds that the name of this store is kept without a question: longer than any account
_MAX_WANTS: Final = 200
"""In one call of the script: other clients of the store wait meanwhile."""

SCRIPT: Final = f"""
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local epoch = redis.call('GET', KEYS[1])
if not epoch then epoch = ARGV[2] end
redis.call('SET', KEYS[1], epoch, 'EX', {_KEPT})
if ARGV[1] ~= '' and ARGV[1] ~= epoch then return {{epoch}} end

local function add(parts, part, number)
    local at = #parts - 1
    while at > 0 and parts[at] > part do at = at - 2 end
    if at > 0 and parts[at] == part then
        parts[at + 1] = parts[at + 1] + number
    else
        table.insert(parts, at + 2, number)
        table.insert(parts, at + 2, part)
    end
end

local function give_back(parts, returned)
    for index = 1, #returned, 2 do
        for at = #parts - 1, 1, -2 do
            if parts[at] == returned[index] then
                parts[at + 1] = parts[at + 1] - returned[index + 1]
                if parts[at + 1] <= 0 then table.remove(parts, at) table.remove(parts, at) end
                break
            end
        end
    end
end

local function take_of_calendar(key, seconds, limit, need, extra, returned, spent, ends)
    local function holds(ends_at) return ends_at > now and ends_at - now <= seconds end
    local stored = redis.call('GET', key)
    local account = stored and cmsgpack.unpack(stored) or {{{{}}, {{}}}}
    local parts, used, part = {{}}, 0, 0
    for at = 1, #account[1], 2 do
        if holds(account[1][at]) then add(parts, account[1][at], account[1][at + 1]) end
    end
    give_back(parts, returned)
    for index = 1, #spent, 2 do
        if holds(spent[index]) then add(parts, spent[index], spent[index + 1]) end
    end
    for at = 2, #parts, 2 do used = used + parts[at] end
    for index = #ends, 1, -1 do
        if holds(ends[index]) then part = ends[index] end
    end

    local reply
    if part == 0 then
        reply = {{0, 0, 0, {UNKNOWN_SECONDS * 1000:.0f}, used}}
    elseif used + math.min(need, limit) > limit then
        reply = {{0, 0, part, math.ceil((parts[#parts - 1] - now) * 1000), used}}
    else
        local taken = need + math.max(0, math.min(extra, limit - used - need))
        if taken > 0 then add(parts, part, taken) end
        reply = {{1, taken - need, part, 0, used + taken}}
    end
    redis.call('SET', key, cmsgpack.pack({{parts, {{}}}}), 'EX', seconds + {ACCOUNT_SLACK})
    return reply
end

local function take(key, seconds, limit, need, extra, client, returned, spent, ends)
    if #ends > 0 then return take_of_calendar(key, seconds, limit, need, extra, returned, spent, ends) end
    local grain, life = seconds / {GRAINS}, seconds + {LEASE_SECONDS}
    local part = math.floor(now / grain)
    local stored = redis.call('GET', key)
    local account = stored and cmsgpack.unpack(stored) or {{{{}}, {{}}}}

    local parts, claims, used, latest = {{}}, {{}}, 0, (part + 1) * grain + life + {GRACE_SECONDS}
    for at = 1, #account[1], 2 do
        if (account[1][at] + 1) * grain + life > now then
            add(parts, math.min(account[1][at], part), account[1][at + 1])
        end
    end
    for at = 1, #account[2], 3 do
        if account[2][at + 2] > now then
            claims[#claims + 1], claims[#claims + 2] = account[2][at], account[2][at + 1]
            claims[#claims + 1] = math.min(account[2][at + 2], latest)
        end
    end
    give_back(parts, returned)
    for index = 1, #spent, 2 do
        local age = spent[index]
        if age < life then add(parts, math.floor((now - math.max(age, 0)) / grain), spent[index + 1]) end
    end
    for at = 2, #parts, 2 do used = used + parts[at] end

    local ahead, claimed, place = 0, 0, nil
    for at = 1, #claims, 3 do
        if claims[at] == client then place = at end
        if not place then ahead = ahead + claims[at + 1] end
        if claims[at] ~= client or need == 0 then claimed = claimed + claims[at + 1] end
    end
    local function leave()
        if place then for _ = 1, 3 do table.remove(claims, place) end end
    end

    local reply
    local fits = math.min(need, limit)  -- more than the limit fits if nothing else is counted
    local excess = used + ahead + fits - limit
    if excess > 0 then
        local due, left = now + life, excess
        for at = 3, #claims, 3 do due = math.max(due, claims[at]) end
        for at = 1, #parts, 2 do
            left = left - parts[at + 1]
            if left <= 0 then
                due = (parts[at] + 1) * grain + life
                break
            end
        end
        if need > 0 and ahead + fits <= limit and (place or #claims < 3 * {MAX_CLAIMS}) then
            place = place or #claims + 1
            claims[place], claims[place + 1], claims[place + 2] = client, fits, due + {GRACE_SECONDS}
        elseif need > 0 then
            leave()
        end
        reply = {{0, 0, part, math.ceil((due - now) * 1000), used}}
    else
        if need > 0 then leave() end
        extra = math.max(0, math.min(extra, limit - used - need - claimed))
        if need + extra > 0 then add(parts, part, need + extra) end
        reply = {{1, extra, part, 0, used + need + extra}}
    end
    redis.call('SET', key, cmsgpack.pack({{parts, claims}}), 'EX', seconds + {ACCOUNT_SLACK})
    return reply
end

local reply = {{epoch}}
for index, want in ipairs(cjson.decode(ARGV[3])) do reply[index + 1] = take(KEYS[index + 1], unpack(want)) end
return reply
"""

Done = Callable[[Sequence[Reply] | None], None]


class RedisAccounts:
    """The accounts in the store of ``client``, under keys that begin with ``base``."""

    def __init__(self, client: redis.asyncio.Redis, base: str) -> None:
        self.emptied = False
        """Whether the store has forgotten what this process had told it, before the last failure."""
        self.failure: RequestFailed | None = None
        """Why the last question was not answered."""
        self._script = client.register_script(SCRIPT)
        self._base = base
        self._epoch = ""
        self._waiting: deque[tuple[Sequence[Want], Done]] = deque()
        self._task: asyncio.Task[None] | None = None

    def ask(self, wants: Sequence[Want], done: Done) -> None:
        """Ask, and call ``done`` with the replies; with None if there are none in time."""
        self._waiting.append((wants, done))
        if self._task is None:
            self._task = asyncio.Task(self._work(), loop=asyncio.get_running_loop())

    async def close(self) -> None:
        """Wait for the questions that are on their way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._send(self._batch())
        finally:
            self._task = None

    def _batch(self) -> list[tuple[Sequence[Want], Done]]:
        """Take as many questions as go into one call, at least one."""
        batch = [self._waiting.popleft()]
        number = len(batch[0][0])
        while self._waiting and number + len(self._waiting[0][0]) <= _MAX_WANTS:
            batch.append(self._waiting.popleft())
            number += len(batch[-1][0])
        return batch

    async def _send(self, batch: Sequence[tuple[Sequence[Want], Done]]) -> None:
        replies: list[Reply] | None = None
        try:
            async with asyncio.timeout(DEADLINE):
                replies = await self._call([want for wants, _ in batch for want in wants])
            self.failure = None
        except RequestFailed as error:
            self.failure = error
        except TimeoutError:
            self.failure = RequestFailed(f"no response within {DEADLINE} seconds", Cause.TIMEOUT)
        finally:
            begin = 0
            for wants, done in batch:
                done(None if replies is None else replies[begin : begin + len(wants)])
                begin += len(wants)

    async def _call(self, wants: Sequence[Want]) -> list[Reply]:
        keys = [f"{self._base}epoch", *(f"{self._base}account:{want.key}" for want in wants)]
        asked = json.dumps([_written(want) for want in wants], separators=(",", ":"))
        try:
            epoch, *replies = await self._script(keys=keys, args=[self._epoch, token_hex(8), asked])
            name = epoch.decode()
            known, self._epoch = self._epoch, name
            if known not in ("", name):
                self.emptied = True
                raise RequestFailed("the store has lost its counts, and is told again", Cause.RESPONSE)
            return [_read(reply) for _, reply in zip(wants, replies, strict=True)]
        except (RedisError, OSError) as error:
            raise RequestFailed(*reason_of(error)) from None
        except (ValueError, TypeError, UnicodeError, AttributeError):
            raise RequestFailed("the script returned something unexpected", Cause.RESPONSE) from None


def _written(want: Want) -> list[object]:
    returned = [number for pair in want.returned for number in pair]
    spent = [number for pair in want.spent for number in pair]
    return [want.seconds, want.limit, want.need, want.extra, want.client, returned, spent, want.ends]


def _read(reply: Any) -> Reply:  # noqa: ANN401
    granted, extra, part, wait, used = map(int, reply)
    return Reply(granted=bool(granted), extra=extra, part=part, wait=wait / 1000, used=used)


def reason_of(error: BaseException) -> Failure:
    """Describe an error; of the server's only the code (``NOAUTH``), since its message may quote what was sent."""
    if isinstance(error, ResponseError):
        code = str(error).partition(" ")[0]
        return Failure(code if code.isupper() and code.isalpha() else type(error).__name__, Cause.STATUS)
    return failure_of(error)
