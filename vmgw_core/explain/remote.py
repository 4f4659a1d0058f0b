"""A question to a running gateway: how it would decide on a request. It travels in one header, as JSON in base64."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final, Self

from vmgw_core.base.strict_json import FieldError, as_list, as_number, as_text, child, load_object, optional, required
from vmgw_core.errors import BadRequest
from vmgw_core.http import Headers

QUESTION: Final = b"X-Explain-Credentials"
"""The header; by its name it is hidden as all headers with credentials."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)  # a repr would show the token
class Question:
    """The request to explain. ``token`` replaces that of its headers; ``time`` is Unix time, None for now."""

    method: str
    target: str
    headers: Headers
    body: bytes | None
    token: str | None
    time: float | None

    def encoded(self) -> bytes:
        """Return the value of the header."""
        document = {
            "method": self.method,
            "target": self.target,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
            "body": None if self.body is None else self.body.decode("latin-1"),
            "token": self.token,
            "time": self.time,
        }
        present = {name: value for name, value in document.items() if value is not None}
        return b64encode(json.dumps(present, separators=(",", ":")).encode())

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read the value of the header. Raises ``BadRequest``."""
        try:
            fields = load_object(b64decode(value, validate=True), "the question")
            body = optional(fields, "body", as_text)
            return cls(
                method=required(fields, "method", as_text),
                target=required(fields, "target", as_text),
                headers=required(fields, "headers", _headers),
                body=None if body is None else body.encode("latin-1"),
                token=optional(fields, "token", as_text),
                time=optional(fields, "time", as_number),
            )
        except (FieldError, ValueError):  # also of base64, and of text that is not latin-1
            raise BadRequest("the question cannot be read: ask with vmgateway explain --url") from None


def _headers(value: object, path: str) -> Headers:
    found = []
    for index, item in enumerate(as_list(value, path)):
        pair = as_list(item, child(path, index))
        if len(pair) != 2:
            raise FieldError(child(path, index), "expected a name and a value")
        name, text = (as_text(each, child(path, index)).encode("latin-1") for each in pair)
        found.append((name, text))
    return tuple(found)
