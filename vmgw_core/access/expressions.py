"""Regular expressions that match in linear time, whatever the text: RE2 (https://github.com/google/re2)."""

from __future__ import annotations

from typing import Final, Protocol

try:
    import re2
except ImportError:  # pragma: no cover - the package is installed where tests run
    re2 = None

_MAX_BYTES: Final = 1000


class ExpressionMatch(Protocol):
    def groupdict(self) -> dict[str, str | None]: ...


class Expression(Protocol):
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
