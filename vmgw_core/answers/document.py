"""JSON documents of backends: read strictly, written anew, so that no parser reads more in them than this one did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from vmgw_core.base import FieldError, as_list, as_object, as_text, optional
from vmgw_core.errors import BadAnswer

Document = Mapping[str, object]


def parse(body: bytes) -> Document:
    """Parse an object. Raises ``BadAnswer``."""
    try:
        return as_object(json.loads(body.decode(), parse_constant=_no_number), "the answer")
    except (ValueError, RecursionError):  # JSONDecodeError, UnicodeDecodeError and FieldError are ValueErrors
        raise BadAnswer("the backend's answer is not the JSON that is expected here") from None


def written(document: object) -> bytes:
    """Write a document. Raises ``BadAnswer`` if it has a number that JSON does not know."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise BadAnswer("the backend's answer has a number that is out of range") from None


def labels_of(fields: Document, path: str) -> dict[str, str]:
    """Return the member ``labels``: names and values, all text. Absent and null are none. Raises ``FieldError``."""
    labels = fields.get("labels")
    if labels is None:
        return {}
    return {name: as_text(value, path) for name, value in as_object(labels, path).items()}


def objects_of(fields: Document, name: str, path: str) -> list[Document]:
    """Return a list of objects. Absent and null are empty. Raises ``FieldError``."""
    items = fields.get(name)
    return [] if items is None else [as_object(item, path) for item in as_list(items, path)]


def text_of(fields: Document, name: str, path: str) -> str:
    """Return a text, or "" if it is absent. Raises ``FieldError``."""
    return optional(fields, name, as_text, path) or ""


def scalars(fields: Document, names: Sequence[str]) -> dict[str, object]:
    """Return those of the members that are there, and are text, numbers or booleans."""
    return {name: fields[name] for name in names if isinstance(fields.get(name), str | int | float)}


def _no_number(text: str) -> NoReturn:
    raise FieldError("the answer", f"{text} is not a JSON number")
