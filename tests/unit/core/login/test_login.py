"""The rules of a login, from its beginning to the refresh of its session."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.core import keys
from tests.support.core.logins import (
    CLIENT,
    ISSUER,
    NONCE,
    PROVIDER,
    TOKEN,
    cookie_keys,
    id_token,
    jar,
    login,
    pending,
    sent,
    session,
    verifier,
)
from vmgw_core.errors import (
    BadSignature,
    InvalidClaims,
    LoginFailed,
    MalformedToken,
    TokenExpired,
    UnknownKey,
    UnsupportedAlgorithm,
)
from vmgw_core.login import PendingLogin, Session, button, link, login_page, redirect
from vmgw_core.login.login import MAX_PENDING, error_code
from vmgw_core.tokens import TokenVerifier

LOGIN = login()
NOW = float(keys.NOW)


def cookies_of(one: Session, **changes: object) -> dict[str, str]:
    return jar(login(**changes).set_session(one, (), NONCE))


# --- sessions in cookies ---------------------------------------------------------------------------------------------


def test_a_session_comes_back_from_its_cookies() -> None:
    cookies = cookies_of(session())
    assert list(cookies) == ["__Host-vmgateway-session.0"]
    assert LOGIN.session(sent(cookies)) == session()
    assert LOGIN.token(sent(cookies)) == session().token
    assert LOGIN.has_session(sent(cookies))
    assert session().token not in str(cookies)
    assert LOGIN.token(()) is None
    assert not LOGIN.has_session(sent({"other": "x"}))


def test_a_large_session_is_split_and_its_old_pieces_go() -> None:
    large = session(refresh_token="r" * 9000)
    cookies = cookies_of(large)
    assert list(cookies) == [f"__Host-vmgateway-session.{number}" for number in range(4)]
    assert LOGIN.session(sent(cookies)) == large
    smaller = jar(LOGIN.set_session(session(), sent(cookies), b"m" * 12), cookies)
    assert list(smaller) == ["__Host-vmgateway-session.0"]
    assert LOGIN.session(sent(smaller)) == session()
    assert jar(LOGIN.drop_session(sent(cookies)), cookies) == {}


def test_pieces_of_two_sessions_do_not_fit() -> None:
    first, second = (
        jar(LOGIN.set_session(session(refresh_token=name * 5000), (), name.encode() * 12)) for name in ("a", "b")
    )
    for name in first:
        assert LOGIN.session(sent({**first, name: second[name]})) is None
        assert LOGIN.session(sent({other: value for other, value in first.items() if other != name})) is None
    swapped = dict(zip(first, reversed(first.values()), strict=True))
    assert LOGIN.session(sent(swapped)) is None


def test_a_login_that_has_begun_is_no_session() -> None:
    (begun,) = jar(LOGIN.begin(pending(), (), NONCE)).values()
    assert LOGIN.session(sent({"__Host-vmgateway-session.0": f"1.{begun}"})) is None


def test_a_session_of_another_key_or_form_is_none() -> None:
    assert LOGIN.session(sent(cookies_of(session(), keys=cookie_keys(b"x")))) is None
    for content in (b"{}", b"[]", b"x", json.dumps({"token": 1, "subject": "", "refresh_at": 0}).encode()):
        assert Session.from_bytes(content) is None
        assert PendingLogin.from_bytes(content) is None


def test_tokens_that_are_too_large() -> None:
    hinted = session(id_token="i" * 9000, refresh_token="r" * 9000)
    assert LOGIN.session(sent(cookies_of(hinted))) == replace(hinted, id_token=None), "the logout does without a hint"
    with pytest.raises(LoginFailed, match="too large for cookies"):
        LOGIN.set_session(session(refresh_token="r" * 20000), (), NONCE)


def test_nothing_shows_a_secret() -> None:
    shown = repr((session(id_token="hint"), pending(), LOGIN))  # noqa: S106
    for secret in (session().token, "'r'", "hint", "the-nonce", "v" * 64, "s" * 43):
        assert secret not in shown


def test_when_a_session_is_due() -> None:
    assert not session().is_due(NOW + 539)
    assert session().is_due(NOW + 540)
    assert session().is_due(float("nan"))
    assert not session().final().is_due(NOW + 9999)
    assert session().later(NOW) == replace(session(), refresh_at=NOW + 30)
    assert session().later(NOW, "s") == replace(session(), refresh_at=NOW + 30, refresh_token="s")  # noqa: S106


# --- the redirect, and back ------------------------------------------------------------------------------------------


def test_paths() -> None:
    below = login(prefix="/gw", origin="http://localhost:1")
    assert LOGIN.callback_url == "https://metrics.example/-/callback"
    assert below.callback_url == "http://localhost:1/gw/-/callback"
    assert (LOGIN.home, below.home) == ("/vmui/", "/gw/vmui/")
    path = below.login_path("/gw/vmui/?a=b&c#")
    assert urlsplit(path)[2] == "/gw/-/login"
    assert parse_qs(urlsplit(path).query) == {"to": ["/gw/vmui/?a=b&c#"]}
    assert not below.cookies.secure


def test_a_login_is_found_by_its_state() -> None:
    cookies = jar(LOGIN.begin(pending(), (), NONCE))
    assert list(cookies) == ["__Host-vmgateway-login-ssssssss"]
    assert LOGIN.pending("s" * 43, sent(cookies), NOW) == pending()
    assert jar(LOGIN.drop_pending("s" * 43, sent(cookies)), cookies) == {}
    assert LOGIN.drop_pending("t" * 43, sent(cookies)) == ()


@pytest.mark.parametrize("state", ["", "s" * 8, "s" * 42 + "t", "t" * 43, "s" * 44, "é", "ssssssss; x", "a\r\nb"])
def test_another_state(state: str) -> None:
    cookies = jar(LOGIN.begin(pending(), (), NONCE))
    cookies["__Host-vmgateway-login-é"] = "x"
    with pytest.raises(LoginFailed, match="this browser has not begun this login, or has ended it before"):
        LOGIN.pending(state, sent(cookies), NOW)
    assert all(b"\r" not in value for _, value in LOGIN.drop_pending(state, sent(cookies)))


def test_a_login_that_is_replayed_or_tampered_with() -> None:
    (name, value), *_ = jar(LOGIN.begin(pending(), (), NONCE)).items()
    header = sent({name: value})
    for found in ((), (*header, *header), sent({name: value[:-1]}), sent({name: ""}), sent({f"{name}x": value})):
        with pytest.raises(LoginFailed, match="this browser has not begun this login"):
            LOGIN.pending("s" * 43, found, NOW)
    with pytest.raises(LoginFailed, match="the login took too long"):
        LOGIN.pending("s" * 43, header, NOW + 600)


def test_a_browser_forgets_logins_when_there_are_too_many() -> None:
    cookies: dict[str, str] = {}
    for number in range(MAX_PENDING + 1):
        begun = LOGIN.begin(pending(state=f"{number}" * 43), sent(cookies), bytes([number]) * 12)
        cookies = jar(begun, cookies)
        assert len(cookies) == (number + 1 if number < MAX_PENDING else 1)
    many = {f"__Host-vmgateway-login-{number:08}": "x" for number in range(500)}
    assert len(LOGIN.begin(pending(), sent(many), NONCE)) == 21


@pytest.mark.parametrize(
    ("arguments", "names_issuer", "reason"),
    [
        ({}, False, "the response has no authorization code"),
        ({"code": ""}, False, "the response has no authorization code"),
        ({"code": "c"}, True, "the response does not name its issuer"),
        ({"code": "c", "iss": "https://evil.example"}, False, "the response is of another issuer"),
        ({"code": "c", "iss": ISSUER + "/"}, True, "the response is of another issuer"),
        ({"code": "c", "iss": ""}, False, "the response is of another issuer"),
        ({"code": "c", "error": "access_denied"}, False, "the identity provider refused the login: access_denied$"),
        ({"error": "<script>", "error_description": "secret"}, False, "refused the login: unknown error$"),
    ],
)
def test_a_callback_that_is_refused(arguments: dict[str, str], names_issuer: bool, reason: str) -> None:
    with pytest.raises(LoginFailed, match=reason):
        LOGIN.check_callback(arguments, replace(PROVIDER, names_issuer=names_issuer))


def test_a_callback() -> None:
    assert LOGIN.check_callback({"code": "c"}, PROVIDER) == "c"
    assert LOGIN.check_callback({"code": "c", "iss": ISSUER}, replace(PROVIDER, names_issuer=True)) == "c"
    assert [error_code(text) for text in ("invalid_grant", "a" * 61, "a b", "")] == [
        "invalid_grant",
        *["unknown error"] * 3,
    ]


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_the_id_token_is_the_session() -> None:
    answer = {"id_token": id_token(), "access_token": "opaque", "refresh_token": "r"}
    found = LOGIN.accept(answer, verifier(), pending(), NOW)
    assert found == session(token=answer["id_token"], refresh_at=NOW + 540)
    short = LOGIN.accept({"id_token": id_token(exp=keys.NOW + 10)}, verifier(), pending(), NOW)
    assert (short.refresh_at, short.refresh_token) == (NOW + 5, None)


def test_the_access_token_is_the_session() -> None:
    access = keys.sign(keys.claims(sub="other", exp=keys.NOW + 300), keys.ec_key())
    answer = {"id_token": id_token(), "access_token": access}
    found = login(access_token=True).accept(answer, verifier(), pending(), NOW)
    assert (found.token, found.id_token, found.subject) == (access, answer["id_token"], "ann")
    assert found.refresh_at == NOW + 240
    with pytest.raises(MalformedToken):
        login(access_token=True).accept({**answer, "access_token": "opaque"}, verifier(), pending(), NOW)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({"iss": "https://evil.example"}, "of another issuer", id="issuer"),
        pytest.param({"iss": None}, "cannot be used: iss", id="no issuer"),
        pytest.param({"sub": None}, "cannot be used: sub", id="no subject"),
        pytest.param({"aud": "other"}, "for another client", id="audience"),
        pytest.param({"aud": ["other"]}, "for another client", id="audiences"),
        pytest.param({"aud": [CLIENT, "other"]}, "for another client", id="two audiences, no party"),
        pytest.param({"aud": [CLIENT, "other"], "azp": "other"}, "for another client", id="another party"),
        pytest.param({"aud": None}, "cannot be used: aud", id="no audience"),
        pytest.param({"azp": 1}, "cannot be used: azp", id="party of another type"),
        pytest.param({"exp": keys.NOW}, "has expired", id="expired"),
        pytest.param({"nonce": None}, "its nonce does not match", id="no nonce"),
        pytest.param({"nonce": "of-another-login"}, "its nonce does not match", id="nonce"),
    ],
)
def test_an_id_token_that_is_not_for_this_login(claims: dict[str, object], reason: str) -> None:
    with pytest.raises(LoginFailed, match=reason):
        LOGIN.accept({"id_token": id_token(**claims)}, verifier(), pending(), NOW)


def test_an_id_token_for_two_clients() -> None:
    token = id_token(aud=[CLIENT, "other"], azp=CLIENT)
    assert LOGIN.accept({"id_token": token}, verifier(), pending(), NOW).token == token


@pytest.mark.parametrize(
    ("token", "error"),
    [
        pytest.param(keys.compact({"alg": "none"}, {"iss": ISSUER}), UnsupportedAlgorithm, id="none"),
        pytest.param(id_token()[:-4] + "AAAA", BadSignature, id="signature"),
        pytest.param(keys.sign({"iss": ISSUER}, b"secret"), UnsupportedAlgorithm, id="HMAC"),
        pytest.param(keys.sign({"iss": ISSUER}, keys.ec_key(), {"alg": "ES256", "kid": "2"}), UnknownKey, id="kid"),
        pytest.param("opaque", MalformedToken, id="opaque"),
        pytest.param(id_token(vm_access=None), InvalidClaims, id="no access"),
    ],
)
def test_a_token_that_every_request_would_be_refused_with(token: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        LOGIN.accept({"id_token": token}, verifier(), pending(), NOW)


@pytest.mark.parametrize("answer", [{}, {"access_token": "a"}, {"id_token": 1}, {"id_token": "i", "refresh_token": []}])
def test_an_answer_that_is_none(answer: dict[str, object]) -> None:
    for one in (LOGIN, login(access_token=True)):
        with pytest.raises(LoginFailed, match="the token response of the identity provider"):
            one.accept(answer, verifier(), pending(), NOW)


def test_keys_are_needed() -> None:
    with pytest.raises(LoginFailed, match="no keys are configured"):
        LOGIN.accept({"id_token": id_token()}, TokenVerifier(None), pending(), NOW)


def test_a_refresh() -> None:
    newer = id_token(exp=keys.NOW + 1200, nonce=None)
    found = LOGIN.accept({"id_token": newer, "refresh_token": "s"}, verifier(), session(), NOW)
    assert found == session(token=newer, refresh_token="s", refresh_at=NOW + 1140)  # noqa: S106
    assert LOGIN.accept({"id_token": newer}, verifier(), session(), NOW).refresh_token == "r"  # noqa: S105
    with pytest.raises(LoginFailed, match="of another user"):
        LOGIN.accept({"id_token": id_token(sub="bob")}, verifier(), session(), NOW)
    with pytest.raises(LoginFailed, match="no ID token"):
        LOGIN.accept({"access_token": "a"}, verifier(), session(), NOW)
    with pytest.raises(LoginFailed, match="has expired"):
        LOGIN.accept({"id_token": id_token(exp=keys.NOW - 1)}, verifier(), session(), NOW)


def test_a_refresh_of_an_access_token() -> None:
    one, before = login(access_token=True), session(id_token="the hint")  # noqa: S106
    access = keys.sign(keys.claims(exp=keys.NOW + 300), keys.ec_key())
    found = one.accept({"access_token": access}, verifier(), before, NOW)
    assert (found.token, found.id_token, found.refresh_token) == (access, "the hint", "r")
    assert one.accept({"access_token": access, "id_token": TOKEN}, verifier(), before, NOW).id_token == TOKEN
    without = one.accept({"access_token": access}, verifier(), session(), NOW)
    assert without.id_token is None, "a session without a hint is refreshed too"
    with pytest.raises(TokenExpired):
        one.accept({"access_token": keys.sign(keys.claims(exp=keys.NOW), keys.ec_key())}, verifier(), before, NOW)


# --- pages -----------------------------------------------------------------------------------------------------------


def test_a_page_shows_text_as_text() -> None:
    page = login_page(
        400, "<b>", "<script>", link('/"<', "<a>") + button("/-/logout", "out"), ((b"Set-Cookie", b"a=b"),)
    )
    assert page.status == 400
    assert b"<script>" not in page.body
    assert b"&lt;script&gt;" in page.body
    assert b'<a href="/&quot;&lt;">&lt;a&gt;</a>' in page.body
    assert b'<form method="post" action="/-/logout">' in page.body
    assert dict(page.headers)[b"Cache-Control"] == b"no-store"
    assert b"default-src 'none'" in dict(page.headers)[b"Content-Security-Policy"]
    assert page.private == ((b"Set-Cookie", b"a=b"),)


def test_a_redirect() -> None:
    shown = redirect(303, "/vmui/", ((b"Set-Cookie", b"a=b"),))
    assert dict(shown.headers)[b"Location"] == b"/vmui/"
    assert shown.private == ((b"Set-Cookie", b"a=b"),)
    hidden = redirect(303, "https://sso.example/end?id_token_hint=x", secret=True)
    assert b"Location" not in dict(hidden.headers)
    assert dict(hidden.private) == {b"Location": b"https://sso.example/end?id_token_hint=x"}
