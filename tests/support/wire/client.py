"""A small HTTP/1.1 client that sends a target as it is written: no normalisation, no proxies, no redirects."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlencode

from tests.support.wire.waiting import HANGS

"""Seconds until a test gives up on an answer."""

Arguments = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer. Header names are as sent; ``header`` looks them up whatever their case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.body)


class Client:
    """Requests to one server on loopback: a connection each."""

    def __init__(self, port: int, *, token: str | None = None, timeout: float = HANGS) -> None:
        self.port = port
        self._timeout = timeout
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(
        self,
        method: str,
        target: str,
        arguments: Arguments | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | BinaryIO | Iterable[bytes] | None = None,
    ) -> Answer:
        """One request. ``arguments`` go into the URL, behind ``target``; a ``str`` body is sent as UTF-8."""
        if arguments is not None:
            target = f"{target}?{urlencode(list(arguments.items() if isinstance(arguments, Mapping) else arguments))}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self._timeout)
        try:
            encoded = body.encode() if isinstance(body, str) else body
            connection.request(method, target, body=encoded, headers={**self._headers, **(headers or {})})
            response = connection.getresponse()
            content = response.read()
            return Answer(status=response.status, headers=tuple(response.getheaders()), body=content)
        finally:
            connection.close()

    def get(
        self, target: str, arguments: Arguments | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return self.ask("GET", target, arguments, headers=headers)

    def post(
        self,
        target: str,
        arguments: Arguments | None = None,
        *,
        form: Arguments | None = None,
        body: bytes | str | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """POST ``body``, or ``form`` as ``application/x-www-form-urlencoded``."""
        if form is not None:
            body = urlencode(list(form.items() if isinstance(form, Mapping) else form))
            headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.ask("POST", target, arguments, body=body, headers=headers)
