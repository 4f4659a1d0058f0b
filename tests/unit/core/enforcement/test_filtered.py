"""Responses that the gateway limits to the token: the request that is sent, and the events of the cycle."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

import pytest

from tests.support.core import keys
from tests.support.each import each
from tests.unit.core.enforcement.test_cycle import FORM, cycle, gateway
from vmgw_core.answers import HeldBytes, RulesTenant, VisibleNames
from vmgw_core.base import TenantID
from vmgw_core.enforcement import Cycle, Gateway, State, UpstreamRequest
from vmgw_core.enforcement.cycle import WrongState
from vmgw_core.errors import (
    AccessDenied,
    AnswerTooLarge,
    BackendUnreachable,
    BadAnswer,
    BadRequest,
    FiltersIgnored,
    ForeignTenant,
    TenantIgnored,
)
from vmgw_core.http import Headers, Response
from vmgw_core.tokens import AccessMode, Grants, TokenRules, TokenVerifier, VMAccessClaim

JSON: Final[Headers] = ((b"Content-Type", b"application/json"), (b"ETag", b"x"), (b"X-Rules", b"secret"))
RULES: Final = json.dumps(
    {
        "data": {
            "groups": [
                {
                    "tenant": "0:0",
                    "rules": [
                        {"name": "a", "labels": {"team": "dev"}, "state": "ok"},
                        {"name": "secret", "labels": {"team": "ops"}, "state": "ok"},
                    ],
                }
            ]
        }
    }
).encode()


def token(**vm_access: object) -> str:
    return keys.compact({"alg": "RS256"}, keys.claims(vm_access=vm_access))


DEV: Final = token(extra_labels={"team": "dev"})


def ready(target: str, by: Gateway | None = None, *headers: tuple[bytes, bytes], token: str = DEV, method: str = "GET",
          form: bytes | None = None) -> Cycle:  # fmt: skip
    found = cycle(method, target, *headers, token=token)
    found.authorize(by or gateway())
    found.enter()
    found.count(1.0)
    found.prepare()
    if form is not None:
        found.form(form)
    return found


def sent(target: str, by: Gateway | None = None, *headers: tuple[bytes, bytes], **more: object) -> UpstreamRequest:
    upstream = ready(target, by, *headers, **more).upstream  # type: ignore[arg-type]
    assert upstream is not None
    return upstream


def clustered(**parts: object) -> Gateway:
    found = gateway()
    return replace(found, policy=replace(found.policy, cluster=True, **parts))  # type: ignore[arg-type]


def made(found: Cycle, status: int) -> Response:
    """The client's response to what the backend answered in JSON."""
    return found.filtered(found.filtering(status, JSON)())


def responded(found: Cycle, *pieces: bytes) -> None:
    found.ask(1.0)
    found.responded(2.0)
    for piece in pieces:
        found.collect(piece)


# --- what is sent ---------------------------------------------------------------------------------------------------


@each(
    ("target", "expected"),
    [
        ("/api/v1/rules?state=firing&extended_states=1&trace=1", "/api/v1/rules?extended_states=1"),
        ("/prometheus/api/v1/alerts?match[]=a", "/api/v1/rules"),
        ("/vmalert/api/v1/rule?group_id=1&rule_id=2", "/api/v1/rules"),
        ("/alerts", "/api/v1/rules"),
        ("/notifiers?a=b", "/api/v1/notifiers"),
        ("/api/v1/metadata?metric=a&limit=1", "/api/v1/metadata?metric=a"),
        ("/api/v1/status/tsdb?topN=2&extra_label=team=ops", "/api/v1/status/tsdb?topN=2&extra_label=team%3Ddev"),
        ("/api/v1/series/count", "/api/v1/status/tsdb?topN=1&extra_label=team%3Ddev"),
        (
            "/metrics/index.json?jsonp=a",
            "/api/v1/label/__name__/values?start=0&extra_label=team%3Ddev&match[]=%7Bteam%3D%22dev%22%7D",
        ),
        ("/tags?limit=1", "/api/v1/labels?start=0&extra_label=team%3Ddev&match[]=%7Bteam%3D%22dev%22%7D"),
        (
            "/graphite/tags/a%3Fb",
            "/api/v1/label/a%3Fb/values?start=0&extra_label=team%3Ddev&match[]=%7Bteam%3D%22dev%22%7D",
        ),
        (
            "/tags/name",
            "/api/v1/label/__name__/values?start=0&extra_label=team%3Ddev&match[]=%7Bteam%3D%22dev%22%7D",
        ),
    ],
)
def test_what_the_backend_is_asked(target: str, expected: str) -> None:
    for method in ("GET", "HEAD"):
        upstream = sent(target, method=method)
        assert (upstream.method, upstream.target, upstream.body) == ("GET", expected, None)


def test_a_cluster_is_asked_below_the_tenant_and_never_in_graphites_place() -> None:
    by = token(tenant_id={"account_id": 1, "project_id": 5}, extra_labels={"team": "dev"})
    for path in ("/metrics/index.json", "/select/1:5/graphite/metrics/index.json"):
        upstream = sent(path, clustered(), token=by)
        assert upstream.target.startswith("/select/1:5/prometheus/api/v1/label/__name__/values?start=0&extra_label=")


def test_a_form_becomes_a_query() -> None:
    upstream = sent(
        "/api/v1/status/tsdb?topN=1", None, FORM, (b"Content-Length", b"9"), method="POST",
        form=b"match[]=a",
    )  # fmt: skip
    assert (upstream.method, upstream.body) == ("GET", None)
    assert upstream.target == "/api/v1/status/tsdb?topN=1&match[]=a&extra_label=team%3Ddev"
    assert not {name.lower() for name, _ in upstream.headers} & {b"content-type", b"content-length"}


def test_the_response_is_asked_for_whole_and_not_compressed() -> None:
    asked = ((b"If-None-Match", b"x"), (b"If-Modified-Since", b"x"), (b"Range", b"bytes=0-1"), (b"If-Range", b"x"),
             (b"Accept-Encoding", b"gzip"), (b"Accept", b"a"))  # fmt: skip
    for request in (
        sent("/api/v1/rules", None, *asked),
        ready("/api/v1/metadata", None, *asked).names_request(1.0),
    ):
        assert request is not None
        names = [name.lower() for name, _ in request.headers]
        assert names == [b"host", b"accept", b"x-forwarded-for", b"accept-encoding"]
        assert dict(request.headers)[b"Accept-Encoding"] == b"identity"


def test_a_token_without_restrictions_gets_what_the_backend_sends() -> None:
    found = ready("/api/v1/rules?state=firing", token=token())
    assert found.filter is None
    assert found.upstream is not None
    assert found.upstream.target == "/api/v1/rules?state=firing"
    assert found.names_request(1.0) is None
    found.ask(1.0)
    found.responded(2.0)
    assert found.responding
    assert ready("/api/v1/status/tsdb", clustered(), token=token()).filter is None


@each("path", ["/api/v1/rules", "/api/v1/metadata", "/api/v1/status/tsdb", "/tags"])
def test_a_carrier_that_filters_nothing_gets_no_response_to_filter(path: str) -> None:
    by = gateway()
    by = replace(by, policy=replace(by.policy, filters_responses=False))
    with pytest.raises(FiltersIgnored):
        ready(path, by)


def test_an_expression_that_cannot_be_applied_to_rules_is_refused() -> None:
    with pytest.raises(FiltersIgnored, match="regular expression"):
        ready("/api/v1/rules", token=token(extra_filters=[r'{a=~"(?<!b)c"}']))


# --- several grants -------------------------------------------------------------------------------------------------

TWO: Final = Grants(
    alternatives=tuple(
        VMAccessClaim(tenant=TenantID(1, project), labels=(("team", team),), filters=(), mode=AccessMode(mode))
        for project, team, mode in ((5, "dev", 3), (6, "ops", 3), (7, "secret", 2))
    )
)


def granting(grants: Grants) -> Gateway:
    return clustered(verifier=TokenVerifier(None, rules=TokenRules(grants=lambda _: grants)))


def group(tenant: str, team: str) -> dict[str, object]:
    name = f"{tenant} {team}"
    return {"name": name, "tenant": tenant, "rules": [{"name": name, "labels": {"team": team}, "state": "ok"}]}


EVERYTHING: Final = json.dumps(
    {"data": {"groups": [group(f"1:{project}", team) for project in (5, 6, 7) for team in ("dev", "ops", "secret")]}}
).encode()


@each(
    ("target", "path", "shown"),
    [
        ("/select/multitenant/prometheus/api/v1/rules", "1:5", ["1:5 dev", "1:6 ops"]),
        ("/select/1:6/prometheus/api/v1/rules", "1:6", ["1:6 ops"]),
    ],
)
def test_each_grant_is_matched_by_itself(target: str, path: str, shown: list[str]) -> None:
    found = ready(target, granting(TWO))
    assert found.upstream is not None
    assert found.upstream.target == f"/select/{path}/prometheus/api/v1/rules"
    responded(found, EVERYTHING)
    document = json.loads(made(found, 200).body)
    assert [each["name"] for each in document["data"]["groups"]] == shown


def test_where_no_grant_allows_reading_nothing_is_asked() -> None:
    with pytest.raises(ForeignTenant):
        ready("/select/1:8/prometheus/api/v1/rules", granting(TWO))
    with pytest.raises(AccessDenied):
        ready("/api/v1/rules", granting(TWO))  # it names no tenant


@each("path", ["metadata", "series/count", "status/tsdb", "status/metric_names_stats", "status/top_queries"])
def test_what_does_not_tell_tenants_apart_is_closed_on_the_path_of_all(path: str) -> None:
    with pytest.raises((FiltersIgnored, TenantIgnored)):
        ready(f"/select/multitenant/prometheus/api/v1/{path}", clustered())


def test_without_tokens_the_path_names_whose_rules_are_shown() -> None:
    found = ready("/select/0:0/prometheus/api/v1/rules", clustered(auth=False))
    responded(found, RULES)
    assert len(json.loads(made(found, 200).body)["data"]["groups"][0]["rules"]) == 2
    for path in ("rules", "notifiers"):
        with pytest.raises(TenantIgnored):
            ready(f"/select/multitenant/prometheus/api/v1/{path}", clustered(auth=False))


def test_the_tenant_of_rules_may_be_one_for_all() -> None:
    found = ready("/api/v1/rules", clustered(rules_tenant=RulesTenant(always=TenantID(3))), token=token())
    responded(found, RULES)
    assert json.loads(made(found, 200).body)["data"]["groups"] == []


# --- the events -----------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_whole_response_is_there() -> None:
    found = ready("/api/v1/rules")
    responded(found, RULES[:10])
    assert (found.state, found.responding) == (State.RESPONDING, False)
    found.collect(RULES[10:])
    response = made(found, 200)
    assert response.status == 200
    assert b"secret" not in response.body
    headers = {name.lower(): value for name, value in response.headers}
    assert headers[b"content-length"] == str(len(response.body)).encode()
    assert headers[b"x-vmgateway-answer"] == b"filtered"
    assert headers.keys().isdisjoint((b"etag", b"x-rules"))
    assert found.answer_note == "1 of 2 rules shown"
    found.end()
    assert found.gateway is not None
    assert found.gateway.policy.held.used == 0


@each("how", ["too large", "lost", "refused", "left", "filtered", "not readable"])
def test_no_memory_stays_taken(how: str) -> None:
    by = gateway()
    by = replace(by, policy=replace(by.policy, held=HeldBytes(100)))
    found = ready("/api/v1/rules", by)
    responded(found, b"{" * 60)
    assert by.policy.held.used == 60
    if how == "too large":
        with pytest.raises(AnswerTooLarge) as refusal:
            found.collect(b"{" * 41)
        found.refuse(refusal.value)
    elif how == "lost":
        with pytest.raises(BackendUnreachable) as lost:
            found.lost("it closed the connection before the end of its response")
        assert not lost.value.cut_off
        found.refuse(lost.value)
    elif how == "refused":
        found.refuse(BadRequest("x"))
    elif how == "filtered":
        with pytest.raises(BadAnswer) as bad:
            made(found, 302)
        found.refuse(bad.value)
    elif how == "not readable":
        with pytest.raises(BadAnswer):
            made(found, 200)
    found.end()
    assert by.policy.held.used == 0


def test_the_events_are_allowed_while_responding_alone() -> None:
    with pytest.raises(WrongState):
        ready("/api/v1/rules").collect(b"")
    with pytest.raises(WrongState):
        made(ready("/api/v1/rules"), 200)


def test_without_patterns_only_a_large_answer_is_for_a_thread() -> None:
    found = ready("/api/v1/status/tsdb")
    responded(found, b" " * (64 << 10))
    assert not found.filters_long(JSON)
    assert found.filters_long((*JSON, (b"Content-Encoding", b"gzip")))
    found.collect(b" ")
    assert found.filters_long(JSON)


@each(
    "page",
    ["/metrics/find?query=*", "/metrics/expand?query=*", "/tags", "/tags/team", "/api/v1/rules", "/api/v1/alerts"],
)
def test_the_patterns_of_a_client_are_for_a_thread(page: str) -> None:
    found = ready(page)
    responded(found, b"")
    assert found.filters_long(JSON)


def test_an_answer_that_is_made_after_the_client_has_left_is_not_shown() -> None:
    found = ready("/api/v1/rules")
    responded(found, b'{"status":"success","data":{"groups":[]}}')
    make = found.filtering(200, JSON)
    found.end()
    with pytest.raises(WrongState):
        found.filtered(make())


def test_the_names_that_a_token_can_see_are_kept_for_a_while() -> None:
    by = gateway()
    first = ready("/api/v1/metadata", by)
    request = first.names_request(100.0)
    assert request is not None
    assert request.target == (
        "/api/v1/label/__name__/values?start=0&extra_label=team%3Ddev&match[]=%7Bteam%3D%22dev%22%7D"
    )
    first.names(VisibleNames(frozenset("a"), 100), 100.0)
    assert first.names_request(100.0) is None
    responded(first, b'{"data":{"a":[],"secret":[]}}')
    assert json.loads(made(first, 200).body)["data"] == {"a": []}
    again = ready("/prometheus/api/v1/metadata", by)
    assert again.names_request(129.0) is None
    responded(again, b'{"data":{"a":[],"secret":[]}}')
    assert json.loads(made(again, 200).body)["data"] == {"a": []}
    assert ready("/api/v1/metadata", by).names_request(130.0) is not None
    ops = token(extra_labels={"team": "ops"})
    assert ready("/api/v1/metadata", by, token=ops).names_request(101.0) is not None


def test_without_names_a_response_that_needs_them_is_refused() -> None:
    found = ready("/api/v1/metadata")
    responded(found, b'{"data":{"secret":[]}}')
    with pytest.raises(BadAnswer):
        made(found, 200)
