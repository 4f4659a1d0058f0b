"""Logins of browsers at a real OpenID provider, in both lanes: from the redirect to the logout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.wire.logins import FETCH, PAGE, Browser, cookie_key, key_file
from tests.support.wire.processes import Gateway, Program, free_port
from tests.support.wire.servers import OidcProvider
from tests.support.wire.tokens import team
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway

LIFETIME = 4
"""Seconds of the ID tokens that are refreshed: a gateway asks for the next one after half of them."""
QUERY = "/api/v1/query?query=up"


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """The ports of the gateways: the provider must know where their callbacks are."""
    return [free_port() for _ in range(2)]


@pytest.fixture(scope="module")
def provider(ports: list[int]) -> Iterator[OidcProvider]:
    uris = [f"http://127.0.0.1:{port}{prefix}/-/callback" for port in ports for prefix in ("", "/metrics")]
    logins: dict[str, dict[str, object]] = {
        "web": {"vm_access": team("dev"), "redirect_uris": uris},
        "short": {"vm_access": team("dev"), "redirect_uris": uris, "lifetime": LIFETIME},
    }
    with OidcProvider({}, logins) as server:
        yield server


Start = Callable[..., Gateway]


def login_flags(provider: OidcProvider, backend: str, port: int, keys: Path, client: str = "web") -> list[str]:
    return [
        "-enable.auth",
        f"-read.url={backend}",
        f"-write.url={backend}",
        f"-auth.oidcDiscoveryEndpoints={provider.discovery_url}",
        f"-login.oidcIssuer={provider.issuer}",
        f"-login.url=http://127.0.0.1:{port}",
        f"-login.clientID={client}",
        f"-login.clientSecret={provider.secret(client)}",
        f"-login.cookieKeyFile={keys}",
    ]


@pytest.fixture
def start(
    start_gateway: StartGateway,
    provider: OidcProvider,
    upstream: RecordingUpstream,
    ports: list[int],
    program: Program,
    tmp_path: Path,
) -> Start:
    """A gateway that logs in as a client of the provider, in one of the lanes."""

    def started(
        *flags: str, client: str = "web", keys: Path | None = None, number: int = 0, of: OidcProvider = provider
    ) -> Gateway:
        port = ports[number]
        file = keys or key_file(tmp_path / "keys", cookie_key())
        own = login_flags(of, upstream.url, port, file, client)
        gateway = start_gateway(*own, *flags, port=port, program=program)
        gateway.wait_until(lambda: gateway.metric("vmgateway_keys_loaded") > 0, what="has the keys of the provider")
        return gateway

    return started


def test_a_login_from_the_page_to_the_logout(start: Start, provider: OidcProvider, upstream: RecordingUpstream) -> None:
    gateway, browser = start(), Browser()
    shown = browser.open(f"{gateway.url}/vmui/?x=1")
    assert shown.status == 200
    assert urlsplit(browser.visited[-1])[2:4] == ("/vmui/", "x=1")
    asked = next(url for url in browser.visited if url.startswith(f"{provider.url}/auth?"))
    arguments = {name: values[0] for name, values in parse_qs(urlsplit(asked).query).items()}
    assert arguments["code_challenge_method"] == "S256"
    assert arguments["redirect_uri"] == f"{gateway.url}/-/callback"
    assert len(arguments["state"]) == len(arguments["nonce"]) == len(arguments["code_challenge"]) == 43
    answer = browser.ask(gateway.url + QUERY, headers=FETCH)
    assert answer.status == 200
    assert answer.header("cache-control") == shown.header("cache-control") == "private, no-cache"
    (page, query) = upstream.requests
    assert page.target == "/vmui/?x=1"
    assert query.argument("extra_label") == ["team=dev"]
    for request in (page, query):
        assert request.header("cookie") == request.header("authorization") == []
    told = browser.ask(f"{gateway.url}/-/logout")
    assert (told.status, browser.ask(gateway.url + QUERY, headers=FETCH).status) == (200, 200)
    assert 'method="post"' in told.text
    left = browser.ask(f"{gateway.url}/-/logout", "POST", headers={**FETCH, "Origin": gateway.url})
    assert left.status == 303
    location = urlsplit(left.header("location") or "")
    assert f"{location.scheme}://{location.netloc}{location.path}" == f"{provider.url}/session/end"
    assert parse_qs(location.query)["client_id"] == ["web"]
    assert browser.ask(left.header("location") or "").status == 200, "the provider accepts the hint"
    assert browser.ask(gateway.url + QUERY, headers=FETCH).status == 401
    assert browser.cookies[gateway.port] == {}
    eventually(lambda: "POST /token/revocation" in provider.seen(), what="the refresh token is revoked")


def test_only_pages_lead_to_the_login(start: Start, upstream: RecordingUpstream) -> None:
    gateway = start()
    client = gateway.client()
    for path, headers, status in (
        ("/vmui/", PAGE, 303),
        ("/prometheus/vmui", {"Accept": "text/html,*/*"}, 303),
        ("/vmui/", FETCH, 401),
        ("/vmui/", {"Accept": "*/*"}, 401),
        ("/vmui/", {}, 401),
        ("/vmui/", {**PAGE, "Authorization": "Bearer bad"}, 401),
        ("/vmui/config.json", PAGE, 401),
        (QUERY, PAGE, 401),
        ("/nowhere", PAGE, 404),
    ):
        answer = client.get(path, headers=headers)
        assert answer.status == status, (path, headers)
        assert (answer.header("location") is not None) is (status == 303)
    assert client.ask("HEAD", "/vmui/", headers=PAGE).status == 401
    assert client.get("/vmui/?a=b&c", headers=PAGE).header("location") == "/-/login?to=/vmui/%3Fa%3Db%26c"
    assert client.get("//vmui/", headers=PAGE).header("location") == "/-/login?to=/vmui/"
    assert upstream.connections == []
    assert gateway.metric("vmgateway_refusals_total", reason="missing_token") > 0


def test_a_session_is_renewed_before_its_token_ends(
    start: Start, provider: OidcProvider, upstream: RecordingUpstream
) -> None:
    gateway, browser = start(client="short"), Browser()
    before = len(provider.seen())
    assert browser.open(f"{gateway.url}/vmui/").status == 200
    first = dict(browser.cookies[gateway.port])

    def renewed() -> bool:
        answer = browser.ask(gateway.url + QUERY, headers=FETCH)
        assert answer.status in (200, 307), answer
        if answer.status == 307:
            assert answer.header("location") == QUERY
        return answer.status == 307

    eventually(renewed, what="the session is renewed")
    second = dict(browser.cookies[gateway.port])
    assert first.keys() == second.keys()
    assert first != second
    assert browser.ask(gateway.url + QUERY, headers=FETCH).status == 200
    # A request with a body is repeated too, and those with the old cookie share what the provider has said.
    stale = {"Cookie": "; ".join(f"{name}={value}" for name, value in first.items()), **FETCH}
    upstream.forget()
    for method, target in (("GET", QUERY), ("POST", "/api/v1/import/prometheus")):
        answer = gateway.client().ask(method, target, headers=stale, body="m 1" if method == "POST" else None)
        assert (answer.status, answer.header("location")) == (307, target)
    assert upstream.requests == []
    assert provider.seen()[before:] == ["POST /token", "POST /token"]

    def renewed_again() -> bool:
        answer = browser.open(
            f"{gateway.url}/api/v1/import/prometheus", "POST", headers={**FETCH, "Origin": gateway.url}, body="m 1"
        )
        assert answer.status == 200
        return provider.seen()[before:].count("POST /token") == 3

    eventually(renewed_again, what="the session is renewed with a write")
    assert upstream.requests[-1].body == b"m 1"
    assert upstream.requests[-1].argument("extra_label") == ["team=dev"]


def test_a_session_ends_when_the_provider_says_so(
    start: Start, provider: OidcProvider, upstream: RecordingUpstream
) -> None:
    """A refresh token that is used twice is no longer good: the session ends with its token."""
    gateway, browser = start(client="short"), Browser()
    assert browser.open(f"{gateway.url}/vmui/").status == 200
    thief = Browser()
    thief.cookies[gateway.port] = dict(browser.cookies[gateway.port])
    eventually(lambda: browser.ask(gateway.url + QUERY, headers=FETCH).status == 307, what="the session is renewed")
    kept = browser.cookies[gateway.port]
    gateway.stop()
    gateway.start()  # it knows nothing of the refresh any more
    gateway.wait_until(lambda: gateway.metric("vmgateway_keys_loaded") > 0, what="has keys")
    thief.open(gateway.url + QUERY, headers=FETCH)
    browser.cookies[gateway.port] = kept

    def ended() -> bool:
        return browser.open(gateway.url + QUERY, headers=FETCH).status == 401

    eventually(ended, what="both sessions have ended")
    assert thief.open(gateway.url + QUERY, headers=FETCH).status == 401
    assert browser.ask(f"{gateway.url}/vmui/").status == 303, "a page leads to a new login"


def test_a_key_is_rotated_and_then_a_copy_is_worthless(
    start: Start, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    old, new = cookie_key(), cookie_key()
    keys = key_file(tmp_path / "rotated", old)
    gateway, browser = start(keys=keys), Browser()
    assert browser.open(f"{gateway.url}/vmui/").status == 200
    stolen = dict(browser.cookies[gateway.port])
    for lines, status in (((new, old), 200), ((new,), 401)):
        key_file(keys, *lines)
        assert gateway.client().post("/-/reload").status == 200
        browser.cookies[gateway.port] = dict(stolen)
        upstream.forget()
        assert browser.ask(gateway.url + QUERY, headers=FETCH).status == status
        assert len(upstream.requests) == (status == 200)
    keys.write_text("c2hvcnQ=\n")
    assert gateway.client().post("/-/reload").status == 500
    gateway.wait_for_log("-login.cookieKeyFile: the key in line 1 has 5 bytes, but needs at least 32")


def test_replicas_share_a_session(start: Start, upstream: RecordingUpstream, tmp_path: Path) -> None:
    keys = key_file(tmp_path / "shared", cookie_key())
    first, browser = start(keys=keys), Browser()
    assert browser.open(f"{first.url}/vmui/").status == 200
    second = start(keys=keys, number=1)
    browser.cookies[second.port] = dict(browser.cookies[first.port])
    assert browser.ask(second.url + QUERY, headers=FETCH).status == 200
    assert upstream.requests[-1].argument("extra_label") == ["team=dev"]


@pytest.mark.parametrize("program", ["vmgateway"], indirect=True)
def test_workers_share_a_session(start: Start, upstream: RecordingUpstream) -> None:
    gateway, browser = start("-workers=2"), Browser()
    assert browser.open(f"{gateway.url}/vmui/").status == 200
    for _ in range(20):  # each over a connection of its own
        assert browser.ask(gateway.url + QUERY, headers=FETCH).status == 200
    assert {each.path for each in upstream.requests} == {"/vmui/", "/api/v1/query"}


class BelowPrefix(Gateway):
    """All its paths begin with /metrics."""

    def is_ready(self) -> bool:
        return self.client().get("/metrics/-/ready").status == 200


def test_below_a_prefix(
    provider: OidcProvider, upstream: RecordingUpstream, ports: list[int], program: Program, tmp_path: Path
) -> None:
    port = ports[0]
    flags = login_flags(provider, upstream.url, port, key_file(tmp_path / "keys", cookie_key()))
    with BelowPrefix(*flags, "-http.pathPrefix=/metrics", port=port, program=program) as gateway:
        browser = Browser()
        assert browser.open(f"{gateway.url}/metrics/vmui/").status == 200
        assert upstream.requests[-1].path == "/vmui/"
        assert browser.ask(f"{gateway.url}/-/login").status == 404
        assert browser.ask(f"{gateway.url}/metrics/-/login?to=/vmui/").status == 400


class Saving(Gateway):
    """mitmdump that saves all flows."""

    @property
    def file(self) -> Path:
        return self.directory / "flows"

    def command(self) -> list[str]:
        return [*super().command(), "-w", str(self.file)]


def test_mitmdump_saves_no_session(
    provider: OidcProvider, upstream: RecordingUpstream, ports: list[int], tmp_path: Path
) -> None:
    port = ports[0]
    flags = login_flags(provider, upstream.url, port, key_file(tmp_path / "keys", cookie_key()))
    with Saving(*flags, port=port, program="mitmdump") as gateway:
        gateway.wait_until(lambda: gateway.metric("vmgateway_keys_loaded") > 0, what="has the keys of the provider")
        browser = Browser()
        assert browser.open(f"{gateway.url}/vmui/").status == 200
        session = browser.cookies[port]["vmgateway-session.0"]
        browser.open(f"{gateway.url}/-/logout", "POST", headers={**FETCH, "Origin": gateway.url})
        assert browser.cookies[port] == {}
        gateway.stop()
        saved = gateway.file.read_bytes()
    assert b"/-/callback" in saved
    urls = " ".join(browser.visited)
    for secret in (session, *re.findall(r"[?&](?:code|id_token_hint)=([^&]+)", urls)):
        assert secret.rpartition(".")[2][:40].encode() not in saved
    assert b"vmgateway-session" not in saved
    assert b"vmgateway-login" not in saved


def test_a_refusal_of_the_user_is_told(start: Start, ports: list[int], upstream: RecordingUpstream) -> None:
    callback = f"http://127.0.0.1:{ports[0]}/-/callback"
    with OidcProvider({}, {"web": {"vm_access": team("dev"), "redirect_uris": [callback]}}) as denying:
        denying.deny()
        gateway, browser = start(of=denying), Browser()
        shown = browser.open(f"{gateway.url}/vmui/")
        assert shown.status == 403
        assert "The identity provider refused the login: access_denied." in shown.text
        assert browser.cookies[gateway.port] == {}
        assert upstream.connections == []


@pytest.mark.smoke
def test_nothing_of_a_session_is_logged_or_captured(start: Start, upstream: RecordingUpstream, tmp_path: Path) -> None:
    capture = tmp_path / "capture.mitm"
    gateway, browser = start("-accessLog", f"-capture.file={capture}"), Browser()
    assert browser.open(f"{gateway.url}/vmui/").status == 200
    assert browser.ask(gateway.url + QUERY, headers=FETCH).status == 200
    cookie = browser.cookies[gateway.port]["vmgateway-session.0"]
    callback = next(url for url in browser.visited if "/-/callback?" in url)
    browser.open(f"{gateway.url}/-/logout", "POST", headers={**FETCH, "Origin": gateway.url})
    gateway.stop()
    recorded = capture.read_bytes()
    log = gateway.log()
    code = parse_qs(urlsplit(callback).query)["code"][0]
    assert b"/api/v1/query" in recorded
    assert b"token_in" in recorded
    for secret in (cookie, code):
        assert secret[:40] not in log
        assert secret[:40].encode() not in recorded
    hint = next(url for url in browser.visited if "/session/end?" in url)
    signature = parse_qs(urlsplit(hint).query)["id_token_hint"][0].rpartition(".")[2]
    assert signature not in log
    assert signature.encode() not in recorded
    assert re.search(r"subject.{0,5}ann", log), "the access log names the user"
