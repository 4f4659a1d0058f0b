"""What operators ask of tokens, and what tokens bring: told alike by both lanes, by explain and by token decode."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.wire.processes import Gateway, Program, run_command
from tests.support.wire.tokens import FULL, SigningKey
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway

ISSUER: Final = "https://issuer.example/t1/v2.0"
RULES: Final = (
    "-auth.issuer=https://issuer.example/{tenant}/v2.0",
    "-auth.audience=metrics,other",
    r"-auth.requiredClaims=https://example\.com/role=admin,realm.groups=ops",
    "-auth.leeway=1h",
    "-auth.maxTokenSize=8KiB",
    "-auth.tokenCacheSize=1MiB",
)
GOOD: Final[dict[str, Any]] = {
    "iss": ISSUER,
    "aud": ["metrics"],
    "https://example.com/role": "admin",
    "realm": {"groups": ["dev", "ops"]},
}
REFUSED: Final[dict[str, tuple[dict[str, Any], str, str]]] = {
    "issuer": (
        {"iss": "https://sts.example/t1/"},
        "wrong_issuer",
        '`iss` is "https://sts.example/t1/"; expected "https://issuer.example/{tenant}/v2.0"',
    ),
    "audience": ({"aud": "grafana"}, "wrong_audience", '`aud` is "grafana"; expected one of "metrics", "other"'),
    "namespaced claim": (
        {"https://example.com/role": "viewer"},
        "claim_mismatch",
        r'`https://example\.com/role` is "viewer"; expected "admin"',
    ),
    "nested claim": ({"realm": {"groups": []}}, "claim_mismatch", '`realm.groups` is []; expected "ops"'),
    "size": ({"x": "y" * 8000}, "malformed_token", "the token is longer than 8192 characters"),
    "control characters": (
        {"aud": "\u202e\n\x7f" + "a" * 5000},
        "wrong_audience",
        r'`aud` is "\u202e\n\u007f' + "a" * 106 + '..."; expected one of "metrics", "other"',
    ),
}


@pytest.fixture(scope="module", params=["fast", "flow"])
def served(request: pytest.FixtureRequest, key_file: Path) -> Iterator[tuple[Gateway, RecordingUpstream]]:
    with RecordingUpstream() as upstream:
        flags = (f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", f"-lane={request.param}")
        with Gateway("-enable.auth", "-logInvalidAuthTokens", *flags, *RULES) as gateway:
            yield gateway, upstream


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_against_the_rules(
    served: tuple[Gateway, RecordingUpstream], key: SigningKey, key_file: Path, name: str
) -> None:
    gateway, upstream = served
    upstream.forget()
    changed, code, message = REFUSED[name]
    token = key.mint(FULL, **{**GOOD, **changed})
    before = gateway.metric("vmgateway_auth_rejects_total", reason=code)
    logged = len(gateway.log())
    answer = gateway.client(token).get("/api/v1/query?query=up")
    assert (answer.status, answer.json()["error"]) == (401, message)
    assert gateway.metric("vmgateway_auth_rejects_total", reason=code) == before + 1
    gateway.wait_for_log(re.escape(f"token refused: {code}: {message!r}, client 127.0.0.1"), behind=logged)
    assert upstream.requests == []
    keys = f"-auth.publicKeyFiles={key_file}"
    for command in (("token", "decode"), ("explain", "GET /api/v1/query?query=up")):
        told = run_command(*command, keys, *RULES, f"--token={token}", "--json")
        assert told.returncode == 1, told.stderr
        refusal = json.loads(told.stdout)["refusal"]
        assert (refusal["code"], refusal["message"]) == (code, message)


def test_a_token_that_keeps_the_rules(
    served: tuple[Gateway, RecordingUpstream], key: SigningKey, key_file: Path
) -> None:
    gateway, upstream = served
    upstream.forget()
    now = time.time()
    brought = {"jku": f"{upstream.url}/keys", "x5u": f"{upstream.url}/chain", "jwk": SigningKey.generate().public_jwk}
    tokens = [
        key.mint(FULL, **GOOD),
        key.mint(FULL, **{**GOOD, "aud": "other", "sub": 42, "iat": None}),
        key.sign({**GOOD, "exp": now + 600.5, "nbf": now - 0.5, "iat": now, "sub": None, "vm_access": FULL}),
        key.sign({**GOOD, "exp": now - 5, "nbf": now - 6, "vm_access": FULL}),
        key.sign({**GOOD, "exp": now + 600, "nbf": now + 1800, "vm_access": FULL}),
        key.sign({**GOOD, "exp": now + 600, "vm_access": FULL}, brought),
    ]
    for token in tokens:
        for _ in range(2):
            assert gateway.client(token).get("/api/v1/query?query=up").status == 200
        told = run_command("token", "decode", f"-auth.publicKeyFiles={key_file}", *RULES, f"--token={token}", "--json")
        assert json.loads(told.stdout)["verdict"] == "admitted"
    assert [request.target for request in upstream.requests] == ["/api/v1/query?query=up"] * (2 * len(tokens))


def test_the_reason_is_told_to_nobody_without_the_flag(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, program: Program
) -> None:
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
    gateway = start_gateway(*flags, *RULES, program=program)
    answer = gateway.client(key.mint(FULL, **{**GOOD, "aud": "grafana"})).get("/api/v1/query?query=up")
    assert answer.status == 401
    for text in (answer.text, gateway.log()):
        assert "grafana" not in text
        assert '"other"' not in text


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("-auth.requiredClaims=role", r"-auth.requiredClaims[0]: expected name=value"),
        ("-auth.requiredClaims=a=b,.c=d", r"-auth.requiredClaims[1]: expected name=value"),
        ('-auth.audience=a,""', "-auth.audience: an audience must not be empty"),
        ('-auth.issuer=a,""', "-auth.issuer: an issuer must not be empty"),
        ("-auth.leeway=1500ms", "-auth.leeway: expected whole seconds"),
        ("-auth.maxTokenSize=65KiB", "-auth.maxTokenSize: must not exceed -http.maxHeadSize"),
    ],
)
def test_flags_that_cannot_be_used(key_file: Path, flag: str, message: str) -> None:
    base = ("-enable.auth", "-read.url=http://127.0.0.1:1", f"-auth.publicKeyFiles={key_file}", "-dryRun")
    ended = run_command(*base, flag)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert run_command(*base, "-http.maxHeadSize=16KiB").returncode == 0, "the default never is too large"


def test_an_issuer_needs_keys() -> None:
    ended = run_command("-enable.auth", "-read.url=http://127.0.0.1:1", "-auth.issuer=a", "-dryRun")
    assert ended.returncode != 0
    assert "-auth.issuer needs keys" in ended.stderr


# --- headers of identity proxies -----------------------------------------------------------------------------------

IDENTITY: Final = (
    "X-Id-Token", "X-Forwarded-Access-Token", "X-Auth-Request-Access-Token", "X-Auth-Request-User",
    "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Forwarded-User", "X-Forwarded-Groups", "X-Forwarded-Email",
    "X-Forwarded-Preferred-Username", "X-Amzn-Oidc-Data", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Accesstoken",
    "X-Goog-Iap-Jwt-Assertion", "X-Goog-Authenticated-User-Email", "Cf-Access-Jwt-Assertion", "X-Ms-Token-Aad-Id-Token",
    "X-Ms-Client-Principal", "X-Ms-Client-Principal-Name", "X-Pomerium-Jwt-Assertion", "X-Authentik-Username",
    "X-Vouch-User", "Remote-User", "X-Webauth-User", "X-Grafana-Id", "X-Userinfo", "X-Serverless-Authorization",
    "X-Api-Key", "Cookie", "Proxy-Authorization", "x_forwarded_user", "DPoP", "X-Forwarded-Client-Cert",
)  # fmt: skip


HUSH: Final = "hush-hush"


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_identities_stay_in_the_gateway(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path, lane: str
) -> None:
    capture = tmp_path / "capture"
    gateway = start_gateway(
        *("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", f"-lane={lane}"),
        *("-accessLog", f"-capture.file={capture}"),
    )
    headers = dict.fromkeys(IDENTITY, HUSH) | {"X-Kept": "1", "X-Forwarded-Proto": "https"}
    assert gateway.client(key.mint(FULL)).get("/api/v1/query?query=up", headers=headers).status == 200
    assert gateway.client().get("/api/v1/query?query=up", headers=headers).status == 401
    [received] = upstream.requests
    names = {name.lower() for name, _ in received.headers}
    assert names.isdisjoint(name.lower() for name in IDENTITY)
    assert HUSH not in repr(received)
    assert (received.header("X-Kept"), received.header("X-Forwarded-Proto")) == (["1"], ["https"])
    gateway.wait_until(lambda: capture.read_bytes().count(b"X-Kept") >= 2, what="writes the capture")
    assert HUSH.encode() not in capture.read_bytes()
    assert HUSH not in gateway.log()


def test_explain_shows_no_identity(key: SigningKey, key_file: Path) -> None:
    words = ["GET /api/v1/query?query=up", *(f"--header={name}: hush-hush" for name in IDENTITY)]
    told = run_command("explain", *words, f"-auth.publicKeyFiles={key_file}", f"--token={key.mint(FULL)}")
    assert told.returncode == 0, told.stderr
    assert "hush" not in told.stdout
    assert "x-forwarded-user" in told.stdout.lower(), "it is told that it is left out"
