"""Content encodings: whole bodies, bodies in pieces, bodies that are none, and bodies that grow without end."""

from __future__ import annotations

import contextlib
import gzip
import random
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.bodies import ENCODINGS, Headers, frames, members, snappy, zstd
from tests.support.each import each
from vmgw_core.errors import BadRequest, BodyTooLarge, Refusal, UnsupportedBody
from vmgw_core.http.content_coding import PIECE, ZstdBlock, content_encoding, decoder
from vmgw_core.http.head import RequestHead

MIB = 1 << 20
TEXT = b"".join(b"m{n=\"%d\"} %d\n" % (n, n) for n in range(2000))  # fmt: skip


def decode(encoding: str, *pieces: bytes, max_decoded: int = MIB) -> bytes:
    decoded: list[bytes] = []
    undo = decoder(encoding, decoded.append, max_decoded=max_decoded)
    for piece in pieces:
        undo.feed(piece)
    undo.finish()
    return b"".join(decoded)


def stream_of(data: bytes) -> bytes:
    """A frame that does not say how large it is."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@each("size", [1, 3, 1000, MIB])
@each("name", ENCODINGS)
def test_decodes(name: str, size: int) -> None:
    encoding, encode = ENCODINGS[name]
    assert decode(encoding, *cut(encode(TEXT), size)) == TEXT


def test_no_encoding_changes_nothing() -> None:
    assert decode("", b"a", b"b") == b"ab"


@each(
    ("encoding", "body", "what"),
    [
        ("gzip", b"plain", "not valid gzip"),
        ("gzip", b"", "is truncated"),
        ("gzip", gzip.compress(TEXT)[:-1], "is truncated"),
        ("gzip", gzip.compress(TEXT) + b"tail", "not valid gzip"),
        ("gzip", gzip.compress(TEXT) + b"\0\0", "not valid gzip|is truncated"),
        ("gzip", gzip.compress(TEXT)[:-8] + bytes(8), "not valid gzip"),
        ("gzip", zlib.compress(TEXT), "not valid gzip"),
        ("deflate", b"plain", "not valid deflate"),
        ("deflate", b"", "is truncated"),
        ("deflate", zlib.compress(TEXT)[:-1], "is truncated"),
        ("deflate", zlib.compress(TEXT) + b"tail", "^there are bytes after the end of the deflate encoding$"),
        ("deflate", zlib.compress(TEXT, wbits=-15), "not valid deflate"),
        ("deflate", gzip.compress(TEXT), "not valid deflate"),
        ("zstd", b"plain", "not valid zstd"),
        ("zstd", zstd(TEXT) + b"tail", "not valid zstd"),
        ("snappy", b"", "not a valid snappy"),
        ("snappy", b"plain", "not a valid snappy"),
        ("snappy", snappy(TEXT)[:-1], "not a valid snappy"),
        ("snappy", snappy(TEXT) + b"tail", "not a valid snappy"),
        ("snappy", b"\xff" * 20, "not a valid snappy"),
    ],
)
def test_broken_encodings_are_refused(encoding: str, body: bytes, what: str) -> None:
    with pytest.raises(BadRequest, match=what):
        decode(encoding, body)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "snappy"])
@given(data=st.binary(max_size=300), size=st.integers(1, 50))
def test_any_bytes_decode_or_are_refused(encoding: str, data: bytes, size: int) -> None:
    with contextlib.suppress(Refusal):
        decode(encoding, *cut(data, size))


@given(data=st.binary(max_size=3000), size=st.integers(1, 500))
def test_decoding_undoes_encoding(data: bytes, size: int) -> None:
    for encoding, encode in ENCODINGS.values():
        assert decode(encoding, *cut(encode(data), size)) == data


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip.compress(bytes(64 * MIB))),
        ("deflate", zlib.compress(bytes(64 * MIB))),
        ("zstd", zstd(bytes(64 * MIB))),
    ],
    ids=["gzip", "deflate", "zstd"],
)
def test_a_bomb_comes_in_pieces(encoding: str, bomb: bytes) -> None:
    sizes: list[int] = []
    undo = decoder(encoding, lambda piece: sizes.append(len(piece)), max_decoded=1)
    undo.feed(bomb)
    undo.finish()
    assert sum(sizes) == 64 * MIB
    assert max(sizes) <= PIECE


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_what_the_sink_raises_comes_through_at_once(encoding: str) -> None:
    seen: list[bytes] = []

    def sink(piece: bytes) -> None:
        seen.append(piece)
        raise BodyTooLarge("enough")

    with pytest.raises(BodyTooLarge, match="enough"):
        decoder(encoding, sink, max_decoded=1).feed(ENCODINGS[encoding][1](bytes(4 * MIB)))
    assert len(seen) == 1


def test_snappy_is_held_up_to_the_bound_before_and_after() -> None:
    data = random.Random(1).randbytes(1000)  # noqa: S311
    assert decode("snappy", snappy(data), max_decoded=len(snappy(data))) == data
    with pytest.raises(BodyTooLarge, match="larger than"):
        decode("snappy", snappy(data), max_decoded=len(snappy(data)) - 1)
    zeros = bytes(10_000)
    with pytest.raises(BodyTooLarge, match="decodes to more"):
        decode("snappy", snappy(zeros), max_decoded=9_999)


def test_members_with_next_to_nothing_in_them_are_bounded() -> None:
    assert decode("gzip", gzip.compress(b"x") * 1000) == b"x" * 1000
    with pytest.raises(BadRequest, match="members"):
        decode("gzip", gzip.compress(b"x") * 1001)
    block = bytes(4096)
    assert decode("gzip", gzip.compress(block) * 1500, max_decoded=1) == block * 1500


def test_a_large_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    wide = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = wide.compress(TEXT) + wide.flush()
    with pytest.raises(BadRequest, match="window"):
        decode("zstd", body)


def test_a_zstd_frame_that_breaks_off_gives_what_can_be_read() -> None:
    assert decode("zstd", frames(TEXT)[:-1]).startswith(TEXT[: len(TEXT) // 2])
    assert decode("gzip", members(TEXT)) == TEXT


# --- zstd that is decoded whole -------------------------------------------------------------------------------------


def decode_whole(*pieces: bytes, max_decoded: int = MIB) -> bytes:
    decoded: list[bytes] = []
    undo = ZstdBlock(decoded.append, max_decoded=max_decoded)
    for piece in pieces:
        undo.feed(piece)
    undo.finish()
    return b"".join(decoded)


@each("size", [1, 3, MIB])
@each("encode", [zstd, frames, stream_of])
def test_zstd_decoded_whole(encode: Callable[[bytes], bytes], size: int) -> None:
    assert decode_whole(*cut(encode(TEXT), size)) == TEXT


def test_zstd_decoded_whole_is_bounded_before_and_hands_on_what_is_larger_in_pieces() -> None:
    assert decode_whole(zstd(TEXT), max_decoded=len(TEXT) - 1) == TEXT
    with pytest.raises(BodyTooLarge, match="larger than"):
        decode_whole(zstd(TEXT), max_decoded=len(zstd(TEXT)) - 1)


@pytest.mark.parametrize("body", [b"plain", snappy(TEXT), zstd(TEXT) + b"tail", bytes(4)])
def test_broken_zstd_decoded_whole(body: bytes) -> None:
    with pytest.raises(BadRequest, match="zstd"):
        decode_whole(body)


# --- the header -----------------------------------------------------------------------------------------------------


def head(*values: bytes) -> RequestHead:
    headers: Headers = tuple((b"Content-Encoding", value) for value in values)
    return RequestHead(method="POST", target="/", headers=headers, client="")


@each(
    ("values", "encoding"),
    [
        ([], ""),
        ([b""], ""),
        ([b"identity"], ""),
        ([b"none"], ""),
        ([b" gzip "], "gzip"),
        ([b"deflate"], "deflate"),
        ([b"zstd"], "zstd"),
        ([b"snappy"], "snappy"),
    ],
)
def test_accepts_encodings(values: list[bytes], encoding: str) -> None:
    assert content_encoding(head(*values)) == encoding


@each(
    "values",
    [[b"br"], [b"GZIP"], [b"x-gzip"], [b"gzip, zstd"], [b"gzip,"], [b"gzip", b"gzip"], [b"gzip", b""], [b"\xff"]],
)
def test_rejects_encodings(values: list[bytes]) -> None:
    with pytest.raises(UnsupportedBody):
        content_encoding(head(*values))
