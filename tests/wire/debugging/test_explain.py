"""``vmgateway explain`` against a running gateway: the same verdict, and the request that the backend received."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.wire.processes import vmgateway_command
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS
from tests.wire.conftest import StartGateway
from vmgw_addons.cli import main

Explain = Callable[..., Any]


@pytest.fixture
def explain(capsys: pytest.CaptureFixture[str]) -> Explain:
    """The JSON of a request's explanation. Not in a process of its own: a start takes most of a second."""

    def call(*arguments: str, token: str) -> Any:  # noqa: ANN401
        code = main.main(["explain", "--json", *arguments], {"VMGATEWAY_TOKEN": token})
        out, err = capsys.readouterr()
        assert (code, err) in ((0, ""), (1, ""))
        document = json.loads(out)
        assert code == (1 if document["verdict"] == "refused" else 0)
        return document

    return call


REQUESTS = [
    "GET /api/v1/query?query=up&extra_label=team=ops",
    "GET /api/v1/series?match[]=up",
    "GET /api/v1/labels",
    "GET /vmalert/groups",
    "GET /api/v1/nothing",
    "GET /api/v1//query",
    "PUT /api/v1/query",
    "GET /api/v1/query?a=;",
    "GET /select/1:5/prometheus/api/v1/query?query=up",
    "GET /select/2/prometheus/api/v1/query?query=up",
    "GET /health",
]


@pytest.mark.smoke
@pytest.mark.parametrize("mode", [0, 2])
def test_explain_says_what_the_gateway_does(
    start_gateway: StartGateway,
    explain: Explain,
    upstream: RecordingUpstream,
    key: SigningKey,
    key_file: Path,
    mode: int,
) -> None:
    flags = ("-clusterMode", f"-read.url={upstream.url}/base", f"-auth.publicKeyFiles={key_file}")
    gateway = start_gateway("-enable.auth", *flags)
    token = key.mint(tenant(1, 5, extra_labels={"team": "dev"}, mode=mode))
    for request in REQUESTS:
        upstream.forget()
        method, _, target = request.partition(" ")
        answer = gateway.client(token).ask(method, target)
        story = explain(*flags, request, token=token)
        if story["verdict"] == "refused":
            assert answer.status == story["refusal"]["answer"]["status"], request
            assert answer.json()["error"] == story["refusal"]["answer"]["error"]
            assert upstream.requests == []
        else:
            assert answer.status == 200, request
            received = [f"{upstream.url}{each.target}" for each in upstream.requests]
            assert received == ([story["upstream"]["url"]] if story["upstream"] else []), request


def test_keys_of_endpoints_are_fetched_once(explain: Explain) -> None:
    key = SigningKey.generate("PS256")

    def respond(request: ReceivedRequest) -> Reply:
        if request.path == "/.well-known/openid-configuration":
            document: object = {"issuer": "https://idp.example", "jwks_uri": f"{server.url}/keys"}
        else:
            document = {"keys": [key.public_jwk]}
        return Reply(body=json.dumps(document).encode())

    with RecordingUpstream(respond) as server:
        discovery = f"-auth.oidcDiscoveryEndpoints={server.url}/.well-known/openid-configuration"
        token = key.mint(team("dev"), iss="https://idp.example")
        story = explain(discovery, "GET /api/v1/query", token=token)
        assert (story["verdict"], story["token"]["key"]["issuer"]) == ("admitted", "https://idp.example")
        assert [request.path for request in server.requests] == ["/.well-known/openid-configuration", "/keys"]
        stranger = explain(discovery, "GET /api/v1/query", token=key.mint(team("dev"), iss="https://other.example"))
        assert stranger["refusal"]["code"] == "wrong_issuer"
        jwks = explain(f"-auth.jwksEndpoints={server.url}/keys", "GET /api/v1/query", token=token)
        assert jwks["verdict"] == "admitted"


def test_whoever_reads_the_output_may_leave() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*vmgateway_command(), "explain", "GET /api/v1/query"]
    ran = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=HANGS, check=False)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, "")
