from __future__ import annotations

import contextlib
import gzip
import zlib

import cramjam
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.codings import CodingError, decode

TEXT = b'foo{bar="baz"} 1\n' * 50
ENCODED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "zstd": zstandard.compress(TEXT),
    "snappy": bytes(cramjam.snappy.compress_raw(TEXT)),
}


@pytest.mark.parametrize("coding", ENCODED)
def test_decodes(coding: str) -> None:
    assert decode(ENCODED[coding], coding, len(TEXT)) == TEXT
    assert decode(ENCODED[coding], f" {coding.upper()} ", len(TEXT)) == TEXT


@pytest.mark.parametrize("coding", ENCODED)
def test_the_size_is_bounded(coding: str) -> None:
    with pytest.raises(CodingError, match="larger than 849 bytes"):
        decode(ENCODED[coding], coding, len(TEXT) - 1)


def test_a_frame_that_does_not_say_its_size_is_bounded_too() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    assert decode(frame, "zstd", len(TEXT)) == TEXT
    with pytest.raises(CodingError):
        decode(frame, "zstd", len(TEXT) - 1)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "compress"])
def test_other_codings_are_refused(coding: str) -> None:
    with pytest.raises(CodingError, match="not known"):
        decode(TEXT, coding, 1000)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "snappy"])
@pytest.mark.parametrize("body", [b"", b"\x00", b"nonsense", b"\x05abc", b"\xff" * 40], ids=repr)
def test_a_broken_body_is_refused_or_empty(coding: str, body: bytes) -> None:
    with contextlib.suppress(CodingError):
        assert decode(body, coding, 1000) == b""


@given(st.sampled_from(sorted(ENCODED)), st.binary(max_size=60))
def test_any_bytes_give_a_body_or_an_error(coding: str, body: bytes) -> None:
    with contextlib.suppress(CodingError):
        assert len(decode(body, coding, 1000)) <= 1000
