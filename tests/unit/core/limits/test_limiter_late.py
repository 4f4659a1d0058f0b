"""Limits on what is known when a request ends: bytes, and fetched series."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.limiters import MULTITENANT, A, B, limit, refused
from tests.support.each import each
from vmgw_core.base.tenants import Access, Subject, TenantID
from vmgw_core.errors import RateLimited
from vmgw_core.limits.headers import rate_limit_headers
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import LimitType

READ, WRITE = Access.READ, Access.WRITE
IN, OUT, SERIES = LimitType.BYTES_WRITTEN, LimitType.BYTES_READ, LimitType.SERIES_FETCHED


def write_refused(limiter: Limiter, size: int | None, now: float, subject: Subject = A) -> RateLimited | None:
    try:
        assert limiter.admit(subject, WRITE, now, "me", size) is None
    except RateLimited as refusal:
        return refusal
    return None


@pytest.mark.parametrize(
    ("limit_type", "access"), [("bytes_written", WRITE), ("bytes_read", READ), ("series_fetched", READ)]
)
def test_what_a_request_has_used_refuses_the_next(limit_type: str, access: Access) -> None:
    limiter = Limiter([limit(limit_type, 100)])
    kind = LimitType(limit_type)
    assert refused(limiter, 0, access=access) is None
    limiter.spend(A, {kind: 99}, 1)
    assert refused(limiter, 2, access=access) is None, "one is left"
    limiter.spend(A, {kind: 500}, 3)
    refusal = refused(limiter, 4, access=access)
    assert refusal is not None
    noun = limit_type.replace("_", " ")
    assert str(refusal) == f"request was rate limited: tenant 1:0 has used 599 of 100 {noun} per minute"
    assert refusal.retry_after == 60
    assert limiter.rejects == {(kind, limit().resolution, "1:0"): 1}
    other = READ if access is WRITE else WRITE
    assert refused(limiter, 4, access=other) is None
    assert refused(limiter, 4, B, access=access) is None
    assert refused(limiter, 63, access=access) is None


def test_a_body_with_a_length_is_refused_on_its_head_if_it_has_no_room() -> None:
    limiter = Limiter([limit("bytes_written", 100)])
    limiter.spend(A, {IN: 60}, 0)
    assert write_refused(limiter, 40, 1) is None
    refusal = write_refused(limiter, 41, 1)
    assert refusal is not None
    assert refusal.retry_after == 60
    assert write_refused(limiter, None, 1) is None, "a chunked one has no length yet"
    assert write_refused(limiter, 0, 1) is None
    assert limiter.judge(A, WRITE, 1, 41) is not None
    assert limiter.judge(A, WRITE, 1, 40) is None
    assert limiter.judge(A, WRITE, 1) is None


def test_a_body_above_the_whole_limit_passes_if_nothing_else_is_counted() -> None:
    limiter = Limiter([limit("bytes_written", 100)])
    assert write_refused(limiter, 5000, 0) is None
    limiter.spend(A, {IN: 5000}, 1)
    assert write_refused(limiter, 1, 2) is not None


def test_a_read_that_is_refused_for_its_bytes_does_not_count_as_a_query() -> None:
    limiter = Limiter([limit(value=2), limit("bytes_read", 100)])
    limiter.spend(A, {OUT: 100}, 0)
    for _ in range(5):
        refusal = refused(limiter, 1)
        assert refusal is not None
        assert "bytes read" in str(refusal)
    assert [refused(limiter, 60) is None for _ in range(3)] == [True, True, False]


@each(("value", "counted"), [(1, 1), (100, 1), (101, 2), (20_000, 200)])
def test_an_amount_that_is_not_known_counts_as_a_hundredth(value: int, counted: int) -> None:
    limiter = Limiter([limit("series_fetched", value)])
    assert refused(limiter, 0) is None
    limiter.spend(A, {SERIES: None}, 0)
    assert [usage.usage for usage in limiter.status(1)] == [counted]


def test_the_limit_that_takes_longest_is_told() -> None:
    limiter = Limiter([limit(value=1), limit("series_fetched", 10)])
    assert refused(limiter, 0) is None
    limiter.spend(A, {SERIES: 10}, 30)
    refusal = refused(limiter, 31)
    assert refusal is not None
    assert "series fetched" in str(refusal)
    assert refusal.retry_after == 60


def test_totals_labels_and_classes_hold_as_for_queries() -> None:
    labels = (("team", "dev"),)
    token = Subject(TenantID(1, 0), labels, frozenset({"bronze"}))
    limiter = Limiter(
        [
            limit("bytes_read", 1000, total=True),
            limit("bytes_read", 100, labels=labels),
            limit("series_fetched", 100, limit_class="bronze"),
        ]
    )
    limiter.spend(token, {OUT: 100, SERIES: 5}, 0)
    refusal = refused(limiter, 1, token)
    assert refusal is not None
    assert '{team="dev"}' in str(refusal)
    assert refused(limiter, 1, A) is None
    limiter.spend(B, {OUT: 900, SERIES: 5}, 2)
    refusal = refused(limiter, 3, A)
    assert refusal is not None
    assert "all tenants together have used 1000 of 1000 bytes read per minute" in str(refusal)


def test_requests_for_all_tenants_are_a_tenant_of_their_own() -> None:
    limiter = Limiter([limit("bytes_read", 100), limit("bytes_written", 100)])
    limiter.spend(MULTITENANT, {OUT: 100, IN: 100}, 0)
    assert refused(limiter, 1, MULTITENANT) is not None
    assert refused(limiter, 1, MULTITENANT, access=WRITE) is None
    assert refused(limiter, 1, A) is None


def test_a_limit_that_observes_counts_what_it_would_have_refused() -> None:
    limiter = Limiter([limit("bytes_written", 100, observe=True), limit("bytes_read", 100, observe=True)])
    for access, kind in ((WRITE, IN), (READ, OUT)):
        assert refused(limiter, 0, access=access) is None
        limiter.spend(A, {kind: 100}, 1)
        assert refused(limiter, 2, access=access) is None
    assert {key[0]: number for key, number in limiter.observed.items()} == {IN: 1, OUT: 1}


def test_a_warning_is_given_when_the_request_ends() -> None:
    limiter = Limiter([limit("bytes_read", 100)])
    limiter.spend(A, {OUT: 79}, 0)
    assert list(limiter.warnings) == []
    limiter.spend(A, {OUT: 1}, 0)
    [usage] = limiter.warnings
    assert (usage.usage, usage.key) == (80, "bytes_read/minute/1:0")


def test_a_tenant_that_was_forgotten_during_a_long_request_is_kept_again() -> None:
    limiter = Limiter([limit("bytes_read", 100)], max_tenants=1)
    assert refused(limiter, 0) is None
    assert refused(limiter, 61, B) is None
    limiter.spend(A, {OUT: 100}, 62)
    assert refused(limiter, 63) is not None
    assert limiter.tenants == 2, "for what it has used counts"


def test_the_headers_tell_of_reads_and_writes_apart() -> None:
    limiter = Limiter([limit("bytes_written", 9), limit("bytes_read", 8), limit("series_fetched", 7)])
    limiter.spend(A, {IN: 9, OUT: 1, SERIES: 2}, 0)
    assert rate_limit_headers(limiter.quotas(A, WRITE, 1)) == (
        (b"RateLimit-Policy", b'"bytes_written/minute";q=9;w=60;qu="content-bytes"'),
        (b"RateLimit", b'"bytes_written/minute";r=0;t=60'),
    )
    assert rate_limit_headers(limiter.quotas(A, READ, 1)) == (
        (
            b"RateLimit-Policy",
            b'"series_fetched/minute";q=7;w=60;qu="series", "bytes_read/minute";q=8;w=60;qu="content-bytes"',
        ),
        (b"RateLimit", b'"series_fetched/minute";r=5, "bytes_read/minute";r=7'),
    )
    assert len(limiter.status_of(A, 1)) == 3


def test_a_datasource_measures_none_of_them() -> None:
    limiter = Limiter([limit("bytes_read", 100)], measured=True, stale_after=1.0)
    assert refused(limiter, 0) is None
    assert limiter.age(0) is None


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 20.0, 61.0]), st.integers(0, 60)), max_size=40),
    st.sampled_from(["minute", "day"]),
)
def test_a_window_has_more_than_the_limit_by_one_request_at_most(
    steps: list[tuple[float, int]], resolution: str
) -> None:
    limiter, now, used = Limiter([limit("bytes_read", 100, resolution)]), 0.0, []
    for gap, size in steps:
        now += gap
        if refused(limiter, now) is None:
            limiter.spend(A, {OUT: size}, now)
            used.append((now, size))
    for at, size in used:
        assert sum(each for when, each in used if at - 60 < when <= at) - size < 100
