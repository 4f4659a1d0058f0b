"""The pages of the login without a network: what is bounded, and what is not asked of the provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from tests.support.addons.configured import GatewayState
from tests.support.core import keys
from tests.support.core.logins import ISSUER, NONCE, jar, login, sent, session, verifier
from vmgw_addons.login import LoginPages
from vmgw_addons.login.client import authorization_url, logout_url
from vmgw_addons.login.pages import MOST_REQUESTS, arguments_of
from vmgw_addons.sources import KeyRefresh
from vmgw_core.backends import Backend, BackendGroup
from vmgw_core.enforcement import Policy
from vmgw_core.errors import LoginFailed, TokenExpired, UnknownKey, WrongIssuer
from vmgw_core.http import Headers, Response
from vmgw_core.login import PendingLogin, Provider
from vmgw_core.tokens import TokenSource

LOGIN = login(arguments=(("audience", "metrics"),), scopes=("openid", "groups"))
NOW = float(keys.NOW)
DUE = sent(jar(LOGIN.set_session(session(refresh_at=NOW), (), NONCE)))
OWN = ((b"Sec-Fetch-Site", b"same-origin"),)


@pytest.fixture
def pages() -> LoginPages:
    state = GatewayState()
    policy = Policy(
        verifier=verifier(),
        cluster=False,
        read=BackendGroup([Backend.parse("http://vm:8428", "read.url")]),
        write=None,
        max_form_size=1000,
        tell_why=False,
        login=LOGIN,
        token_source=TokenSource(session=LOGIN.token),
    )
    state.change(policy=policy)
    return LoginPages(state.in_force, state.background, KeyRefresh(state.in_force, state.background), lambda: NOW)


def renews(pages: LoginPages, target: str, headers: Headers) -> bool:
    """Whether a request is to be repeated with another session."""
    found = pages.page_for("GET", target.partition("?")[0], target, headers)
    if found is None:
        return False
    assert isinstance(found, Awaitable)
    found.close()  # type: ignore[attr-defined]  # it is a coroutine that nobody awaits
    return True


@pytest.mark.parametrize(
    ("target", "headers", "renewed"),
    [
        pytest.param("/api/v1/query?query=up", DUE, True, id="due"),
        pytest.param("/admin/tenants", (*DUE, *OWN), True, id="the tenants of a login"),
        pytest.param("//evil.example/", DUE, False, id="a target that a browser reads as another site"),
        pytest.param("/a//b", DUE, False, id="a target that is refused"),
        pytest.param("/", (*DUE, (b"Sec-Fetch-Site", b"cross-site")), False, id="another site"),
        pytest.param("/", (*DUE, (b"Authorization", b"x")), False, id="a header"),
        pytest.param("/", (), False, id="no session"),
        pytest.param("/", sent(jar(LOGIN.set_session(session(), (), b"m" * 12))), False, id="not due yet"),
    ],
)
def test_which_requests_renew_a_session(pages: LoginPages, target: str, headers: Headers, renewed: bool) -> None:
    assert renews(pages, target, headers) is renewed


def test_without_a_login_there_are_no_pages(pages: LoginPages) -> None:
    policy = pages.in_force.configured.policy
    assert policy is not None
    pages.in_force.configured = replace(pages.in_force.configured, policy=replace(policy, login=None))
    for path in ("/-/login", "/-/callback", "/-/logout", "/"):
        assert pages.page_for("GET", path, path, DUE) is None


def test_the_provider_is_asked_a_bounded_number_of_times_at_once(pages: LoginPages) -> None:
    async def asked() -> None:
        for _ in range(MOST_REQUESTS):
            assert pages.slots.acquire(blocking=False)
        with pytest.raises(LoginFailed, match="asked too much at once") as found:
            await pages.ask(lambda: None)
        assert found.value.status == 503
        pages.slots.release()
        assert await pages.ask(lambda: 1) == 1
        with pytest.raises(ZeroDivisionError):
            await pages.ask(lambda: 1 // 0)
        assert await pages.ask(lambda: 2) == 2, "a call that fails gives its slot back"

    asyncio.run(asked())


def test_a_logout_page(pages: LoginPages) -> None:
    shown = pages.page_for("GET", "/-/logout", "/-/logout", ())
    assert isinstance(shown, Response)
    assert (shown.status, shown.private) == (200, ())
    refused = pages.page_for("POST", "/-/logout", "/-/logout", DUE)
    assert isinstance(refused, Response)
    assert (refused.status, refused.private) == (403, ())


@pytest.mark.parametrize("query", ["a=1&a=2", "a=%ff", "&".join(f"a{number}=" for number in range(51))])
def test_arguments_that_are_refused(query: str) -> None:
    with pytest.raises(LoginFailed):
        arguments_of(query)


def test_why_a_token_gives_no_access(pages: LoginPages) -> None:
    unknown = pages.no_access(UnknownKey("secret"))
    assert (unknown.status, str(unknown)) == (503, "the key of your token is not known yet; please try again")
    for refusal in (WrongIssuer("secret"), TokenExpired("secret")):
        refused = pages.no_access(refusal)
        assert (refused.status, "secret" in str(refused)) == (403, False)
    policy = pages.in_force.configured.policy
    assert policy is not None
    pages.in_force.configured = replace(pages.in_force.configured, policy=replace(policy, tell_why=True))
    assert "the reason" in str(pages.no_access(TokenExpired("the reason"))), "with -logInvalidAuthTokens"


def test_the_urls_of_the_provider() -> None:
    provider = Provider(authorization_endpoint=f"{ISSUER}/auth?x=1", token_endpoint=f"{ISSUER}/token")
    pending = PendingLogin(state="s", nonce="n", verifier="v" * 43, target="/", expires=0)
    url = authorization_url(LOGIN, provider, pending)
    assert url.startswith(f"{ISSUER}/auth?x=1&")
    for argument in (
        "response_type=code", "client_id=gateway", "state=s", "nonce=n", "audience=metrics", "scope=openid+groups",
        "code_challenge_method=S256", "redirect_uri=https%3A%2F%2Fmetrics.example%2F-%2Fcallback",
    ):  # fmt: skip
        assert f"&{argument}" in url
    assert "v" * 43 not in url
    assert logout_url(LOGIN, provider, "token") is None
    ending = replace(provider, end_session_endpoint=f"{ISSUER}/end?y=2")
    assert logout_url(LOGIN, ending, None) == f"{ISSUER}/end?y=2&client_id=gateway"
    assert logout_url(LOGIN, ending, "a.b.c") == f"{ISSUER}/end?y=2&client_id=gateway&id_token_hint=a.b.c"
