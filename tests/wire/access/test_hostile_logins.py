"""Hostile callbacks, cookies and requests of other sites, with a scripted provider, in both lanes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from tests.support.wire.logins import FETCH, PAGE, Browser, cookie_key, key_file
from tests.support.wire.processes import Gateway, Program, free_port, run_command, run_vmgateway
from tests.support.wire.tokens import FULL, SigningKey
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"
WRITE = "/api/v1/import/prometheus"


@dataclass
class Scripted:
    """A provider that answers what a test wants. ``answer`` makes the token response to a form."""

    key: SigningKey
    url: str = ""
    nonce: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    raw: bytes | None = None
    """What a request for tokens gets instead of JSON."""
    asked: list[ReceivedRequest] = field(default_factory=list)

    @property
    def forms(self) -> list[dict[str, str]]:
        """The requests for tokens."""
        return [dict(parse_qsl(request.body.decode())) for request in self.asked]

    def id_token(self) -> str:
        good = {"iss": self.url, "sub": "ann", "aud": "web", "nonce": self.nonce, "exp": int(time.time()) + 3600}
        claims = {**good, "vm_access": FULL, **self.claims}
        return self.key.sign({name: value for name, value in claims.items() if value is not None})

    def respond(self, request: ReceivedRequest) -> Reply:
        if request.path == "/jwks":
            return Reply(body=json.dumps({"keys": [self.key.public_jwk]}).encode())
        if request.path == "/token":
            self.asked.append(request)
            answer = {"token_type": "Bearer", "access_token": "opaque", "id_token": self.id_token(), **self.tokens}
            return Reply(status=self.status, body=json.dumps(answer).encode() if self.raw is None else self.raw)
        document = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            **self.metadata,
        }
        return Reply(body=json.dumps(document).encode())


@pytest.fixture
def provider() -> Iterator[Scripted]:
    scripted = Scripted(SigningKey.generate("ES256", kid="k"))
    with RecordingUpstream(scripted.respond) as server:
        scripted.url = server.url
        yield scripted


Start = Callable[..., Gateway]


@pytest.fixture
def start(
    start_gateway: StartGateway, provider: Scripted, upstream: RecordingUpstream, program: Program, tmp_path: Path
) -> Start:
    def started(*flags: str) -> Gateway:
        port = free_port()
        gateway = start_gateway(
            *login_flags(provider.url, upstream.url, port, key_file(tmp_path / "keys", cookie_key())),
            *flags,
            port=port,
            program=program,
        )
        gateway.wait_until(lambda: gateway.metric("vmgateway_keys_loaded") > 0, what="has keys")
        return gateway

    return started


def login_flags(issuer: str, backend: str, port: int, keys: Path) -> list[str]:
    return [
        "-enable.auth",
        f"-read.url={backend}",
        f"-write.url={backend}",
        f"-auth.oidcDiscoveryEndpoints={issuer}/.well-known/openid-configuration",
        f"-login.oidcIssuer={issuer}",
        f"-login.url=http://127.0.0.1:{port}",
        "-login.clientID=web",
        f"-login.cookieKeyFile={keys}",
    ]


def begin(gateway: Gateway, provider: Scripted, browser: Browser, to: str = "") -> dict[str, str]:
    """Begin a login; what the provider was asked for."""
    led = browser.ask(f"{gateway.url}/-/login{to}")
    assert led.status == 303, led
    location = led.header("location") or ""
    assert location.startswith(f"{provider.url}/auth?")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    provider.nonce = asked["nonce"]
    return asked


def come_back(gateway: Gateway, browser: Browser, **arguments: str) -> Any:  # noqa: ANN401
    query = "&".join(f"{name}={value}" for name, value in arguments.items())
    return browser.ask(f"{gateway.url}/-/callback?{query}")


def log_in(gateway: Gateway, provider: Scripted, browser: Browser) -> None:
    asked = begin(gateway, provider, browser)
    assert come_back(gateway, browser, code="c", state=asked["state"]).status == 303


@pytest.mark.smoke
def test_callbacks_that_are_refused(start: Start, provider: Scripted, upstream: RecordingUpstream) -> None:
    gateway, browser = start(), Browser()
    state = begin(gateway, provider, browser)["state"]
    stranger = Browser()
    for who, arguments in (
        (browser, {}),
        (browser, {"code": "c"}),
        (browser, {"code": "c", "state": state[:-1] + ("A" if state[-1] != "A" else "B")}),
        (browser, {"code": "c", "state": state[:8]}),
        (browser, {"code": "c", "state": "%0d%0aSet-Cookie:x=y"}),
        (stranger, {"code": "c", "state": state}),
    ):
        answer = come_back(gateway, who, **arguments)
        assert answer.status == 400, arguments
        assert "Not logged in" in answer.text
        assert answer.header("set-cookie") is None
    twice = browser.ask(f"{gateway.url}/-/callback?code=c&state={state}&state={state}")
    assert twice.status == 400
    assert provider.forms == []
    answer = come_back(gateway, browser, code="c", state=state)
    assert (answer.status, answer.header("location")) == (303, "/vmui/")
    assert provider.forms[0]["code"] == "c"
    assert provider.forms[0]["redirect_uri"] == f"{gateway.url}/-/callback"
    assert provider.forms[0]["client_id"] == "web"
    assert len(provider.forms[0]["code_verifier"]) == 64
    again = come_back(gateway, browser, code="c", state=state)
    assert again.status == 400, "a state is good for one callback"
    assert len(provider.forms) == 1
    assert upstream.connections == []
    assert browser.ask(gateway.url + QUERY, headers=FETCH).status == 200


def test_tokens_that_are_refused(start: Start, provider: Scripted, upstream: RecordingUpstream) -> None:
    gateway = start()
    other = SigningKey.generate("ES256", kid="k")
    none = "eyJhbGciOiJub25lIn0." + provider.id_token().split(".")[1] + "."
    cases: list[tuple[dict[str, Any], dict[str, Any], int, str]] = [
        ({"nonce": "another"}, {}, 400, "its nonce does not match"),
        ({"nonce": None}, {}, 400, "its nonce does not match"),
        ({"iss": "https://evil.example"}, {}, 403, "gives no access here"),
        ({"aud": "other"}, {}, 400, "for another client"),
        ({"exp": int(time.time()) - 5}, {}, 400, "has expired"),
        ({"vm_access": {"tenant_id": "x"}}, {}, 403, "gives no access here"),
        ({}, {"id_token": other.mint(FULL, iss=provider.url, sub="ann", aud="web")}, 403, "gives no access here"),
        ({}, {"id_token": none}, 403, "gives no access here"),
        ({}, {"id_token": None}, 502, "id_token: expected a string"),
        ({}, {"refresh_token": "r" * 30000}, 502, "too large for cookies"),
        ({}, {"error": "invalid_grant", "error_description": "the-secret"}, 400, "gave no token: invalid_grant"),
        ({}, {"error": "<b>the-secret</b>"}, 502, "gave no token: unknown error"),
    ]
    for number, (claims, tokens, status, text) in enumerate(cases):
        provider.claims, provider.tokens = claims, tokens
        browser = Browser()
        asked = begin(gateway, provider, browser)
        answer = come_back(gateway, browser, code="c", state=asked["state"])
        assert (answer.status, text in answer.text) == (status, True), (number, answer)
        assert "the-secret" not in answer.text
        assert not any("session" in name for name in browser.cookies[gateway.port])
        assert browser.ask(gateway.url + QUERY, headers=FETCH).status == 401
    assert upstream.connections == []


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"5", b'"x"', b"<html>", b"\xff", b'{"error":[1]}', b"[[1]]"])
def test_answers_that_are_none(start: Start, provider: Scripted, upstream: RecordingUpstream, raw: bytes) -> None:
    gateway, browser = start(), Browser()
    provider.raw = raw
    asked = begin(gateway, provider, browser)
    answer = come_back(gateway, browser, code="c", state=asked["state"])
    assert (answer.status, "The identity provider" in answer.text) == (502, True)
    assert browser.cookies[gateway.port] == {}
    assert upstream.connections == []


def test_the_issuer_of_a_callback(start: Start, provider: Scripted) -> None:
    provider.metadata["authorization_response_iss_parameter_supported"] = True
    gateway = start()
    for issuer, status in ({}, 400), ({"iss": "https://evil.example"}, 400), ({"iss": provider.url}, 303):
        browser = Browser()
        asked = begin(gateway, provider, browser)
        assert come_back(gateway, browser, code="c", state=asked["state"], **issuer).status == status
    assert len(provider.forms) == 1, "no code goes to the wrong place"


def test_a_provider_that_is_not_itself(start: Start, provider: Scripted) -> None:
    gateway = start()
    provider.metadata["issuer"] = "https://evil.example"
    answer = gateway.client().get("/-/login", headers=PAGE)
    assert (answer.status, "its issuer is not the one" in answer.text) == (502, True)
    assert answer.header("location") is None


def test_redirects_stay_at_home(start: Start, provider: Scripted) -> None:
    gateway = start()
    for to in (
        "//evil.example", "/%5cevil.example", "/\\evil.example", "https://evil.example/", "/%252fevil.example",
        "%2f%2fevil.example", "/%09/evil.example", "javascript:alert(1)", "/%0d%0aSet-Cookie:x=y", "",
        "/..//evil.example",
    ):  # fmt: skip
        answer = gateway.client().get(f"/-/login?to={to}", headers=PAGE)
        assert answer.status == 400, to
        assert answer.header("location") is None
    assert gateway.client().get("/-/login?to=/a&to=/b", headers=PAGE).status == 400
    browser = Browser()
    asked = begin(gateway, provider, browser, "?to=/vmui/%3Fa%3Db")
    answer = come_back(gateway, browser, code="c", state=asked["state"])
    assert answer.header("location") == "/vmui/?a=b"


def test_cookies_that_are_refused(start: Start, provider: Scripted, upstream: RecordingUpstream) -> None:
    gateway = start()
    provider.tokens["refresh_token"] = "r" * 6000
    jars = []
    for _ in range(2):
        browser = Browser()
        log_in(gateway, provider, browser)
        jars.append(browser.cookies[gateway.port])
    first, second = jars
    assert len(first) == len(second) > 2

    def status(cookies: dict[str, str], extra: str = "") -> int:
        line = "; ".join(f"{name}={value}" for name, value in cookies.items()) + extra
        return gateway.client().get(QUERY, headers={"Cookie": line}).status

    assert status(first) == status(second) == status(first, "; other=x") == 200
    upstream.forget()
    for name, value in first.items():
        flipped = value[:-5] + ("A" if value[-5] != "A" else "B") + value[-4:]
        assert status({**first, name: flipped}) == 401
        assert status({**first, name: second[name]}) == 401
        assert status({key: kept for key, kept in first.items() if key != name}) == 401
        assert status(first, f"; {name}={value}") == 401
    assert (
        status(
            {"vmgateway-session.0": "5." + "A" * 3800, **{f"vmgateway-session.{n}": "A" * 3800 for n in range(1, 5)}}
        )
        == 401
    )
    assert status({"vmgateway-session.0": "1." + "A" * 50000}) == 401
    assert status({f"vmgateway-session.{n}": "" for n in range(900)}) == 401
    assert upstream.requests == []
    assert status(first) == 200


def test_what_other_sites_may_not_do(start: Start, provider: Scripted, upstream: RecordingUpstream) -> None:
    gateway, browser = start(), Browser()
    log_in(gateway, provider, browser)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for method, path, headers, status in (
        ("POST", WRITE, {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ("POST", WRITE, {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", WRITE, {"Origin": "null"}, 403),
        ("POST", WRITE, {}, 403),
        ("PUT", WRITE, {"Origin": "https://evil.example"}, 403),
        ("GET", "/api/v1/write", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("POST", "/api/v1/admin/tsdb/delete_series?match[]=up", {**form}, 403),
        ("POST", "/api/v1/query", {**form, "Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", QUERY, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", QUERY, {"Origin": "https://evil.example"}, 403),
        ("GET", QUERY, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("GET", QUERY, {}, 200),
        ("POST", "/api/v1/query", {**form, **FETCH}, 200),
        ("POST", WRITE, {**FETCH}, 200),
        ("POST", WRITE, {"Origin": gateway.url}, 200),
    ):
        upstream.forget()
        answer = browser.ask(
            gateway.url + path, method, headers={"Accept": "*/*", **headers}, body="m=1" if method != "GET" else None
        )
        assert answer.status == status, (method, path, headers)
        assert len(upstream.requests) == (status == 200)
    assert gateway.metric("vmgateway_refusals_total", reason="cross_site") == 10
    for headers, status in (({}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Origin": gateway.url}, 200)):
        answer = browser.ask(f"{gateway.url}/-/logout", "POST", headers={"Accept": "*/*", **headers})
        assert answer.status == status
        assert (browser.cookies[gateway.port] == {}) is (status == 200)


def test_a_header_wins_over_a_cookie(start: Start, provider: Scripted, upstream: RecordingUpstream) -> None:
    gateway, browser = start(), Browser()
    log_in(gateway, provider, browser)
    mine = provider.key.mint({"tenant_id": {}, "extra_labels": {"team": "mine"}}, iss=provider.url)
    answer = browser.ask(gateway.url + QUERY, headers={"Authorization": f"Bearer {mine}"})
    assert answer.status == 200
    assert upstream.requests[-1].argument("extra_label") == ["team=mine"]
    assert answer.header("cache-control") is None
    assert browser.ask(gateway.url + QUERY, headers={"Authorization": "Bearer bad"}).status == 401
    assert (
        browser.ask(gateway.url + WRITE, "POST", headers={"Authorization": f"Bearer {mine}"}, body="m 1").status == 200
    )


def test_a_provider_that_is_down_delays_a_renewal(
    start: Start, provider: Scripted, upstream: RecordingUpstream
) -> None:
    gateway, browser = start(), Browser()
    provider.tokens["refresh_token"] = "r"  # noqa: S105
    provider.claims["exp"] = int(time.time()) + 3
    log_in(gateway, provider, browser)
    provider.status = 503
    provider.tokens = {"error": "temporarily_unavailable"}
    gateway.wait_until(
        lambda: browser.ask(gateway.url + QUERY, headers=FETCH).header("location") == QUERY, what="tries to renew"
    )
    assert [form["grant_type"] for form in provider.forms] == ["authorization_code", "refresh_token"]
    assert browser.ask(gateway.url + QUERY, headers=FETCH).status in (200, 401), "it is good until its token ends"
    assert len(provider.forms) == 2, "the next attempt is later"


def test_a_session_without_a_refresh_token_ends(start: Start, provider: Scripted, upstream: RecordingUpstream) -> None:
    gateway, browser = start(), Browser()
    provider.claims["exp"] = int(time.time()) + 2
    log_in(gateway, provider, browser)
    gateway.wait_until(lambda: browser.ask(gateway.url + QUERY, headers=FETCH).status == 401, what="has ended")
    upstream.forget()
    assert browser.ask(f"{gateway.url}/vmui/").header("location") == "/-/login?to=/vmui/"
    assert browser.ask(gateway.url + WRITE, "POST", headers=FETCH, body="m 1").status == 401
    assert upstream.requests == []
    assert len(provider.forms) == 1


def test_a_provider_that_is_down_when_a_token_has_ended(
    start: Start, provider: Scripted, upstream: RecordingUpstream
) -> None:
    gateway, browser = start("-auth.leeway=3s"), Browser()
    provider.tokens["refresh_token"] = "r"  # noqa: S105
    provider.claims["exp"] = int(time.time()) - 1  # good for two seconds more
    log_in(gateway, provider, browser)
    stale = dict(browser.cookies[gateway.port])
    provider.status = 503

    def ended() -> bool:
        browser.cookies[gateway.port] = dict(stale)
        return browser.ask(gateway.url + QUERY, headers=FETCH).status == 503

    gateway.wait_until(ended, what="cannot renew")
    upstream.forget()
    assert browser.cookies[gateway.port] == stale, "the session is not lost"
    assert browser.ask(f"{gateway.url}/vmui/").status == 503
    assert upstream.requests == []
    provider.status = 200
    provider.claims["exp"] = int(time.time()) + 600
    gateway.wait_until(lambda: browser.ask(gateway.url + QUERY, headers=FETCH).status == 307, what="renews it")
    assert browser.ask(gateway.url + QUERY, headers=FETCH).status == 200


def test_access_tokens(start: Start, provider: Scripted, upstream: RecordingUpstream) -> None:
    gateway = start(
        "-login.tokenType=access", "-login.arguments=audience=metrics", "-login.scopes=openid,offline_access"
    )
    provider.tokens["access_token"] = provider.key.mint(
        {"tenant_id": {}, "extra_labels": {"by": "access"}}, iss=provider.url
    )
    browser = Browser()
    asked = begin(gateway, provider, browser)
    assert (asked["audience"], asked["scope"]) == ("metrics", "openid offline_access")
    assert come_back(gateway, browser, code="c", state=asked["state"]).status == 303
    assert browser.ask(gateway.url + QUERY, headers=FETCH).status == 200
    assert upstream.requests[-1].argument("extra_label") == ["by=access"]


def test_other_methods_and_no_login(start: Start, provider: Scripted, upstream: RecordingUpstream) -> None:
    gateway = start()
    for method, path, allow in (
        ("HEAD", "/-/login", "GET"),
        ("POST", "/-/callback", "GET"),
        ("PUT", "/-/logout", "GET, POST"),
    ):
        answer = gateway.client().ask(method, path)
        assert (answer.status, answer.header("allow")) == (405, allow)


@pytest.mark.parametrize("program", ["vmgateway"], indirect=True)
def test_an_explanation_names_the_cookie(start: Start, provider: Scripted) -> None:
    gateway, browser = start(), Browser()
    log_in(gateway, provider, browser)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies[gateway.port].items())
    told = run_command("explain", *gateway.flags, "-H", f"Cookie: {cookies}", f"GET {QUERY}")
    assert told.returncode == 0, told
    assert ", from the cookie of a login" in told.stdout
    assert cookies[30:70] not in told.stdout
    assert '"place": "cookie"' in run_command(
        "explain", *gateway.flags, "--json", "-H", f"Cookie: {cookies}", f"GET {QUERY}"
    ).stdout  # fmt: skip
    foreign = run_command("explain", *gateway.flags, "-H", f"Cookie: {cookies}", f"POST {WRITE}")
    assert (foreign.returncode, "a page of another site" in foreign.stdout) == (1, True)
    assert "a page of the gateway itself" in run_command("explain", *gateway.flags, "GET /-/login").stdout


def test_without_a_login_nothing_is_there(
    start_gateway: StartGateway, flags: list[str], program: Program, upstream: RecordingUpstream
) -> None:
    gateway = start_gateway(*flags, program=program)
    for path in ("/-/login", "/-/callback", "/-/logout"):
        assert gateway.client().get(path, headers=PAGE).status == 404
    assert gateway.client().get("/vmui/", headers=PAGE).status == 401
    answer = gateway.client().get(QUERY, headers={"Cookie": "vmgateway-session.0=1.x", "Sec-Fetch-Site": "cross-site"})
    assert answer.status == 401
    assert upstream.connections == []


def test_flags_that_stop_the_start(tmp_path: Path) -> None:
    good = key_file(tmp_path / "keys", cookie_key())
    short = key_file(tmp_path / "short", "c2hvcnQ=")
    whole = login_flags("https://sso.example", "http://127.0.0.1:1", 1, good)

    def without(flag: str) -> list[str]:
        return [each for each in whole if not each.startswith(flag)]

    for flags, reason in (
        (without("-login.clientID"), "-login.oidcIssuer needs -login.clientID"),
        (without("-login.url"), "-login.oidcIssuer needs -login.url"),
        (without("-login.cookieKeyFile"), "-login.oidcIssuer needs -login.cookieKeyFile"),
        (without("-login.oidcIssuer"), "-login.url has no effect without -login.oidcIssuer"),
        (without("-auth."), "-login.oidcIssuer needs keys that verify its tokens"),
        ([*without("-login.cookieKeyFile"), f"-login.cookieKeyFile={short}"], "has 5 bytes, but needs at least 32"),
        ([*without("-login.cookieKeyFile"), "-login.cookieKeyFile=/nowhere"], "cannot read /nowhere: No such file"),
        ([*whole, "-login.clientSecret="], "flag -login.clientSecret: the value is empty"),
    ):
        ended = run_vmgateway(*flags, "-dryRun")
        assert ended.returncode == 2, ended
        assert reason in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    assert run_vmgateway(*whole, "-dryRun").returncode == 0
