"""Splits a command line into words as bash does.

``shlex`` supports neither variables nor ``$'…'``, which browsers use for bodies with quotes or line breaks. Nothing is
run: substitutions and lists of commands are refused, so every word means the same as in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_BLANKS: Final = re.compile(r"(?:[ \t]|\\\n)+")
_END: Final = frozenset(" \t\n;&|<>()")
_PLAIN: Final = re.compile(r"[^\s'\"\\$`;&|<>()]+")
_BRACES: Final = re.compile(r"\{[^\s{}]*(?:,|\.\.)[^\s{}]*\}")
_OUTPUT: Final = re.compile(r"(?:[0-9]*(?:>>|>\||>&|>)|&>>?)[ \t]*")
_INPUT: Final = re.compile(r"[0-9]*<")
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_ANSI_C: Final = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|c(.)|([abeEfnrtv\\'\"?]))",
    re.DOTALL,
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
    position, started = 0, False
    while position < len(text):
        char = text[position]
        if blanks := _BLANKS.match(text, position):
            position = blanks.end()
        elif char == "#":
            position = (text + "\n").index("\n", position)
        elif char == "\n":
            if started and text[position:].strip():
                raise ShellError("a line ends the command: end it with a backslash, or quote the line break")
            position += 1
        elif output := _OUTPUT.match(text, position):
            _, position = _word(text, output.end(), environ)
        elif _INPUT.match(text, position):
            raise ShellError("redirected input is not read: name the file in an option, as in -d @FILE")
        elif char == "|":
            break
        elif char in ";&()":
            if text[position:].strip() == ";":
                break
            raise ShellError(f"an unquoted {char} ends or groups commands in a shell: quote it")
        else:
            word, position = _word(text, position, environ)
            started = True
            yield word


def _word(text: str, position: int, environ: Mapping[str, str]) -> tuple[str, int]:
    """Return the word that begins here, and its end."""
    if text.startswith("~", position):
        raise ShellError("a ~ at the beginning of a word is not expanded: write the directory, or quote it")
    word = ""
    while position < len(text) and text[position] not in _END:
        if text.startswith("\\\n", position):
            position += 2
            continue
        piece, position = _piece(text, position, environ)
        word += piece
    return word, position


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
    if text.startswith('$"', position):
        return _double_quoted(text, position + 2, environ)
    if char == "\\":
        return text[position + 1 : position + 2], position + 2
    if char in "$`":
        quoted = _ANSI_C.match(text, position)
        return (_unescaped(quoted[1]), quoted.end()) if quoted else _expanded(text, position, environ)
    plain = _PLAIN.match(text, position)
    if plain is None:  # a form feed, say: a blank of Python, and not of a shell
        return char, position + 1
    if _BRACES.search(plain[0]):
        raise ShellError("a shell expands unquoted braces: quote the word")
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
    """Unescape the inside of ``$'…'`` as bash does in a locale of UTF-8. Other escapes stay as they are."""

    def one(match: re.Match[str]) -> str:
        byte, octal, short, long, control, letter = match.groups()
        if byte or octal:
            return bytes([int(byte, 16) if byte else int(octal, 8) & 0xFF]).decode("latin-1")
        if short or long:
            number = int(short or long, 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise ShellError("an escape is not a valid character")
            return chr(number).encode().decode("latin-1")
        return chr(ord(control) & 0x1F) if control else _LETTERS.get(letter, letter)

    # Escapes may be single bytes of a character, so characters are bytes until all are undone.
    found = text.encode("utf-8", "surrogateescape").decode("latin-1")
    unescaped = _ESCAPE.sub(one, found).partition("\0")[0]  # bash ends a string there
    return unescaped.encode("latin-1").decode("utf-8", "surrogateescape")
