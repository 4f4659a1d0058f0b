"""Limits on series that the gateway counts itself: new ones are refused, known ones pass."""

from __future__ import annotations

import pytest

import vmgw_core
from tests.support.core.limiters import A, B, limit
from vmgw_core.base import Access, Labels, Subject, TenantID
from vmgw_core.errors import RateLimited, Refusal, TooManyRows
from vmgw_core.limits import Account, Limit, Limiter, Question, Reply, finished
from vmgw_core.limits.windows.series_counts import ACTIVE, LEARNING, MEMORY
from vmgw_core.limits.windows.series_table import MAX_SERIES

DEV: Labels = (("team", "dev"),)


def write(limiter: Limiter, series: set[int], now: float, subject: Subject = A, client: str = "") -> Refusal | None:
    """Write a row of each series; None if they were admitted, and counted."""
    try:
        limiter.admit(subject, Access.WRITE, now, client)
        assert limiter.take_rows(subject, len(series), now, client, series) is None
    except (RateLimited, TooManyRows) as refusal:
        return refusal
    return None


def used(limiter: Limiter, now: float, subject: Subject = A) -> list[int]:
    return [usage.usage for usage in limiter.status_of(subject, now)]


def learned(*limits: Limit) -> Limiter:
    """A limiter that has learned the series 1, 2 and 3 of A, and learns no more."""
    limiter = Limiter(limits)
    assert write(limiter, {1, 2, 3}, 0) is None
    return limiter


NOW = LEARNING


def test_new_series_are_refused_at_the_limit_and_known_ones_pass() -> None:
    limiter = Limiter([limit("active_series", 3)])
    assert write(limiter, {1, 2}, 0) is None
    refusal = write(limiter, {2, 3, 4}, 1)
    assert isinstance(refusal, RateLimited)
    assert str(refusal) == "request was rate limited: tenant 1:0 has 2 of 3 active series"
    assert refusal.retry_after == 61
    assert used(limiter, 1) == [2]  # a refused body counts nowhere
    assert write(limiter, {1, 3}, 2) is None
    assert write(limiter, {4}, 3) is not None
    for now in range(4, 8):
        assert write(limiter, {1, 2, 3}, now) is None
    assert used(limiter, 8) == [3]
    assert write(limiter, {4}, 8, B) is None


def test_a_series_is_active_for_an_hour_after_its_last_sample() -> None:
    limiter = Limiter([limit("active_series", 2)])
    assert write(limiter, {1, 2}, 0) is None
    assert write(limiter, {1}, ACTIVE) is None
    assert write(limiter, {3}, ACTIVE) is not None
    assert write(limiter, {3}, ACTIVE + 301) is None
    assert write(limiter, {2}, ACTIVE + 302) is not None


def test_a_series_is_new_if_it_was_not_written_for_hours() -> None:
    limiter = learned(limit("new_series", 2), limit("new_series", 3, resolution="hour"))
    assert write(limiter, {1, 2, 3, 4, 5}, NOW) is None
    assert used(limiter, NOW) == [2, 2]
    refusal = write(limiter, {1, 6}, NOW + 59)
    assert isinstance(refusal, RateLimited)
    assert str(refusal) == "request was rate limited: tenant 1:0 has used 2 of 2 new series per minute"
    assert refusal.retry_after == 2
    assert write(limiter, {1, 2, 4}, NOW + 59) is None
    assert write(limiter, {1, 6}, NOW + 61) is None
    assert str(write(limiter, {7}, NOW + 200)).endswith("used 3 of 3 new series per hour")
    assert write(limiter, {3}, NOW + MEMORY) is None  # known since NOW
    assert used(limiter, NOW + MEMORY) == [0, 0]
    assert write(limiter, {2}, NOW + MEMORY + 901 + 59) is None
    assert used(limiter, NOW + MEMORY + 960) == [1, 1]


def test_after_a_start_series_are_learned() -> None:
    limiter = Limiter([limit("new_series", 1)])
    assert write(limiter, set(range(1, 100)), 1000) is None
    assert write(limiter, set(range(100, 200)), 1000 + LEARNING - 1) is None
    assert used(limiter, 1000 + LEARNING - 1) == [0]
    assert write(limiter, {200, 201}, 1000 + LEARNING) is None  # more than the whole limit, in an empty window
    assert write(limiter, {202}, 1000 + LEARNING) is not None
    assert write(limiter, {1, 150, 200}, 1000 + LEARNING) is None
    assert write(limiter, {1}, 1000 + LEARNING, B) is None  # no second time for another tenant
    assert write(limiter, {2}, 1000 + LEARNING, B) is not None


def test_limits_of_other_tokens_and_all_tenants() -> None:
    dev = Subject(A.tenant, DEV)
    limiter = Limiter([limit("active_series", 1, labels=DEV), limit("active_series", 3, total=True)])
    assert not limiter.reads_series(Subject(None)) or used(limiter, 0, Subject(None)) == [0]
    assert write(limiter, {1}, 0, dev) is None
    refusal = write(limiter, {2}, 0, dev)
    assert str(refusal).endswith('tenant 1:0, tokens with {team="dev"}, have 1 of 1 active series')
    assert write(limiter, {2, 3}, 0, A) is None
    assert str(write(limiter, {4}, 0, B)).endswith("all tenants together have 3 of 3 active series")
    assert used(limiter, 0, dev) == [3, 1]


@pytest.mark.parametrize("subject", [A, B])
def test_only_tenants_with_such_a_limit_pay_for_it(subject: Subject) -> None:
    own = limit("active_series", 5, tenant=TenantID(1))
    assert Limiter([own]).reads_series(subject) is (subject is A)
    assert not Limiter([own], measured=True).reads_series(subject)
    assert not Limiter([limit("rows_inserted", 5)]).reads_series(subject)


def test_a_body_counts_for_all_limits_or_for_none() -> None:
    limiter = learned(limit("rows_inserted", 10), limit("active_series", 5), limit("new_series", 1))
    assert used(limiter, NOW) == [0, 3, 0]
    assert write(limiter, set(range(1, 7)), NOW) is not None
    assert used(limiter, NOW) == [0, 3, 0]
    assert write(limiter, {1, 2, 3, 4}, NOW) is None
    assert used(limiter, NOW) == [4, 4, 1]
    assert write(limiter, {5}, NOW) is not None
    limiter.take_rows(A, 6, NOW)
    assert str(write(limiter, {1}, NOW)).endswith("10 of 10 rows inserted per minute")
    assert used(limiter, NOW) == [10, 4, 1]


def test_a_body_with_more_new_series_than_the_limit() -> None:
    limiter = Limiter([limit("active_series", 3)])
    assert write(limiter, {1, 2, 3, 4}, 0) is None  # nothing else was counted
    assert write(limiter, {5}, 0) is not None
    strict = Limiter([limit("active_series", 3), limit("new_series", 2)], refuse_oversized=True)
    refusal = write(strict, {1, 2, 3, 4}, 0)
    assert isinstance(refusal, TooManyRows)
    assert str(refusal) == "the body has 4 new series and the limit is 3: send smaller bodies"
    assert write(strict, {1}, 0) is None
    assert write(strict, {1, 2}, NOW) is None
    hourly = learned(limit("new_series", 2, resolution="hour"))
    hourly.refuse_oversized = True
    said = str(write(hourly, {4, 5, 6}, NOW))
    assert said == "the body has 3 new series and the limit is 2 per hour: send smaller bodies"


def test_a_limit_that_observes_refuses_nothing() -> None:
    limiter = Limiter([limit("active_series", 2, observe=True)])
    assert write(limiter, {1, 2}, 0) is None
    assert limiter.observed == {}
    assert write(limiter, {1, 2, 3}, 1) is None
    assert write(limiter, {1, 2}, 2) is None
    assert list(limiter.observed.values()) == [1]
    assert used(limiter, 2) == [3]


def test_a_warning_is_given_near_the_limit() -> None:
    limiter = Limiter([limit("active_series", 10)])
    write(limiter, set(range(1, 8)), 0)
    assert not limiter.warnings
    write(limiter, {8}, 0)
    assert [(each.usage, each.limit.value) for each in limiter.warnings] == [(8, 10)]
    write(limiter, {9}, 1)
    assert len(limiter.warnings) == 1
    assert next(limiter.status(1)).usage == 9


def test_series_stay_known_over_a_reload() -> None:
    limiter = learned(limit("active_series", 3), limit("new_series", 1))
    assert write(limiter, {4}, NOW) is not None
    limiter.replace([limit("active_series", 4), limit("new_series", 2)])
    assert used(limiter, NOW) == [3, 0]
    assert write(limiter, {1, 4}, NOW) is None
    assert used(limiter, NOW) == [4, 1]
    limiter.replace([limit("queries", 4)])
    assert not limiter.counts_series
    limiter.replace([limit("new_series", 1)])  # a limit that is new learns anew
    assert write(limiter, {5, 6}, NOW) is None
    assert used(limiter, NOW) == [0]


def test_a_datasource_may_come_and_go() -> None:
    limiter = learned(limit("active_series", 3))
    limiter.measured = True
    limiter.replace([limit("active_series", 3)])
    assert used(limiter, 1) == [0]
    assert not limiter.reads_series(A)
    limiter.measured = False
    limiter.replace([limit("active_series", 3)])
    assert write(limiter, {7}, 2) is None
    assert used(limiter, 2) == [1]


def test_a_table_without_all_series_refuses_all_writes_at_the_limit() -> None:
    limiter = Limiter([limit("active_series", 2 * MAX_SERIES), limit("active_series", 5, tenant=TenantID(2))])
    everything = set(range(1, 2**47, 2**47 // (2 * MAX_SERIES + 5000)))
    assert write(limiter, everything, 0) is None
    assert limiter.judge(A, Access.WRITE, 0) is not None
    assert write(limiter, {1}, 0) is not None
    assert write(limiter, {1}, 0, B) is None


def test_a_tenant_is_kept_as_long_as_its_series() -> None:
    limiter = Limiter([limit("new_series", 5)], max_tenants=1)
    assert write(limiter, {1}, 0, A) is None
    assert write(limiter, {1}, MEMORY - 1, B) is not None
    assert write(limiter, {1}, MEMORY, B) is None


def test_processes_tell_each_other_their_series() -> None:
    limits = [limit("active_series", 4), limit("new_series", 2), limit("active_series", 9, total=True)]
    one, other = Limiter(limits), Limiter(limits)
    for each in (one, other):
        each.share_series(b"key")
        write(each, {1}, 0)
        each.share_series(b"key")
        each.series_news(0)
    assert one.label_hashes.hash(b"a", b"b") == other.label_hashes.hash(b"a", b"b")
    write(one, {1, 2}, NOW)
    write(other, {2, 3}, NOW)
    news = [one.series_news(NOW), other.series_news(NOW)]
    for found in news[1]:
        one.learn_series(found, NOW)
    for found in news[0]:
        other.learn_series(found, NOW)
    for each in (one, other):
        assert used(each, NOW) == [3, 3, 2]
        assert write(each, {1, 2, 3}, NOW) is None
        assert write(each, {4}, NOW) is not None
        assert each.series_news(NOW) == []


def test_news_of_others_that_no_limit_needs_are_dropped() -> None:
    limiter, full = Limiter([limit("active_series", 4), limit("queries", 1)]), Limiter([limit("active_series", 4)])
    limiter.share_series(b"key")
    write(limiter, {1}, 0)
    (found,) = limiter.series_news(0)
    full.max_tenants = 1
    write(full, {1}, 0, B)
    full.learn_series(found, 0)  # there is no room for its tenant
    assert used(full, 0) == [0]
    other = Limiter([limit("new_series", 4), limit("active_series", 1, tenant=TenantID(9))])
    other.learn_series(found, 0)
    assert used(other, 0) == [0]
    other.learn_series(found._replace(tenant=""), 0)
    measured = Limiter([limit("active_series", 4)], measured=True)
    measured.learn_series(found, 0)
    assert used(measured, 0) == [0]


@pytest.mark.parametrize("own_first", [False, True])
def test_news_count_for_the_limit_that_the_tenant_has(own_first: bool) -> None:
    default, own = limit("active_series", 2), limit("active_series", 5, tenant=TenantID(1))
    limits = [own, default] if own_first else [default, own]
    one, other = Limiter(limits), Limiter(limits)
    one.share_series(b"key")
    write(one, {1, 2}, 0)
    for found in one.series_news(0):
        other.learn_series(found, 0)
    assert write(other, {3, 4, 5}, 0) is None
    refusal = write(other, {6}, 0)
    assert str(refusal) == "request was rate limited: tenant 1:0 has 5 of 5 active series"


def test_another_key_forgets_the_series() -> None:
    limiter = learned(limit("active_series", 3), limit("new_series", 2), limit("queries", 1))
    assert write(limiter, {4, 5, 6}, NOW) is not None
    limiter.share_series(limiter.series_key)
    assert used(limiter, NOW) == [0, 3, 0]
    write(limiter, {1}, NOW)
    before = limiter.label_hashes
    limiter.share_series(b"another key")
    assert limiter.label_hashes.hash(b"a", b"b") != before.hash(b"a", b"b")
    assert limiter.series_news(NOW) == [], "hashes of the old key are not told"
    assert used(limiter, NOW) == [0, 0, 0]
    assert write(limiter, {4, 5, 6}, NOW) is None, "and new series are learned anew"
    assert used(limiter, NOW) == [0, 3, 0]


def test_all_known_series_can_be_told_again() -> None:
    limits = [limit("active_series", 9), limit("active_series", 9, total=True), limit("queries", 1)]
    one, other = Limiter(limits), Limiter(limits)
    one.share_series(b"key")
    write(one, {1, 2}, 0)
    write(one, {3}, 0, B)
    write(one, {2, 4}, ACTIVE / 2)
    one.series_news(0)
    news = list(one.known_series(ACTIVE / 2 + 1))
    assert sorted((each.tenant, each.at, sorted(each.series)) for each in news) == [
        ("", 300, [1, 3]),
        ("", ACTIVE / 2 + 1, [2, 4]),
        ("1:0", 300, [1]),
        ("1:0", ACTIVE / 2 + 1, [2, 4]),
        ("2:0", 300, [3]),
    ]
    for each in news:
        other.learn_series(each, ACTIVE / 2 + 1)
    assert [used(other, ACTIVE / 2 + 1, subject)[1:] for subject in (A, B)] == [[3, 4], [1, 4]]
    assert used(other, 300 + ACTIVE + 299)[1:] == [3, 4]
    assert used(other, 300 + ACTIVE + 300)[1:] == [2, 2]


@pytest.mark.skipif(vmgw_core.BUILD == "compiled", reason="the compiled limiter has the number built in")
def test_what_nobody_fetches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_core.limits.limiter._MAX_NEWS", 3)
    limiter = Limiter([limit("active_series", 100)])
    limiter.share_series(b"key")
    for number in range(1, 10):
        write(limiter, {number}, 0)
    assert [each.series for each in limiter.series_news(0)] == [[1, 2, 3]]


def test_old_news_are_no_new_series() -> None:
    limits = [limit("new_series", 2)]
    one, other = Limiter(limits), learned(*limits)
    one.share_series(b"key")
    write(one, {7, 8}, 0)
    (found,) = one.series_news(0)
    other.learn_series(found, NOW)
    assert used(other, NOW) == [0]
    assert write(other, {7, 8}, NOW) is None
    assert used(other, NOW) == [0]


def sharing(*limits: Limit) -> Limiter:
    limiter = Limiter(limits)
    limiter.local_counts(0)
    limiter.accounts_found()
    return limiter


def asked(limiter: Limiter, rows: int, series: set[int], now: float) -> Question:
    question = limiter.take_rows(A, rows, now, "", series)
    assert question is not None
    return question


def granted(question: Question, account: Account, now: float) -> list[Reply]:
    return [account.take(want, now) for want in question.wants]


def test_series_count_once_the_rows_are_granted() -> None:
    limiter, account = sharing(limit("rows_inserted", 10), limit("active_series", 3)), Account()
    first, second = asked(limiter, 4, {1, 2}, 0), asked(limiter, 4, {2, 3, 4}, 0)
    assert used(limiter, 0) == [0, 0]
    limiter.answer(first, granted(first, account, 0), 0)
    assert used(limiter, 0) == [4, 2]
    with pytest.raises(RateLimited, match="2 of 3 active series"):  # others have filled the limit meanwhile
        limiter.answer(second, granted(second, account, 0), 0)
    assert used(limiter, 0) == [4, 2]
    third = asked(limiter, 10, {1}, 0)
    with pytest.raises(RateLimited, match="rows inserted"):
        limiter.answer(third, granted(third, account, 0), 0)
    assert used(limiter, 0) == [4, 2]


def test_series_count_if_the_accounts_cannot_be_asked() -> None:
    limiter = sharing(limit("rows_inserted", 10), limit("active_series", 3))
    limiter.answer(asked(limiter, 4, {1, 2}, 0), None, 0)
    assert used(limiter, 0) == [4, 2]


# --- in steps --------------------------------------------------------------------------------------------------------

MANY = 5000


def series(begin: int, end: int) -> set[int]:
    """Hashes, which are spread as real ones are."""
    return {number * 0x9E3779B97F4B & 0xFFFFFFFFFFFF for number in range(begin, end)}


def taken(limiter: Limiter, *bodies: set[int], between: tuple[set[int], ...] = ()) -> list[bool]:
    """Take the steps of several writes in turn, with a small write after each round; return which were admitted."""
    small = iter(between)
    admitted = [False] * len(bodies)
    steps = {number: limiter.taking_rows(A, 1, NOW, "", body) for number, body in enumerate(bodies)}
    while steps:
        for number, each in list(steps.items()):
            try:
                next(each)
            except StopIteration:
                admitted[number] = True
                del steps[number]
            except RateLimited:
                del steps[number]
        if more := next(small, None):
            assert write(limiter, more, NOW) is None
    return admitted


def noted(limiter: Limiter) -> int:
    turns = 1
    while limiter.note_more():
        turns += 1
    assert not limiter.unnoted
    return turns


def test_writes_of_the_same_new_series_at_the_same_time_count_them_once() -> None:
    limiter = learned(limit("active_series", 10**6), limit("new_series", 10**6))
    body = series(1, MANY)
    assert taken(limiter, body, body, body) == [True] * 3
    noted(limiter)
    assert used(limiter, NOW) == [MANY + 2, MANY - 1]


def test_series_count_before_they_are_noted() -> None:
    limiter = learned(limit("active_series", MANY + 4))
    assert taken(limiter, series(1, MANY)) == [True]
    assert (limiter.unnoted, used(limiter, NOW)) == (True, [MANY + 2])
    assert taken(limiter, series(MANY, MANY + 3), series(MANY - 1, MANY + 1)) == [False, True]
    assert used(limiter, NOW) == [MANY + 3]
    assert write(limiter, {7}, NOW) is None
    assert write(limiter, {8}, NOW) is not None
    assert used(limiter, NOW) == [MANY + 4]


def test_many_series_are_noted_in_steps() -> None:
    limiter = learned(limit("active_series", 10**6))
    taken(limiter, series(1, 10_001))
    assert noted(limiter) == 5
    assert used(limiter, NOW) == [10_003]
    # A table that begins to keep a part of the hashes counts fewer than were expected.
    taken(limiter, series(1, MAX_SERIES + 9000))
    noted(limiter)
    assert used(limiter, NOW)[0] == pytest.approx(MAX_SERIES + 9000, rel=0.02)


def test_series_are_looked_up_again_a_few_times_at_most() -> None:
    limiter = learned(limit("active_series", 10**6))
    others = tuple({10 + number} for number in range(20))
    assert taken(limiter, series(1, MANY), between=others) == [True]
    noted(limiter)
    assert used(limiter, NOW)[0] > MANY + 2


def test_rows_without_series_are_counted_at_once() -> None:
    limiter = learned(limit("rows_inserted", 10), limit("active_series", 10))
    assert finished(limiter.taking_rows(A, 2, NOW)) is None
    assert finished(limiter.taking_rows(A, 0, NOW)) is None
    assert finished(limiter.taking_rows(A, 0, NOW, "", {1, 7})) is None
    assert used(limiter, NOW) == [2, 4]


@pytest.mark.parametrize("limits", [[limit("active_series", 6)], []], ids=["another value", "no limit"])
def test_limits_that_are_replaced_meanwhile(limits: list[Limit]) -> None:
    limiter = learned(limit("active_series", 10**6))
    steps = limiter.taking_rows(A, 1, NOW, "", series(1, MANY))
    next(steps)
    limiter.replace(limits)
    assert finished(steps) is None
    noted(limiter)
    assert used(limiter, NOW) == [MANY + 2] * len(limits)
    assert (write(limiter, {7}, NOW) is None) is (not limits)
