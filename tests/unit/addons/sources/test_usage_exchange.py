"""The exchange of counts, with a store that does as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from tests.support.addons.replicas import KEY, Replica, run
from tests.support.core.limiters import limit
from vmgw_addons.outgoing import RequestFailed
from vmgw_addons.sources.exchange.redis_exchange import RedisExchange
from vmgw_addons.sources.exchange.usage_exchange import build_exchange
from vmgw_addons.state import Configured
from vmgw_core.configuration import Settings
from vmgw_core.errors import Cause, ConfigurationError
from vmgw_core.limits import Limiter
from vmgw_core.limits.sharing.account import Reply, Want
from vmgw_core.limits.sharing.replicas import PeerCounts

SETTINGS = Settings()


class Grants:
    """Accounts that grant all that is asked, and nothing beyond."""

    def __init__(self) -> None:
        self.emptied = False
        self.failure: RequestFailed | None = None
        self.asked: list[Want] = []

    def ask(self, wants: Sequence[Want], done: Callable[[Sequence[Reply] | None], None]) -> None:
        self.asked += wants
        reply = Reply(granted=True, extra=0, part=0, wait=0.0, used=0)
        done(None if self.failure is not None else [reply for _ in wants])


class Store:
    """Another replica has counted ``heard``; it takes ``pages`` swaps to read that, or any number if it is None."""

    name = "the test's store"

    def __init__(self, heard: int = 0, error: BaseException | None = None, *, pages: int | None = 1) -> None:
        self.accounts = Grants()
        self.peers = PeerCounts()
        self.spent = 0.0
        self.heard, self.error, self.pages = heard, error, pages
        self.told: list[dict[str, int]] = []
        self.series: list[bool] = []
        """Whether there is more after each exchange of series; an exchange beyond them fails with ``cause``."""
        self.cause = Cause.CLOSED
        self.closed = 0

    async def swap(self, counts: Mapping[str, int], now: float) -> bool:
        self.told.append(dict(counts))
        if self.error is not None:
            raise self.error
        self.peers.seen("other", now)
        whole = self.pages is not None and len(self.told) >= self.pages
        self.peers.replace_counts("other", {KEY: self.heard if whole else 1}, now)
        return not whole

    async def swap_series(self, limiter: Limiter, now: float) -> bool:
        if not self.series:
            raise RequestFailed("no series", self.cause)
        return self.series.pop(0)

    async def close(self) -> None:
        self.closed += 1


def test_own_counts_are_told_and_those_of_others_are_known() -> None:
    store = Store(heard=60)

    async def work(replica: Replica) -> None:
        await replica.step()  # as at the start, before anything is admitted
        assert replica.addon.alive == 1
        assert await replica.admit(5) == 5
        assert 0 < await replica.step() <= 1
        assert store.told[-1][KEY] == 5
        assert [usage.usage for usage in replica.limiter.status(time.monotonic())] == [65]

    run(work, store)
    assert store.closed == 1


def test_half_of_what_there_is_to_know_is_not_acted_on() -> None:
    async def work(replica: Replica) -> None:
        assert await replica.step() == 0.01
        assert replica.addon.alive == 0

    run(work, Store(heard=60, pages=2))


def test_all_that_there_is_to_know_is_known_before_the_first_request() -> None:
    store = Store(heard=60, pages=4)

    async def work(replica: Replica) -> None:
        await replica.addon.running()
        assert len(store.told) == 4
        assert (replica.others(), replica.addon.alive) == ({KEY: 60}, 1)
        await replica.addon.background.close()

    run(work, store)


def test_all_series_are_known_before_the_first_request() -> None:
    store = Store(heard=60)
    store.series = [True, True, False]

    async def work(replica: Replica) -> None:
        replica.limiter.replace([*replica.limiter.limits, limit("active_series", 10)])
        await replica.addon.running()
        assert (store.series, len(store.told)) == ([], 3)
        assert replica.addon.alive == 1
        await replica.addon.background.close()

    run(work, store)


def test_counts_are_acted_on_while_there_are_more_series() -> None:
    store = Store(heard=60)
    store.series = [True]

    async def work(replica: Replica) -> None:
        replica.limiter.replace([*replica.limiter.limits, limit("active_series", 10)])
        assert 0.01 < await replica.step() <= 0.1
        assert (replica.addon.alive, replica.addon.more) == (1, True)
        await replica.step()
        assert (replica.addon.outage.reason or "").endswith("the test's store: no series")
        assert not replica.addon.more
        store.series = [False, False]
        await replica.step()
        assert replica.addon.outage.reason is None
        await replica.addon.leave(store)
        assert store.series == [], "who leaves tells its series"

    run(work, store)


def test_counts_are_exchanged_though_the_series_in_the_store_are_wrong() -> None:
    store = Store(heard=60)
    store.cause = Cause.RESPONSE

    async def work(replica: Replica) -> None:
        replica.limiter.replace([*replica.limiter.limits, limit("active_series", 10)])
        await replica.step()
        assert (replica.addon.alive, replica.others(), replica.limiter.asks) == (1, {KEY: 60}, True)
        assert (replica.addon.outage.reason or "").endswith("the test's store: no series")
        assert store.accounts.failure is None
        store.series = [False]
        await replica.step()
        assert replica.addon.outage.reason is None
        store.cause = Cause.TIMEOUT
        await replica.step()
        assert not replica.limiter.asks, "a store that is gone has no counts either"

    run(work, store)


def test_a_start_does_not_wait_for_a_store_that_fails() -> None:
    store = Store(error=RequestFailed("LOADING"), pages=None)

    async def work(replica: Replica) -> None:
        await replica.addon.running()
        assert len(store.told) == 1
        await replica.addon.background.close()

    run(work, store)


def test_a_start_waits_a_while_for_a_store_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_addons.sources.exchange.usage_exchange._DEADLINE", 0.05)
    store = Store(heard=60, pages=None)

    async def work(replica: Replica) -> None:
        await replica.addon.running()
        assert len(store.told) > 1
        assert replica.addon.more
        assert replica.addon.alive == 0, "nothing is made of a part"
        await replica.addon.background.close()

    run(work, store)


@pytest.mark.parametrize(
    ("error", "told"), [(RequestFailed("LOADING"), "LOADING"), (TimeoutError(), "no response within 5 seconds")]
)
def test_an_outage_is_told_once_and_counts_go_on(
    error: BaseException, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(replica: Replica) -> None:
        for _ in range(2):
            await replica.step()
        assert replica.addon.outage.failures == 2
        assert await replica.admit(5) == 5

    run(work, Store(error=error))
    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]


def test_a_bug_is_an_outage_and_not_hidden() -> None:
    async def work(replica: Replica) -> None:
        with pytest.raises(ZeroDivisionError):
            await replica.step()
        assert replica.addon.outage.failures == 1

    run(work, Store(error=ZeroDivisionError()))


def test_who_leaves_tells_what_it_has_counted() -> None:
    store = Store()

    async def work(replica: Replica) -> None:
        await replica.admit(3)
        await replica.addon.leave(store)

    run(work, store)
    assert store.told[-1] == {KEY: 3}
    assert [[count for _, count in want.spent] for want in store.accounts.asked] == [[1, 1, 1]]


def test_accounts_that_cannot_be_asked_are_an_outage_and_the_share_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    store = Store(heard=60)

    async def work(replica: Replica) -> None:
        await replica.step()
        store.accounts.failure = RequestFailed("no response in time")
        assert await replica.admit(100) == 20, "half of what is left"
        await replica.step()
        assert (replica.addon.outage.reason or "").endswith("the test's store: no response in time")
        store.accounts.failure = None
        await replica.step()
        assert replica.addon.outage.reason is None
        assert sum(count for _, count in store.accounts.asked[-1].spent) == 20

    run(work, store)
    assert caplog.messages[-1] == "counts are exchanged with other replicas again"


def test_accounts_that_were_emptied_are_told_everything_again() -> None:
    store = Store()

    async def work(replica: Replica) -> None:
        await replica.step()
        assert await replica.admit(5) == 5
        store.accounts.emptied = True
        await replica.step()
        assert not store.accounts.emptied
        assert sum(count for _, count in store.accounts.asked[-1].spent) == 5

    run(work, store)


def test_a_reload_may_replace_the_store() -> None:
    first, second = Store(), Store()

    async def work(replica: Replica) -> None:
        await replica.addon.step()
        replica.in_force.configured = Configured(limiter=replica.limiter, exchange=second)
        await replica.addon.step()

    run(work, first)
    assert (len(first.told), first.closed) == (1, 2)  # by the exchange, and by this test
    assert len(second.told) == 1


# --- what the flags make ---------------------------------------------------------------------------------------------


def test_the_flag_asks_for_redis_and_keeps_it_over_reloads() -> None:
    given = replace(SETTINGS, ratelimit_storage="redis://127.0.0.1:1/0")
    assert build_exchange(SETTINGS) is None
    made = build_exchange(given)
    assert isinstance(made, RedisExchange)
    assert build_exchange(given, given, made) is made
    assert build_exchange(replace(given, ratelimit_storage_key_prefix="other"), given, made) is not made


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("http://user:secret@h", "p"), ("redis://h:notaport", "p"), ("redis://h", "{p}"), ("redis://h", "")],
)
def test_a_url_or_prefix_that_cannot_be_used_is_refused_without_showing_it(url: str, prefix: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisExchange(url, prefix)
    assert "secret" not in str(caught.value)


def test_a_store_that_is_down_is_an_error_without_its_url() -> None:
    async def ask() -> None:
        exchange = RedisExchange("redis://:secret@127.0.0.1:1/0", "p")
        try:
            await exchange.swap({KEY: 1}, 0.0)
        finally:
            await exchange.close()

    with pytest.raises(RequestFailed) as caught:
        asyncio.run(ask())
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
