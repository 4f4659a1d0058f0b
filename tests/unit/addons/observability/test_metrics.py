from __future__ import annotations

from dataclasses import replace

from tests.support.wire.tokens import tenant
from tests.unit.addons.observability.test_access_log import KEY, POLICY
from vmgw_addons.observability.metrics import Telemetry
from vmgw_addons.observability.tenant_metrics import Traffic
from vmgw_addons.state import Configured, Cycles, InForce
from vmgw_core.configuration import Settings
from vmgw_core.enforcement.cycle import Cycle, Gateway
from vmgw_core.errors import BackendUnreachable, Refusal, TokenExpired, UnknownRoute
from vmgw_core.http.head import RequestHead
from vmgw_core.pages import holder
from vmgw_core.tokens import TokenSource


def telemetry() -> Telemetry:
    return Telemetry(InForce(Configured(settings=Settings(metrics_max_tenants=2))), Cycles())


def cycle(refusal: Refusal | None = None) -> Cycle:
    made = Cycle(RequestHead(method="GET", target="/", headers=(), client="127.0.0.1"), at=0.0, started=0.0)
    if refusal is not None:
        made.refuse(refusal)
    return made


def test_the_number_of_tenants_is_bounded() -> None:
    page = telemetry()
    assert [page.tenant_label(tenant) for tenant in ("1:0", "2:0", "3:0", "1:0")] == ["1:0", "2:0", "other", "1:0"]


def test_refusals_are_counted_by_reason_and_outcome() -> None:
    page = telemetry()
    page.count(cycle(TokenExpired("x")), 401)
    page.count(cycle(UnknownRoute("x")), 404)
    page.count(cycle(BackendUnreachable("x")), 502)
    page.count(cycle(), None)
    text = page.exposition()[0].decode()
    assert 'vmgateway_auth_rejects_total{reason="expired"} 1.0' in text
    assert 'vmgateway_auth_rejects_total{reason="unknown_route"}' not in text
    assert 'vmgateway_refusals_total{reason="unknown_route"} 1.0' in text
    assert 'vmgateway_requests_total{access="none",outcome="refused",tenant="none"} 2.0' in text
    assert 'vmgateway_requests_total{access="none",outcome="failed",tenant="none"} 2.0' in text


def test_traffic_counts_errors_by_class_and_what_was_broken_off() -> None:
    traffic = Traffic()
    for status in (200, 204, 404, 429, 500, None):
        traffic.add("admitted", status, 0.5, 10, 100)
    assert (traffic.requests, traffic.seconds, traffic.received, traffic.sent) == (6, 3.0, 60, 600)
    assert traffic.outcomes == {"admitted": 6}
    assert dict(traffic.errors) == {"4xx": 2, "5xx": 1, "aborted": 1}


def test_a_refusal_under_a_policy_that_is_no_longer_in_force_is_its_holders() -> None:
    page = telemetry()
    policy = replace(POLICY, token_source=TokenSource(headers=(b"x-token",)))
    text = KEY.mint(tenant(1, 5), sub="alice")
    made = Cycle(
        RequestHead(
            method="GET", target="/api/v1/query", headers=((b"X-Token", f"Bearer {text}".encode()),), client="a"
        ),
        at=0.0,
        started=0.0,
    )
    made.authorize(Gateway(policy=policy, clock=lambda: 0.0))
    made.refuse(BackendUnreachable("x"))
    page.count(made, 502)
    assert 'vmgateway_requests_total{access="read",outcome="failed",tenant="1:5"} 1.0' in page.exposition()[0].decode()
    assert made.grant is not None
    assert made.grant.token is not None
    for found in (page.decisions.last(), page.decisions.of(holder(made.grant.token, text))):
        assert [(each.tenant, each.subject, each.status, each.path) for each in found] == [
            ("1:5", "alice", 502, "/api/v1/query")
        ]


def test_a_refused_token_is_nobodys() -> None:
    page = telemetry()
    page.count(cycle(TokenExpired("x")), 401)
    (found,) = page.decisions.last()
    assert (found.tenant, found.subject, found.status) == (None, None, 401)
