"""Header fields, and what follows from them alone.

The headers of one client's requests are mostly the very same, so what was computed from them is remembered. A cache is
bounded in bytes, and a large head is not remembered: it would push out many small ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple, TypeVar

from vmgw_core.base import OBJECT_BYTES, BoundedCache

from .forms import is_form

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in the order they came, names as the client wrote them."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_CACHE_BYTES: Final = 1 << 20
_MAX_ENTRY: Final = 16 * 1024
_PAIR_BYTES: Final = 56 + 2 * OBJECT_BYTES  # of a tuple of two, beside the two
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """Return all values of the header ``name`` (in lower case), in order, without surrounding blanks."""
    return [value.strip() for key, value in headers if key.lower() == name]


def header_cache(headers_of: Callable[[K], Headers]) -> BoundedCache[K, V]:
    """Return a cache for values that are computed from headers and are not larger than them.

    Args:
        headers_of: returns the headers of a key.
    """

    def weigh(key: K, _: V) -> int:
        fields = headers_of(key)
        return 2 * sum(
            _PAIR_BYTES + 2 * OBJECT_BYTES + name.__sizeof__() + value.__sizeof__() for name, value in fields
        )

    return BoundedCache(_CACHE_BYTES, weigh, max_entry=_MAX_ENTRY)


class HeaderFacts(NamedTuple):
    """What headers say of the body that follows. ``form_type`` is the type of an uncompressed form, or None."""

    content_length: int | None
    bad_length: bool
    """Whether Content-Length is not one number of bytes."""
    chunked: bool
    awaits_continue: bool
    form_type: str | None


_facts: BoundedCache[Headers, HeaderFacts] = header_cache(lambda headers: headers)


def facts_of(headers: Headers) -> HeaderFacts:
    """Return what ``headers`` say of the body."""
    facts = _facts.get(headers)
    if facts is None:
        facts = _read(headers)
        _facts.put(headers, facts)
    return facts


def _read(headers: Headers) -> HeaderFacts:
    expected = values_of(headers, b"expect")
    types = values_of(headers, b"content-type")
    form_type = types[0].decode("latin-1") if len(types) == 1 else ""
    encoded = any(value.lower() != b"identity" for value in values_of(headers, b"content-encoding"))
    lengths = values_of(headers, b"content-length")
    good_length = len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]) is not None
    return HeaderFacts(
        content_length=int(lengths[0]) if good_length else None,
        bad_length=bool(lengths) and not good_length,
        chunked=any(name.lower() == b"transfer-encoding" for name, _ in headers),
        awaits_continue=bool(expected) and expected[0].lower() == b"100-continue",
        form_type=form_type if is_form(form_type) and not encoded else None,
    )
