"""The state of one gateway process: the policy in force, the keys behind it, and the cycle of each flow."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary

from mitmproxy.http import HTTPFlow

from vmgw_addons.outgoing import Datasource, UpstreamTLS
from vmgw_addons.support import Background, ThreadWriter
from vmgw_core.backends import Concurrency, Member
from vmgw_core.base import is_credential_header
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Cycle, Gateway, Policy
from vmgw_core.http import HeaderEdit, RequestHead
from vmgw_core.limits import Limiter
from vmgw_core.tokens import KeyRing

from .capture_status import CaptureStatus
from .exchange import Exchange
from .page_access import PageAccess
from .request_log import RequestLog
from .wire_limits import WireLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One of ``count`` processes on one port. ``directory`` is theirs alone, and goes with them."""

    parent: int
    slot: int
    count: int
    directory: Path


class Runtime:
    """The state of one gateway process.

    ``policy`` is None until a configuration was accepted: then every request is refused. ``limiter`` is None where no
    limits are enforced; else it stays the same object over reloads.
    """

    def __init__(self) -> None:
        self.settings = Settings()
        self.background = Background()
        self.limits = WireLimits.of(self.settings)
        self.policy: Policy | None = None
        self.keyring: KeyRing | None = None
        self.limiter: Limiter | None = None
        self.concurrency: Concurrency | None = None
        """None where no limit was ever set; else it stays the same object."""
        self.datasource: Datasource | None = None
        self.exchange: Exchange | None = None
        self.upstream_tls: dict[tuple[str, int], UpstreamTLS] = {}
        self.interactive = False
        """Whether somebody looks at flows, so that more of them is kept."""
        self.access_log: RequestLog | None = None
        self.log: ThreadWriter[str] | None = None
        """What writes the log; None in mitmproxy's tools, which write it themselves."""
        self.page_access: PageAccess | None = None
        self.header_edit = HeaderEdit()
        self.draining = False
        self.offline: bool | None = None
        """Whether no listener is wanted (``mitmdump -n``); None until a configuration was accepted."""
        self.capture = CaptureStatus()
        self.worker: Worker | None = None
        """Which of several processes this is; None where it is the only one."""
        self.fast = False
        """Whether the fast lane carries what it can; set by the launcher."""
        self.reloads = {"success": 0, "error": 0}
        self.limit_reloads = {"success": 0, "error": 0}
        # Flows are saved to files with their metadata, so what is no plain data is kept beside them.
        self.cycles: WeakKeyDictionary[HTTPFlow, Cycle] = WeakKeyDictionary()
        self._gateway: Gateway | None = None

    @property
    def gateway(self) -> Gateway | None:
        """What is in force for the next request; None until a configuration was accepted."""
        policy, made = self.policy, self._gateway
        if policy is None:
            return None
        if (
            made is None
            or made.policy is not policy
            or made.limiter is not self.limiter
            or made.concurrency is not self.concurrency
        ):
            made = self._gateway = Gateway(
                policy=policy,
                clock=time.monotonic,
                limiter=self.limiter,
                concurrency=self.concurrency,
                max_queue=self.settings.max_queue_duration,
                backend_changed=tell_of_backend,
            )
        return made

    def limit_concurrency(self) -> None:
        """Hold requests to ``-maxConcurrentRequests`` and ``-maxConcurrentPerTenant``."""
        total = self.settings.max_concurrent_requests
        of_tenant = self.settings.max_concurrent_per_tenant
        if self.concurrency is not None:
            for waiter in self.concurrency.resize(total, of_tenant):
                waiter()
        elif total or of_tenant:
            self.concurrency = Concurrency(total, of_tenant)

    def use_keys(self) -> None:
        """Put the key ring's present keys in force, and so drop the tokens verified with the old ones."""
        if self.policy is not None and self.keyring is not None:
            self.policy.verifier.replace_keys(self.keyring.keyset)
            self.policy = replace(self.policy, keys_awaited=self.policy.auth and self.keyring.waiting)

    def hide_token(self, flow: HTTPFlow) -> None:
        """Take credentials out of a flow's request, so that whoever prints or saves it does not come by a token.

        The decision has the head as it came, and no flow is saved with that.
        """
        header = self.policy.token_header if self.policy is not None else b"authorization"
        flow.request.headers.fields = tuple(
            field
            for field in flow.request.headers.fields
            if field[0].lower() != header and not is_credential_header(field[0])
        )

    def cycle_of(self, flow: HTTPFlow) -> Cycle:
        """The cycle of ``flow``, begun if there is none yet."""
        cycle = self.cycles.get(flow)
        if cycle is None:
            cycle = self.cycles[flow] = Cycle(head_of(flow), at=time.time(), started=time.perf_counter())
        return cycle


def tell_of_backend(member: Member) -> None:
    """Log that one of several backends was set aside, or answers again."""
    backend = member.backend
    if member.up:
        logger.info(f"-{backend.flag}: {backend} answers again")
    else:
        logger.warning(f"-{backend.flag}: {backend} failed and is set aside until it answers")


def head_of(flow: HTTPFlow) -> RequestHead:
    """The head of a flow's request, as the core reads it."""
    data = flow.request.data
    peer = flow.client_conn.peername
    return RequestHead(
        method=data.method.decode("ascii", "replace"),
        target=data.path.decode("utf-8", "surrogateescape"),
        headers=data.headers.fields,
        client=peer[0] if peer else "unknown",
    )
