"""How many series VictoriaMetrics read for a query: ``stats.seriesFetched`` near the end of its JSON answer.

The answer is not held back, and no more than its last bytes are kept while it passes. A trace may follow the number. A
gzipped answer is decoded for that, up to a bound; the decoded bytes are dropped.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from .headers import Headers

_MOST_DECODED: Final = 16 << 20
"""Bytes of a gzipped answer that are decoded in any case."""
_MOST_TIMES: Final = 100
"""Beyond that, it is decoded while it is at most so many times as large as what came. Else the number is unknown."""
_PIECE: Final = 64 << 10
_NAME: Final = b'"seriesFetched"'
# Strings in JSON have no raw quotes, so neither a label nor a trace can look like this.
_STATS: Final = re.compile(rb'"stats":\{"seriesFetched":\s{0,4}"([0-9]{1,19})"')
_TAIL: Final = 64  # bytes, more than what the expression matches


class SeriesFetched:
    """Reads the content of one response as it passes."""

    __slots__ = ("_came", "_decoded", "_decoder", "_tail", "number")

    def __init__(self, *, gzipped: bool) -> None:
        self.number: int | None = None
        """The number in the content so far; None if it is not there."""
        self._decoder = zlib.decompressobj(wbits=31) if gzipped else None
        self._came = self._decoded = 0
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
        if self.number is not None:
            return
        decoder = self._decoder
        if decoder is None:
            self._find(content)
            return
        self._came += len(content)
        most = max(_MOST_DECODED, _MOST_TIMES * self._came)
        while content and not decoder.eof and self._decoded <= most:
            try:
                piece = decoder.decompress(content, _PIECE)
            except zlib.error:
                return  # as after the next piece: it cannot become gzip again
            self._decoded += len(piece)
            self._find(piece)
            content = decoder.unconsumed_tail

    def _find(self, content: bytes) -> None:
        text = self._tail + content
        place = text.rfind(_NAME)
        if place >= 0 and (found := _STATS.search(text, max(0, place - _TAIL))):
            self.number = int(found[1])
        self._tail = text[-_TAIL:]
