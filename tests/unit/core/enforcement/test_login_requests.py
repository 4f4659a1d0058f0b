"""Requests with the cookie of a login: the same decision as with a bearer token, and what other sites may not do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support.core import keys
from tests.support.core.logins import NONCE, ORIGIN, id_token, jar, login, sent, session, verifier
from vmgw_core.backends import Backend, BackendGroup
from vmgw_core.credentials import Certificate
from vmgw_core.enforcement import Cycle, Gateway, Policy, answer, rewrite, tenants_page
from vmgw_core.enforcement.admission import admit, authenticate, identify
from vmgw_core.errors import CrossSite, MissingToken, Refusal, TokenExpired
from vmgw_core.explain import explain
from vmgw_core.http import Headers, RequestHead
from vmgw_core.replay import Judge
from vmgw_core.replay.record import from_metadata, to_metadata
from vmgw_core.replay.recorder import record
from vmgw_core.tokens import TokenSource

NOW = float(keys.NOW)
LOGIN = login()
TENANT = {"tenant_id": {"account_id": 1}, "extra_labels": {"team": "dev"}}
TOKEN = id_token(vm_access=TENANT)
COOKIES = sent(jar(LOGIN.set_session(session(token=TOKEN), (), NONCE)))
BACKENDS = BackendGroup([Backend.parse("http://vm:8428", "read.url")])
POLICY = Policy(
    verifier=verifier(),
    cluster=True,
    read=BACKENDS,
    write=BACKENDS,
    max_form_size=1000,
    tell_why=True,
    login=LOGIN,
    token_source=TokenSource(session=LOGIN.token),
)
OWN = ((b"Sec-Fetch-Site", b"same-origin"),)
QUERY = "/api/v1/query?query=up"
WRITE = "/api/v1/import/prometheus"


def head(target: str = QUERY, headers: Headers = (), method: str = "GET") -> RequestHead:
    return RequestHead(method=method, target=target, headers=((b"Host", b"x"), *headers), client="192.0.2.1")


def test_the_decision_is_that_on_the_same_token_in_a_header() -> None:
    by_cookie = admit(POLICY, head(headers=COOKIES), NOW)
    by_header = admit(POLICY, head(headers=((b"Authorization", b"Bearer " + TOKEN.encode()),)), NOW)
    assert by_cookie.claim == by_header.claim
    assert by_cookie.token == by_header.token
    upstream = rewrite(POLICY, by_cookie, head(headers=COOKIES), None)
    assert upstream.target == "/select/1:0/prometheus/api/v1/query?query=up&extra_label=team%3Ddev"
    assert [name for name, _ in upstream.headers] == [b"Host", b"X-Forwarded-For"]
    found = identify(POLICY, head(headers=COOKIES), NOW)
    assert found is not None
    assert found.subject == "ann"


def test_the_token_in_a_cookie_expires_like_any_other() -> None:
    with pytest.raises(TokenExpired):
        admit(POLICY, head(headers=COOKIES), NOW + 600)


def test_the_tenants_of_a_login() -> None:
    page = tenants_page(POLICY, head("/admin/tenants", COOKIES), NOW)
    assert page is not None
    assert json.loads(page.body)["data"] == ["1:0"]
    foreign = tenants_page(POLICY, head("/admin/tenants", (*COOKIES, (b"Sec-Fetch-Site", b"same-site"))), NOW)
    assert foreign is not None
    assert foreign.status == 403


def test_a_page_of_the_gateway_itself_is_not_for_other_sites() -> None:
    foreign = (*COOKIES, (b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Mode", b"no-cors"))
    with pytest.raises(CrossSite):
        authenticate(POLICY, head("/-/me", foreign), NOW)
    for headers in (COOKIES, (*COOKIES, *OWN), (*foreign[:-1], (b"Sec-Fetch-Mode", b"navigate"))):
        assert authenticate(POLICY, head("/-/me", headers), NOW)[1] == TOKEN


@pytest.mark.parametrize("value", [b"", b"Bearer ", b"Bearer bad", b"Basic eDp5"])
def test_a_header_wins(value: bytes) -> None:
    with pytest.raises(Refusal) as found:
        admit(POLICY, head(headers=(*COOKIES, (b"Authorization", value))), NOW)
    assert found.value.status == 401
    other = id_token(vm_access={"tenant_id": {"account_id": 7}})
    granted = admit(POLICY, head(headers=(*COOKIES, (b"authorization", b"Bearer " + other.encode()))), NOW)
    assert str(granted.claim.tenant) == "7:0"


@pytest.mark.parametrize("headers", [(), ((b"Cookie", b"a=b"),), ((b"Cookie", b"__Host-vmgateway-session.0=1.x"),)])
def test_without_a_session(headers: Headers) -> None:
    with pytest.raises(MissingToken, match=r"^missing token$"):
        admit(POLICY, head(headers=headers), NOW)


@pytest.mark.parametrize(
    ("method", "target", "headers", "allowed"),
    [
        pytest.param("GET", QUERY, (), True, id="a read"),
        pytest.param("POST", QUERY, (), False, id="a read by POST, from anywhere"),
        pytest.param("POST", QUERY, OWN, True, id="a read by POST"),
        pytest.param("POST", QUERY, ((b"Origin", ORIGIN.encode()),), True, id="a read by POST, old browser"),
        pytest.param("POST", WRITE, OWN, True, id="a write"),
        pytest.param("POST", WRITE, (), False, id="a write from anywhere"),
        pytest.param("GET", "/api/v1/write", (), False, id="a write by GET from anywhere"),
        pytest.param("GET", "/api/v1/write", OWN, True, id="a write by GET"),
        pytest.param("POST", WRITE, ((b"Sec-Fetch-Site", b"cross-site"),), False, id="a write of another site"),
        pytest.param("POST", WRITE, ((b"Origin", b"https://evil.example"),), False, id="another origin"),
        pytest.param("POST", "/api/v1/admin/tsdb/delete_series?match[]=a", (), False, id="a deletion"),
        pytest.param("GET", "/tags/tagSeries?path=a", ((b"Sec-Fetch-Site", b"same-site"),), False, id="a neighbour"),
        pytest.param("GET", QUERY, ((b"Sec-Fetch-Site", b"same-site"),), False, id="a read of a neighbour"),
        pytest.param("HEAD", QUERY, (), True, id="a head"),
    ],
)
def test_what_other_sites_may_not_do(method: str, target: str, headers: Headers, allowed: bool) -> None:
    forged = ((b"Cookie", b"__Host-vmgateway-session.0=forged"),)
    bearer = ((b"Authorization", b"Bearer " + TOKEN.encode()),)
    for fields in ((*COOKIES, *headers), (*forged, *headers)):
        assert (_refusal_of(method, target, fields) is CrossSite) is not allowed
    for fields in (headers, (*bearer, *COOKIES, *headers)):
        assert _refusal_of(method, target, fields) is not CrossSite, "there is no cookie that counts"
    if target != "/tags/tagSeries?path=a":  # which the labels of the token close
        assert (_refusal_of(method, target, (*COOKIES, *headers)) is None) is allowed


def _refusal_of(method: str, target: str, headers: Headers) -> type[Refusal] | None:
    try:
        admit(POLICY, head(target, headers, method), NOW)
    except Refusal as refusal:
        return type(refusal)
    return None


NAVIGATE = ((b"Sec-Fetch-Mode", b"navigate"),)


@pytest.mark.parametrize(
    ("target", "headers", "location"),
    [
        ("/vmui/?a=b", NAVIGATE, b"/-/login?to=/vmui/%3Fa%3Db"),
        ("/prometheus/graph", NAVIGATE, b"/-/login?to=/prometheus/graph"),
        ("/select/1/vmui/", NAVIGATE, b"/-/login?to=/select/1/vmui/"),
        ("//vmui/", NAVIGATE, b"/-/login?to=/vmui/"),
        ("/vmui/?" + "a" * 3000, NAVIGATE, b"/-/login?to=/vmui/"),
        ("/vmui/", (*NAVIGATE, (b"Authorization", b"x")), None),
        ("/vmui/", (), None),
        (QUERY, NAVIGATE, None),
        ("/nowhere", NAVIGATE, None),
    ],
)
def test_who_is_led_to_a_login(target: str, headers: Headers, location: bytes | None) -> None:
    refusal = MissingToken("missing token")
    given = answer(POLICY, head(target, headers), refusal)
    assert given.status == (401 if location is None else 303)
    assert dict(given.headers).get(b"Location") == location
    assert answer(replace(POLICY, login=None), head(target, headers), refusal).status == 401
    assert answer(None, head(target, headers), refusal).status == 401
    assert answer(POLICY, head(target, headers), CrossSite("x")).status == 403


def test_responses_to_a_session_are_private() -> None:
    for headers, private in ((COOKIES, True), (((b"Authorization", b"x"), *COOKIES), False)):
        cycle = Cycle(head(headers=headers), at=NOW, started=NOW)
        assert not cycle.is_private
        cycle.gateway = Gateway(policy=POLICY, clock=lambda: NOW)
        assert cycle.is_private is private


def test_an_explanation_tells_of_the_cookie() -> None:
    story = explain(POLICY, head(headers=COOKIES), None, NOW)
    assert story.token is not None
    assert story.token.in_cookie
    assert story.as_json()["token"]["place"] == "cookie"  # type: ignore[index]
    assert any(step.text.endswith(", from the cookie of a login") for step in story.steps)
    by_header = explain(POLICY, head(headers=((b"Authorization", b"Bearer " + TOKEN.encode()),)), None, NOW)
    assert "cookie" not in str(by_header.steps)
    led = explain(POLICY, head("/vmui/", NAVIGATE), None, NOW)
    assert led.refusal is not None
    assert (led.refusal.answer_status, led.refusal.answer) == (303, "a browser is led to the login")


def test_a_record_has_the_claims_and_nothing_of_the_cookie() -> None:
    one = head(headers=COOKIES)
    captured = record(POLICY, one, at=NOW, grant=admit(POLICY, one, NOW), refusal=None, form=None)
    assert captured.token_in == "cookie"  # noqa: S105
    text = repr(to_metadata(captured))
    assert "vmgateway-session" not in text
    assert COOKIES[0][1].decode()[40:80] not in text
    assert TOKEN.rpartition(".")[2] not in text
    assert TOKEN.split(".")[1] in text
    again = from_metadata(to_metadata(captured))
    assert again == captured
    assert again is not None
    verdict = Judge(replace(POLICY, login=None, token_source=TokenSource())).judge(again)
    assert verdict.outcome == captured.outcome
    assert not verdict.doubt


def test_a_record_of_another_site_holds_no_decision() -> None:
    one = head(WRITE, COOKIES, "POST")
    with pytest.raises(CrossSite) as found:
        admit(POLICY, one, NOW)
    captured = record(POLICY, one, at=NOW, grant=None, refusal=found.value, form=None)
    assert captured.outcome is None
    nobody = record(POLICY, head(), at=NOW, grant=None, refusal=MissingToken("x"), form=None)
    assert nobody.token_in is None


def test_a_login_comes_before_the_certificate_of_the_browser() -> None:
    request = head(headers=(*COOKIES, *OWN))
    request.certificate = Certificate(common_names=("agent",), dns=(), uris=(), expires_at=NOW + 1)
    token = admit(replace(POLICY, certificates=True), request, NOW).token
    assert token is not None
    assert (token.subject, token.credential) == ("ann", None)
