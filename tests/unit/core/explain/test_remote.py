"""A question to a running gateway: what is sent is what is read, and anything else is refused."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.base import is_credential_header
from vmgw_core.errors import BadRequest
from vmgw_core.explain.remote import QUESTION, Question

JWT = "a.b.c"
FULL = Question(
    method="POST", target="/a?b=%zz", headers=((b"X", b"\xff"), (b"x", b"")), body=b"\x00\xff", token=JWT, time=1.5
)  # fmt: skip
BARE = Question(method="GET", target="/", headers=(), body=None, token=None, time=None)


@each("question", [FULL, BARE])
def test_what_is_sent_is_what_is_read(question: Question) -> None:
    assert Question.decode(question.encoded()) == question
    assert question.encoded().isascii()


def test_no_view_shows_it() -> None:
    assert is_credential_header(QUESTION)
    assert JWT not in repr(FULL)


def encoded(**fields: Any) -> bytes:  # noqa: ANN401
    return b64encode(json.dumps({"method": "GET", "target": "/", "headers": [], **fields}).encode())


BAD = [
    b"", b"!", b64encode(b"[]"), b64encode(b"{}"), b64encode(b"\xff"), encoded(headers=[["a"]]), encoded(headers=["a"]),
    encoded(headers=[["a", "\u0100"]]), encoded(body="\u0100"), encoded(body=1), encoded(time="now"), encoded(token=[]),
    encoded(method=None),
]  # fmt: skip


@each("value", BAD)
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="the question cannot be read"):
        Question.decode(value)


@given(st.binary())
def test_any_bytes_give_a_question_or_a_refusal(data: bytes) -> None:
    for value in (data, b64encode(data)):
        with suppress(BadRequest):
            Question.decode(value)
