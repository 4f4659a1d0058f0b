"""Decoders for the content encodings of write bodies, which stream in bounded memory.

The newest releases of VictoriaMetrics accept gzip, deflate (zlib's format, RFC 1950), zstd and snappy in block format.
Older ones accept gzip, and read other encodings as they are. Stacked and unknown encodings are refused: the gateway
could not count rows in them.

A decoder passes on decoded pieces of at most ``PIECE`` bytes at once, so a decompression bomb never takes more memory.
Only a snappy block is decoded whole, up to a bound.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Final, Protocol

import cramjam
import zstandard

from vmgw_core.errors import BadBody, BodyTooLarge, UnsupportedBody

from .head import RequestHead

Sink = Callable[[bytes], None]
"""Receives the decoded bytes, in order."""

PIECE: Final = 256 * 1024
"""The most bytes passed on at once."""

_INPUT: Final = 64 * 1024  # bytes decompressed at once; the rest is copied at the end of a member
_FREE_MEMBERS: Final = 1000  # gzip members of any size
_MEMBER: Final = 1024  # decoded bytes that further members must have on average, since each costs time
_MAX_WINDOW: Final = 32 << 20  # bytes of history that a zstd frame may refer to


class Decoder(Protocol):
    """Decodes one encoding. Both methods raise BadBody for bad input, and what the sink raises."""

    def feed(self, data: bytes) -> None:
        """Decode the next bytes of the body."""

    def finish(self) -> None:
        """Check that the body ends here."""


class Plain:
    """No encoding."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def feed(self, data: bytes) -> None:
        self._sink(data)

    def finish(self) -> None:
        """Nothing is held back."""


class Inflate:
    """gzip (RFC 1952), of one or more members, or zlib's format (RFC 1950), of one."""

    def __init__(self, sink: Sink, *, gzip: bool) -> None:
        self._sink = sink
        self._gzip = gzip
        self._wbits = zlib.MAX_WBITS | (16 if gzip else 0)
        self._inflater = zlib.decompressobj(self._wbits)
        self._members = 1
        self._decoded = 0

    def feed(self, data: bytes) -> None:
        for start in range(0, len(data), _INPUT):
            rest = data[start : start + _INPUT]
            while rest:
                rest = self._inflate(rest)

    def _inflate(self, data: bytes) -> bytes:
        """Decode one piece; return the rest of ``data``."""
        if self._inflater.eof:
            self._next_member()
        try:
            piece = self._inflater.decompress(data, PIECE)
            self._pass_on(piece)
            while len(piece) == PIECE and not self._inflater.unconsumed_tail:
                # All input is consumed, but a long repetition may have more output.
                piece = self._inflater.decompress(b"", PIECE)
                self._pass_on(piece)
        except zlib.error:
            raise BadBody(f"the body is not valid {'gzip' if self._gzip else 'deflate'}") from None
        return self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail

    def _pass_on(self, piece: bytes) -> None:
        self._decoded += len(piece)
        if piece:
            self._sink(piece)

    def _next_member(self) -> None:
        if not self._gzip:
            raise BadBody("there are bytes after the end of the deflate encoding")
        self._members += 1
        if self._members > _FREE_MEMBERS + self._decoded // _MEMBER:
            raise BadBody(f"the body has more than {_FREE_MEMBERS} nearly empty gzip members")
        self._inflater = zlib.decompressobj(self._wbits)

    def finish(self) -> None:
        if not self._inflater.eof:
            raise BadBody(f"the {'gzip' if self._gzip else 'deflate'} encoding is truncated")


class Zstd:
    """Zstandard frames (RFC 8878), one or more; skippable ones hold nothing."""

    def __init__(self, sink: Sink) -> None:
        self.write = sink
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        # It calls self.write with ``write_size`` decoded bytes at a time.
        self._writer = decompressor.stream_writer(self, write_size=PIECE, closefd=False)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> None:
        try:
            self._writer.write(data)
        except zstandard.ZstdError:
            raise BadBody("the body is not valid zstd, or needs a larger window than 32 MiB") from None

    def finish(self) -> None:
        """A truncated frame is already decoded as far as possible."""


class _Held:
    """A decoder that needs the whole body, of up to ``max_decoded`` bytes before and after."""

    def __init__(self, sink: Sink, *, max_decoded: int) -> None:
        self._sink = sink
        self._max = max_decoded
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        if len(self._body) + len(data) > self._max:
            raise BodyTooLarge(f"the encoded body is larger than {self._max} bytes (-ratelimit.maxDecodedSize)")
        self._body += data

    def _take(self) -> bytes:
        body = bytes(self._body)
        self._body.clear()
        return body


class SnappyBlock(_Held):
    """Snappy's block format: one block, which can only be decoded whole."""

    def finish(self) -> None:
        body = self._take()
        try:
            if cramjam.snappy.decompress_raw_len(body) > self._max:
                raise BodyTooLarge(
                    f"the snappy block decodes to more than {self._max} bytes (-ratelimit.maxDecodedSize)"
                )
            decoded = bytes(cramjam.snappy.decompress_raw(body))
        except cramjam.DecompressionError:
            raise BadBody("the body is not a valid snappy block") from None
        self._sink(decoded)


_FRAME: Final = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # RFC 8878, sections 3.1.1 and 3.1.2


class ZstdBlock(_Held):
    """Zstandard frames, decoded whole: that takes a quarter of the time if the frame states its size."""

    def feed(self, data: bytes) -> None:
        super().feed(data)
        if len(self._body) >= 4 and not _FRAME.match(self._body):
            raise BadBody("the body is not valid zstd")

    def finish(self) -> None:
        body = self._take()
        try:
            # Other frames may follow an empty or skippable one.
            if not 0 < zstandard.frame_content_size(body) <= self._max:
                raise zstandard.ZstdError("decode in pieces")
            decoded = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        except zstandard.ZstdError:
            Zstd(self._sink).feed(body)  # several frames, or a broken or large one
        else:
            self._sink(decoded)


def content_encoding(head: RequestHead) -> str:
    """Return the encoding of a body as VictoriaMetrics reads it: one lower-case word, or "" for none.

    Raises:
        UnsupportedBody: there are several, an unknown one, or a spelling that some releases do not recognise.
    """
    values = head.values(b"content-encoding")
    if len(values) > 1:
        raise UnsupportedBody("the body is encoded more than once")
    encoding = values[0].decode("latin-1") if values else ""
    if encoding in ("", "none", "identity"):
        return ""
    if encoding not in ("gzip", "deflate", "zstd", "snappy"):
        raise UnsupportedBody("unsupported Content-Encoding: use gzip, deflate, zstd or snappy")
    return encoding


def decoder(encoding: str, sink: Sink, *, max_decoded: int) -> Decoder:
    """Return the decoder of an encoding that :func:`content_encoding` returned.

    Args:
        max_decoded: the bytes that a decoder of whole bodies may hold, before and after decoding.
    """
    match encoding:
        case "gzip":
            return Inflate(sink, gzip=True)
        case "deflate":
            return Inflate(sink, gzip=False)
        case "zstd":
            return Zstd(sink)
        case "snappy":
            return SnappyBlock(sink, max_decoded=max_decoded)
        case _:
            return Plain(sink)
