"""What the addons share: the policy in force, the keys behind it, and the decision taken for each flow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mitmproxy.http import HTTPFlow

from vmgw_core.answers import HeaderEdit
from vmgw_core.backends import Member
from vmgw_core.concurrency import Concurrency
from vmgw_core.discovery import KeyRing
from vmgw_core.errors import Refusal
from vmgw_core.flags import FLAGS
from vmgw_core.gateway import Grant, Policy, UpstreamRequest
from vmgw_core.head import HeadLimits, RequestHead
from vmgw_core.limits import Limiter
from vmgw_core.metering import RowMeter

from .background import Background
from .capture_file import CaptureStatus
from .datasource import Datasource
from .exchange import Exchange
from .thread_writer import ThreadWriter
from .upstream_tls import UpstreamTLS

if TYPE_CHECKING:
    from .access_log import AccessLog
    from .page_access import PageAccess

Settings = Mapping[str, object]
"""Flag name to parsed value, as :mod:`vmgw_core.commandline` returns them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One of ``count`` processes on one port. ``directory`` is theirs alone, and goes with them."""

    parent: int
    slot: int
    count: int
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """What a client may send, and how long a client or a backend may take. Sizes are bytes, times seconds."""

    head: HeadLimits
    chunk_line: int
    pipelined: int
    head_timeout: float
    body_timeout: float
    idle_timeout: float
    connection_timeout: float
    response_timeout: float
    keep_alive: bool
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> WireLimits:
        """The limits that the flags ask for."""

        def number(flag: str) -> float:
            return float(str(settings[flag]))

        return cls(
            head=HeadLimits(
                size=int(number("http.maxHeadSize")),
                line=int(number("http.maxRequestLine")),
                fields=int(number("http.maxHeaders")),
            ),
            chunk_line=int(number("http.maxChunkLine")),
            pipelined=int(number("http.maxPipelined")),
            head_timeout=number("http.headTimeout"),
            body_timeout=number("http.bodyTimeout"),
            idle_timeout=number("http.idleConnTimeout"),
            connection_timeout=number("http.connTimeout"),
            response_timeout=number("backend.responseTimeout"),
            keep_alive=not settings["http.disableKeepAlive"],
            connections=int(number("http.maxConnections")),
        )


@dataclass(slots=True)
class Decision:
    """How far one request came. Each addon writes its own part, and none acts without the part before it.

    ``counted``: no limit stands in its way. Where ``meter`` is set, the body goes through it on its way to the backend.
    """

    head: RequestHead
    started: float
    at: float = field(default_factory=time.time)
    """When it is judged, Unix time in seconds."""
    own_page: bool = False
    policy: Policy | None = None
    grant: Grant | None = None
    counted: bool = False
    meter: RowMeter | None = None
    upstream: UpstreamRequest | None = None
    refusal: Refusal | None = None
    form: bytes | None = None
    """The form as the client sent it; kept in interactive tools, and up to ``-capture.maxBodySize`` for a capture."""
    told: tuple[Grant | None, UpstreamRequest | None, Refusal | None] | None = None  # what was shown to the user
    sent: int = 0
    """Bytes of the backend's answer passed on so far; counted only for the access log."""
    places: Concurrency | None = None
    """Where it has a place, as long as it has."""
    member: Member | None = None
    """What is known of the backend of ``grant``."""
    asked: float = 0.0
    """When that got the request, in seconds of ``time.perf_counter``; 0 before, and once it is over."""

    def refused(self, refusal: Refusal) -> None:
        """Note why. Its traceback goes: it holds the flow, and the flow would be kept for ever through its decision."""
        refusal.__traceback__ = refusal.__context__ = refusal.__cause__ = None
        self.refusal = refusal

    def verdict(self, status: int | None) -> str:
        """``admitted``, ``refused`` (by the gateway), or ``failed`` (there or at the backend, or broken off).

        ``status`` is that of the answer, None where there was none.
        """
        if self.refusal is not None and self.refusal.status < 500:
            return "refused"
        return "admitted" if self.refusal is None and status is not None else "failed"

    def passing(self, data: bytes) -> bytes:
        """Count a piece of the answer on its way."""
        self.sent += len(data)
        return data


class Runtime:
    """The state of one gateway process.

    ``policy`` is None until a configuration was accepted: then every request is refused. ``limiter`` is None where no
    limits are enforced; else it stays the same object over reloads.
    """

    def __init__(self) -> None:
        self.settings: Settings = {}
        self.background = Background()
        self.limits = WireLimits.of({flag.name: flag.default for flag in FLAGS})
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
        self.access_log: AccessLog | None = None
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
        self.decisions: WeakKeyDictionary[HTTPFlow, Decision] = WeakKeyDictionary()

    def limit_concurrency(self) -> None:
        """Hold requests to ``-maxConcurrentRequests`` and ``-maxConcurrentPerTenant``."""
        total = int(str(self.settings["maxConcurrentRequests"]))
        of_tenant = int(str(self.settings["maxConcurrentPerTenant"]))
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
        flow.request.headers.pop("authorization", None)
        if self.policy is not None:
            flow.request.headers.pop(self.policy.token_header.decode(), None)

    def decide(self, flow: HTTPFlow) -> Decision:
        """The decision of ``flow``, begun where there is none yet."""
        decision = self.decisions.get(flow)
        if decision is None:
            decision = self.decisions[flow] = Decision(head=head_of(flow), started=time.perf_counter())
        return decision


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
