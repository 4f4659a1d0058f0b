"""``-auth.mtlsClaims``: the certificate of a client grants what the policy says, in both lanes and over HTTP/2."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority, Certificate
from tests.support.wire.processes import Program, run_command
from tests.support.wire.tls import TLSGateway, needs_http2
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import HANGS

PATH = "/api/v1/labels"
POLICY = """
match:
- when: {mtls.common_name: {matches: "(?P<region>[a-z]+)[.]agents[.]example"}}
  grant: {labels: {region: "{region}"}}
"""


@pytest.fixture
def flags(authority: Authority, key_file: Path, upstream: RecordingUpstream, tmp_path: Path) -> tuple[str, ...]:
    server = authority.issue("localhost")
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    return (
        *("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", f"-auth.policy={policy}"),
        *("-tls", f"-tlsCertFile={server.cert}", f"-tlsKeyFile={server.key}", "-mtls", f"-mtlsCAFile={authority.cert}"),
    )


@pytest.fixture(params=["fast", "flow", "mitmdump"])
def gateway(request: pytest.FixtureRequest, flags: tuple[str, ...]) -> Iterator[TLSGateway]:
    program: Program = "mitmdump" if request.param == "mitmdump" else "vmgateway"
    lane = () if program == "mitmdump" else (f"-lane={request.param}",)
    with TLSGateway(*flags, "-auth.mtlsClaims", "-accessLog", *lane, program=program) as gateway:
        yield gateway


def status(gateway: TLSGateway, authority: Authority, client: Certificate, *options: str) -> str:
    """The version of HTTP and the status that curl reports of one connection; empty if there was no response."""
    command = ["curl", "-sS", "--noproxy", "*", "--cacert", str(authority.cert), "-o", "/dev/null"]
    command += ["--cert", str(client.cert), "--key", str(client.key), "-w", "%{http_version} %{http_code}", *options]
    command.append(f"https://localhost:{gateway.port}{PATH}")
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS).stdout


@pytest.mark.smoke
def test_a_certificate_grants_what_the_policy_says(
    gateway: TLSGateway, authority: Authority, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    for region in ("eu", "us"):
        assert status(gateway, authority, authority.issue(f"{region}.agents.example")) == "1.1 200"
        assert upstream.requests[-1].argument("extra_label") == [f"region={region}"]
    gateway.wait_for_log(r"subject=eu\.agents\.example credential=certificate access=read")
    assert status(gateway, authority, authority.issue("agents.example")) == "1.1 401"
    assert status(gateway, authority, Authority(tmp_path, "other").issue("eu.agents.example")) == "0 000"
    assert len(upstream.requests) == 2


def test_another_credential_counts_alone(
    gateway: TLSGateway, authority: Authority, upstream: RecordingUpstream, key: SigningKey
) -> None:
    client = authority.issue("eu.agents.example")
    assert status(gateway, authority, client, "-H", f"Authorization: Bearer {key.mint(team('dev'))}") == "1.1 200"
    assert upstream.requests[-1].argument("extra_label") == ["team=dev"]
    for header in (
        "Authorization: Bearer a.b.c",
        "Authorization: x",
        f"Authorization: Bearer {key.mint(lifetime=-60)}",
    ):
        assert status(gateway, authority, client, "-H", header) == "1.1 401"
    claimed = key.sign({"exp": 1 << 40, "mtls": {"common_name": ["us.agents.example"]}})
    assert status(gateway, authority, client, "-H", f"Authorization: Bearer {claimed}") == "1.1 401"
    assert len(upstream.requests) == 1


def test_pages_of_other_sites_cannot_use_the_certificate_of_a_browser(
    gateway: TLSGateway, authority: Authority, upstream: RecordingUpstream
) -> None:
    client = authority.issue("eu.agents.example")
    foreign, own = f"Origin: https://localhost:{gateway.port + 1}", f"Origin: https://localhost:{gateway.port}"
    assert status(gateway, authority, client, "-d", "a=b", "-H", foreign) == "1.1 403"
    assert status(gateway, authority, client, "-d", "a=b", "-H", own, "-H", "Sec-Fetch-Site: cross-site") == "1.1 403"
    assert upstream.requests == []
    gateway.wait_for_log("reason=cross_site")
    assert status(gateway, authority, client, "-d", "a=b", "-H", own) == "1.1 200"
    assert len(upstream.requests) == 1


@needs_http2
def test_over_http2(flags: tuple[str, ...], authority: Authority, upstream: RecordingUpstream) -> None:
    with TLSGateway(*flags, "-auth.mtlsClaims", "-http.enableHTTP2") as gateway:
        assert status(gateway, authority, authority.issue("eu.agents.example"), "--http2") == "2 200"
        assert upstream.requests[-1].argument("extra_label") == ["region=eu"]
        assert status(gateway, authority, authority.issue("agents.example"), "--http2") == "2 401"
        for header, expected in (
            ("X: y", "2 200"),
            ("Sec-Fetch-Site: same-origin", "2 200"),
            ("Sec-Fetch-Site: cross-site", "2 403"),
            (f"Origin: https://localhost:{gateway.port}", "2 403"),  # all browsers say more over HTTP/2
        ):
            post = ("--http2", "-d", "a=b", "-H", header)
            assert status(gateway, authority, authority.issue("eu.agents.example"), *post) == expected


def test_without_the_flag_a_certificate_grants_nothing(
    flags: tuple[str, ...], authority: Authority, upstream: RecordingUpstream
) -> None:
    with TLSGateway(*flags) as gateway:
        assert status(gateway, authority, authority.issue("eu.agents.example")) == "1.1 401"
    assert upstream.requests == []


def test_the_flag_needs_a_policy_and_mtls(flags: tuple[str, ...]) -> None:
    without_policy = [flag for flag in flags if not flag.startswith("-auth.policy")]
    for given, message in (
        (without_policy, "-auth.mtlsClaims needs -enable.auth and -auth.policy, which says what a certificate grants"),
        ([flag for flag in flags if not flag.startswith("-mtls")], "-auth.mtlsClaims has no effect without -mtls"),
    ):
        done = run_command(*given, "-auth.mtlsClaims", "-dryRun")
        assert (done.returncode, done.stderr) == (2, f"vmgateway: {message}\n")
