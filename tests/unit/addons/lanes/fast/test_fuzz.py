"""A little of what ``scripts/fuzz`` does at length, always the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.targets import one_input
from tests.support.addons.fakes import Lane


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane()
    yield lane
    lane.close()


@given(st.binary(min_size=4, max_size=200))
@example(b"3333\t\t\t]\t\t*\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\t\t")  # an early answer, then silence
@example(b'3\xcc\xb1\xfdD"\xcb\xc3\xb2b\x15$\x87R\xc6\xd1!\xbc\xd8')  # half an answer, then silence
def test_any_bytes(lane: Lane, data: bytes) -> None:
    one_input(lane)(data)
