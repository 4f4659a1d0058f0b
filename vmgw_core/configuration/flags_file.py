"""Files of flags: one or more flags a line, quoted as in a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.errors import ConfigurationError

_NAME: Final = re.compile(r"(?:flag )?-([A-Za-z0-9.]+)")


@dataclass(slots=True, kw_only=True)
class FlagsFile:
    """The words of a file, with their lines. Relative paths in it start at ``folder``."""

    name: str
    folder: str
    words: tuple[tuple[int, str], ...]
    line: int = 0
    """The line of the word that was read last."""
    lines: dict[str, int] = field(default_factory=dict)
    """The lines of the flags, by their names."""

    def __iter__(self) -> Iterator[str]:
        for line, word in self.words:
            self.line = line
            if name := _NAME.match(word.replace("--", "-", 1)):
                self.lines[name[1]] = line
            yield word

    def error(self, reason: ConfigurationError, *, reading: bool = False) -> ConfigurationError:
        """Return the error with the file and the line: of the word read last, or of the flag that it begins with."""
        found = _NAME.match(str(reason))
        line = self.line if reading else self.lines.get(found[1] if found else "")
        return reason if line is None else ConfigurationError(f"{self.name}, line {line}: {reason}")


def read_flags_file(text: str, name: str, folder: str) -> FlagsFile:
    """Split the text of the file ``name``. Raises ``ConfigurationError``, which names the line."""
    words: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words += ((number, word) for word in shlex.split(line, comments=True))
        except ValueError as error:
            raise ConfigurationError(f"{name}, line {number}: {str(error).lower()}") from None
    return FlagsFile(name=name, folder=folder, words=tuple(words))
