"""``vmgateway explain --url``: a running gateway explains a request, in both lanes, without counting or forwarding."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, auth_flags, run_command
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway

LANES = pytest.mark.parametrize("lane", ["fast", "flow"])
QUERY = "GET /api/v1/query?query=up"


@pytest.fixture
def auth_key(tmp_path: Path) -> str:
    file = tmp_path / "auth-key"
    file.write_text("k3y&\n")
    return str(file)


@pytest.fixture
def flags(upstream: RecordingUpstream, key_file: Path, tmp_path: Path) -> list[str]:
    file = tmp_path / "limits.yaml"
    file.write_text("limits: [{type: queries, value: 1}]")
    return [*auth_flags(upstream.url, key_file), "-enable.rateLimit", f"-ratelimit.config={file}"]


@LANES
def test_the_explanation_is_that_of_the_same_flags(
    start_gateway: StartGateway,
    flags: list[str],
    upstream: RecordingUpstream,
    key: SigningKey,
    auth_key: str,
    lane: str,
) -> None:
    gateway = start_gateway(*flags, "-flagsAuthKey=k3y&", f"-lane={lane}")
    asking = ("explain", f"--url={gateway.url}/", f"--auth-key-file={auth_key}")
    token = key.mint(team("dev", tenant_id={"account_id": 1, "project_id": 5}), sub="alice")
    form = ("-d", "query=up&extra_label=team=ops", "-H", "Content-Type: application/x-www-form-urlencoded")
    now = f"--time={int(time.time())}"
    for request in ((QUERY,), (*form, "/api/v1/query"), ("POST /api/v1/write",), ("GET /nowhere",), ("GET /-/me",)):
        for given in ((f"--token={token}",), ("--token=a.b",), ("-H", f"Authorization: Bearer {token}")):
            remote = run_command(*asking, now, *given, *request)
            local = run_command("explain", *flags, now, *given, *request)
            assert remote.stderr == ""
            assert (remote.returncode, remote.stdout) == (local.returncode, local.stdout)
            assert token.rpartition(".")[2] not in remote.stdout
    found = json.loads(run_command(*asking, f"--token={token}", "--json", QUERY).stdout)
    assert found["verdict"] == "admitted"
    assert found["limits"][0]["used"] == 0
    assert upstream.requests == []
    assert gateway.metric("vmgateway_requests_total") == 0
    assert gateway.metric("vmgateway_tenant_usage") == 0


@LANES
def test_live_counts_decide_and_stay_as_they_are(
    start_gateway: StartGateway,
    flags: list[str],
    upstream: RecordingUpstream,
    key: SigningKey,
    auth_key: str,
    lane: str,
) -> None:
    gateway = start_gateway(*flags, "-flagsAuthKey=k3y&", f"-lane={lane}")
    token = key.mint(tenant(1, 5))
    asking = ("explain", f"--url={gateway.url}", f"--auth-key-file={auth_key}", f"--token={token}")
    for _ in range(3):
        assert run_command(*asking, QUERY).returncode == 0
    assert gateway.client(token).get("/api/v1/query?query=up").status == 200
    refused = run_command(*asking, QUERY)
    assert refused.returncode == 1
    assert "rate_limited: request was rate limited: tenant 1:5 has used 1 of 1 queries per minute" in refused.stdout
    assert gateway.metric("vmgateway_ratelimit_rejects_total") == 0
    assert gateway.metric("vmgateway_refusals_total") == 0
    assert len(upstream.requests) == 1


def failure(gateway: Gateway, *arguments: str) -> str:
    ended = run_command("explain", f"--url={gateway.url}", *arguments, QUERY)
    assert (ended.returncode, ended.stdout) == (2, "")
    return ended.stderr


@LANES
def test_it_is_guarded(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, auth_key: str, lane: str
) -> None:
    guarded = start_gateway(*flags, "-flagsAuthKey=other", f"-lane={lane}")
    assert "status 401: The provided authKey doesn't match -flagsAuthKey" in failure(guarded)
    assert "k3y" not in failure(guarded, f"--auth-key-file={auth_key}")
    unguarded = start_gateway(*flags, f"-lane={lane}")
    assert "status 403: set -flagsAuthKey or -httpAuth.username" in failure(unguarded)
    client = guarded.client(key.mint())
    assert client.get("/-/explain?authKey=other").status == 400
    assert client.get("/-/explain?authKey=other", headers={"X-Explain-Credentials": "!"}).status == 400
    assert client.post("/-/explain?authKey=other").status == 404
    assert "leave out -enable.auth" in failure(guarded, "-enable.auth")
    assert "leave out --jwks-file" in failure(guarded, "--jwks-file=x")


def test_a_name_and_a_password_open_it(start_gateway: StartGateway, flags: list[str], key: SigningKey) -> None:
    gateway = start_gateway(*flags, "-httpAuth.username=me", "-httpAuth.password=p4ss")
    url = gateway.url.replace("://", "://me:p4ss@")
    ended = run_command("explain", f"--url={url}", f"--token={key.mint()}", QUERY)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_another_server_is_told_apart(upstream: RecordingUpstream) -> None:
    ended = run_command("explain", f"--url={upstream.url}", QUERY)
    assert (ended.returncode, ended.stderr) == (2, "vmgateway explain: --url: the response is not an explanation\n")
