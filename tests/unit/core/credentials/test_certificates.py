"""Certificates as claims: what they say, when they count, and that no token can claim to be one."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from tests.support.core import keys
from vmgw_core.access import read_access_policy
from vmgw_core.backends import Backend, BackendGroup
from vmgw_core.credentials import MTLS, Certificate
from vmgw_core.enforcement import Cycle, Gateway, Policy
from vmgw_core.errors import ClaimMismatch, CrossSite, MissingToken, NoMatchingEntry, Refusal, TokenExpired
from vmgw_core.explain.request import Outcome, describe
from vmgw_core.explain.text import explanation_text
from vmgw_core.http import RequestHead
from vmgw_core.tokens import TokenRules, TokenVerifier
from vmgw_core.tokens.keys import KeySet, keys_from_pem

NOW: Final = float(keys.NOW)
AGENT: Final = Certificate(common_names=("agent",), dns=("eu.agents.example",), uris=(), expires_at=NOW + 1)
RULES: Final = TokenRules(
    reserved=MTLS,
    grants=read_access_policy(
        """
match:
- when: {mtls.dns: {matches: "(?P<region>[a-z]+)[.]agents[.]example"}}
  grant: {labels: {region: "{region}"}}
- when: {groups: ops}
  grant: {labels: {region: all}}
""",
        "policy",
    ).grants,
)
POLICY: Final = Policy(
    verifier=TokenVerifier(KeySet(keys_from_pem(keys.pem(keys.ec_key()), "pem")), rules=RULES),
    cluster=False,
    read=BackendGroup((Backend.parse("http://vm:8428", "read.url"),)),
    write=None,
    max_form_size=100,
    tell_why=True,
    certificates=True,
)


def judged(
    certificate: Certificate | None,
    *headers: tuple[bytes, bytes],
    policy: Policy = POLICY,
    at: float = NOW,
    method: str = "GET",
) -> Cycle:
    head = RequestHead(method=method, target="/api/v1/labels", headers=headers, client="192.0.2.1")
    head.certificate = certificate
    assert head.with_headers(()).certificate is certificate
    made = Cycle(head, at=at, started=0.0)
    made.authorize(Gateway(policy=policy, clock=lambda: 0.0))
    return made


def test_a_certificate_is_judged_by_the_policy() -> None:
    made = judged(AGENT)
    assert made.grant is not None
    assert made.grant.claim.labels == (("region", "eu"),)
    token = made.grant.token
    assert token is not None
    assert (token.subject, token.credential) == ("agent", "certificate")
    story = describe(POLICY, made.head, Outcome(now=NOW, grant=made.grant))
    assert story.token is not None
    assert story.token.credential == "certificate agent"
    assert "certificate agent, as -auth.policy says" in explanation_text(story)


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (AGENT, "agent"),
        (replace(AGENT, common_names=()), "eu.agents.example"),
        (replace(AGENT, common_names=("a", "b"), uris=("spiffe://x/y",)), "spiffe://x/y"),
        (replace(AGENT, common_names=(), dns=()), ""),
    ],
)
def test_its_name(certificate: Certificate, name: str) -> None:
    assert certificate.name == name


def test_it_counts_until_it_expires() -> None:
    assert judged(AGENT, at=NOW + 0.9).grant is not None
    with pytest.raises(TokenExpired):
        judged(AGENT, at=NOW + 1)


@pytest.mark.parametrize(
    ("certificate", "headers", "policy", "error"),
    [
        (None, (), POLICY, MissingToken),
        (AGENT, (), replace(POLICY, certificates=False), MissingToken),
        (AGENT, ((b"authorization", b"x"),), POLICY, MissingToken),
        (AGENT, ((b"Authorization", b"Bearer a.b.c"),), POLICY, Refusal),
        (replace(AGENT, dns=("agents.example",)), (), POLICY, NoMatchingEntry),
        (replace(AGENT, dns=(), common_names=("eu.agents.example",)), (), POLICY, NoMatchingEntry),
    ],
)
def test_what_it_does_not_open(
    certificate: Certificate | None, headers: tuple[tuple[bytes, bytes], ...], policy: Policy, error: type[Refusal]
) -> None:
    with pytest.raises(error):
        judged(certificate, *headers, policy=policy)


def test_an_empty_header_is_no_credential() -> None:
    assert judged(AGENT, (b"Authorization", b" ")).grant is not None


def test_no_token_claims_to_be_a_certificate() -> None:
    for claims in ({"mtls": {"dns": ["eu.agents.example"]}}, {"mtls": None, "groups": "ops"}):
        token = keys.sign({"exp": keys.NOW + 60, **claims}, keys.ec_key())
        with pytest.raises(ClaimMismatch, match="`mtls` is for certificates"):
            judged(AGENT, (b"Authorization", b"Bearer " + token.encode()))
    good = keys.sign({"exp": keys.NOW + 60, "groups": "ops"}, keys.ec_key())
    made = judged(AGENT, (b"Authorization", b"Bearer " + good.encode()))
    assert made.grant is not None
    assert made.grant.claim.labels == (("region", "all"),)


HOST: Final = (b"Host", b"vm.example:8443")


@pytest.mark.parametrize(
    ("headers", "get", "post"),
    [
        ((), True, True),
        (((b"Sec-Fetch-Site", b"same-origin"),), True, True),
        (((b"Sec-Fetch-Site", b"none"),), True, True),
        (((b"Sec-Fetch-Site", b"cross-site"),), False, False),
        (((b"Sec-Fetch-Site", b"same-site"), (b"Origin", b"https://vm.example:8443")), False, False),
        (((b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Mode", b"navigate")), True, False),
        (((b"Origin", b"https://vm.example:8443"),), True, True),
        (((b"Origin", b"https://vm.example"),), True, False),
        (((b"Origin", b"null"),), True, False),
        (((b"Origin", b"https://vm.example:8443"), (b"Origin", b"null")), True, False),
    ],
)
def test_other_sites_cannot_use_the_certificate_of_a_browser(
    headers: tuple[tuple[bytes, bytes], ...], get: bool, post: bool
) -> None:
    for method, allowed in (("GET", get), ("POST", post)):
        if allowed:
            assert judged(AGENT, HOST, *headers, method=method).grant is not None
        else:
            with pytest.raises(CrossSite):
                judged(AGENT, HOST, *headers, method=method)


def test_a_token_of_its_own_is_sent_by_nobody_else() -> None:
    token = keys.sign(keys.claims(vm_access={}), keys.ec_key())
    foreign = (b"Sec-Fetch-Site", b"cross-site"), (b"Authorization", b"Bearer " + token.encode())
    assert judged(AGENT, HOST, *foreign, method="POST").grant is not None
