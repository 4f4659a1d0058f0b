"""Fetching keys from identity providers that misbehave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.wire.upstream import HANG_UP, RecordingUpstream, Reply
from vmgw_addons.sources.keys import describe, download

MIB = 1 << 20


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


def test_a_document_is_fetched(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: Reply(body=b'{"keys":[]}')
    assert download(f"{upstream.url}/jwks") == b'{"keys":[]}'
    assert upstream.requests[0].target == "/jwks"


def test_a_redirect_is_not_followed(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: Reply(status=302, headers=(("Location", f"{upstream.url}/elsewhere"),))
    with pytest.raises(ValueError, match="status 302"):
        download(f"{upstream.url}/jwks")
    assert len(upstream.requests) == 1


def test_an_endless_document_is_given_up(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: Reply(body=endless())
    with pytest.raises(ValueError, match="1 MiB"):
        download(f"{upstream.url}/jwks")


def test_a_connection_that_breaks_is_an_error_without_the_url(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: HANG_UP
    with pytest.raises(OSError) as caught:
        download(f"{upstream.url.replace('http://', 'http://user:password@')}/jwks")
    assert describe(caught.value) == "ConnectionError"
