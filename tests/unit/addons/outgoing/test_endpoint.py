"""One server that the gateway asks, and secrets for it: what is sent, and what an error tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wire.upstream import RecordingUpstream, Reply
from vmgw_addons.outgoing import Endpoint, RequestFailed, TLSFiles
from vmgw_addons.outgoing.credentials import SecretFlag
from vmgw_core.backends.backend import Backend
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

SETTINGS = Settings()


def endpoint(url: str, **options: bool) -> Endpoint:
    return Endpoint(Backend.parse(url, "datasource.url"), TLSFiles(SETTINGS.client_tls("datasource")), **options)


def test_the_answer_is_the_body_of_the_200(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: Reply(body=b"here")
    assert endpoint(upstream.url).ask("POST", "/a?b=c", {"X-A": "1"}, {"d": "e"}) == b"here"
    [request] = upstream.requests
    assert (request.method, request.target, request.body) == ("POST", "/a?b=c", b"d=e")
    assert (request.header("X-A"), request.header("Accept")) == (["1"], ["application/json"])


def test_another_status_is_an_error_that_holds_it(upstream: RecordingUpstream) -> None:
    upstream.responder = lambda request: Reply(status=403, body=b"no")
    with pytest.raises(RequestFailed, match=r"^status 403$") as caught:
        endpoint(upstream.url).ask("GET", "/", {})
    assert (caught.value.status, caught.value.body) == (403, b"no")


def test_a_connection_is_kept_only_where_it_may_be(upstream: RecordingUpstream) -> None:
    for keep in (True, False):
        asking = endpoint(upstream.url, keep_alive=keep)
        for _ in range(2):
            asking.ask("GET", "/", {})
    assert len({request.connection for request in upstream.requests}) == 3  # one for two, then one each


def secret(value: str = "", path: str = "") -> SecretFlag:
    return SecretFlag("a.token", value, path)


def test_a_secret_is_read_anew_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("first\n")
    held = secret(path=str(path))
    assert (bool(held), held.read()) == (True, "first")
    path.write_text("second\n")
    assert held.read() == "second"
    assert (bool(secret()), secret("x").read()) == (False, "x")


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff", "not UTF-8"), (b"a\nb", "more than one line"), (None, "cannot read")]
)
def test_a_file_without_a_usable_secret_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        secret(path=str(path))


def test_a_secret_stands_in_one_place() -> None:
    with pytest.raises(ConfigurationError, match="set one of them"):
        secret("value", "file")
