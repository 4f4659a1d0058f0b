"""Splits a command line into words as a POSIX shell does.

``shlex`` supports neither variables nor ``$'…'``, which browsers use for bodies with quotes or line breaks. Nothing is
run: substitutions and lists of commands are refused, so every word means the same as in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_BLANK: Final = " \t\n"
_PLAIN: Final = re.compile(r"[^\s'\"\\$`;&|<>()]+")
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_ANSI_C: Final = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|([0-7]{1,3})|(.))", re.DOTALL
)
_LETTERS: Final = dict(zip("abeEfnrtv", "\a\b\x1b\x1b\f\n\r\t\v", strict=True))


class ShellError(ValueError):
    """A command line that cannot be split without running it. The message shows only variable names."""


def split_words(text: str, environ: Mapping[str, str]) -> list[str]:
    """Return the words of the first command in ``text``, up to a pipe or redirection.

    Raises ``ShellError`` if a quote is not closed, there is a substitution or a second command, or a variable is not
    set.
    """
    return list(_words(text.replace("\r\n", "\n"), environ))


def _words(text: str, environ: Mapping[str, str]) -> Iterator[str]:
    position, word = 0, None
    while position < len(text):
        char = text[position]
        if char in _BLANK:
            if word is not None:
                yield word
            word, position = None, position + 1
        elif text.startswith("\\\n", position):
            position += 2
        elif char in "|<>":
            break
        elif char in ";&()":
            if text[position:].strip() == ";":
                break
            raise ShellError(f"an unquoted {char} ends or groups commands in a shell: quote it")
        else:
            piece, position = _piece(text, position, environ)
            word = (word or "") + piece
    if word is not None:
        yield word


def _piece(text: str, position: int, environ: Mapping[str, str]) -> tuple[str, int]:
    """Return one part of a word and its end."""
    char = text[position]
    if char == "'":
        end = text.find("'", position + 1)
        if end < 0:
            raise ShellError("a single quote is not closed")
        return text[position + 1 : end], end + 1
    if char == '"':
        return _double_quoted(text, position + 1, environ)
    if char == "\\":
        return text[position + 1 : position + 2], position + 2
    if char in "$`":
        quoted = _ANSI_C.match(text, position)
        return (_unescaped(quoted[1]), quoted.end()) if quoted else _expanded(text, position, environ)
    plain = _PLAIN.match(text, position)
    assert plain is not None  # all other characters are handled above
    return plain[0], plain.end()


def _double_quoted(text: str, position: int, environ: Mapping[str, str]) -> tuple[str, int]:
    value = ""
    while position < len(text):
        char = text[position]
        if char == '"':
            return value, position + 1
        if char == "\\" and text[position + 1 : position + 2] in ("$", "`", '"', "\\", "\n"):
            following = text[position + 1]
            value, position = value + following.replace("\n", ""), position + 2
        elif char in "$`":
            piece, position = _expanded(text, position, environ)
            value += piece
        else:
            value, position = value + char, position + 1
    raise ShellError("a double quote is not closed")


def _expanded(text: str, position: int, environ: Mapping[str, str]) -> tuple[str, int]:
    variable = _VARIABLE.match(text, position)
    if variable is not None:
        name = variable[1] or variable[2]
        if name not in environ:
            raise ShellError(f"the variable {name} is not set")
        return environ[name], variable.end()
    if text[position] == "`" or text.startswith(("$(", "${"), position):
        raise ShellError("substitutions are not run: write the value instead")
    return "$", position + 1


def _unescaped(text: str) -> str:
    """Unescape the inside of ``$'…'`` as bash does."""

    def one(match: re.Match[str]) -> str:
        for group, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
            if match[group]:
                number = int(match[group], base)
                if number > 0x10FFFF:
                    raise ShellError("an escape is not a valid character")
                return chr(number)
        return _LETTERS.get(match[5], match[5])

    return _ESCAPE.sub(one, text)
