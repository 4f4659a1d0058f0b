"""Hashes of passwords: their text, what they match, and passwords that cannot be used."""

from __future__ import annotations

import pytest

from tests.support.each import each
from vmgw_core.credentials.passwords import PasswordHash, check_password

SALT = bytes(range(16))
LINE = str(PasswordHash.of(b"secret", SALT))


def test_a_hash_matches_its_password_alone() -> None:
    known = PasswordHash.parse(LINE)
    assert known == PasswordHash.of(b"secret", SALT)
    assert known.matches(b"secret")
    assert not known.matches(b"Secret")
    assert not known.decoy(bytes(32)).matches(b"secret")
    assert known.decoy(bytes(32)).cost == known.cost == (15, 1)


def test_the_text_of_a_hash() -> None:
    assert str(PasswordHash.parse(LINE)) == LINE
    assert LINE.startswith("$scrypt$ln=15,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$")


def test_a_hash_shows_nothing_of_itself() -> None:
    assert repr(PasswordHash.parse(LINE)) == "PasswordHash(log_n=15, p=1)"


@each(
    "text",
    [
        "",
        "secret",
        LINE[1:],
        LINE + "A",
        LINE + "\n",
        LINE.replace("ln=15", "ln=13"),
        LINE.replace("ln=15", "ln=18"),
        LINE.replace("ln=15", "ln=99"),
        LINE.replace("r=8", "r=9"),
        LINE.replace("p=1", "p=0"),
        LINE.replace("p=1", "p=9"),
        LINE.replace("AAECAwQFBgcICQoLDA0ODw", "AAEC"),
        LINE.replace("$scrypt", "$argon2id"),
        LINE.replace("ln=15", "ln=\u0661\u0665"),
    ],
)
def test_a_line_that_is_no_hash(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a line of vmgateway credentials hash") as caught:
        PasswordHash.parse(text)
    assert LINE[-20:] not in str(caught.value)


@each(
    ("password", "reason"),
    [
        (b"", "1 to 1024 bytes"),
        (b"x" * 1025, "1 to 1024 bytes"),
        (b"\xff", "UTF-8"),
        (b"a\0b", "control characters"),
        (b"a\nb", "control characters"),
        (b"a\x7fb", "control characters"),
        (b"a.b.c", "two dots"),
        (b"..", "two dots"),
    ],
)
def test_passwords_that_cannot_be_used(password: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_password(password)
    with pytest.raises(ValueError, match=reason):
        PasswordHash.of(password, SALT)


@each("password", [b"x", b"x" * 1024, "pässwörd €".encode(), b"a.b", b"a.b.c.d", b":", b"a:b"])
def test_passwords_that_can_be_used(password: bytes) -> None:
    check_password(password)


def test_a_short_salt() -> None:
    with pytest.raises(ValueError, match="16 bytes or more"):
        PasswordHash.of(b"secret", SALT[:15])
