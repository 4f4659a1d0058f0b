"""JSON documents of backends: read strictly, written anew, so that no parser reads more in them than this one did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from vmgw_core.base import FieldError, as_list, as_text, required
from vmgw_core.errors import BadAnswer

Document = Mapping[str, object]
"""An object as ``json.loads`` returns it, so its names are text."""

_SCALARS: Final = frozenset((str, int, float, bool))


def parse(body: bytes) -> Document:
    """Parse an object. Raises ``BadAnswer``."""
    try:
        return an_object(json.loads(body.decode(), parse_constant=_no_number), "the answer")
    except (ValueError, RecursionError):  # JSONDecodeError, UnicodeDecodeError and FieldError are ValueErrors
        raise BadAnswer("the backend's answer is not the JSON that is expected here") from None


def written(document: object) -> bytes:
    """Write a document. Raises ``BadAnswer`` if it has a number that JSON does not know."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise BadAnswer("the backend's answer has a number that is out of range") from None


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


def names_of(document: Document) -> list[str]:
    """Return the names in a response of ``/api/v1/label/<name>/values``. Raises ``FieldError``."""
    return [as_text(name, "data") for name in required(document, "data", as_list)]


def scalars(fields: Document, names: Sequence[str]) -> dict[str, object]:
    """Return those of the members that are there, and are text, numbers or booleans."""
    return {name: fields[name] for name in names if type(fields.get(name)) in _SCALARS}


def _is_text(value: object) -> bool:
    return type(value) is str


def _no_number(text: str) -> NoReturn:
    raise FieldError("the answer", f"{text} is not a JSON number")
