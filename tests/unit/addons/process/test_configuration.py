"""A configuration comes into force whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.core import keys
from vmgw_addons.process import Configuration
from vmgw_addons.state import InForce, Process, Reloads
from vmgw_core.backends import Seat
from vmgw_core.base import Subject, TenantID
from vmgw_core.configuration import parse
from vmgw_core.enforcement import Cycle
from vmgw_core.errors import ConfigurationError, InternalError, KeysUnavailable
from vmgw_core.http import RequestHead
from vmgw_core.limits import read_limits
from vmgw_core.tokens import Fetch

LIMITS = "limits:\n- type: queries\n  resolution: minute\n  value: {}\n"
FLAGS = ("enable.auth", "read.url=http://vm:8428")


class Configured:
    """What a configuration puts in force, without the rest of a gateway."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "limits.yaml"
        self.in_force = InForce()
        self.configuration = Configuration(self.in_force, Process(), Reloads(), Reloads())

    def apply(self, *flags: str) -> None:
        settings = parse([f"-{flag}" for flag in (*FLAGS, *flags)], {}).settings
        self.configuration.apply(settings)

    def limited(self, value: int) -> tuple[str, str]:
        """Write a file with one limit. Returns the flags for it."""
        self.file.write_text(LIMITS.format(value))
        return "enable.rateLimit", f"ratelimit.config={self.file}"


@pytest.fixture
def gateway(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def cycle() -> Cycle:
    token = keys.sign(keys.claims(exp=4102444800), keys.ec_key())
    head = RequestHead(
        method="GET",
        target="/api/v1/query?query=up",
        headers=((b"Host", b"a"), (b"Authorization", f"Bearer {token}".encode())),
        client="192.0.2.1",
    )
    return Cycle(head, at=float(keys.NOW), started=0.0)


def test_without_a_configuration_every_request_is_refused() -> None:
    with pytest.raises(InternalError, match="no usable configuration"):
        cycle().authorize(InForce().configured.gateway)


def test_a_reload_replaces_the_value_and_keeps_what_counts(gateway: Configured) -> None:
    gateway.apply("maxConcurrentRequests=1", "http.maxHeaders=7", *gateway.limited(5))
    first = gateway.in_force.configured
    assert first.limiter is not None
    assert first.concurrency is not None
    gateway.apply("maxConcurrentRequests=2", "http.maxHeaders=8", "maxQueueDuration=1s", *gateway.limited(6))
    second = gateway.in_force.configured
    assert (first.settings.http_max_headers, first.limits.head.fields) == (7, 7), "nobody sees a half of it"
    assert (second.settings.http_max_headers, second.limits.head.fields) == (8, 8)
    assert second.limiter is first.limiter
    assert second.limit_file == read_limits(gateway.file.read_bytes(), "file")
    assert second.limiter.limits == second.limit_file.limits
    assert second.concurrency is first.concurrency
    assert (second.concurrency.total, second.concurrency.of_tenant) == (2, 0)
    assert second.gateway is not None
    assert second.gateway.policy is second.policy
    assert second.gateway.limiter is second.limiter
    assert second.gateway.concurrency is second.concurrency
    assert second.gateway.max_queue == 1.0


def test_limits_that_are_no_longer_asked_for_are_gone(gateway: Configured) -> None:
    gateway.apply("maxConcurrentRequests=1", *gateway.limited(5))
    gateway.apply()
    configured = gateway.in_force.configured
    assert configured.limiter is None
    assert configured.concurrency is not None, "requests in flight give their places back to it"
    assert configured.concurrency.total == 0


@pytest.mark.parametrize("flag", ["read.url=nonsense", "auth.publicKeyFiles=/none", "http.pathPrefix=a?b"])
def test_a_bad_configuration_changes_nothing(gateway: Configured, flag: str) -> None:
    gateway.apply()
    before = gateway.in_force.configured
    with pytest.raises(ConfigurationError):
        gateway.apply(flag)
    assert gateway.in_force.configured is before


def test_who_waited_for_a_place_goes_on_under_the_new_configuration(gateway: Configured) -> None:
    gateway.apply("maxConcurrentRequests=1", "http.maxHeaders=7")
    concurrency = gateway.in_force.configured.concurrency
    assert concurrency is not None
    concurrency.enter(Seat(Subject(TenantID())))
    seen: list[int] = []
    concurrency.wait(Seat(Subject(TenantID())), lambda: seen.append(gateway.in_force.configured.limits.head.fields))
    gateway.apply("maxConcurrentRequests=2", "http.maxHeaders=8")
    assert seen == [8]


def test_a_reload_of_the_limits_brings_concurrency_and_guards_and_takes_them_away(gateway: Configured) -> None:
    gateway.apply(*gateway.limited(5))
    assert gateway.in_force.configured.concurrency is None
    text = "limits: [{type: concurrency, value: 1}]\nguards: [{max_range: 1d}]"
    gateway.in_force.use_limits(read_limits(text, "x"))
    with_file = gateway.in_force.configured
    assert with_file.gateway is not None
    assert with_file.concurrency is not None
    assert with_file.gateway.concurrency is with_file.concurrency
    assert with_file.gateway.guards is not None
    running, waiting = Seat(Subject(TenantID())), Seat(Subject(TenantID()))
    assert with_file.concurrency.enter(running)
    assert not with_file.concurrency.enter(waiting)
    seen: list[bool] = []

    def granted() -> None:
        now = gateway.in_force.configured.gateway
        seen.append(now is not None and now.guards is None)

    with_file.concurrency.wait(waiting, granted)
    gateway.in_force.use_limits(read_limits("limits: []", "x"))
    assert seen == [True]
    assert gateway.in_force.configured.concurrency is with_file.concurrency


def test_new_keys_come_into_force_with_a_policy_that_has_them(gateway: Configured) -> None:
    gateway.apply("auth.jwksEndpoints=http://idp/keys")
    before = gateway.in_force.configured
    assert before.keyring is not None
    with pytest.raises(KeysUnavailable):
        cycle().authorize(before.gateway)
    [fetch] = before.keyring.due(float(keys.NOW))
    assert isinstance(fetch, Fetch)
    before.keyring.received(fetch, keys.jwks(keys.jwk(keys.ec_key())), float(keys.NOW))
    gateway.in_force.use_keys()
    cycle().authorize(gateway.in_force.configured.gateway)
    assert gateway.in_force.configured.settings is before.settings
    assert gateway.in_force.configured.keyring is before.keyring


def test_the_state_file_and_the_counts_of_the_report_stay_over_a_reload(gateway: Configured, tmp_path: Path) -> None:
    flags = (f"ratelimit.stateFile={tmp_path / 'state'}", "usage.retention=1d")
    gateway.apply(*flags)
    before = gateway.in_force.configured
    assert before.request_logs == (before.usage_log,)
    assert before.gateway is not None
    assert before.gateway.reports_rows
    gateway.apply(*flags, "usage.maxSubjects=7")
    after = gateway.in_force.configured
    assert after.state_file is before.state_file is not None
    assert after.usage_store is before.usage_store is not None
    assert after.accounting is not None
    assert after.accounting is before.accounting
    assert after.accounting.most == 7
    with pytest.raises(ConfigurationError, match=r"^-ratelimit.stateFile: it cannot change while the gateway runs$"):
        gateway.apply(f"ratelimit.stateFile={tmp_path / 'other'}", "usage.retention=1d")


def test_captures_that_are_read_again_do_not_count(gateway: Configured, tmp_path: Path) -> None:
    gateway.configuration.process.offline = True
    gateway.apply(f"ratelimit.stateFile={tmp_path / 'state'}", "usage.retention=1d")
    configured = gateway.in_force.configured
    assert (configured.state_file, configured.usage_store, configured.request_logs) == (None, None, ())
