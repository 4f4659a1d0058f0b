"""The configuration in force: one frozen value, which a reload replaces whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vmgw_addons.outgoing import Datasource, UpstreamTLS
from vmgw_addons.support import Outages, Secret, StateFile, Turns
from vmgw_core.backends import BackendGroup, Concurrency, Member
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Gateway, Policy
from vmgw_core.errors import BackendFailure
from vmgw_core.http import HeaderEdit
from vmgw_core.limits import Guards, Limiter, LimitFile
from vmgw_core.tokens import KeyRing
from vmgw_core.usage import Accounting

from .exchange import Exchange
from .page_access import PageAccess
from .request_log import RequestLog, ResponseLog, Traces
from .shadow import LiveShadow
from .usage_store import UsageStore
from .wire_limits import WireLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Configured:
    """What the flags and their files configure. By default nothing: every request is refused."""

    settings: Settings = field(default_factory=Settings)
    policy: Policy | None = None
    keyring: KeyRing | None = None
    limiter: Limiter | None = None
    """None without limits; else a reload keeps the same object."""
    limit_file: LimitFile = field(default_factory=LimitFile)
    """What ``-ratelimit.config`` says."""
    concurrency: Concurrency | None = None
    """None if no limit was ever set; else a reload keeps the same object."""
    upstream_tls: Mapping[tuple[str, int], UpstreamTLS] = field(default_factory=dict)
    page_access: PageAccess | None = None
    header_edit: HeaderEdit = field(default_factory=HeaderEdit)
    access_log: RequestLog | None = None
    query_log: ResponseLog | None = None
    """Stays the same object over reloads."""
    traces: Traces | None = None
    """Stays the same object over reloads."""
    datasource: Datasource | None = None
    exchange: Exchange | None = None
    usage_log: ResponseLog | None = None
    accounting: Accounting | None = None
    """What the usage log counts with. Stays the same object over reloads."""
    usage_store: UsageStore | None = None
    """Where the usage report is kept; None without one."""
    state_file: StateFile | None = None
    """Stays the same object over reloads."""
    login_secret: Secret | None = None
    """The client's secret at the identity provider; None without a login."""
    shadow: LiveShadow | None = None
    """The candidate configuration that judges each request too; None without ``-shadow.*``."""
    outages: Outages = field(default_factory=Outages)
    """Stays the same object over reloads."""
    turns: Turns = field(default_factory=Turns)
    """For long tasks of requests. Stays the same object over reloads."""
    request_logs: tuple[RequestLog, ...] = field(init=False)
    """All logs that are told of each request."""
    response_log: ResponseLog | None = field(init=False)
    """The log that is told of each response; one is enough, since they want the same of it."""
    limits: WireLimits = field(init=False)
    gateway: Gateway | None = field(init=False)
    """What decides on the next request; None without a policy."""

    def __post_init__(self) -> None:
        gateway = None
        if self.policy is not None:
            gateway = Gateway(
                policy=self.policy,
                clock=time.monotonic,
                limiter=self.limiter,
                concurrency=self.concurrency,
                keys=self.keyring,
                max_queue=self.settings.max_queue_duration,
                backend_result=self.note_backend,
                ask=None if self.exchange is None else self.exchange.accounts.ask,
                later=self.turns.add,
                guards=Guards(self.limit_file.guards) if self.limit_file.guards else None,
                tells_limits=self.settings.ratelimit_headers,
                reports_rows=self.usage_log is not None,
                shadow=None if self.shadow is None else self.shadow.note,
            )
        object.__setattr__(self, "gateway", gateway)
        candidates = (self.access_log, self.query_log, self.usage_log, self.traces, self.shadow)
        logs = tuple(log for log in candidates if log is not None)
        object.__setattr__(self, "request_logs", logs)
        object.__setattr__(self, "response_log", self.query_log or self.usage_log)
        object.__setattr__(self, "limits", WireLimits.of(self.settings))

    @property
    def keyrings(self) -> tuple[tuple[KeyRing, Settings, str], ...]:
        """The key rings, with the settings of their fetches and what begins the names of their sources."""
        if self.keyring is None:
            return ()
        live = (self.keyring, self.settings, "")
        if self.shadow is None or self.shadow.keyring is self.keyring:
            return (live,)
        return live, (self.shadow.keyring, self.shadow.settings, "shadow: ")

    @property
    def groups(self) -> list[BackendGroup]:
        """The groups of ``-read.url`` and ``-write.url``."""
        policy = self.policy
        return [] if policy is None else [group for group in (policy.read, policy.write) if group is not None]

    def note_backend(self, member: Member, failure: BackendFailure | None) -> None:
        """Count and log that a request to a backend, or a probe, failed, or with None that it succeeded again."""
        backend = member.backend
        outage = self.outages.of(f"-{backend.flag} {backend}", logger, "")
        if failure is None:
            outage.succeeded(f"-{backend.flag}: {backend} responds again")
            return
        chosen = member.up or any(group.only is member for group in self.groups)
        fate = (
            f"requests to it are answered {failure.status}" if chosen else "it gets no requests until it responds again"
        )
        if failure.cut_off:
            fate = "its response ends too early for the client"
        outage.failed(f"{failure} ({backend})", failure.cause, consequence=fate)


class InForce:
    """Holds the configuration in force. Read it from here for each request."""

    def __init__(self, configured: Configured | None = None) -> None:
        self.configured = configured or Configured()
        self.certificate_ends: dict[str, float] = {}
        """When the gateway's own certificates expire (Unix time), by the flag of their file."""

    @property
    def outages(self) -> Outages:
        return self.configured.outages

    def use_limits(self, file: LimitFile) -> None:
        """Put the limits of a file in force, and let the requests go on that have room now."""
        configured, settings = self.configured, self.configured.settings
        if configured.limiter is not None:
            configured.limiter.replace(file.limits)
        total, of_tenant = settings.max_concurrent_requests, settings.max_concurrent_per_tenant
        slots = configured.concurrency
        if slots is None and (total or of_tenant or file.concurrency):
            slots = Concurrency(total, of_tenant)
        self.configured = replace(configured, limit_file=file, concurrency=slots)
        if slots is not None:
            for waiter in slots.resize(total, of_tenant, file.concurrency):
                waiter()

    def use_keys(self, changed: KeyRing | None = None) -> None:
        """Put the present keys of a key ring in force, or of all of them. Drops the cache of verified tokens."""
        policy, keyring, shadow = self.configured.policy, self.configured.keyring, self.configured.shadow
        if shadow is not None and changed in (None, shadow.keyring):
            shadow.use_keys()
        if policy is not None and keyring is not None and changed in (None, keyring):
            policy.verifier.replace_keys(keyring.keyset)
            policy = replace(policy, keys_awaited=policy.auth and keyring.waiting)
            self.configured = replace(self.configured, policy=policy)


def describe_keys(configured: Configured) -> str:
    """Describe in one line what verifies tokens."""
    if configured.policy is not None and not configured.policy.auth:
        return "-enable.auth is not set: NO token is needed, anybody who can connect can use any tenant"
    credentials = None if configured.policy is None else configured.policy.credentials
    beside = "" if credentials is None else f", {len(credentials)} credentials"
    keyset = configured.keyring.keyset if configured.keyring is not None else None
    if keyset is None:
        return "0 keys loaded: token signatures are NOT verified, anybody can make a token"
    return f"{len(keyset)} key{'' if len(keyset) == 1 else 's'}{beside} loaded"
