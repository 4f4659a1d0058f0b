"""shellwords: words as a POSIX shell makes them."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.explain.shell_words import ShellError, split_words

ENVIRON = {"TOKEN": "a b'\"$x", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  curl   x\t y\n", ["curl", "x", "y"]),
        ("curl 'a b' \"c d\" e\\ f", ["curl", "a b", "c d", "e f"]),
        ("curl a'b'\"c\"d", ["curl", "abcd"]),
        ("curl '' \"\"", ["curl", "", ""]),
        ("curl \\\n  -H x \\\r\n  y", ["curl", "-H", "x", "y"]),
        ('"a\\"b\\\\c\\$d\\e\\\nf"', ['a"b\\c$d\\ef']),
        ("$'it\\'s\\n\\x41\\u00fc\\U0001f600\\101\\q\\\\'", ["it's\nA\u00fc\U0001f600A\\q\\"]),
        ("$'\\xc3\\xbc\\303\\274\\u0021\\cA\\x' $'a\\0b'c", ["\u00fc\u00fc!\x01\\x", "ac"]),
        ("$'\\xff' $\"a\"", ["\udcff", "a"]),
        ("curl a\\\nb \\\n c\x0c", ["curl", "ab", "c\x0c"]),
        ("# a\ncurl x # b", ["curl", "x"]),
        ("curl 2>&1 >/dev/null x 2> err -s &>all", ["curl", "x", "-s"]),
        ("curl {a} {a}b \f", ["curl", "{a}", "{a}b", "\f"]),
        ('-H "Bearer $TOKEN" ${TOKEN}x$EMPTY', ["-H", "Bearer a b'\"$x", "a b'\"$xx"]),
        ("'$TOKEN' \\$TOKEN", ["$TOKEN", "$TOKEN"]),
        ("a$ b$1 \"c$\" ", ["a$", "b$1", "c$"]),
        ("curl x | jq .", ["curl", "x"]),
        ("curl x > file", ["curl", "x"]),
        ("curl x;", ["curl", "x"]),
        ("a\\", ["a"]),
        ("'|' \"&\" \\;", ["|", "&", ";"]),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text, ENVIRON) == words


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("'abc", "a single quote is not closed"),
        ("curl x\n-H y", "a line ends the command"),
        ("curl {a,b}", "a shell expands unquoted braces"),
        ("curl x{1..3}", "a shell expands unquoted braces"),
        ("curl -d @~/x ~/y", "a ~ at the beginning"),
        ("curl -d @- x < file", "redirected input is not read"),
        ("curl -d @- x 0<<EOF", "redirected input is not read"),
        ("$'\\ud800'", "an escape is not a valid character"),
        ('"abc', "a double quote is not closed"),
        ('"abc\\', "a double quote is not closed"),
        ("curl x?a=1&b=2", "an unquoted & ends"),
        ("curl x; rm y", "an unquoted ; ends"),
        ("(curl x)", r"an unquoted \( ends"),
        ("curl $(cat token)", "substitutions are not run"),
        ("curl `cat token`", "substitutions are not run"),
        ('"${TOKEN:-x}"', "substitutions are not run"),
        ("$SECRETLESS", "the variable SECRETLESS is not set"),
        ("$'\\UFFFFFFFF'", "an escape is not a valid character"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(ShellError, match=reason):
        split_words(text, ENVIRON)


@given(st.lists(st.text(), max_size=5))
def test_what_is_quoted_comes_back(words: list[str]) -> None:
    # A carriage return before a line feed is what copying made of the line's end.
    words = [word.replace("\r\n", "\n") for word in words]
    assert split_words(shlex.join(words), {}) == words


def test_bash_agrees() -> None:
    text = "x 'a b'\"c\\\"d\"$'\\t\\x41\\u00fc\\e' e\\ f \"g\\h\" ''"
    script = f"printf '%s\\0' {text}"
    printed = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout
    assert split_words(text, {}) == printed.decode().split("\0")[:-1]


@given(st.text(" '\"\\$`;&|<>()abU{}\n"))
def test_any_text_gives_words_or_our_error(text: str) -> None:
    with suppress(ShellError):
        assert all(isinstance(word, str) for word in split_words(text, {"a": "1"}))
