"""token_story and peek: tokens for people, good ones and others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import keys
from vmgw_core.explain.token_report import judge_token, unverified_lines
from vmgw_core.tokens.keys import KeySet, keys_from_pem
from vmgw_core.tokens.unverified import MAX_LENGTH, peek
from vmgw_core.tokens.verifier import TokenVerifier

NOW = float(keys.NOW)
VERIFIER = TokenVerifier(KeySet(keys_from_pem(keys.pem(keys.ec_key()), "public.pem")))
CLAIMS = keys.claims(vm_access={"extra_labels": {"team": "dev"}, "mode": 1})
TOKEN = keys.sign(CLAIMS, keys.ec_key())
SIGNATURE = TOKEN.rpartition(".")[2]


def test_a_good_token() -> None:
    story = judge_token(VERIFIER, TOKEN, NOW)
    assert story.as_json()["verdict"] == "admitted"
    assert story.as_json()["access"] == {"tenant": "0:0", "mode": "read", "labels": [["team", "dev"]], "filters": []}
    text = story.as_text()
    assert text.startswith("GOOD  verified with public.pem (EC, thumbprint ")
    assert "It grants\n  tenant 0:0, mode read\n  label  team=dev\n  read: " in text
    assert "    not /vmalert/, /vmalert/groups, " in text
    assert text.endswith("\n  write: no\n  delete: no\n")
    assert SIGNATURE not in text + repr(story)


def test_a_token_without_restrictions_opens_everything() -> None:
    text = judge_token(VERIFIER, keys.sign(keys.claims(), keys.ec_key()), NOW).as_text()
    assert "    not " not in text
    read = text.partition("  read: ")[2].partition(" paths")[0]
    assert len(set(read.split(" of "))) == 1


@pytest.mark.parametrize(
    ("token", "now", "code"),
    [
        (TOKEN, NOW + 60, "expired"),
        (keys.sign(CLAIMS, keys.ec_key("P-256", "other")), NOW, "bad_signature"),
        (keys.compact({"alg": "none"}, CLAIMS), NOW, "unsupported_algorithm"),
        ("garbage", NOW, "malformed_token"),
    ],
)
def test_a_refused_token_is_told_all_the_same(token: str, now: float, code: str) -> None:
    story = judge_token(VERIFIER, token, now)
    refusal = story.as_json()["refusal"]
    assert isinstance(refusal, dict)
    assert refusal["code"] == code
    assert story.as_json()["access"] is None
    text = story.as_text()
    assert text.startswith(f"REFUSED  {code}: ")
    assert ("unreadable" in text) is (token == "garbage")  # noqa: S105
    assert "It grants" not in text


def test_unverified() -> None:
    lines = unverified_lines(TOKEN)
    assert lines[:3] == ["Token", "  header:", "    {"]
    assert lines[-1] == "  exp: 2023-11-14T22:14:20Z"
    with pytest.raises(ValueError, match="not a token"):
        unverified_lines("a.b.c")


def test_peek_reads_what_it_can() -> None:
    assert peek(TOKEN).claims == CLAIMS
    assert peek(TOKEN).signed
    unsigned = peek(TOKEN.rpartition(".")[0])
    assert (unsigned.header, unsigned.claims, unsigned.signed) == ({"alg": "ES256"}, CLAIMS, False)
    assert peek("x" * (MAX_LENGTH + 1)).header is None
    assert SIGNATURE not in repr(peek(TOKEN))


@given(st.text() | st.text("eyJ.AQ_-=+/", max_size=40))
def test_peek_takes_any_text(text: str) -> None:
    seen = peek(text)
    assert seen.header is None or isinstance(seen.header, dict)
