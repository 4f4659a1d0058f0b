"""Sealed texts: nobody else makes or changes one, and keys can be replaced."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.logins import NONCE, cookie_keys
from vmgw_core.errors import ConfigurationError
from vmgw_core.login.sealing import CookieKeys, Purpose, sealed_length

KEYS = cookie_keys()
SEALED = KEYS.seal(Purpose.SESSION, b"content", NONCE)


def line(key: bytes) -> bytes:
    return base64.b64encode(key)


def test_what_is_sealed_is_opened() -> None:
    assert KEYS.open(Purpose.SESSION, SEALED) == b"content"
    assert "content" not in SEALED
    assert b"content" not in base64.urlsafe_b64decode(SEALED + "=" * (-len(SEALED) % 4))


@pytest.mark.parametrize("size", range(8))
def test_how_long_a_sealed_text_is(size: int) -> None:
    assert len(KEYS.seal(Purpose.LOGIN, b"x" * size, NONCE)) == sealed_length(b"x" * size)


def test_a_purpose_is_not_another() -> None:
    assert KEYS.open(Purpose.LOGIN, SEALED) is None


def test_the_first_key_seals_and_all_open() -> None:
    rotated = cookie_keys(b"n", b"k")
    assert rotated.open(Purpose.SESSION, SEALED) == b"content"
    newer = rotated.seal(Purpose.SESSION, b"content", NONCE)
    assert cookie_keys(b"n").open(Purpose.SESSION, newer) == b"content"
    assert cookie_keys(b"n").open(Purpose.SESSION, SEALED) is None


@given(st.integers(0, len(base64.urlsafe_b64decode(SEALED + "=" * (-len(SEALED) % 4))) * 8 - 1))
def test_no_bit_can_be_flipped(bit: int) -> None:
    sealed = bytearray(base64.urlsafe_b64decode(SEALED + "=" * (-len(SEALED) % 4)))
    sealed[bit // 8] ^= 1 << bit % 8
    assert KEYS.open(Purpose.SESSION, base64.urlsafe_b64encode(sealed).decode().rstrip("=")) is None


@given(st.text(max_size=80))
def test_other_texts_are_not_opened(text: str) -> None:
    assert KEYS.open(Purpose.SESSION, text) is None


@pytest.mark.parametrize("text", ["", "A", "AAAA", SEALED[:-4], SEALED[4:], "é", "a b", SEALED + "AAAA"])
def test_cut_and_odd_texts_are_not_opened(text: str) -> None:
    assert KEYS.open(Purpose.SESSION, text) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(line(b"k" * 32), id="one"),
        pytest.param(
            b"\n# the old one\r\n " + line(b"k" * 32).rstrip(b"=") + b" \r\n", id="comment, blanks, no padding"
        ),
        pytest.param(base64.urlsafe_b64encode(b"k" * 32) + b"\n" + line(b"o" * 48), id="two"),
    ],
)
def test_a_file_of_keys(text: bytes) -> None:
    assert CookieKeys.parse(text).open(Purpose.SESSION, SEALED) == b"content"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "the file has no key; openssl rand -base64 32 makes one"),
        (b"# none\n", "the file has no key; openssl rand -base64 32 makes one"),
        (b"\n" + line(b"k" * 31), "the key in line 2 has 31 bytes, but needs at least 32"),
        (b"not base64!", "line 1 is not base64"),
        (b"\xff" * 44, "line 1 is not base64"),
        (b"A" * 45, "line 1 is not base64"),
        (
            line(b"k" * 32) * 1 + b"\n" + b"\n".join(line(bytes([n]) * 32) for n in range(8)),
            "the file has more than 8 keys",
        ),
    ],
)
def test_a_file_that_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ConfigurationError) as found:
        CookieKeys.parse(text)
    assert str(found.value) == f"-login.cookieKeyFile: {reason}"
