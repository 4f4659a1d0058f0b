"""Typed readers for untrusted mappings: claims, JOSE headers, key documents, configuration files.

The rules:

- Types are strict: ``true``, ``1.0`` and ``"1"`` are not integers.
- Absent and null differ. ``optional`` returns ``None`` only for an absent field; null has the wrong type.
- An error names the path and the type of the value, never the value: it may be a secret. ``shown`` is for values that
  are not secret.
- JSON has exactly one meaning (RFC 8259, sections 4 and 6 to 8): no duplicate names, no NaN, no lone surrogates.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from .printable import quoted

MAX_DEPTH: Final = 32

T = TypeVar("T")

_NAMES_SHOWN: Final = 40
_SHOWN: Final = 120
_ITEMS_SHOWN: Final = 4
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_$-]+", re.ASCII)
# A string is one token, so brackets inside it do not count. The inner alternatives exclude each other: no backtracking.
_DEPTH_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class FieldError(ValueError):
    """A field is missing or has an unusable value.

    ``path`` is such as ``vm_access.tenant_id.account_id``; ``message`` says what was expected and which type was found.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


def child(path: str, key: str | int) -> str:
    """Return the path of a member: ``path.key``, ``path[3]`` or ``path["odd name"]``, shortened and escaped."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if len(key) <= _NAMES_SHOWN and _PLAIN_NAME.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key[:_NAMES_SHOWN])}]"


def kind(value: object) -> str:
    """Return the JSON type of ``value`` in words, with an article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number with a fraction or an exponent"
        case str():
            return "a string"
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return f"a value of type {type(value).__name__}"


def as_object(value: object, path: str) -> Mapping[str, object]:
    """Check that ``value`` is a mapping with text keys. Raises ``FieldError``."""
    if not isinstance(value, Mapping):
        raise FieldError(path, f"expected an object, got {kind(value)}")
    for key in value:
        # JSON has only text keys; YAML has others.
        if not isinstance(key, str):
            raise FieldError(path, f"expected text keys, got {kind(key)}")
    return value


def as_list(value: object, path: str) -> Sequence[object]:
    """Check that ``value`` is a list. Raises ``FieldError``."""
    if not isinstance(value, list | tuple):
        raise FieldError(path, f"expected a list, got {kind(value)}")
    return value


def as_text(value: object, path: str) -> str:
    """Check that ``value`` is text without lone surrogates. Raises ``FieldError``."""
    if not isinstance(value, str):
        raise FieldError(path, f"expected a string, got {kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FieldError(path, "expected text, got a string with a lone surrogate") from None
    return value


def as_integer(value: object, path: str, *, minimum: int | None = None, maximum: int | None = None) -> int:
    """Check that ``value`` is an integer within the bounds, both inclusive. Raises ``FieldError``."""
    expected = "an integer"
    if minimum is not None and maximum is not None:
        expected += f" of {minimum} to {maximum}"
    elif minimum is not None:
        expected += f" of at least {minimum}"
    elif maximum is not None:
        expected += f" of at most {maximum}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError(path, f"expected {expected}, got {kind(value)}")
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        raise FieldError(path, f"expected {expected}, got one out of range")
    return value


def as_number(value: object, path: str) -> int | float:
    """Check that ``value`` is a finite number. Raises ``FieldError``."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise FieldError(path, f"expected a number, got {kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(path, "expected a number, got one out of range")
    return value


def shown(value: object) -> str:
    """Return an untrusted ``value`` for a message: short printable ASCII. Objects are named, not shown."""
    if isinstance(value, str):
        return quoted(value, _SHOWN)
    if isinstance(value, bool | int | float):
        return json.dumps(value)[:_NAMES_SHOWN]
    if isinstance(value, list | tuple):
        items = [kind(item) if isinstance(item, list | tuple) else shown(item) for item in value[:_ITEMS_SHOWN]]
        return f"[{', '.join([*items, '...'] if len(value) > _ITEMS_SHOWN else items)}]"
    return kind(value)


def optional(fields: Mapping[str, object], name: str, read: Callable[[object, str], T], path: str = "") -> T | None:
    """Return what ``read``, one of the readers above, makes of the value at ``name``; ``None`` if it is absent."""
    return read(fields[name], child(path, name)) if name in fields else None


def required(fields: Mapping[str, object], name: str, read: Callable[[object, str], T], path: str = "") -> T:
    """Return what ``read`` makes of the value at ``name``. Raises ``FieldError`` if it is absent."""
    if name not in fields:
        raise FieldError(child(path, name), "missing")
    return read(fields[name], child(path, name))


class _NotStrict(ValueError):
    """Ambiguous JSON that Python's parser would read."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        # RFC 8259, section 4: parsers differ on which of two equal names counts.
        raise _NotStrict("a name occurs twice in one object")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _NotStrict("a number is out of range")
    return number


def _no_constant(text: str) -> float:
    raise _NotStrict(f"{text} is not a JSON number")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)


def load_object(data: bytes | str, what: str, *, max_depth: int = MAX_DEPTH) -> dict[str, object]:
    """Parse ``data`` as one JSON object (RFC 8259, section 4).

    ``what`` names the text in errors; ``max_depth`` counts nested objects and lists, the outermost as 1. Raises only
    ``FieldError``: for invalid UTF-8 or JSON, other types, duplicate names, NaN, Infinity and numbers that become them,
    integers with too many digits, deep nesting, and lone surrogates.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        text.encode()
    except UnicodeError:
        raise FieldError(what, "not valid UTF-8") from None
    # Counted before parsing: the parser's own limit depends on the Python version and the stack.
    if _depth(text) > max_depth:
        raise FieldError(what, f"nested deeper than {max_depth} levels")
    try:
        value: object = _DECODER.decode(text)
    except _NotStrict as error:
        raise FieldError(what, str(error)) from None
    except json.JSONDecodeError as error:
        raise FieldError(what, f"not valid JSON (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError):
        # int() refuses more than sys.get_int_max_str_digits() digits with a bare ValueError.
        raise FieldError(what, "a number or the nesting is too large") from None
    if not isinstance(value, dict):
        raise FieldError(what, f"expected an object, got {kind(value)}")
    if _SURROGATE_ESCAPE.search(text):
        # Pairs of escapes are characters now; a lone one cannot be encoded.
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise FieldError(what, "a string has a lone surrogate") from None
    return value


def _depth(text: str) -> int:
    """Return how deep the brackets of ``text`` nest, outside strings."""
    if text.count("{") + text.count("[") <= 1:
        return 1
    deepest = depth = 0
    for match in _DEPTH_TOKEN.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in "]}":
            depth -= 1
    return deepest
