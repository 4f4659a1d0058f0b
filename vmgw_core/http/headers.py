"""Header fields, and what follows from them alone.

A client's requests mostly have the very same headers, so what was computed from them is cached. The cache is bounded in
bytes, and a large head is not cached: it would push out many small ones.
"""

from __future__ import annotations

import re
from typing import Any, Final

from vmgw_core.base import OBJECT_BYTES, BoundedCache

from .forms import is_form

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in the order they came, names as the client wrote them."""

_CACHE_BYTES: Final = 3 << 20
_MAX_ENTRY: Final = 16 * 1024
_PAIR_BYTES: Final = 72 + 4 * OBJECT_BYTES  # of a tuple of two beside the two, and its places in two tuples
_FACTS_BYTES: Final = 900  # without what is proportional to the headers
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """Return all values of the header ``name`` (in lower case), in order, without surrounding blanks."""
    return [value.strip() for key, value in headers if key.lower() == name]


class HeaderFacts:
    """What headers say of the body that follows, and what decisions have computed from them.

    ``form_type`` is the type of an uncompressed form, or None. ``token`` and ``forwarded`` are the last result of a
    computation, with the arguments that it depends on beside the headers. Neither is larger than the headers.
    """

    __slots__ = ("awaits_continue", "bad_length", "chunked", "content_length", "form_type", "forwarded", "has_body",
                 "token")  # fmt: skip

    def __init__(self, headers: Headers) -> None:
        lengths = values_of(headers, b"content-length")
        good_length = len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]) is not None
        self.content_length = int(lengths[0]) if good_length else None
        self.bad_length = bool(lengths) and not good_length
        """Whether Content-Length is not one number of bytes."""
        self.chunked = any(name.lower() == b"transfer-encoding" for name, _ in headers)
        self.has_body = self.chunked or bool(self.content_length)
        expected = values_of(headers, b"expect")
        self.awaits_continue = bool(expected) and expected[0].lower() == b"100-continue"
        types = values_of(headers, b"content-type")
        form_type = types[0].decode("latin-1") if len(types) == 1 else ""
        encoded = any(value.lower() != b"identity" for value in values_of(headers, b"content-encoding"))
        self.form_type = form_type if is_form(form_type) and not encoded else None
        self.token: tuple[object, Any] | None = None
        self.forwarded: tuple[tuple[str, tuple[bytes, ...], str, bool, bool], Headers] | None = None


def facts_bytes(headers: Headers) -> int:
    """Return the memory that headers and what follows from them take, in bytes."""
    size = _FACTS_BYTES
    for name, value in headers:
        # A value is copied once at most: into the token, or into X-Forwarded-For. The other pairs are forwarded as is.
        size += _PAIR_BYTES + name.__sizeof__() + value.__sizeof__() + len(value)
    return size


def _size(headers: Headers, _: HeaderFacts) -> int:
    return facts_bytes(headers)


FactsCache = BoundedCache[Headers, HeaderFacts]


def facts_cache() -> FactsCache:
    """Return an empty cache, for those who decide in another way and must not replace what others have computed."""
    return BoundedCache(_CACHE_BYTES, _size, max_entry=_MAX_ENTRY)


_facts: Final = facts_cache()


def facts_of(headers: Headers, cache: FactsCache = _facts) -> HeaderFacts:
    """Return what ``headers`` say."""
    facts = cache.get(headers)
    if facts is None:
        facts = HeaderFacts(headers)
        cache.put(headers, facts)
    return facts
