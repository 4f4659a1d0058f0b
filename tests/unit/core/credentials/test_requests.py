"""Credentials in requests: where they are found, passwords that are awaited, explanations, and captures."""

from __future__ import annotations

import base64
from dataclasses import replace
from hashlib import sha256
from typing import Final
from unittest.mock import Mock

import pytest

from tests.support.core import keys
from vmgw_core.backends import Backend, BackendGroup
from vmgw_core.base import Subject, TenantID
from vmgw_core.credentials import Credentials, PasswordHash, read_credentials
from vmgw_core.enforcement import Cycle, Gateway, Policy, State, awaited_by, tenants_page
from vmgw_core.errors import BadRequest, MalformedToken, MissingToken, PasswordUnchecked, UnknownCredentials
from vmgw_core.explain.request import explain
from vmgw_core.explain.text import explanation_text
from vmgw_core.http import RequestHead
from vmgw_core.replay.judge import Judge
from vmgw_core.replay.record import from_metadata, to_metadata
from vmgw_core.replay.recorder import record
from vmgw_core.tokens import BasicCredentials, Grants, KeyRing, TokenSource, TokenVerifier, is_api_key
from vmgw_core.tokens.keys import KeySet

NOW: Final = float(keys.NOW)
KEY: Final = "vmgw_" + "k" * 43
FILE: Final = f"""
keys: [{{name: agent, sha256: {sha256(KEY.encode()).hexdigest()}, grant: {{tenant: 7, labels: {{team: a}}}}}}]
users: [{{name: grafana, password: '{PasswordHash.of(b"secret", bytes(16))}', grant: {{tenant: 8}}}}]
"""
MACHINES: Final = TokenSource(headers=(b"authorization", b"x-api-key"), machines=True)


def policy(*, cluster: bool = False) -> Policy:
    return Policy(
        verifier=TokenVerifier(KeySet(())),
        cluster=cluster,
        read=BackendGroup((Backend.parse("http://vm:8428", "read.url"),)),
        write=None,
        max_form_size=100,
        tell_why=True,
        token_source=MACHINES,
        credentials=read_credentials(FILE, "file", grants=Grants.from_claims, seed=bytes(32)),
    )


def head(*headers: tuple[str, str], target: str = "/api/v1/labels") -> RequestHead:
    fields = tuple((name.encode(), value.encode("latin-1")) for name, value in headers)
    return RequestHead(method="GET", target=target, headers=fields, client="192.0.2.1")


def basic(user: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(text: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {text}"


# --- where they are found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ((bearer(KEY),), KEY),
        ((("X-API-Key", KEY),), KEY),
        ((("X-API-Key", f"Bearer {KEY}"), bearer(KEY)), KEY),
        ((basic("a", "b"),), BasicCredentials(b"a", b"b")),
        ((basic("a", "b:c"),), BasicCredentials(b"a", b"b:c")),
        ((basic("", ""),), BasicCredentials(b"", b"")),
        ((basic("ä", "ö\0"),), BasicCredentials("ä".encode(), "ö\0".encode())),
        ((basic("a", "x.y.z"),), "x.y.z"),
    ],
)
def test_credentials_are_found(fields: tuple[tuple[str, str], ...], found: object) -> None:
    assert MACHINES.find(head(*fields).headers) == found


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ((basic("a", "b"), ("X-API-Key", KEY)), BadRequest),
        ((basic("a", "b"), ("X-API-Key", f"Bearer {basic('a', 'b')[1][6:]}")), BadRequest),
        ((bearer(KEY), ("X-API-Key", KEY[:-1] + "x")), BadRequest),
        ((bearer(KEY), bearer(KEY)), MalformedToken),
        ((basic("a", "b"), basic("a", "b")), MalformedToken),
        ((("X-API-Key", KEY[:-1]),), MissingToken),
        ((("X-API-Key", f"{KEY} "),) * 2, MalformedToken),
        ((("Authorization", "Basic !"),), MissingToken),
        ((("Authorization", "Basic YQ=="),), MissingToken),
    ],
)
def test_what_is_refused(fields: tuple[tuple[str, str], ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        MACHINES.find(head(*fields).headers)


def test_without_the_flag_there_are_none() -> None:
    for fields in ((basic("a", "b"),), (("X-API-Key", KEY),)):
        with pytest.raises(MissingToken):
            replace(MACHINES, machines=False).find(head(*fields).headers)


@pytest.mark.parametrize(
    "text", [KEY[:-1], KEY + "k", "vmgw-" + "k" * 43, "a.b.c", "vmgw_" + "k" * 42 + ".", KEY + "\n"]
)
def test_what_is_no_api_key(text: str) -> None:
    assert is_api_key(KEY)
    assert not is_api_key(text)


# --- the cycle -----------------------------------------------------------------------------------------------------


def begun(by: Policy, *fields: tuple[str, str]) -> Cycle:
    return Cycle(head(*fields), at=NOW, started=0.0)


def credentials_of(by: Policy) -> Credentials:
    assert by.credentials is not None
    return by.credentials


def test_a_key_is_authorized_at_once() -> None:
    by = policy()
    made = begun(by, bearer(KEY))
    assert made.authorize(Gateway(policy=by, clock=lambda: 0.0), Mock())
    assert made.grant is not None
    assert made.grant.subject == Subject(TenantID(7, 0), (("team", "a"),))
    assert made.grant.token is not None
    assert (made.grant.token.subject, made.grant.token.credential) == ("agent", "key")


def test_a_password_is_awaited_and_a_reload_meanwhile_checks_it_again() -> None:
    by, woken = policy(), Mock()
    gateway = Gateway(policy=by, clock=lambda: 0.0)
    made = begun(by, basic("grafana", "secret"))
    assert not made.authorize(gateway, woken)
    assert made.state is State.CHECKING
    credentials_of(by).check_all()
    woken.assert_called_once_with()
    reloaded = replace(gateway, policy=policy())
    assert not made.recheck(reloaded, NOW)
    credentials_of(reloaded.policy).check_all()
    assert made.recheck(reloaded, NOW)
    again = begun(by, basic("grafana", "secret"))
    assert again.authorize(gateway), "it is remembered"


def test_a_password_that_is_not_checked_in_time_is_told_to_come_back() -> None:
    by = policy()
    made = begun(by, basic("grafana", "secret"))
    assert not made.authorize(Gateway(policy=by, clock=lambda: 0.0), Mock())
    with pytest.raises(PasswordUnchecked) as caught:
        made.recheck(Gateway(policy=by, clock=lambda: 0.0), NOW, last=True)
    assert caught.value.status == 429
    assert made.state is State.REFUSED
    assert credentials_of(by).next() is None


def test_a_wrong_password_is_refused() -> None:
    by = policy()
    gateway = Gateway(policy=by, clock=lambda: 0.0)
    for given in (basic("grafana", "Secret"), basic("nobody", "secret")):
        made = begun(by, given)
        assert not made.authorize(gateway, Mock())
        credentials_of(by).check_all()
        with pytest.raises(UnknownCredentials):
            made.recheck(gateway, NOW)


# --- the tenants page ----------------------------------------------------------------------------------------------


def test_what_the_tenants_page_awaits() -> None:
    by, ring = policy(cluster=True), KeyRing(jwks_endpoints=["https://idp.example/jwks"])
    unknown = keys.sign(keys.claims(), keys.ec_key(), {"alg": "ES256", "kid": "new"})
    assert awaited_by(ring, by, head(bearer(unknown)), NOW) is ring
    assert awaited_by(ring, by, head(bearer(KEY)), NOW) is None
    assert awaited_by(ring, by, head(), NOW) is None
    assert awaited_by(ring, replace(by, auth=False), head(), NOW) is None
    given = head(basic("grafana", "secret"), target="/admin/tenants")
    attempt = awaited_by(ring, by, given, NOW)
    assert attempt is not None
    assert attempt.wait(Mock(), NOW)
    page = tenants_page(by, given, NOW)
    assert page is not None
    assert page.status == 429
    credentials_of(by).check_all()
    page = tenants_page(by, given, NOW)
    assert page is not None
    assert (page.status, page.body) == (200, b'{"status":"success","data":["8:0"]}')


# --- explanations --------------------------------------------------------------------------------------------------


def test_an_explanation_names_the_credential_and_holds_no_secret() -> None:
    for given, name in ((bearer(KEY), "key agent"), (basic("grafana", "secret"), "user grafana")):
        story = explain(policy(), head(given), None, NOW)
        document = story.as_json()["token"]
        assert document == {"header": None, "claims": None, "verified": True, "key": None, "credential": name}
        text = explanation_text(story)
        assert f"ok  token      {name}, as -auth.credentialsFile says" in text
        assert f"\nCredential\n  {name}\n" in text
        assert "secret" not in text
        assert KEY not in text


def test_an_explanation_of_a_wrong_one() -> None:
    for given in (bearer(KEY[:-1] + "x"), basic("grafana", "wrong")):
        story = explain(policy(), head(given), None, NOW)
        assert story.refusal is not None
        assert (story.refusal.code, story.token) == ("unknown_credentials", None)
        assert "NO  token" in explanation_text(story)


# --- captures ------------------------------------------------------------------------------------------------------


def test_a_capture_names_the_credential_and_a_replay_says_that_it_cannot_judge_it() -> None:
    by = policy()
    for given, name in ((bearer(KEY), "key agent"), (basic("grafana", "secret"), "user grafana")):
        made = begun(by, given)
        gateway = Gateway(policy=by, clock=lambda: 0.0)
        if not made.authorize(gateway, Mock()):
            credentials_of(by).check_all()
            assert made.recheck(gateway, NOW)
        captured = record(by, made.head, at=NOW, grant=made.grant, refusal=None, form=None)
        data = to_metadata(captured)
        for secret in (KEY, "secret", basic("grafana", "secret")[1][6:]):
            assert secret not in repr(data)
        read = from_metadata(data)
        assert read == captured
        assert read.evidence is not None
        assert read.evidence.credential == name
        judge = Judge(by)
        verdict = judge.judge(read)
        assert (verdict.outcome, verdict.doubt) == (read.outcome, "the credential is not in the file")
        with pytest.raises(UnknownCredentials, match="not in the file"):
            judge.authorize(Cycle(read.head, at=NOW, started=0.0), read)
        failed = replace(read, outcome=None)
        assert judge.judge(failed).outcome.code == "unknown_credentials"
