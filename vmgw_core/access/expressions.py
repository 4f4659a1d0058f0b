"""Regular expressions that match in linear time, whatever the text: RE2 (https://github.com/google/re2).

That is not enough for expressions of clients: one of 20 characters can have 8,000 instructions, and RE2 may take a step
for each of them and each character. So :class:`Steps` bounds what the expressions of a request take.
"""

from __future__ import annotations

from typing import Final, Protocol

from vmgw_core.errors import BadRequest

try:
    import re2
except ImportError:  # pragma: no cover - the package is installed where tests run
    re2 = None

_MAX_BYTES: Final = 1000
_MOST_STEPS: Final = 100_000_000  # half a second
_COMPILING: Final = 500  # steps that take as long as to compile one instruction


class ExpressionMatch(Protocol):
    def groupdict(self) -> dict[str, str | None]: ...


class Expression(Protocol):
    @property
    def programsize(self) -> int: ...
    def fullmatch(self, text: str, /) -> ExpressionMatch | None: ...
    def search(self, text: str, /) -> ExpressionMatch | None: ...


def compile_expression(pattern: str, *, max_bytes: int = _MAX_BYTES) -> tuple[Expression, frozenset[str]]:
    """Compile an expression; also return the names of its groups. Raises ``ValueError``."""
    if re2 is None:  # pragma: no cover
        raise ValueError("the Python package google-re2 is not installed")
    if len(pattern.encode()) > max_bytes:
        raise ValueError(f"longer than {max_bytes} bytes")
    options = re2.Options()
    options.log_errors = False
    try:
        expression = re2.compile(pattern, options=options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
    return expression, frozenset(expression.groupindex)


class Steps:
    """What the expressions of one request may still take."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def compile(self, pattern: str, *, max_bytes: int = _MAX_BYTES) -> Expression:
        """Compile an expression. Raises ``ValueError``, or ``BadRequest`` if the request has taken too many steps."""
        expression, _ = compile_expression(pattern, max_bytes=max_bytes)
        self._take(_COMPILING * expression.programsize)
        return expression

    def matches(self, expression: Expression, text: str) -> bool:
        """Return whether ``expression`` matches all of ``text``. Raises ``BadRequest`` as :meth:`compile`."""
        self._take(len(text) * expression.programsize)
        return expression.fullmatch(text) is not None

    def _take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise BadRequest("the regular expressions take too long: use fewer or simpler ones")
