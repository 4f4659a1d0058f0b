"""cache: a map that holds at most a number of bytes."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.base.bounded_cache import ENTRY_BYTES, BoundedCache, text_bytes


def _cache(entries: int) -> BoundedCache[str, int]:
    """Each value says how many entries' room it takes."""
    return BoundedCache(entries * ENTRY_BYTES, lambda key, value: (value - 1) * ENTRY_BYTES)


def test_the_front_makes_room() -> None:
    cache = _cache(2)
    for key in "abc":
        cache.put(key, 1)
    assert [cache.get(key) for key in "abc"] == [None, 1, 1]
    cache.touch("b")
    cache.put("d", 1)
    assert [cache.get(key) for key in "bcd"] == [1, None, 1]
    assert (len(cache), cache.used) == (2, 2 * ENTRY_BYTES)


def test_one_large_entry_takes_the_room_of_several() -> None:
    cache = _cache(4)
    for key in "abcd":
        cache.put(key, 1)
    cache.put("e", 3)
    assert [cache.get(key) for key in "abcde"] == [None, None, None, 1, 3]
    cache.put("f", 5)
    assert (cache.get("f"), len(cache)) == (None, 2), "what is larger than all drops nothing"


def test_an_entry_at_the_front_makes_room_first() -> None:
    cache = _cache(2)
    cache.put("a", 1)
    cache.put("b", 1, last=False)
    cache.put("c", 1)
    assert [cache.get(key) for key in "abc"] == [1, None, 1]
    cache.put("d", 1, last=False)
    assert [cache.get(key) for key in "acd"] == [1, 1, None], "a full cache does not hold it at all"


def test_another_value_replaces_the_first() -> None:
    cache = _cache(4)
    cache.put("a", 3)
    cache.put("a", 1)
    assert (cache.get("a"), cache.used) == (1, ENTRY_BYTES)
    cache.put("a", 5)
    assert (cache.get("a"), cache.used) == (None, 0), "an old value is not left behind"


def test_clear() -> None:
    cache = _cache(4)
    cache.put("a", 2)
    cache.clear()
    assert (len(cache), cache.used, cache.get("a")) == (0, 0, None)


@pytest.mark.parametrize(
    ("texts", "least"), [((), 0), ((None,), 0), (("x" * 1000,), 1000), (("ä" * 1000, "\U00010000"), 1004)]
)
def test_text_bytes(texts: tuple[str | None, ...], least: int) -> None:
    assert least <= text_bytes(*texts) <= least + 200


@given(
    st.integers(0, 6),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 4), st.booleans())),
)
def test_it_never_holds_more_than_it_may(entries: int, puts: list[tuple[str, int, bool]]) -> None:
    cache, model = _cache(entries), OrderedDict[str, int]()
    for key, value, last in puts:
        cache.put(key, value, last=last)
        model.pop(key, None)
        if value <= entries:
            model[key] = value
            model.move_to_end(key, last=last)
        while sum(model.values()) > entries:
            model.popitem(last=False)
        assert cache.used == sum(model.values()) * ENTRY_BYTES
        assert len(cache) == len(model)
        assert all(cache.get(each) == model.get(each) for each in "abcdef")
