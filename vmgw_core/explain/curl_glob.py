"""URL globbing as curl does it: ``{a,b}``, ``[1-3]``, ``[001-100]`` and ``[a-g:2]``.

https://curl.se/docs/manpage.html#GLOBBING
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Final

_FIXED: Final = re.compile(r"(?:\\[\[\]{}]|\[\]|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%]*\]|[^\[\]{}\\]|\\)+")
_ESCAPED: Final = re.compile(r"\\([\[\]{}])")
_SET: Final = re.compile(r"\{((?:\\.|[^\\{}\[\]])+)\}", re.DOTALL)
_NUMBERS: Final = re.compile(r"\[(\d{1,18})-[ \t]*(\d{1,18})(?::(\d{1,18}))?\]", re.ASCII)
_LETTERS: Final = re.compile(r"\[([A-Za-z])-([!-~])(?::(\d{1,9}))?\]", re.ASCII)

_Choices = Sequence[str | int]


class GlobError(ValueError):
    """A pattern that curl refuses, or that stands for too many URLs."""


def expand_url(url: str, at_most: int) -> list[str]:
    """Return the URLs that ``url`` stands for, in curl's order.

    Raises ``GlobError`` if curl would refuse the pattern, or if there are more than ``at_most``.
    """
    parts: list[tuple[_Choices, int]] = list(_parts(url))
    if (count := prod(len(choices) for choices, _ in parts)) > at_most:
        raise GlobError(f"the URL stands for {count} requests, at most {at_most} are explained")
    widths = [width for _, width in parts]
    return [
        "".join(str(choice).zfill(width) for choice, width in zip(row, widths, strict=True))
        for row in product(*(choices for choices, _ in parts))
    ]


def _parts(url: str) -> Iterator[tuple[_Choices, int]]:
    """Yield the choices of each part of the URL, and the width that numbers are padded to."""
    position = 0
    while position < len(url):
        if fixed := _FIXED.match(url, position):
            position = fixed.end()
            yield (_ESCAPED.sub(r"\1", fixed[0]),), 0
        elif members := _SET.match(url, position):
            position = members.end()
            yield _members(members[1]), 0
        elif numbers := _NUMBERS.match(url, position):
            position = numbers.end()
            first, last, step = int(numbers[1]), int(numbers[2]), int(numbers[3] or 1)
            yield _range(first, last, step), len(numbers[1]) if numbers[1].startswith("0") else 0
        elif letters := _LETTERS.match(url, position):
            position = letters.end()
            first, last = ord(letters[1]), ord(letters[2])
            if last - first > ord("z") - ord("a"):
                raise _bad()
            yield [chr(code) for code in _range(first, last, int(letters[3] or 1))], 0
        else:
            raise _bad()


def _members(text: str) -> list[str]:
    found, chars = [""], iter(text)
    for char in chars:
        if char == ",":
            found.append("")
        else:
            found[-1] += next(chars) if char == "\\" else char
    return found


def _range(first: int, last: int, step: int) -> range:
    if step == 0 or (step != 1 if first == last else first > last or step > last - first):
        raise _bad()
    return range(first, last + 1, step)


def _bad() -> GlobError:
    return GlobError("curl reads brackets and braces in a URL as a pattern, and this is not one: add -g or a backslash")
