"""Where clients put their tokens: several headers, ``Token``, and the password of Basic credentials."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, Program, run_command
from tests.support.wire.raw import RawClient
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream

QUERY = "/api/v1/query?query=up"


@pytest.fixture(scope="module", params=["fast", "flow", "mitmdump"])
def gateway(request: pytest.FixtureRequest, backend: RecordingUpstream, key_file: Path) -> Iterator[Gateway]:
    program: Program = "mitmdump" if request.param == "mitmdump" else "vmgateway"
    lane = () if program == "mitmdump" else (f"-lane={request.param}",)
    flags = ("-auth.httpHeader=Authorization,DD-API-KEY", "-auth.httpHeaderAllowWithoutPrefix", "-auth.basicUser=vm")
    urls = (f"-read.url={backend.url}", f"-auth.publicKeyFiles={key_file}")
    with Gateway("-enable.auth", *urls, *flags, *lane, program=program) as gateway:
        yield gateway


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_token_is_found_and_no_backend_sees_it(gateway: Gateway, backend: RecordingUpstream, key: SigningKey) -> None:
    token = key.mint(team("dev"))
    places = [
        {"Authorization": f"Token {token}"},
        {"Authorization": basic("vm", token)},
        {"DD-API-KEY": token},
        {"Authorization": f"Bearer {token}", "DD-API-KEY": token},
        {"Authorization": basic("grafana", "secret"), "dd-api-key": f"Bearer {token}"},
    ]
    for headers in places:
        backend.forget()
        assert gateway.client().get(QUERY, headers=headers).status == 200, headers
        [received] = backend.requests
        assert received.target == f"{QUERY}&extra_label=team%3Ddev"
        assert token not in repr(received)
        assert received.header("Authorization") == received.header("DD-API-KEY") == []


def test_what_is_no_token_or_two_is_refused(gateway: Gateway, backend: RecordingUpstream, key: SigningKey) -> None:
    token, other = key.mint(team("dev")), key.mint(team("ops"))
    backend.forget()
    for status, headers in (
        (400, {"Authorization": f"Bearer {token}", "DD-API-KEY": other}),
        (400, {"Authorization": basic("vm", token), "DD-API-KEY": other}),
        (401, {"Authorization": basic("root", token)}),
        (401, {"Authorization": basic("vm", "secret")}),
        (401, {"X-Token": token}),
    ):
        assert gateway.client().get(QUERY, headers=headers).status == status, headers
    assert backend.requests == []


def test_the_names_of_headers_are_checked(key_file: Path) -> None:
    flags = ("-enable.auth", "-read.url=http://a", f"-auth.publicKeyFiles={key_file}", "-auth.httpHeader=A,b c")
    done = run_command(*flags, "-dryRun")
    assert (done.returncode, done.stderr) == (
        2, "vmgateway: -auth.httpHeader: expected the name of a header, such as Authorization\n"
    )  # fmt: skip


def test_places_that_two_parsers_could_read_differently_are_refused(
    gateway: Gateway, backend: RecordingUpstream, key: SigningKey
) -> None:
    token, other = key.mint(team("dev")), key.mint(team("ops"))
    pair = basic("vm", token).removeprefix("Basic ")
    backend.forget()
    for value in (
        f"Bearer, {token}",
        f"Bearer {token}, Bearer {other}",
        f"Bearer {token} {other}",
        f"Bearer Bearer {token}",
        f"Bearer Basic {pair}",
        f"Basic {token}",
        f"Bearer {pair}",
        f"Token {pair}",
        f"Basic {pair}=x",
        f"Basic {pair[:40]} {pair[40:]}",
        f"Digest {token}",
        f"Basic {base64.b64encode(token.encode()).decode()}",
        basic("vm", f"{token}:x"),
        basic("vm", f" {token}"),
        basic("vm", f"{token}\n"),
        basic("vm\0", token),
        basic("", token),
        f"Bearer\t{token}",
        f"Bearer{token}",
        f"Bearer {token}\u00a0",
        f'Bearer "{token}"',
        f"Bearer token={token}",
    ):
        answer = gateway.client().get(QUERY, headers={"Authorization": value})
        assert answer.status == 401, (value, answer)
        assert token not in answer.text
        assert answer.header("WWW-Authenticate") == "Bearer"
    assert backend.requests == []


@pytest.mark.parametrize("name", ["Authorization", "authorization", "DD-API-KEY"])
@pytest.mark.parametrize("first", ["own", "other", "empty"])
def test_a_header_twice_is_refused(
    gateway: Gateway, backend: RecordingUpstream, key: SigningKey, name: str, first: str
) -> None:
    token = key.mint(team("dev"))
    values = {"own": f"Bearer {token}", "other": f"Bearer {key.mint(team('ops'))}", "empty": ""}
    backend.forget()
    fields = f"{name}: {values[first]}\r\n{name}: {values['own']}\r\n"
    request = f"GET {QUERY} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n"
    with RawClient(gateway.port) as client:
        status, _ = client.send(request.encode()).receive_answer()
    assert status in (400, 401)
    assert backend.requests == []


def test_a_bare_line_feed_does_not_end_the_header_with_the_token(
    gateway: Gateway, backend: RecordingUpstream, key: SigningKey
) -> None:
    """A proxy before the gateway might read the next header as a part of this one. See ``mend`` for the exception."""
    backend.forget()
    credentials = f"Authorization: {basic('vm', key.mint())}\nContent-Length: 0"
    with RawClient(gateway.port) as client:
        request = f"POST /api/v1/write HTTP/1.1\r\nHost: a\r\n{credentials}\r\n\r\n"
        status, _ = client.send(request.encode()).receive_answer()
    assert status == 400
    assert backend.requests == []
