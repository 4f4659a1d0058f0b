from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmgw_addons.lanes.flow.http2 import FrameSizes

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(size: int, content: int | None = None) -> bytes:
    return size.to_bytes(3, "big") + b"\0" * 6 + b"x" * (size if content is None else content)


@given(sizes=st.lists(st.integers(0, 60)), cuts=st.lists(st.integers(1, 40)))
def test_the_verdict_does_not_depend_on_the_pieces(sizes: list[int], cuts: list[int]) -> None:
    data, found = PREFACE + b"".join(map(frame, sizes)), FrameSizes()
    fits = True
    for cut in [*cuts, len(data)]:
        piece, data = data[:cut], data[cut:]
        fits = fits and found.fit(piece, 50)
    assert fits is all(size <= 50 for size in sizes)


def test_a_frame_is_too_large_as_soon_as_it_says_so() -> None:
    sizes = FrameSizes()
    assert sizes.fit(PREFACE + frame(50) + frame(51, 0)[:8], 50)
    assert not sizes.fit(b"\0", 50)
