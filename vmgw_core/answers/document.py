"""JSON documents of backends: read strictly, written anew, so that no parser reads more in them than this one did.

Large ones are for a thread. The C code of ``json`` holds the interpreter until it calls a Python function, so parsing
calls one for each object, and writing goes piece by piece: other threads wait for milliseconds, not for the whole
document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Final, NoReturn

from vmgw_core.base import FieldError, as_list, as_text, required
from vmgw_core.errors import BadAnswer

Document = Mapping[str, object]
"""An object as ``json.loads`` returns it, so its names are text."""

_PIECE: Final = 10
"""Elements of a list that are written at once."""
_DEPTH: Final = 3
"""Objects and lists inside of each other that are written piece by piece: ``data.groups`` and ``data`` are."""
_SCALARS: Final = frozenset((str, int, float, bool))


def parse(body: bytes) -> Document:
    """Parse an object. Raises ``BadAnswer``."""
    try:
        return an_object(json.loads(body.decode(), parse_constant=_no_number, object_hook=_object), "the answer")
    except (ValueError, RecursionError):  # JSONDecodeError, UnicodeDecodeError and FieldError are ValueErrors
        raise BadAnswer("the backend's answer is not the JSON that is expected here") from None


def written(document: object) -> bytes:
    """Write a document. Raises ``BadAnswer`` if it has a number that JSON does not know."""
    try:
        return "".join(_pieces(document, _DEPTH)).encode()
    except ValueError:
        raise BadAnswer("the backend's answer has a number that is out of range") from None


def _pieces(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, dict) and value and depth:
        for sign, (name, member) in zip(chain("{", repeat(",")), value.items(), strict=False):
            yield f"{sign}{_dumps(name)}:"
            yield from _pieces(member, depth - 1)
        yield "}"
    elif isinstance(value, list) and value and depth:
        for sign, start in zip(chain("[", repeat(",")), range(0, len(value), _PIECE), strict=False):
            yield sign + _dumps(value[start : start + _PIECE])[1:-1]
        yield "]"
    else:
        yield _dumps(value)


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _object(found: dict[str, object]) -> dict[str, object]:
    return found


def an_object(value: object, path: str) -> Document:
    """Check that a value of a document is an object. Raises ``FieldError``."""
    if not isinstance(value, dict):
        raise FieldError(path, "expected an object")
    return value


def a_list(value: object, path: str) -> list[object]:
    """Check that a value of a document is a list. Raises ``FieldError``."""
    if not isinstance(value, list):
        raise FieldError(path, "expected a list")
    return value


def labels_of(fields: Document, path: str, name: str = "labels") -> dict[str, str]:
    """Return the member ``name``: names and values, all text. Absent and null are none. Raises ``FieldError``."""
    labels = fields.get(name)
    if labels is None:
        return {}
    if not isinstance(labels, dict) or not all(map(_is_text, labels.values())):
        raise FieldError(path, "expected an object of text")
    return labels


def objects_of(fields: Document, name: str, path: str) -> list[Document]:
    """Return a list of objects. Absent and null are empty. Raises ``FieldError``."""
    items = fields.get(name)
    return [] if items is None else [an_object(item, path) for item in a_list(items, path)]


def text_of(fields: Document, name: str, path: str) -> str:
    """Return a text, or "" if it is absent. Raises ``FieldError``."""
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise FieldError(path, "expected a string")
    return value


def names_of(document: Document) -> Iterator[str]:
    """Yield the names in a response of ``/api/v1/label/<name>/values``. Raises ``FieldError``."""
    for name in required(document, "data", as_list):
        yield as_text(name, "data")


def scalars(fields: Document, names: Sequence[str]) -> dict[str, object]:
    """Return those of the members that are there, and are text, numbers or booleans."""
    return {name: fields[name] for name in names if type(fields.get(name)) in _SCALARS}


def _is_text(value: object) -> bool:
    return type(value) is str


def _no_number(text: str) -> NoReturn:
    raise FieldError("the answer", f"{text} is not a JSON number")
