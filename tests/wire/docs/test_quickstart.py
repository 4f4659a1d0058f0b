"""The specification's quick start: its flags, tokens and curl lines, with free ports for the documented ones.

And the session in the README, and what the program says when it is asked for its version or its flags, or cannot start.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, curl, run_command, run_vmgateway
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SPEC_READ, SigningKey
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway

SPEC_FLAGS = "-eula -enable.auth -read.url http://localhost:8428 --write.url http://localhost:8428"

README = (Path(__file__).resolve().parents[3] / "README.md").read_text()
SPEC_PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo
4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u
+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyeh
kd3qqGElvW/VDL5AaWTg0nLVkjRo9z+40RQzuVaE8AkAFmxZzow3x+VJYKdjykkJ
0iT9wCS0DRTXu269V264Vf/3jvredZiKRkgwlL9xNAwxXFg0x/XFw005UWVRIkdg
cKWTjpBP2dPwVZ4WWC+9aGVd+Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbc
mwIDAQAB
-----END PUBLIC KEY-----
"""


def test_the_session_in_the_readme_is_what_the_program_prints(tmp_path: Path) -> None:
    session = re.search(r"^```console\n(\$ .*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert session is not None
    lines = session[1].splitlines(keepends=True)
    commands = "".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
    expected = "".join(line for line in lines if not line.startswith("$ "))
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", commands], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    pattern = ".*".join(re.escape(part) for part in expected.rstrip("\n").split("..."))
    assert re.fullmatch(pattern, ran.stdout, re.DOTALL), ran.stdout


@pytest.fixture(scope="module")
def quick_start(victoria_metrics: VictoriaMetrics) -> Iterator[Gateway]:
    with Gateway(*shlex.split(SPEC_FLAGS.replace(":8428", f":{victoria_metrics.port}"))) as gateway:
        yield gateway


@pytest.mark.smoke
def test_the_sample_token_retrieves_data(quick_start: Gateway) -> None:
    status, body = curl(
        f"curl 'http://localhost:8431/api/v1/series/count' -H 'Authorization: Bearer {SPEC_READ}'", quick_start
    )
    assert status == 200
    answer = json.loads(body)
    assert answer["status"] == "success"
    assert isinstance(answer["data"][0], int)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("curl 'http://localhost:8431/api/v1/series/count'", id="no-token"),
        pytest.param(
            "curl 'http://localhost:8431/api/v1/series/count' -H 'Authorization: Bearer incorrect-token'",
            id="incorrect-token",
        ),
    ],
)
def test_an_incorrect_token_is_rejected(quick_start: Gateway, line: str) -> None:
    status, body = curl(line, quick_start)
    assert status == 401
    assert json.loads(body)["status"] == "error"


def test_a_start_without_keys_says_that_signatures_are_not_verified(quick_start: Gateway) -> None:
    quick_start.wait_for_log("(?i)signature")
    assert quick_start.metric("vmgateway_signatures_verified") == 0


def test_three_keys_are_loaded(start_gateway: StartGateway, upstream: RecordingUpstream, tmp_path: Path) -> None:
    keys = [SigningKey.generate("RS256"), SigningKey.generate("ES384")]
    files = [tmp_path / "public_key.pem", tmp_path / "public_key2.pem"]
    for key, file in zip(keys, files, strict=True):
        file.write_text(key.public_pem)
    gateway = start_gateway(
        "-eula",
        "-enable.auth",
        f"-write.url={upstream.url}",
        f"-read.url={upstream.url}",
        *(f"-auth.publicKeyFiles={file}" for file in files),
        f"-auth.publicKeys={SPEC_PUBLIC_KEY}",
    )
    gateway.wait_for_log(r"\b3 keys loaded")
    assert gateway.metric("vmgateway_keys_loaded") == 3
    for key in keys:
        assert gateway.client(key.mint()).get("/api/v1/labels").status == 200
    for token in (SigningKey.generate("RS256").mint(), SPEC_READ):
        assert gateway.client(token).get("/api/v1/labels").status == 401
    assert len(upstream.requests) == 2


def test_another_header_carries_the_token(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path
) -> None:
    gateway = start_gateway(
        "-enable.auth",
        f"-read.url={upstream.url}",
        f"-auth.publicKeyFiles={key_file}",
        "-auth.httpHeader=X-Id-Token",
        "-auth.httpHeaderAllowWithoutPrefix",
        "-logInvalidAuthTokens",
    )
    token = key.mint()
    for value in (f"Bearer {token}", f"bearer {token}", token):
        headers = {"X-Id-Token": value, "Authorization": "Basic dTpw"}
        assert gateway.client().get("/api/v1/labels", headers=headers).status == 200
    for request in upstream.requests:
        assert request.header("X-Id-Token") == request.header("Authorization") == []
    assert gateway.client(token).get("/api/v1/labels").status == 401
    expired = gateway.client().get("/api/v1/labels", headers={"X-Id-Token": key.mint(lifetime=-1)})
    assert expired.status == 401
    assert "expired" in expired.json()["error"]
    gateway.wait_for_log("expired")
    assert token not in gateway.log()


def test_without_the_flags_the_reason_stays_untold_and_the_prefix_is_needed(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path
) -> None:
    gateway = start_gateway("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
    expired = gateway.client(key.mint(lifetime=-1)).get("/api/v1/labels")
    unsigned = gateway.client().get("/api/v1/labels", headers={"Authorization": key.mint()})
    assert expired.status == unsigned.status == 401
    assert expired.json() == unsigned.json()
    assert expired.header("WWW-Authenticate") == "Bearer"
    assert upstream.connections == []


def test_flags_come_from_the_environment(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path
) -> None:
    env = {"VMG_enable_auth": "true", "VMG_read_url": upstream.url, "VMG_auth_publicKeyFiles": str(key_file)}
    gateway = start_gateway("-envflag.enable", "-envflag.prefix=VMG_", env=env)
    assert gateway.client().get("/api/v1/labels").status == 401
    assert gateway.client(key.mint()).get("/api/v1/labels").status == 200


# --- the program by itself ------------------------------------------------------------------------------------------


def test_version_is_shown() -> None:
    result = run_vmgateway("-version")
    assert result.returncode == 0
    assert re.search(r"\d+\.\d+", result.stdout + result.stderr)


def test_help_lists_the_flags() -> None:
    result = run_vmgateway("--help")
    assert result.returncode == 0
    text = result.stdout + result.stderr
    for line in ("-auth.publicKeyFiles array", "-httpListenAddr string", "-clusterMode", "-maxFormSize", "-dryRun"):
        assert line in text
    assert '":8431"' in text


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("flags", "names"),
    [
        pytest.param(["-no.such.flag"], "no.such.flag", id="unknown-flag"),
        pytest.param(["-auth.publicKeyFiles={bad}"], "bad.pem", id="bad-pem-file"),
        pytest.param(["-auth.publicKeyFiles={missing}"], "missing.pem", id="missing-pem-file"),
        pytest.param(["-httpListenAddr=nowhere"], "httpListenAddr", id="bad-address"),
        pytest.param(["-dryRun", "-auth.publicKeyFiles={bad}"], "bad.pem", id="dry-run-of-a-bad-pem-file"),
    ],
)
def test_a_start_that_cannot_be_ends_with_one_line(tmp_path: Path, flags: list[str], names: str) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    given = [flag.format(bad=bad, missing=tmp_path / "missing.pem") for flag in flags]
    result = run_vmgateway("-httpListenAddr=127.0.0.1:1", "-enable.auth", "-read.url=http://127.0.0.1:1", *given)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert names in result.stderr
    assert result.stdout == ""


def test_a_dry_run_checks_and_ends(key_file: Path) -> None:
    flags = ("-enable.auth", "-read.url=http://127.0.0.1:1", f"-auth.publicKeyFiles={key_file}")
    result = run_command("-dryRun", *flags)
    assert result.returncode == 0, result.stderr


def test_a_taken_port_ends_the_start(upstream: RecordingUpstream) -> None:
    result = run_vmgateway(f"-httpListenAddr=127.0.0.1:{upstream.port}", "-enable.auth", f"-read.url={upstream.url}")
    assert result.returncode != 0
    assert str(upstream.port) in result.stderr
    assert "Traceback" not in result.stderr
