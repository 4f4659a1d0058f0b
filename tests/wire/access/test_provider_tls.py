"""``-auth.tls*``: TLS to providers of keys and policies, with servers that want a client certificate."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import run_command
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

POLICY = "default: {tenant: '0:0', labels: {team: web}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider that wants a client certificate: its documents, and the flags that satisfy it."""

    server: RecordingUpstream
    key: SigningKey
    ca: Path
    certificate: tuple[Path, Path]

    def flags(self, **other: str) -> list[str]:
        """The flags, with ``other`` in place of some of them; empty: without that flag."""
        cert, key = self.certificate
        values = {
            "-auth.tlsCAFile": str(self.ca),
            "-auth.tlsCertFile": str(cert),
            "-auth.tlsKeyFile": str(key),
            "-auth.tlsServerName": "idp.example",
        }
        values |= {f"-auth.tls{name}": value for name, value in other.items()}
        return [f"{name}={value}" for name, value in values.items() if value]

    @property
    def jwks(self) -> str:
        return f"-auth.jwksEndpoints={self.server.url}/jwks"


@pytest.fixture
def provider(authority: Authority, tmp_path: Path) -> Iterator[Provider]:
    key = SigningKey.generate(kid="k")
    server_side, client_side = authority.issue("idp.example"), authority.issue("gateway.example")
    with RecordingUpstream(tls=authority.server_context(server_side, clients=authority)) as server:
        documents = {
            "/jwks": json.dumps({"keys": [key.public_jwk]}),
            "/openid": json.dumps({"issuer": "https://idp.example", "jwks_uri": f"{server.url}/jwks"}),
            "/policy": POLICY,
        }

        def respond(request: ReceivedRequest) -> Reply:
            return Reply(body=documents[request.path].encode())

        server.responder = respond
        certificate = (client_side.cert, client_side.key)
        yield Provider(server=server, key=key, ca=authority.cert, certificate=certificate)


@pytest.mark.smoke
@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_keys_and_policy_come_over_mutual_tls(
    start_gateway: StartGateway, upstream: RecordingUpstream, provider: Provider, lane: str
) -> None:
    gateway = start_gateway(
        *("-enable.auth", f"-read.url={upstream.url}", f"-lane={lane}", *provider.flags()),
        *(f"-auth.oidcDiscoveryEndpoints={provider.server.url}/openid", f"-auth.policy={provider.server.url}/policy"),
    )
    gateway.wait_until(lambda: gateway.client().get("/-/ready").status == 200, what="has its keys")
    token = provider.key.sign({"exp": 1 << 40, "iss": "https://idp.example"})
    assert gateway.client(token).get("/api/v1/labels").status == 200
    assert upstream.requests[-1].argument("extra_label") == ["team=web"]
    assert {request.path for request in provider.server.requests} == {"/openid", "/jwks", "/policy"}
    served = [each for each in provider.server.connections if each.bytes_received]
    assert all(each.tls_client_certificate for each in served)
    assert {each.tls_server_name for each in served} == {"idp.example"}


@pytest.mark.parametrize("workers", [1, 2])
def test_each_worker_fetches_its_keys(
    start_gateway: StartGateway, upstream: RecordingUpstream, provider: Provider, workers: int
) -> None:
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-workers={workers}", provider.jwks, *provider.flags())
    gateway = start_gateway(*flags)
    gateway.wait_until(
        lambda: sum(request.path == "/jwks" for request in provider.server.requests) >= workers, what="has fetched"
    )
    token = provider.key.mint()
    gateway.wait_until(lambda: gateway.client(token).get("/api/v1/labels").status == 200, what="accepts the token")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        pytest.param(
            {"CAFile": ""},
            "certificate in certificate chain (authorities: the system's, without -auth.tlsCAFile",
            id="no CA",
        ),
        pytest.param(
            {"CAFile": "{wrong}"},
            "certificate in certificate chain (authorities: -auth.tlsCAFile {wrong};",
            id="wrong CA",
        ),
        pytest.param(
            {"ServerName": "other.example"},
            "certificate verify failed: Hostname mismatch, certificate is not valid for 'other.example' "
            "(authorities: -auth.tlsCAFile {ca}; name: -auth.tlsServerName other.example; ",
            id="wrong name",
        ),
        pytest.param(
            {"CertFile": "", "KeyFile": ""},
            "alert certificate required (authorities: -auth.tlsCAFile {ca}; name: -auth.tlsServerName idp.example; "
            "client certificate: none, without -auth.tlsCertFile)",
            id="no client certificate",
        ),
        pytest.param(
            {"CertFile": "{foreign_cert}", "KeyFile": "{foreign_key}"},
            "client certificate: -auth.tlsCertFile {foreign_cert})",
            id="client certificate of another authority",
        ),
    ],
)
def test_a_provider_that_cannot_be_trusted_or_does_not_trust_the_gateway(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    provider: Provider,
    tmp_path: Path,
    other: dict[str, str],
    reason: str,
) -> None:
    wrong = Authority(tmp_path, "wrong")
    foreign = wrong.issue("foreign")
    names = {"wrong": wrong.cert, "ca": provider.ca, "foreign_cert": foreign.cert, "foreign_key": foreign.key}
    flags = provider.flags(**{name: value.format(**names) for name, value in other.items()})
    gateway = start_gateway("-enable.auth", f"-read.url={upstream.url}", provider.jwks, *flags)
    gateway.wait_for_log(r"-auth\.jwksEndpoints\[0\]: cannot fetch keys: .*" + re.escape(reason.format(**names)))
    assert gateway.client(provider.key.mint()).get("/api/v1/labels").status == 503
    assert upstream.requests == []
    assert provider.server.requests == []
    # The policy is needed to start, so the same reason stops the start.
    done = run_command(
        "-enable.auth", f"-read.url={upstream.url}", f"-auth.policy={provider.server.url}/policy", *flags
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"vmgateway: -auth.policy {provider.server.url}/policy: cannot read it: ")
    assert reason.format(**names) in done.stderr


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"CAFile": "/missing.pem"}, "-auth.tlsCAFile: cannot read /missing.pem: No such file or directory"),
        ({"CAFile": "{junk}"}, "-auth.tlsCAFile: cannot use {junk}: "),
        ({"CAFile": ""}, "flag -auth.tlsCAFile: the value is empty; leave the flag out if you do not want it"),
        ({"CertFile": "/missing.pem"}, "-auth.tlsCertFile: cannot read /missing.pem: No such file or directory"),
        ({"KeyFile": "/missing.pem"}, "-auth.tlsKeyFile: cannot read /missing.pem: No such file or directory"),
        ({"KeyFile": ""}, "-auth.tlsCertFile and -auth.tlsKeyFile: set both or none"),
        ({"KeyFile": "{other_key}"}, "-auth.tlsCertFile, -auth.tlsKeyFile: cannot use {cert}, {other_key}: "),
    ],
)
def test_files_that_cannot_be_used_stop_the_start(
    provider: Provider, authority: Authority, tmp_path: Path, other: dict[str, str], message: str, dry: bool
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    names = {"junk": junk, "cert": provider.certificate[0], "other_key": authority.issue("other").key}
    flags = provider.flags(**{name: value.format(**names) for name, value in other.items()})
    if other == {"CAFile": ""}:
        flags.append("-auth.tlsCAFile=")
    done = run_command(
        *("-enable.auth", "-read.url=http://127.0.0.1:1", provider.jwks, *flags), *(["-dryRun"] if dry else [])
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"vmgateway: {message.format(**names)}")
    assert provider.server.requests == []


def test_the_sub_commands_use_the_flags_too(provider: Provider) -> None:
    token = provider.key.mint()
    for command in (("token", "decode", token), ("explain", f"--token={token}", "GET /api/v1/labels")):
        done = run_command(*command, provider.jwks, *provider.flags())
        assert done.returncode == 0, done
        refused = run_command(*command, provider.jwks, *provider.flags(ServerName="other.example"))
        assert refused.returncode == 2
        assert "certificate is not valid for 'other.example'" in refused.stderr


def test_a_certificate_that_was_renewed_is_used_for_the_next_fetch(
    start_gateway: StartGateway, upstream: RecordingUpstream, provider: Provider, tmp_path: Path, authority: Authority
) -> None:
    ca = tmp_path / "used.pem"
    ca.write_bytes(Authority(tmp_path, "wrong").cert.read_bytes())
    flags = ("-enable.auth", f"-read.url={upstream.url}", provider.jwks, *provider.flags(CAFile=str(ca)))
    gateway = start_gateway(*flags, "-auth.keysRefreshInterval=1s")
    gateway.wait_for_log("cannot fetch keys: certificate verify failed")
    ca.write_bytes(authority.cert.read_bytes())
    assert gateway.client().post("/-/reload").status == 200
    gateway.wait_until(lambda: gateway.client(provider.key.mint()).get("/api/v1/labels").status == 200, what="has keys")
