"""Where clients put their tokens: several headers, ``Token``, and the password of Basic credentials."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, Program, run_command
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
