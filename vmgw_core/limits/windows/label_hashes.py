"""Keyed hashes of labels. The hash of a series is the sum of those of its labels, so their order does not matter.

No client may know the key: who does can write two series with the same sum.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from .series_table import KEY_BITS

MASK: Final = (1 << KEY_BITS) - 1
_MAX_LABELS: Final = 20_000
"""Labels whose hashes are remembered, in each format."""
_MAX_BYTES: Final = 256
"""Bytes of a remembered label, as it is written."""

Pair = tuple[bytes, bytes]
Hashed = tuple[bytes, int]
"""The name of a label, and its hash. The hash of a label without a value is 0, as if it were not there."""


def _as_it_is(label: Pair) -> Pair:
    return label


class LabelHashes:
    """Hashes of labels, which are remembered as they are written in each format."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[Callable[[Any], Pair], dict[Any, Hashed]] = {}

    def known(self, parse: Callable[[Any], Pair]) -> dict[Any, Hashed]:
        """Return what is remembered of labels that ``parse`` reads."""
        return self._known.setdefault(parse, {})

    def of(self, written: Any, parse: Callable[[Any], Pair]) -> Hashed:  # noqa: ANN401
        """Return the hash of a label, and remember it."""
        name, value = parse(written)
        hashed = name, self.hash(name, value) if value else 0
        known = self._known.setdefault(parse, {})
        size = len(written) if isinstance(written, bytes) else len(name) + len(value)
        if size <= _MAX_BYTES:
            if len(known) >= _MAX_LABELS:
                known.clear()
            known[written] = hashed
        return hashed

    def part(self, value: object) -> int:
        """Return the hash of what tells several series of a row apart."""
        label = b"part", str(value).encode()
        return (self.known(_as_it_is).get(label) or self.of(label, _as_it_is))[1]

    def hash(self, name: bytes, value: bytes) -> int:
        written = b"%d %b%b" % (len(name), name, value)
        return int.from_bytes(blake2b(written, digest_size=KEY_BITS // 8, key=self._key).digest())
