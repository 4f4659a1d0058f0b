"""Content encodings of write bodies, undone as the body streams, in bounded memory.

What VictoriaMetrics takes (its newest releases; older ones take gzip, and take a body in any other encoding as it
is): gzip, deflate (which is zlib's format, RFC 1950), zstd, and snappy in block format. Encodings that are stacked
or unknown are refused: rows in a body that the backend can read and the gateway cannot would not be counted.

A decoder gets bytes and hands on what they decode to in pieces of at most ``PIECE`` bytes, at once: of a
decompression bomb no more than that is ever held here. Only a snappy block is decoded whole, up to a bound.
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
"""Takes the decoded bytes, in order."""

PIECE: Final = 256 * 1024
"""Bytes handed on at once, at most."""

_INPUT: Final = 64 * 1024  # bytes decompressed in one go: what is left of them is copied at the end of a member
_FREE_MEMBERS: Final = 1000  # gzip members of any size
_MEMBER: Final = 1024  # decoded bytes that further members must hold on average: setting one up costs time
_MAX_WINDOW: Final = 32 << 20  # bytes of history that a zstd frame may refer to


class Decoder(Protocol):
    """Undoes one encoding.

    Both methods raise BadBody for what is no such encoding, and whatever the sink raises.
    """

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""

    def finish(self) -> None:
        """The body is over."""


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
        """Decode one piece; what is left of ``data``."""
        if self._inflater.eof:
            self._next_member()
        try:
            piece = self._inflater.decompress(data, PIECE)
            self._pass_on(piece)
            while len(piece) == PIECE and not self._inflater.unconsumed_tail:
                # All input is taken, but there may be more output: the end of a long repetition.
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
            raise BadBody("there are bytes behind the end of the deflate encoding")
        self._members += 1
        if self._members > _FREE_MEMBERS + self._decoded // _MEMBER:
            raise BadBody(f"the body has more than {_FREE_MEMBERS} gzip members with next to nothing in them")
        self._inflater = zlib.decompressobj(self._wbits)

    def finish(self) -> None:
        if not self._inflater.eof:
            raise BadBody(f"the {'gzip' if self._gzip else 'deflate'} encoding breaks off")


class Zstd:
    """Zstandard frames (RFC 8878), one or more; skippable ones hold nothing."""

    def __init__(self, sink: Sink) -> None:
        self.write = sink
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        # What it decodes it writes here, ``write_size`` bytes at a time.
        self._writer = decompressor.stream_writer(self, write_size=PIECE, closefd=False)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> None:
        try:
            self._writer.write(data)
        except zstandard.ZstdError:
            raise BadBody("the body is not valid zstd, or needs a larger window than 32 MiB") from None

    def finish(self) -> None:
        """A frame that breaks off has been decoded as far as any reader gets."""


class _Held:
    """An encoding that is decoded whole, up to ``max_decoded`` bytes before and after."""

    def __init__(self, sink: Sink, *, max_decoded: int) -> None:
        self._sink = sink
        self._max = max_decoded
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        if len(self._body) + len(data) > self._max:
            raise BodyTooLarge(f"an encoded body is larger than {self._max} bytes (-ratelimit.maxDecodedSize)")
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
                raise BodyTooLarge(f"a snappy block decodes to more than {self._max} bytes (-ratelimit.maxDecodedSize)")
            decoded = bytes(cramjam.snappy.decompress_raw(body))
        except cramjam.DecompressionError:
            raise BadBody("the body is not a valid snappy block") from None
        self._sink(decoded)


_FRAME: Final = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # RFC 8878, sections 3.1.1 and 3.1.2


class ZstdBlock(_Held):
    """Zstandard frames, decoded whole: one that says how large it is takes a quarter of the time that way."""

    def feed(self, data: bytes) -> None:
        super().feed(data)
        if len(self._body) >= 4 and not _FRAME.match(self._body):
            raise BadBody("the body is not valid zstd")

    def finish(self) -> None:
        body = self._take()
        try:
            # An empty frame, or one to skip, may have others after it.
            if not 0 < zstandard.frame_content_size(body) <= self._max:
                raise zstandard.ZstdError("to be decoded in pieces")
            decoded = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        except zstandard.ZstdError:
            Zstd(self._sink).feed(body)  # several frames, or one that is broken or large
        else:
            self._sink(decoded)


def content_encoding(head: RequestHead) -> str:
    """The encoding of a body as VictoriaMetrics reads it: exactly one word in lower case, or "" for none.

    Raises:
        UnsupportedBody: several, an unknown one, or a spelling that some releases do not recognise.
    """
    values = head.values(b"content-encoding")
    if len(values) > 1:
        raise UnsupportedBody("the body is encoded more than once")
    encoding = values[0].decode("latin-1") if values else ""
    if encoding in ("", "none", "identity"):
        return ""
    if encoding not in ("gzip", "deflate", "zstd", "snappy"):
        raise UnsupportedBody("the Content-Encoding is none of gzip, deflate, zstd and snappy")
    return encoding


def decoder(encoding: str, sink: Sink, *, max_decoded: int) -> Decoder:
    """The decoder of one of the encodings that :func:`content_encoding` returns.

    Args:
        max_decoded: bytes that may be held of what can only be decoded whole, before and after.
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
