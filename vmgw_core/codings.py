"""Undoing the content codings that VictoriaMetrics' clients and servers use, within a bound.

gzip and deflate (RFC 9110, section 8.4.1), zstd (RFC 8878), and snappy as remote write has it (the block format).
"""

from __future__ import annotations

import zlib
from typing import Final

import cramjam
import zstandard

_MAX_VARINT: Final = 5  # bytes: snappy's lengths have 32 bits


class CodingError(ValueError):
    """A body that cannot be decoded, or not within the bound."""


def decode(body: bytes, coding: str, max_size: int) -> bytes:
    """The decoded ``body``, of at most ``max_size`` bytes.

    Args:
        coding: the value of ``Content-Encoding``; of several codings none is undone.

    Raises:
        CodingError: another coding, a broken body, or one that is larger.
    """
    try:
        match coding.strip().lower():
            case "" | "identity":
                decoded = body
            case "gzip" | "x-gzip" | "deflate":
                decoded = zlib.decompressobj(wbits=47).decompress(body, max_size + 1)
            case "zstd":
                decoded = _zstd(body, max_size)
            case "snappy":
                decoded = _snappy(body, max_size)
            case _:
                raise CodingError("a content coding that is not known")
    except (zlib.error, zstandard.ZstdError, cramjam.DecompressionError):
        raise CodingError("the body is broken") from None
    if len(decoded) > max_size:
        raise CodingError(f"decoded, the body is larger than {max_size} bytes")
    return decoded


def _zstd(body: bytes, max_size: int) -> bytes:
    # The library goes by the size that the frame announces where it does, and by the bound where it does not.
    if zstandard.frame_content_size(body) > max_size:
        raise CodingError(f"decoded, the body is larger than {max_size} bytes")
    return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(body, max_output_size=max_size)


def _snappy(body: bytes, max_size: int) -> bytes:
    size = 0
    for index, byte in enumerate(body[:_MAX_VARINT]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    if size > max_size:
        raise CodingError(f"decoded, the body is larger than {max_size} bytes")
    return bytes(cramjam.snappy.decompress_raw(body))
