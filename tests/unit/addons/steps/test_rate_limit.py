"""The rate limit in the flow lane: what becomes of a flow, and of the limiter's warnings."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.test import tflow
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from tests.support.core import keys
from vmgw_addons.observability.limit_metrics import LimitMetrics
from vmgw_addons.state import Configured, Cycles, InForce, Process, Reloads
from vmgw_addons.steps.forwarding import Forwarding
from vmgw_addons.steps.rate_limit import RateLimit
from vmgw_addons.support import Background
from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup
from vmgw_core.base.tenants import Access, Subject, TenantID
from vmgw_core.enforcement.admission import Policy
from vmgw_core.enforcement.cycle import Cycle, State
from vmgw_core.errors import BadLabels
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit, LimitType, Resolution
from vmgw_core.tokens.verifier import TokenVerifier

BACKEND = Backend.parse("http://backend", "read.url")


def limit(limit_type: LimitType = LimitType.QUERIES, value: int = 1, **parts: object) -> Limit:
    given: dict[str, object] = {"resolution": Resolution.MINUTE, "tenant": None, "total": False, "labels": (), **parts}
    return Limit(type=limit_type, value=value, **given)  # type: ignore[arg-type]


POLICY = Policy(
    verifier=TokenVerifier(None),
    cluster=False,
    read=BackendGroup((BACKEND,)),
    write=BackendGroup((BACKEND,)),
    max_form_size=1000,
    tell_why=False,
    check_label_names=False,
)
TOKEN = keys.compact({"alg": "RS256"}, keys.claims(vm_access={"tenant_id": {"account_id": 1, "project_id": 5}}))


class Limited:
    """The rate limit of a gateway, and flows for it."""

    def __init__(self, limiter: Limiter | None = None, policy: Policy = POLICY) -> None:
        self.in_force = InForce(Configured(policy=policy, limiter=limiter))
        self.cycles = Cycles()
        self.rate_limit = RateLimit(self.in_force, Background(), self.cycles)

    def entered(self, path: str = "/api/v1/query", method: str = "GET") -> tuple[HTTPFlow, Cycle]:
        """A flow that access control has let through, and that has its place."""
        flow = tflow.tflow()
        flow.request.path, flow.request.method = path, method
        flow.request.headers["Authorization"] = f"Bearer {TOKEN}"
        if "import" not in path:  # on all other paths a body must be a form
            del flow.request.headers["Content-Length"]
        cycle = self.cycles.of(flow)
        cycle.at = float(keys.NOW)
        cycle.authorize(self.in_force.configured.gateway)
        assert cycle.enter()
        return flow, cycle

    def counted(self, path: str = "/api/v1/query", method: str = "GET") -> tuple[HTTPFlow, Cycle]:
        """A flow that the rate limit has seen too."""
        flow, cycle = self.entered(path, method)
        self.rate_limit.requestheaders(flow)
        return flow, cycle


class Broken(Limiter):
    """A limiter with a bug."""

    def admit(self, subject: Subject, access: Access, now: float, client: str = "", size: int | None = None) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("limiter", "status"),
    [(None, None), (Limiter([limit()]), None), (Broken(), 500)],
    ids=["no limits", "within", "a bug"],
)
def test_a_flow_goes_on_only_where_it_was_counted(limiter: Limiter | None, status: int | None) -> None:
    flow, cycle = Limited(limiter).counted()
    assert (flow.response.status_code if flow.response else None) == status
    assert (cycle.state is State.COUNTED) is (status is None)


def test_a_flow_beyond_a_limit_is_answered() -> None:
    limited = Limited(Limiter([limit()]))
    limited.counted()
    flow, cycle = limited.counted()
    assert flow.response is not None
    assert flow.response.status_code == 429
    assert flow.response.headers["Retry-After"] in ("60", "61")
    assert cycle.refusal is not None
    assert cycle.refusal.__traceback__ is None  # it would hold the flow for ever
    assert cycle.state is State.REFUSED


def test_what_was_not_counted_is_not_forwarded() -> None:
    """mitmproxy goes on after a hook that raised: so the next one looks whether the one before did its part."""
    limited = Limited()
    flow, cycle = limited.entered()
    host = flow.request.host
    forwarding = Forwarding(limited.in_force, Process(), limited.cycles)
    forwarding.requestheaders(flow)
    forwarding.request(flow)
    assert cycle.upstream is None
    assert flow.request.host == host


@pytest.mark.parametrize(
    ("path", "method", "limits", "metered"),
    [
        ("/api/v1/import/prometheus", "POST", [limit(LimitType.ROWS_INSERTED)], True),
        ("/api/v1/import/prometheus", "POST", [limit()], False),
        ("/datadog/api/v1/validate", "POST", [limit(LimitType.ROWS_INSERTED)], False),
        ("/api/v1/query", "GET", [limit(LimitType.ROWS_INSERTED)], False),
        ("/api/v1/admin/tsdb/delete_series", "POST", [limit(LimitType.ROWS_INSERTED)], False),
    ],
)
def test_bodies_are_metered_where_rows_are_limited(path: str, method: str, limits: list[Limit], metered: bool) -> None:
    limiter = Limiter(limits)
    _, cycle = Limited(limiter).counted(path, method)
    assert (cycle.meter is not None) is metered
    assert cycle.state is State.COUNTED
    if cycle.meter is not None:
        assert cycle.meter.feed(b"m 1\n") + cycle.meter.finish() == b"m 1\n"
        assert [usage.usage for usage in limiter.status(time.monotonic())] == [1]


@pytest.mark.parametrize("limits", [[], [limit(LimitType.ROWS_INSERTED)]], ids=["no limit", "a limit"])
@pytest.mark.parametrize("lane_limiter", [False, True], ids=["no limiter", "a limiter"])
def test_label_names_are_checked_with_and_without_limits(limits: list[Limit], lane_limiter: bool) -> None:
    limited = Limited(Limiter(limits) if lane_limiter else None, replace(POLICY, check_label_names=True))
    flow, cycle = limited.counted("/api/v1/import/prometheus", "POST")
    assert flow.response is None
    cycle.prepare()
    with pytest.raises(BadLabels, match="line 2"):
        cycle.body(b'm{a="b"} 1\nm{\xfe="b"} 1\n', end=True)
    flow, cycle = limited.counted()
    assert cycle.state is State.COUNTED
    assert cycle.meter is None
    # What the head says is refused at once.
    flow, cycle = limited.counted("/api/v1/import/prometheus?extra_label=%FE=x", "POST")
    assert flow.response is not None
    assert flow.response.status_code == 400


def test_warnings_are_logged_in_a_bounded_number(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([limit(), limit(value=3, total=True)], max_tenants=100)
    rate_limit = Limited(limiter).rate_limit
    with caplog.at_level(logging.WARNING):
        rate_limit.report()
        assert not caplog.messages
        for number in range(3):
            limiter.admit(Subject(TenantID(number)), Access.READ, 0)
        rate_limit.report()
        assert caplog.messages == [
            "near a limit: tenant 0:0 has used 1 of 1 queries per minute",
            "near a limit: tenant 1:0 has used 1 of 1 queries per minute",
            "near a limit: tenant 2:0 has used 1 of 1 queries per minute",
            "near a limit: all tenants together have used 3 of 3 queries per minute",
        ]
        caplog.clear()
        limiter.replace([limit()])
        for number in range(50):
            limiter.admit(Subject(TenantID(number)), Access.READ, 1000)
        rate_limit.report()
        assert len(caplog.messages) == 11
        assert caplog.messages[-1] == "near a limit: 40 more"
    assert sum(rate_limit.near.values()) == 54


def labels(known: int) -> Callable[[str], str]:
    names: set[str] = set()

    def label(tenant: str) -> str:
        if tenant not in names and len(names) >= known:
            return "other"
        names.add(tenant)
        return tenant

    return label


def test_metrics_name_a_bounded_number_of_tenants() -> None:
    now = time.monotonic()
    limiter = Limiter([limit(value=2), limit(value=900, total=True), limit(value=2, labels=(("a", "b"),))])
    limited = Limited(limiter)
    rate_limit = limited.rate_limit
    for number in range(5):
        subject = Subject(TenantID(number), (("a", "b"),))
        for _ in range(2):
            limiter.admit(subject, Access.READ, now)
        for _ in range(3):
            with pytest.raises(Exception, match="rate limited"):
                limiter.admit(subject, Access.READ, now)
    rate_limit.report()
    registry = CollectorRegistry()
    registry.register(LimitMetrics(limited.in_force, Reloads(), rate_limit, labels(known=2)))
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    total = 'resolution="minute",tenant="total",type="queries"'
    assert f'vmgateway_tenant_limit{{class="",labels="",{total}}} 900.0' in lines
    assert f'vmgateway_tenant_usage{{class="",labels="",{total}}} 10.0' in lines
    assert len([line for line in lines if line.startswith("vmgateway_tenant_usage")]) == 1 + 2 * 2
    assert any('labels="{a=\\"b\\"}"' in line for line in lines)
    rejects = [line for line in lines if line.startswith("vmgateway_ratelimit_rejects_total")]
    assert len(rejects) == 3
    assert 'vmgateway_ratelimit_rejects_total{resolution="minute",tenant="other",type="queries"} 9.0' in rejects
    assert 'vmgateway_ratelimit_warnings_total{resolution="minute",tenant="other",type="queries"} 6.0' in lines
    assert "vmgateway_ratelimit_tenants 5.0" in lines


def test_without_limits_there_is_only_the_count_of_reloads() -> None:
    limited = Limited()
    registry = CollectorRegistry()
    registry.register(LimitMetrics(limited.in_force, Reloads(), limited.rate_limit, labels(known=2)))
    text = generate_latest(registry).decode()
    assert 'vmgateway_ratelimit_config_reloads_total{result="error"} 0.0' in text
    assert "vmgateway_tenant_limit" not in text


def test_what_other_rules_would_have_refused_is_logged_in_a_bounded_number(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter()
    for number in range(12):
        limiter.note(LimitType.CONCURRENCY, TenantID(number), 0.0, beyond=f"tenant {number}:0 has too many")
    rate_limit = Limited(limiter).rate_limit
    with caplog.at_level(logging.WARNING):
        rate_limit.report()
        lines = [f"beyond a limit: tenant {number}:0 has too many" for number in range(10)]
        assert caplog.messages == [*lines, "beyond a limit: 2 more"]
        rate_limit.report()
        assert len(caplog.messages) == 11
