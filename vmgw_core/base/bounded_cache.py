"""A map that is bounded in bytes: when it is full, the entries at its front make room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

OBJECT_BYTES: Final = 16
"""The most that the allocator adds to an object."""

ENTRY_BYTES: Final = 160
"""The cost of an entry beside its key and value: its slots in the table, which grows by doubling."""


def text_bytes(*texts: str | None) -> int:
    """Return the memory that texts take, in bytes."""
    return sum(text.__sizeof__() + OBJECT_BYTES for text in texts if text is not None)


class BoundedCache(Generic[K, V]):
    """An ordered map of at most ``max_bytes``.

    ``weigh`` returns the bytes of memory that a key and its value take, the same number each time. ``get`` and
    ``touch`` are methods of the map itself, so that a hit runs no Python code: ``get(key)`` returns the value or
    ``None``, and ``touch(key)`` moves the entry to the end. ``max_entry`` is ``max_bytes`` by default.
    """

    __slots__ = ("_entries", "_max_entry", "_weigh", "get", "max_bytes", "touch", "used")

    def __init__(self, max_bytes: int, weigh: Callable[[K, V], int], *, max_entry: int | None = None) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._weigh = weigh
        self._max_entry = max_bytes if max_entry is None else max_entry
        self.max_bytes = max_bytes
        self.used = 0
        """Bytes held now; never more than ``max_bytes``."""
        self.get: Callable[[K], V | None] = self._entries.get
        self.touch: Callable[[K], None] = self._entries.move_to_end

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V, *, last: bool = True) -> None:
        """Hold ``value``, at the end or at the front. An entry of more than ``max_entry`` bytes is not held."""
        self._remove(key)
        size = self._size(key, value)
        if size > self._max_entry:
            return
        self._entries[key] = value
        if not last:
            self._entries.move_to_end(key, last=False)
        self.used += size
        while self.used > self.max_bytes:
            self.used -= self._size(*self._entries.popitem(last=False))

    def clear(self) -> None:
        self._entries.clear()
        self.used = 0

    def _remove(self, key: K) -> None:
        if key in self._entries:
            self.used -= self._size(key, self._entries.pop(key))

    def _size(self, key: K, value: V) -> int:
        return self._weigh(key, value) + ENTRY_BYTES
