"""How many series VictoriaMetrics read for a query: ``stats.seriesFetched`` at the end of its JSON answer.

The answer is not held back: only its last bytes are kept while it passes. A gzipped answer is decoded for that, up to
a bound; the decoded bytes are dropped.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from .headers import Headers

_TAIL: Final = 256
_MOST_DECODED: Final = 16 << 20
"""Bytes of a gzipped answer that are decoded; of a larger one the number is unknown."""
_PIECE: Final = 64 << 10
# Strings in JSON have no raw quotes, so a label's value cannot look like this.
_STATS: Final = re.compile(
    rb',"stats":\{"seriesFetched":\s*"([0-9]{1,19})"(?:,"[A-Za-z]{1,40}":\s*[0-9]{1,19})*\}\}\s*\Z'
)


class SeriesFetched:
    """Reads the content of one response as it passes."""

    __slots__ = ("_decoded", "_decoder", "_tail")

    def __init__(self, *, gzipped: bool) -> None:
        self._decoder = zlib.decompressobj(wbits=31) if gzipped else None
        self._decoded = 0
        self._tail = b""

    @classmethod
    def of(cls, status: int, headers: Headers) -> SeriesFetched | None:
        """Return a reader for a response with this head; None if it cannot have the number, or not readably."""
        content_type, encoding = b"", b""
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-type":
                content_type = value
            elif lower == b"content-encoding":
                encoding = value.strip().lower()
        json = content_type.partition(b";")[0].strip().lower() == b"application/json"
        if status != 200 or not json or encoding not in (b"", b"identity", b"gzip"):
            return None
        return cls(gzipped=encoding == b"gzip")

    def feed(self, content: bytes) -> None:
        """Take more of the content, as the backend sent it."""
        decoder = self._decoder
        if decoder is None:
            self._keep(content)
            return
        while content and not decoder.eof and self._decoded <= _MOST_DECODED:
            try:
                piece = decoder.decompress(content, _PIECE)
            except zlib.error:
                self._decoded = _MOST_DECODED + 1  # never gzip again
                break
            self._decoded += len(piece)
            self._keep(piece)
            content = decoder.unconsumed_tail

    @property
    def number(self) -> int | None:
        """The number in the content so far; None if it is not there."""
        if self._decoder is not None and not self._decoder.eof:
            return None
        found = _STATS.search(self._tail)
        return None if found is None else int(found[1])

    def _keep(self, content: bytes) -> None:
        self._tail = content[-_TAIL:] if len(content) >= _TAIL else (self._tail + content)[-_TAIL:]
