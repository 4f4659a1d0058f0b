"""Keyed hashes of labels, and of series by the hashes of their labels in order.

No client may know the key: who does can write two series with the same hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final

from .series_table import KEY_BITS

_BITS: Final = 60  # of the hash of labels: Python multiplies such numbers fast
_MASK: Final = (1 << _BITS) - 1
_DROPPED: Final = _BITS - KEY_BITS
_FACTOR: Final = 0x2545F491  # odd; the lowest bits of a product hardly depend on the order, so they are dropped
_MAX_LABELS: Final = 20_000
"""Labels whose hashes are remembered, in each format."""
_MAX_BYTES: Final = 256
"""Bytes of a remembered label, as it is written."""
_PART: Final = b"\x00part"
"""No name of a label."""

Pair = tuple[bytes, bytes]


def joined(start: int, numbers: Iterable[int]) -> int:
    """Return the hash of labels in their order: those before, and more. A label with the hash 0 is not there."""
    for number in numbers:
        if number:
            start = start * _FACTOR + number & _MASK
    return start


def key_of(hashed: int) -> int:
    """Return the key of a series in a table."""
    return hashed >> _DROPPED or 1


def _as_it_is(label: Pair) -> Pair:
    return label


class LabelHashes:
    """Hashes of labels, which are remembered as they are written in each format. That of one without a value is 0."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.waiting = 0
        """Bytes of all bodies whose series wait to be read."""
        self._known: dict[Callable[[Any], Pair], dict[Any, int]] = {}

    def known(self, parse: Callable[[Any], Pair]) -> dict[Any, int]:
        """Return what is remembered of labels that ``parse`` reads."""
        return self._known.setdefault(parse, {})

    def of(self, written: Any, parse: Callable[[Any], Pair]) -> int:  # noqa: ANN401
        """Return the hash of a label, and remember it."""
        name, value = parse(written)
        hashed = self.hash(name, value) if value else 0
        known = self._known.setdefault(parse, {})
        size = len(written) if isinstance(written, bytes) else len(name) + len(value)
        if size <= _MAX_BYTES:
            if len(known) >= _MAX_LABELS:
                known.clear()
            known[written] = hashed
        return hashed

    def part(self, value: object) -> int:
        """Return the hash of what tells several series of a row apart."""
        label = _PART, str(value).encode()
        return self.known(_as_it_is).get(label) or self.of(label, _as_it_is)

    def hash(self, name: bytes, value: bytes) -> int:
        written = b"%d %b%b" % (len(name), name, value)
        return int.from_bytes(blake2b(written, digest_size=8, key=self._key).digest()) & _MASK or 1
