"""explain: the story of a decision agrees with the decision, ends where it was refused, and holds no secret."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import keys
from vmgw_core import errors
from vmgw_core.access import read_access_policy
from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup
from vmgw_core.backends.concurrency import Concurrency, Seat
from vmgw_core.base import Subject, TenantID
from vmgw_core.enforcement.admission import Body, Policy, admit
from vmgw_core.enforcement.rewriting import UpstreamRequest, rewrite
from vmgw_core.errors import Refusal
from vmgw_core.explain.model import Step, Verdict
from vmgw_core.explain.request import Outcome, describe, explain, own_page
from vmgw_core.explain.text import explanation_text, summary
from vmgw_core.http import Headers, RequestHead
from vmgw_core.limits.config import read_limits
from vmgw_core.limits.guards import Guards
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit, LimitType, Resolution
from vmgw_core.tokens import TokenRules
from vmgw_core.tokens.keys import KeySet, keys_from_jwks, keys_from_pem
from vmgw_core.tokens.verifier import TokenVerifier

NOW: Final = float(keys.NOW)
PUBLIC: Final = keys_from_pem(keys.pem(keys.ec_key()), "-auth.publicKeyFiles public.pem")
POLICY: Final = Policy(
    verifier=TokenVerifier(KeySet(PUBLIC)),
    cluster=True,
    read=BackendGroup((Backend.parse("http://reader:hunter2@vmselect:8481/base", "read.url"),)),
    write=BackendGroup((Backend.parse("https://vminsert", "write.url"),)),
    filters_responses=True,
    max_form_size=100,
    tell_why=False,
)
FORM: Final = b"application/x-www-form-urlencoded"


def _token(*, exp: int = keys.NOW + 3600, **vm_access: object) -> str:
    return keys.sign(keys.claims(exp=exp, vm_access=vm_access), keys.ec_key())


ANYBODY: Final = _token(tenant_id={"account_id": 1, "project_id": 5})
DEV: Final = _token(tenant_id={"account_id": 1, "project_id": 5}, extra_labels={"team": "dev"}, mode=3)
READER: Final = _token(mode=1, extra_filters=['{env="prod"}'])
WRITER: Final = _token(mode=2)


def _head(target: str, token: str | None = DEV, method: str = "GET", *headers: tuple[bytes, bytes]) -> RequestHead:
    own: Headers = ((b"Host", b"gateway"), (b"Cookie", b"session"))
    if token is not None:
        own += ((b"Authorization", b"Bearer " + token.encode()),)
    return RequestHead(method=method, target=target, headers=own + headers, client="192.0.2.1")


def _form(target: str, form: bytes, token: str = DEV, content_type: bytes = FORM, method: str = "POST") -> RequestHead:
    length = str(len(form)).encode()
    return _head(target, token, method, (b"Content-Type", content_type), (b"Content-Length", length))


def _decide(policy: Policy, head: RequestHead, form: bytes | None) -> UpstreamRequest | Refusal:
    """What a lane does."""
    try:
        grant = admit(policy, head, NOW)
        return rewrite(policy, grant, head, form if grant.body is Body.HOLD else None)
    except Refusal as refusal:
        return refusal


# --- admitted ------------------------------------------------------------------------------------------------------


def test_an_admitted_request_tells_every_step() -> None:
    story = explain(POLICY, _head("/api/v1/query?query=up&extra_label=team%3Dops"), None, NOW)
    assert story.as_json() == {
        "verdict": "admitted",
        "time": NOW,
        "request": {"method": "GET", "path": "/api/v1/query", "client": "192.0.2.1", "body": "none"},
        "steps": [
            {"step": "route", "passed": True, "text": "/api/v1/query: read access, by GET or HEAD or POST"},
            {
                "step": "token",
                "passed": True,
                "text": f"verified with -auth.publicKeyFiles public.pem (EC, thumbprint {PUBLIC[0].thumbprint})",
            },
            {"step": "mode", "passed": True, "text": "the token gives full access"},
            {"step": "filters", "passed": True, "text": "the backend honours labels and filters here"},
            {"step": "tenant", "passed": True, "text": "1:5"},
            {"step": "backend", "passed": True, "text": "-read.url"},
            {"step": "body", "passed": True, "text": "no body"},
            {"step": "arguments", "passed": True, "text": "-extra_label=team=ops +extra_label=team=dev"},
            {
                "step": "upstream",
                "passed": True,
                "text": "GET http://vmselect:8481/base/select/1:5/prometheus/api/v1/query"
                "?query=up&extra_label=team%3Ddev",
            },
        ],
        "refusal": None,
        "route": {
            "path": "/api/v1/query",
            "cluster_path": "/select/<tenant>/prometheus/api/v1/query",
            "methods": ["GET", "HEAD", "POST"],
            "access": "read",
            "filters": "bind",
            "tenant_in_path": None,
        },
        "token": {
            "header": {"alg": "ES256"},
            "claims": {
                "exp": keys.NOW + 3600,
                "vm_access": {
                    "tenant_id": {"account_id": 1, "project_id": 5},
                    "extra_labels": {"team": "dev"},
                    "mode": 3,
                },
            },
            "verified": True,
            "key": {
                "source": "-auth.publicKeyFiles public.pem",
                "kid": None,
                "thumbprint": PUBLIC[0].thumbprint,
                "type": "EC",
                "algorithms": ["ES256"],
                "issuer": None,
            },
        },
        "access": {"tenant": "1:5", "mode": "full", "labels": [["team", "dev"]], "filters": []},
        "arguments": {
            "url": {
                "before": [["query", "up"], ["extra_label", "team=ops"]],
                "after": [["query", "up"], ["extra_label", "team=dev"]],
                "removed": [["extra_label", "team=ops"]],
                "added": [["extra_label", "team=dev"]],
            },
            "form": None,
        },
        "limits": None,
        "guards": [],
        "upstream": {
            "flag": "-read.url",
            "method": "GET",
            "url": "http://vmselect:8481/base/select/1:5/prometheus/api/v1/query?query=up&extra_label=team%3Ddev",
            "dropped_headers": ["cookie", "authorization"],
        },
        "response": {"filtered": False, "shown": None},
        "shadow": None,
    }


def test_the_text_of_an_admitted_request() -> None:
    story = explain(POLICY, _head("/select/1:5/prometheus/api/v1/query?query=up&extra_label=team=ops"), None, NOW)
    assert explanation_text(story) == (
        "ADMITTED  1:5 read -extra_label=team=ops +extra_label=team=dev\n"
        "GET /select/1:5/prometheus/api/v1/query from 192.0.2.1, judged at 2023-11-14T22:13:20Z\n"
        "\n"
        "  ok  route      /api/v1/query: read access, by GET or HEAD or POST\n"
        f"  ok  token      verified with -auth.publicKeyFiles public.pem (EC, thumbprint {PUBLIC[0].thumbprint})\n"
        "  ok  mode       the token gives full access\n"
        "  ok  filters    the backend honours labels and filters here\n"
        "  ok  tenant     1:5, as in the path\n"
        "  ok  backend    -read.url\n"
        "  ok  body       no body\n"
        "  ok  arguments  -extra_label=team=ops +extra_label=team=dev\n"
        "  ok  upstream   GET http://vmselect:8481/base/select/1:5/prometheus/api/v1/query"
        "?query=up&extra_label=team%3Ddev\n"
        "\n"
        "Token\n"
        "  header:\n"
        "    {\n"
        '      "alg": "ES256"\n'
        "    }\n"
        "  claims:\n"
        "    {\n"
        f'      "exp": {keys.NOW + 3600},\n'
        '      "vm_access": {\n'
        '        "tenant_id": {\n'
        '          "account_id": 1,\n'
        '          "project_id": 5\n'
        "        },\n"
        '        "extra_labels": {\n'
        '          "team": "dev"\n'
        "        },\n"
        '        "mode": 3\n'
        "      }\n"
        "    }\n"
        "  exp: 2023-11-14T23:13:20Z, expires in 60 minutes\n"
        "\n"
        "Access\n"
        "  tenant 1:5, mode full\n"
        "  label  team=dev\n"
        "\n"
        "Arguments of the URL\n"
        "    query=up\n"
        "  - extra_label=team=ops\n"
        "  + extra_label=team=dev\n"
        "\n"
        "Upstream (-read.url)\n"
        "  GET http://vmselect:8481/base/select/1:5/prometheus/api/v1/query?query=up&extra_label=team%3Ddev\n"
        "  headers removed: cookie, authorization\n"
    )


def test_a_form_is_told_beside_the_url() -> None:
    form = b"query=a+b&extra_filters[]=%7Bx%3D%22y%22%7D&extra_label=team=ops"
    story = explain(POLICY, _form("/api/v1/query", form), form, NOW)
    assert story.verdict is Verdict.ADMITTED
    assert story.form_arguments is not None
    assert story.form_arguments.before == (
        ("query", "a b"),
        ("extra_filters[]", '{x="y"}'),
        ("extra_label", "team=ops"),
    )
    assert story.form_arguments.after == story.form_arguments.before[:2]
    assert story.form_arguments.removed == (("extra_label", "team=ops"),)
    assert story.form_arguments.added == ()
    assert "Arguments of the form\n    query=a b\n" in explanation_text(story)
    assert summary(story) == "1:5 read +extra_label=team=dev -extra_label=team=ops"


def test_a_write_streams_and_nothing_of_its_body_is_read() -> None:
    story = explain(POLICY, _form("/api/v1/write", b"\xff" * 200, ANYBODY), b"\xff" * 200, NOW)
    assert (story.verdict, story.body, story.form_arguments) == (Verdict.ADMITTED, "stream", None)
    assert summary(story) == "1:5 write unchanged"
    assert "  ok  arguments  nothing added, nothing removed\n" in explanation_text(story)
    assert "  ok  body       streamed to the backend\n" in explanation_text(story)
    assert "  ok  backend    -write.url\n" in explanation_text(story)


def test_the_form_of_a_get_has_no_meaning_and_is_not_told() -> None:
    story = explain(POLICY, _form("/api/v1/query", b"query=up", method="GET"), b"query=up", NOW)
    assert (story.body, story.form_arguments) == ("hold", None)


# --- refused -------------------------------------------------------------------------------------------------------

REFUSED: Final = [
    pytest.param(_head("/api/v1/nothing"), None, "route", "unknown_route", 404, id="unknown route"),
    pytest.param(_head("/api/v1//query"), None, "route", "ambiguous_path", 400, id="ambiguous path"),
    pytest.param(_head("/api/v1/query", DEV, "PUT"), None, "route", "method_not_allowed", 405, id="method"),
    pytest.param(_head("/api/v1/query", None), None, "token", "missing_token", 401, id="no token"),
    pytest.param(_head("/api/v1/query", "abc"), None, "token", "malformed_token", 401, id="no token at all"),
    pytest.param(_head("/api/v1/query", DEV[:-8] + "AAAAAAAA"), None, "token", "bad_signature", 401, id="signature"),
    pytest.param(_head("/api/v1/query", _token(exp=1)), None, "token", "expired", 401, id="expired"),
    pytest.param(_head("/api/v1/query", WRITER), None, "mode", "access_denied", 403, id="mode"),
    pytest.param(_head("/tags/tagSeries"), None, "filters", "filters_ignored", 403, id="filters"),
    pytest.param(_head("/select/2/prometheus/api/v1/query"), None, "tenant", "foreign_tenant", 403, id="tenant"),
    pytest.param(
        _form("/api/v1/query", b"{}", content_type=b"application/json"),
        b"{}",
        "body",
        "unsupported_body",
        415,
        id="no form",
    ),
    pytest.param(_form("/api/v1/query", b"a" * 101), b"a" * 101, "body", "body_too_large", 413, id="large form"),
    pytest.param(_head("/api/v1/query?a=;"), None, "arguments", "bad_request", 400, id="argument in the URL"),
    pytest.param(_form("/api/v1/query", b"a=;"), b"a=;", "arguments", "bad_request", 400, id="argument in the form"),
    pytest.param(
        _form("/api/v1/query", b"x", content_type=b"multipart/form-data"), b"x", "arguments", "bad_request", 400,
        id="broken multipart form",
    ),
    pytest.param(
        _head("/api/v1/query", DEV, "POST", (b"Content-Length", b"1"), (b"Content-Length", b"2")),
        None,
        "head",
        "malformed_head",
        400,
        id="two lengths",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("head", "form", "step", "code", "status"), REFUSED)
def test_a_story_ends_with_the_step_that_refused(
    head: RequestHead, form: bytes | None, step: str, code: str, status: int
) -> None:
    story = explain(POLICY, head, form, NOW)
    document = story.as_json()
    assert story.verdict is Verdict.REFUSED
    assert story.refusal is not None
    assert (story.refusal.step.value, story.refusal.code, story.refusal.status) == (step, code, status)
    assert [taken.passed for taken in story.steps] == [True] * (len(story.steps) - 1) + [False]
    assert story.steps[-1].step.value == step
    assert document["upstream"] is None
    text = explanation_text(story)
    assert text.startswith("REFUSED  ")
    assert f"{code}: " in text
    assert f"\nThe client gets\n  {status} " in text


def test_the_token_of_a_refused_request_is_told_as_far_as_it_can_be_read() -> None:
    story = explain(POLICY, _head("/api/v1/query", DEV[:-8] + "AAAAAAAA"), None, NOW)
    assert story.token is not None
    assert story.token.header == {"alg": "ES256"}
    assert story.token.claims is not None
    assert (story.token.verified, story.claims) == (False, ())
    unreadable = explain(POLICY, _head("/api/v1/query", "a.b.c"), None, NOW)
    assert "  header: unreadable\n  claims: unreadable\n" in explanation_text(unreadable)
    assert unreadable.as_json()["token"] == {"header": None, "claims": None, "verified": False, "key": None}


def test_a_good_token_that_is_refused_later_is_told_with_what_it_grants() -> None:
    story = explain(POLICY, _head("/api/v1/write", READER, "POST"), None, NOW)
    assert story.refusal is not None
    assert story.refusal.step is Step.MODE
    assert '  tenant 0:0, mode read\n  filter {env="prod"}\n' in explanation_text(story)
    assert summary(story).startswith("0:0 write ")


def test_a_token_that_was_not_looked_at_is_not_told() -> None:
    assert explain(POLICY, _head("/api/v1/nothing"), None, NOW).token is None


def test_without_a_backend() -> None:
    story = explain(replace(POLICY, read=None), _head("/api/v1/query"), None, NOW)
    assert story.refusal is not None
    assert (story.refusal.step, story.refusal.code) == (Step.BACKEND, "not_served")


def test_what_a_client_sees_of_a_refused_token() -> None:
    head = _head("/api/v1/query", _token(exp=1))
    silent, telling = (explain(replace(POLICY, tell_why=why), head, None, NOW).refusal for why in (False, True))
    assert silent is not None
    assert telling is not None
    assert silent.answer == "a valid token is needed"
    assert silent.message == telling.message == telling.answer
    assert telling.answer == f"the token has expired: `exp` is not after {keys.NOW}"


def test_what_a_writer_sees_is_never_400() -> None:
    story = explain(POLICY, _head("/api/v1/write?a=;", DEV, "POST"), None, NOW)
    assert story.refusal is not None
    assert (story.refusal.status, story.refusal.answer_status) == (400, 403)


def test_keys_that_are_awaited() -> None:
    policy = replace(POLICY, verifier=TokenVerifier(KeySet(())), keys_awaited=True)
    story = explain(policy, _head("/api/v1/query"), None, NOW)
    assert story.refusal is not None
    assert (story.refusal.step, story.refusal.code) == (Step.TOKEN, "keys_unavailable")


def test_signatures_that_are_not_verified_say_so() -> None:
    story = explain(replace(POLICY, verifier=TokenVerifier(None)), _head("/api/v1/query"), None, NOW)
    assert story.token is not None
    assert not story.token.verified
    assert (
        "  ok  token      NOT verified: no key is configured, so anybody can make such a token\n"
        in explanation_text(story)
    )


def test_a_key_with_a_kid_and_an_issuer_is_named() -> None:
    jwks = keys.jwks(keys.jwk(keys.ec_key(), kid="k\x1b1"))
    policy = replace(POLICY, verifier=TokenVerifier(KeySet(keys_from_jwks(jwks, "-auth.jwksEndpoints[0]").keys)))
    text = explanation_text(explain(policy, _head("/api/v1/query"), None, NOW))
    assert "verified with -auth.jwksEndpoints[0] (EC, kid k\\x1b1, thumbprint " in text


# --- limits --------------------------------------------------------------------------------------------------------


def _limiter(value: int = 2, *, total: bool = False, labels: tuple[tuple[str, str], ...] = ()) -> Limiter:
    limits = [
        Limit(type=kind, resolution=Resolution.MINUTE, value=value, tenant=None, total=total, labels=labels)
        for kind in (LimitType.QUERIES, LimitType.ROWS_INSERTED)
    ]
    limiter = Limiter()
    limiter.replace(limits)
    return limiter


def test_limits_are_told_with_their_usage_until_they_refuse() -> None:
    limiter = _limiter()
    stories = [explain(POLICY, _head("/api/v1/query"), None, NOW, limiter=limiter) for _ in range(3)]
    assert [story.verdict for story in stories] == [Verdict.ADMITTED, Verdict.ADMITTED, Verdict.REFUSED]
    told = {"type": "queries", "resolution": "minute", "scope": "1:5", "value": 2}
    assert [story.as_json()["limits"] for story in stories] == [[{**told, "used": used}] for used in range(3)]
    line = "tenant 1:5 has used 1 of 2 queries per minute"
    assert f"  ok  limits     {line}\n" in explanation_text(stories[1])
    assert f"\nLimits\n  {line}\n" in explanation_text(stories[1])
    refusal = stories[2].refusal
    assert refusal is not None
    assert (refusal.step, refusal.code) == (Step.LIMITS, "rate_limited")
    # It refuses before the arguments are looked at.
    assert (stories[2].url_arguments, stories[2].upstream) == (None, None)


def test_limits_of_concurrent_requests_are_shown_and_do_not_decide() -> None:
    slots = Concurrency(0, 0, read_limits("limits: [{type: concurrency, value: 1}]", "x").concurrency)
    assert slots.enter(Seat(Subject(TenantID(1, 5))))
    for target, method in (("/api/v1/query", "GET"), ("/api/v1/admin/tsdb/delete_series", "POST")):
        story = explain(POLICY, _head(target, ANYBODY, method), None, NOW, limiter=Limiter(), slots=slots)
        told = {"type": "concurrency", "resolution": None, "scope": "1:5", "value": 1, "used": 1}
        assert story.as_json()["limits"] == [told]
        assert story.verdict is Verdict.ADMITTED
        assert "\nLimits\n  tenant 1:5 has 1 of 1 concurrent requests\n" in explanation_text(story)
    assert slots.running == 1


def test_guards_are_told_and_refuse() -> None:
    guards = Guards(read_limits("guards: [{max_range: 1d, class: a}, {max_range: 30d, timeout: 5s}]", "x").guards)
    limiter = Limiter()
    good, bad, other = (
        explain(POLICY, _head(target, ANYBODY), None, NOW, limiter=limiter, guards=guards)
        for target in ("/api/v1/query_range?start=-1d", "/api/v1/query_range?start=-31d", "/api/v1/status/tsdb")
    )
    told = [
        {"guard": "max_range", "value": "30d", "scope": "tenant"},
        {"guard": "timeout", "value": "5s", "scope": "tenant"},
    ]
    assert [story.as_json()["guards"] for story in (good, bad, other)] == [told, told, []]
    assert "\nGuards\n  max_range 30d\n  timeout 5s\n" in explanation_text(good)
    assert "+timeout=5s" in explanation_text(good)
    assert bad.refusal is not None
    assert (bad.refusal.step, bad.refusal.code) == (Step.ARGUMENTS, "query_guarded")
    assert limiter.rejects == {("max_range", None, "1:5"): 1}
    explain(POLICY, _head("/api/v1/query_range?start=-31d", ANYBODY), None, NOW, limiter=limiter, guards=guards, live=1)
    assert limiter.rejects == {("max_range", None, "1:5"): 1}, "a running gateway counts no question"


def test_limits_of_reads_and_of_writes() -> None:
    def told(target: str, method: str) -> list[str]:
        limits = explain(POLICY, _head(target, ANYBODY, method), None, NOW, limiter=_limiter()).as_json()["limits"]
        assert isinstance(limits, list)
        return [limit["type"] for limit in limits]

    assert told("/api/v1/query", "GET") == ["queries"]
    assert told("/api/v1/write", "POST") == ["rows_inserted"]
    assert told("/api/v1/admin/tsdb/delete_series?match[]=up", "POST") == []


@pytest.mark.parametrize(
    ("limiter", "scope"),
    [
        (_limiter(total=True), "total"),
        (_limiter(labels=(("team", "dev"),)), '1:5{team="dev"}'),
    ],
)
def test_scopes_of_limits(limiter: Limiter, scope: str) -> None:
    limits = explain(POLICY, _head("/api/v1/query"), None, NOW, limiter=limiter).as_json()["limits"]
    assert isinstance(limits, list)
    assert [limit["scope"] for limit in limits] == [scope]


def test_no_limit_applies() -> None:
    head = _head("/api/v1/query")
    grant = admit(POLICY, head, NOW)
    story = describe(POLICY, head, Outcome(now=NOW, grant=grant, limits=()))
    assert story.as_json()["limits"] == []
    assert "no limit applies" not in explanation_text(story)  # the form is awaited, and limits come after it
    done = Outcome(now=NOW, grant=grant, limits=(), upstream=rewrite(POLICY, grant, head, None))
    assert "  ok  limits     no limit applies\n" in explanation_text(describe(POLICY, head, done))


# --- without tokens ------------------------------------------------------------------------------------------------


def test_without_auth_the_path_names_the_tenant() -> None:
    policy = replace(POLICY, auth=False)
    story = explain(policy, _head("/select/1:5/prometheus/api/v1/query", None), None, NOW, limiter=_limiter())
    assert (story.verdict, story.tenant, story.token) == (Verdict.ADMITTED, "1:5", None)
    text = explanation_text(story)
    assert "  ok  token      no token is needed: -enable.auth is not set\n" in text
    assert "  ok  mode       the path gives full access\n" in text
    assert "  ok  tenant     1:5\n" in text
    assert explain(policy, _head("/api/v1/query", None), None, NOW).as_json()["access"] is None


def test_a_path_for_all_tenants_is_told_as_what_it_becomes() -> None:
    story = explain(POLICY, _head("/select/multitenant/prometheus/api/v1/query", ANYBODY), None, NOW)
    assert (story.verdict, story.tenant) == (Verdict.ADMITTED, "1:5")
    text = explanation_text(story)
    assert "  ok  tenant     1:5, enforced by labels on the path for all tenants\n" in text
    assert "+extra_label=vm_account_id=1 +extra_label=vm_project_id=5" in text


def test_a_trace_that_was_removed_and_a_name_that_was_rewritten_are_told() -> None:
    token = _token(extra_filters=["total"])
    text = explanation_text(explain(POLICY, _head("/api/v1/query?query=m&tr%61ce=1", token), None, NOW))
    assert "trace was removed: it would show data of other tenants or teams" in text
    assert r"(?:\b|\B) always matches, and stops the backend from widening a filter on the metric name" in text
    text = explanation_text(
        explain(replace(POLICY, cluster=False), _head("/api/v1/query?trace=1", _token()), None, NOW)
    )
    assert "  ok  arguments  nothing added, nothing removed\n" in text


@pytest.mark.parametrize("path", ["/vmalert/groups", "/vmalert/", "/select/multitenant/graphite/render"])
def test_what_ignores_the_tenant_is_refused_where_filters_are_judged(path: str) -> None:
    story = explain(POLICY, _head(path, ANYBODY), None, NOW)
    assert story.refusal is not None
    assert (story.refusal.code, story.refusal.step) == ("tenant_ignored", Step.FILTERS)


def test_the_rules_of_a_single_node_are_for_who_may_see_all_of_it() -> None:
    text = explanation_text(explain(replace(POLICY, cluster=False), _head("/api/v1/rules", _token()), None, NOW))
    assert "the token has none, and there is one tenant" in text


def test_without_auth_a_request_may_be_of_all_tenants() -> None:
    story = explain(
        replace(POLICY, auth=False), _head("/select/multitenant/prometheus/api/v1/query", None), None, NOW,
        limiter=_limiter(),
    )  # fmt: skip
    assert story.verdict is Verdict.ADMITTED
    assert summary(story) == "multitenant read unchanged"
    document = story.as_json()
    access, limits = document["access"], document["limits"]
    assert isinstance(access, dict)
    assert isinstance(limits, list)
    assert (access["tenant"], limits[0]["scope"]) == ("multitenant", "multitenant")


# --- what was decided before ---------------------------------------------------------------------------------------


def test_a_form_that_is_awaited() -> None:
    head = _form("/api/v1/query", b"query=up")
    story = describe(POLICY, head, Outcome(now=NOW, grant=admit(POLICY, head, NOW)))
    assert story.verdict is Verdict.PENDING
    assert story.steps[-1].step is Step.BODY
    assert summary(story) == "1:5 read waiting for the form"


@pytest.mark.parametrize(
    ("refusal", "step"),
    [
        (errors.BackendUnreachable("down"), Step.UPSTREAM),
        (errors.BackendTimeout("slow"), Step.UPSTREAM),
        (errors.InternalError("failed"), Step.UPSTREAM),
        (errors.RateLimited("too many rows", 3), Step.LIMITS),
        (errors.TooManyRows("more rows than the limit has"), Step.LIMITS),
        (errors.BodyTooLarge("larger than -ratelimit.maxDecodedSize"), Step.LIMITS),
        (errors.RequestTimeout("slow"), Step.HEAD),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Refusal) else value.value,
)
def test_refusals_behind_a_complete_decision(refusal: Refusal, step: Step) -> None:
    head = _form("/api/v1/write", b"x", DEV)
    grant = admit(POLICY, head, NOW)
    outcome = Outcome(now=NOW, grant=grant, upstream=rewrite(POLICY, grant, head, None), refusal=refusal)
    story = describe(POLICY, head, outcome)
    assert story.verdict is Verdict.REFUSED
    assert story.refusal is not None
    assert story.refusal.step is step
    assert story.steps[-1].step is step


def test_a_form_that_grew_too_large_while_it_was_held() -> None:
    head = _form("/api/v1/query", b"query=up")
    refusal = errors.BodyTooLarge("the form is larger than 100 bytes")
    story = describe(POLICY, head, Outcome(now=NOW, grant=admit(POLICY, head, NOW), refusal=refusal))
    assert story.refusal is not None
    assert story.refusal.step is Step.BODY
    chunked = _head("/api/v1/query", DEV, "POST", (b"Content-Type", FORM), (b"Transfer-Encoding", b"chunked"))
    grown = explain(POLICY, chunked, b"a" * 101, NOW)
    assert grown.refusal is not None
    assert grown.refusal.code == "body_too_large"


def test_own_pages_are_no_decision() -> None:
    story = own_page(_head("/health?x", None), NOW)
    assert (story.verdict, story.path, story.steps) == (Verdict.OWN_PAGE, "/health", ())
    assert explanation_text(story).startswith("OWN_PAGE  a page of the gateway itself, which needs no token")


# --- laws ----------------------------------------------------------------------------------------------------------

TARGETS: Final = (
    "/api/v1/query", "/api/v1/series", "/prometheus/api/v1/labels", "/api/v1/metadata", "/api/v1/write", "/nothing",
    "/select/1:5/prometheus/api/v1/query", "/select/2/prometheus/api/v1/query", "/api/v1/admin/tsdb/delete_series",
)  # fmt: skip
TOKENS: Final = (ANYBODY, DEV, READER, WRITER, _token(exp=1), DEV[:-8] + "AAAAAAAA", "abc", None)
queries = st.text('abcdef=&%25;+[]{}"', max_size=20) | st.sampled_from(
    ["extra_label=a=b", "extra%5flabel=a", "extra_filters[]={x}", "match[]=up", "a=%zz", "#"]
)


@given(
    target=st.sampled_from(TARGETS),
    query=queries,
    token=st.sampled_from(TOKENS),
    method=st.sampled_from(["GET", "POST", "PUT"]),
    form=st.none() | st.text("ab=&;%41", max_size=12).map(str.encode),
)
def test_a_story_never_disagrees_with_the_decision(
    target: str, query: str, token: str | None, method: str, form: bytes | None
) -> None:
    where = f"{target}?{query}" if query else target
    head = _head(where, token, method) if form is None else _form(where, form, token or "abc", method=method)
    decided = _decide(POLICY, head, form)
    story = explain(POLICY, head, form, NOW)
    text, document = explanation_text(story), json.dumps(story.as_json())
    if isinstance(decided, Refusal):
        assert story.refusal is not None
        assert (story.refusal.code, story.refusal.message) == (decided.code, decided.message)
        assert (story.verdict, story.upstream) == (Verdict.REFUSED, None)
    else:
        assert story.upstream is not None
        assert story.upstream.url.endswith(decided.target)
        assert story.verdict is Verdict.ADMITTED
    for secret in ("hunter2", *((token.rpartition(".")[2],) if token and token.count(".") == 2 else ())):
        assert secret not in text
        assert secret not in document


@given(name=st.text(min_size=1, max_size=8), path=st.text(max_size=12), query=st.text(max_size=12))
def test_nothing_that_others_chose_can_move_a_cursor(name: str, path: str, query: str) -> None:
    token = keys.compact({"alg": "RS256", name: name}, keys.claims(vm_access={}, **{name: name}))
    policy = replace(POLICY, verifier=TokenVerifier(None))
    head = RequestHead(
        method="GET",
        target=f"/api/v1/{path}?{query}",
        headers=((b"Authorization", b"Bearer " + token.encode()),),
        client=name,
    )
    for text in (explanation_text(explain(policy, head, None, NOW)), explanation_text(own_page(head, NOW))):
        assert all(line.isprintable() for line in text.removesuffix("\n").split("\n"))


ACCESS_POLICY: Final = """
match:
- {name: devs, when: {groups: dev}, grant: {tenant: "1:5", labels: {team: dev}, mode: read}}
- {name: ops, when: {groups: ops}, grant: {tenant: "2:0", filters: ['{team="ops"}']}}
"""


def test_the_classes_of_limits_that_hold_a_request() -> None:
    text = "match: [{when: {groups: dev}, grant: {tenant: 2, limits: bronze, mode: read}}, "
    text += "{when: {groups: ops}, grant: {tenant: 2, limits: gold}}]"
    rules = TokenRules(grants=read_access_policy(text, "policy.yaml").grants)
    policy = replace(POLICY, verifier=TokenVerifier(KeySet(PUBLIC), rules=rules))
    claims = {name: value for name, value in keys.claims(groups=["dev", "ops"]).items() if name != "vm_access"}
    limits = [replace(_limiter(3).limits[0], limit_class=name) for name in ("bronze", "gold", "silver")]
    head = _head("/select/2/prometheus/api/v1/query", keys.sign(claims, keys.ec_key()))
    story = explain(policy, head, None, NOW, limiter=Limiter(limits))
    document = json.loads(json.dumps(story.as_json()))
    assert document["access"]["limits"] == "bronze, gold"
    assert [each["class"] for each in document["limits"]] == ["bronze", "gold"]
    assert "\n  limits of class bronze, gold\n" in explanation_text(story)
    assert "tenant 2:0, tokens of class gold, have used 0 of 3 queries per minute" in explanation_text(story)


def test_several_grants_and_the_entries_that_gave_them() -> None:
    rules = TokenRules(grants=read_access_policy(ACCESS_POLICY, "policy.yaml").grants)
    policy = replace(POLICY, verifier=TokenVerifier(KeySet(PUBLIC), rules=rules))
    claims = {name: value for name, value in keys.claims(groups=["dev", "ops"]).items() if name != "vm_access"}
    token = keys.sign(claims, keys.ec_key())
    story = explain(policy, _head("/select/2/prometheus/api/v1/query", token), None, NOW)
    assert story.as_json()["access"] == {
        "tenant": "2:0", "mode": "full", "labels": [], "filters": ['{team="ops"}'], "entries": ["devs", "ops"]
    }  # fmt: skip
    assert (
        '\nAccess\n  by -auth.policy: devs, ops\n  tenant 2:0, mode full\n  filter {team="ops"}\n'
        in explanation_text(story)
    )
    refused = explain(policy, _head("/api/v1/query", token), None, NOW)
    assert refused.tenant == "1:5, 2:0"
    assert refused.as_json()["access"] == {
        "tenant": None, "mode": "full", "labels": None, "filters": None, "entries": ["devs", "ops"],
        "alternatives": [
            {"tenant": "1:5", "mode": "read", "labels": [["team", "dev"]], "filters": []},
            {"tenant": "2:0", "mode": "full", "labels": [], "filters": ['{team="ops"}']},
        ],
    }  # fmt: skip
    assert "  tenant 1:5, mode read\n  label  team=dev\n  tenant 2:0, mode full\n" in explanation_text(refused)


def test_a_limiter_in_use_is_asked_and_counts_nothing() -> None:
    limiter, live = _limiter(1), 5.0
    stories = [explain(POLICY, _head("/api/v1/query"), None, NOW, limiter=limiter, live=live) for _ in range(3)]
    assert [story.verdict for story in stories] == [Verdict.ADMITTED] * 3
    admitted = admit(POLICY, _head("/api/v1/query"), NOW)
    limiter.admit(admitted.subject, admitted.route.access, live)
    story = explain(POLICY, _head("/api/v1/query"), None, NOW, limiter=limiter, live=live)
    assert story.refusal is not None
    assert story.refusal.code == "rate_limited"
    assert story.limits is not None
    assert [usage.usage for usage in story.limits] == [1]
    assert limiter.rejects == {}
    assert explain(POLICY, _head("/api/v1/query"), None, NOW, limiter=limiter, live=live + 60).refusal is None


def test_what_the_shadow_says_is_told_and_escaped() -> None:
    head = _head("/api/v1/query?query=up")
    grant = admit(POLICY, head, NOW)
    done = Outcome(now=NOW, grant=grant, upstream=rewrite(POLICY, grant, head, None), shadow="limits: a -> b\n")
    story = describe(POLICY, head, done)
    assert story.as_json()["shadow"] == "limits: a -> b\n"
    assert "\nThe shadow disagrees\n  limits: a -> b\\n\n" in explanation_text(story)
