"""The headers RateLimit-Policy and RateLimit: their text, and which limits they tell of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.limiters import A, admitted, limit, refused
from vmgw_core.base import Access, Subject
from vmgw_core.limits.headers import MAX_LISTED, Quota, rate_limit_headers
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import MAX_VALUE


@pytest.mark.parametrize(
    ("quota", "policy", "state"),
    [
        (Quota(limit(value=10), 7, None), '"queries/minute";q=10;w=60', '"queries/minute";r=7'),
        (Quota(limit(value=10), 0, 17), '"queries/minute";q=10;w=60', '"queries/minute";r=0;t=17'),
        (
            Quota(limit("rows_inserted", 5, "hour", limit_class="bronze"), 5, None),
            '"rows_inserted/hour/bronze";q=5;w=3600;qu="rows"',
            '"rows_inserted/hour/bronze";r=5',
        ),
        (
            Quota(limit(labels=(("team", 'a"\\ü'),)), 1, None),
            r'"queries/minute{team=\"a\\\"\\\\\\u00fc\"}";q=10;w=60',
            r'"queries/minute{team=\"a\\\"\\\\\\u00fc\"}";r=1',
        ),
        (
            Quota(limit(labels=(("é", "a\x7f\n"),)), 1, None),
            r'"queries/minute{\\xe9=\"a\\u007f\\n\"}";q=10;w=60',
            r'"queries/minute{\\xe9=\"a\\u007f\\n\"}";r=1',
        ),
        (
            Quota(limit(value=MAX_VALUE), MAX_VALUE, None),
            '"queries/minute";q=999999999999999;w=60',
            '"queries/minute";r=999999999999999',
        ),
    ],
)
def test_a_limit_in_both_headers(quota: Quota, policy: str, state: str) -> None:
    assert rate_limit_headers([quota]) == ((b"RateLimit-Policy", policy.encode()), (b"RateLimit", state.encode()))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1), st.text(min_size=1))
def test_a_name_is_a_string_of_structured_fields(label: str, value: str) -> None:
    (_, policy), (_, state) = rate_limit_headers([Quota(limit(labels=((label, value),)), 1, None)])
    for header, rest in ((policy, rb";q=[0-9]{1,15};w=[1-9][0-9]*"), (state, rb";r=[0-9]{1,15}")):
        assert re.fullmatch(rb'"(?:[ !#-\[\]-~]|\\["\\])*"' + rest, header)


def test_without_limits_there_are_no_headers() -> None:
    assert rate_limit_headers([]) == ()


def test_of_many_limits_those_that_are_used_most_are_told_in_bounded_length() -> None:
    many = [Quota(limit(value=100, labels=((f"l{n}", "x" * 5000),)), n, None) for n in range(20, 0, -1)]
    (_, policy), (_, state) = rate_limit_headers(many)
    assert [part.split(b";")[1] for part in state.split(b", ")] == [b"r=%d" % n for n in range(1, MAX_LISTED + 1)]
    assert len(policy) < 200 * MAX_LISTED


def quotas(limiter: Limiter, access: Access, now: float = 0.0, subject: Subject = A) -> list[Quota]:
    return list(limiter.quotas(subject, access, now))


def test_what_is_left_for_each_kind_of_request() -> None:
    reads, rows = limit(value=3), limit("rows_inserted", 5)
    limiter = Limiter([reads, rows])
    assert quotas(limiter, Access.READ) == [(reads, 3, None)]
    assert admitted(limiter, 3, 0.0) == 3
    assert quotas(limiter, Access.READ, 20.0) == [(reads, 0, 41)]
    refusal = refused(limiter, 20.0)
    assert refusal is not None
    assert refusal.retry_after == 41  # t is the same moment
    assert quotas(limiter, Access.READ, 60.0) == [(reads, 3, None)]
    limiter.take_rows(A, 9, 60.0)
    assert quotas(limiter, Access.WRITE, 60.0) == [(rows, 0, 61)]
    assert quotas(limiter, Access.DELETE, 60.0) == []


def test_totals_and_limits_that_refuse_nothing_are_not_told() -> None:
    limiter = Limiter([limit(value=3, total=True), limit(observe=True)])
    assert quotas(limiter, Access.READ) == []
