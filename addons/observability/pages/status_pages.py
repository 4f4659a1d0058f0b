"""The gateway's own pages."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qs

from mitmproxy.http import HTTPFlow

from vmgw_addons.lanes.flow.upstreams import gate
from vmgw_addons.login import LoginPages
from vmgw_addons.observability.metrics import Telemetry
from vmgw_addons.observability.worker_metrics import WorkerMetrics
from vmgw_addons.state import Cycles, InForce, Process, hide_token
from vmgw_addons.state.page_access import page
from vmgw_addons.steps import respond
from vmgw_addons.support import Background, in_thread
from vmgw_core.configuration import flags_page
from vmgw_core.enforcement import TENANTS, Policy, awaited_by, tenants_page
from vmgw_core.errors import Awaited
from vmgw_core.http import CORS, Headers, RequestHead, Response
from vmgw_core.login import LOGIN_PAGES
from vmgw_core.tokens import KEY_WAIT

from .explain_page import EXPLAIN, answer
from .profiler import Profiler
from .state_pages import HTML, ME, StatePages

_ByToken = Callable[[Policy, RequestHead], Response | Awaitable[Response]]
_MAX_SECONDS: Final = 120
_DEFAULT_SECONDS: Final = "30"
_INDEX: Final = b"""<!DOCTYPE html>
<title>vmgateway: profiles</title>
<p><a href="profile?seconds=30">profile?seconds=30</a>: 30 seconds of this process, in pprof's format.</p>
<p>Open it with <code>go tool pprof</code> or <a href="https://www.speedscope.app">speedscope</a>.</p>
"""
_ROOT: Final = b"""<!DOCTYPE html>
<title>vmgateway</title>
<p>vmgateway: <a href="vmui/">vmui</a>, <a href="metrics">metrics</a>, <a href="flags">flags</a>,
<a href="-/status">status</a>, <a href="-/me">what your token grants</a></p>
"""


class StatusPages:
    """Serves ``/``, ``/health``, ``/-/…``, ``/ping``, ``/metrics``, ``/flags`` and ``/debug/pprof``.

    ``OPTIONS``, which asks for the CORS headers, is served for every path. ``login`` has the pages of the login.
    """

    def __init__(
        self,
        in_force: InForce,
        process: Process,
        background: Background,
        cycles: Cycles,
        telemetry: Telemetry,
        workers: WorkerMetrics,
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.cycles = cycles
        self.telemetry = telemetry
        self.workers = workers
        self.profiler = Profiler()
        self.login: LoginPages | None = None
        self.state = StatePages(in_force, process, background, telemetry, workers.calls)
        self.reload_all: Callable[[], Awaitable[bool]] | None = None
        """The action of ``/-/reload``: returns whether all processes have reloaded."""
        self.begin: Callable[[Policy], None] = lambda policy: None
        """Begins what a token waits for: ``AccessControl.begin``."""
        self.open: dict[str, Callable[[str], Response]] = {
            "/": lambda query: page(200, _ROOT, HTML, extra=CORS),
            "/health": lambda query: self.health(),
            "/-/healthy": lambda query: self.health(),
            "/-/ready": lambda query: self.ready(),
            "/ping": self.ping,
        }
        self.guarded: dict[str, tuple[str, Callable[[str], Response | Awaitable[Response]]]] = {
            "/metrics": ("metricsAuthKey", self.metrics),
            "/flags": ("flagsAuthKey", self.flags),
            "/-/status": ("flagsAuthKey", self.status),
            "/-/reload": ("reloadAuthKey", self.reload),
            "/debug/pprof": ("pprofAuthKey", self.profiles),
            "/debug/pprof/": ("pprofAuthKey", self.profiles),
            "/debug/pprof/profile": ("pprofAuthKey", self.profile),
        }

    def running(self) -> None:
        self.background.repeat("page_secrets", self.refresh)

    async def refresh(self) -> float:
        """Reload the file of a key or password within a second of a change."""
        access = self.in_force.configured.page_access
        if access is not None and access.has_files:
            await in_thread(access.refresh, "page secrets")
        return 1

    def page_for(self, method: str, target: str, headers: Headers) -> Response | Awaitable[Response] | None:
        """Return the page at ``target``, or None if the gateway has no such page.

        For HEAD the response has a body, which the caller leaves out.
        """
        path, _, query = target.partition("?")
        access = self.in_force.configured.page_access
        if access is not None and access.prefix:
            if not path.startswith(f"{access.prefix}/"):
                return None
            path = path.removeprefix(access.prefix)
        if method == "OPTIONS":
            return Response(status=204, headers=CORS, body=b"")
        policy = self.in_force.configured.policy
        login = None if policy is None or policy.login is None else self.login
        if login is not None and path not in self.open and path not in self.guarded:
            found = login.page_for(method, path, target, headers)
            if found is not None:
                return found
        if method not in ("GET", "HEAD") and (method, path) != ("POST", "/-/reload"):
            return None
        if path in self.open:
            return self.open[path](query)
        if policy is not None and policy.auth and (path == ME or (path == TENANTS and policy.cluster)):
            head = RequestHead(method=method, target=target, headers=headers, client="")
            return self.judged(head, self.state.own_access if path == ME else self.tenants)
        if path == EXPLAIN and access is not None:
            refusal = access.refuse("flagsAuthKey", query, headers)
            return refusal or answer(self.in_force.configured, headers, self.serves)
        if path not in self.guarded:
            return None
        if access is None:
            return page(503, b"the gateway is not configured\n")
        flag, content = self.guarded[path]
        if content == self.profile and method == "HEAD":
            content = self.profiles  # do not take a profile that is not sent
        return access.refuse(flag, query, headers) or content(query)

    def serves(self, policy: Policy, head: RequestHead) -> bool:
        """Whether a request gets a page of the gateway itself."""
        path = head.target.partition("?")[0]
        own = path.startswith(f"{policy.path_prefix}/") and path.removeprefix(policy.path_prefix)
        by_token = policy.auth and (own == ME or (own == TENANTS and policy.cluster))
        login = policy.login is not None and own in LOGIN_PAGES
        if head.method in ("GET", "HEAD"):
            return own in self.open or own in self.guarded or own == EXPLAIN or by_token or login
        return bool(own) and head.method == "OPTIONS"

    def requestheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """Respond in the flow lane. mitmproxy awaits what a hook returns."""
        if flow.response is not None:
            return None
        request = flow.request.data
        method, target = request.method.decode("ascii", "replace"), request.path.decode("utf-8", "surrogateescape")
        response = self.page_for(method, target, request.headers.fields)
        if response is None:
            return None
        self.cycles.of(flow).own_page = True
        hide_token(flow, self.in_force.configured.policy)
        if isinstance(response, Response):
            self.show(flow, response)
            return None
        return self.respond_later(flow, response)

    async def respond_later(self, flow: HTTPFlow, response: Awaitable[Response]) -> None:
        """Respond when the page is ready. Until then, nothing is read from the client."""
        reading = gate(flow.client_conn)
        reading.clear()
        try:
            self.show(flow, await response)
        finally:
            reading.set()

    def show(self, flow: HTTPFlow, response: Response) -> None:
        """Make ``response`` that of the flow, without its private headers: the lane adds them when it is sent."""
        self.cycles.of(flow).private_headers = response.private
        respond(flow, response)

    def judged(self, head: RequestHead, respond: _ByToken) -> Response | Awaitable[Response]:
        """Respond by the token of ``head``, after its key is fetched or its password is checked if that is needed."""
        policy, keyring = self.in_force.configured.policy, self.in_force.configured.keyring
        assert policy is not None
        awaited = awaited_by(keyring, policy, head, time.time())
        return respond(policy, head) if awaited is None else self._judged_later(awaited, policy, head, respond)

    async def _judged_later(self, awaited: Awaited, policy: Policy, head: RequestHead, respond: _ByToken) -> Response:
        done = asyncio.Event()
        if awaited.wait(done.set, time.time()):
            self.begin(policy)
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), KEY_WAIT)
            finally:  # also if the client leaves
                awaited.give_up(done.set)
        found = respond(self.in_force.configured.policy or policy, head)
        return found if isinstance(found, Response) else await found

    def tenants(self, policy: Policy, head: RequestHead) -> Response:
        """Return the tenants of the token."""
        page = tenants_page(policy, head, time.time())
        assert page is not None  # there is one in a cluster, which never changes
        return page

    # --- open to everybody -----------------------------------------------------------------------------------------

    def health(self) -> Response:
        """Respond 503 during a shutdown, so that load balancers send new requests elsewhere."""
        if self.process.draining:
            return page(503, b"The service is shutting down\n", extra=CORS)
        return page(200, b"OK", extra=CORS)

    def ready(self) -> Response:
        """Respond 503 until there is a configuration, and a key if keys are to be fetched."""
        policy = self.in_force.configured.policy
        if policy is None or policy.keys_awaited:
            return page(503, b"no key to verify tokens with yet\n", extra=CORS)
        return self.health()

    def ping(self, query: str) -> Response:
        """Respond to InfluxDB clients, which send this before they write: 204, or 200 with ``verbose=true``."""
        if parse_qs(query).get("verbose", [""])[0] == "true":
            return page(200, b"", extra=CORS)
        return Response(status=204, headers=CORS, body=b"")

    # --- guarded ---------------------------------------------------------------------------------------------------

    async def reload(self, query: str) -> Response:
        """Reload in all processes, as on SIGHUP. The response waits, and is a success only if all have succeeded."""
        if self.reload_all is not None and await self.reload_all():
            return page(200, b"")
        return page(500, b"not all processes have reloaded: the log says why\n")

    def metrics(self, query: str) -> Response | Awaitable[Response]:
        """Return the metrics of all processes of the gateway."""
        if self.process.worker is not None:
            return self._metrics()
        body, content_type = self.telemetry.exposition()
        return page(200, body, content_type.encode())

    async def _metrics(self) -> Response:
        body, content_type = await self.workers.exposition()
        return page(200, body, content_type.encode())

    def flags(self, query: str) -> Response:
        """Return every flag with its value, without secrets."""
        return page(200, flags_page(self.in_force.configured.settings).encode("utf-8", "replace"))

    def status(self, query: str) -> Response | Awaitable[Response]:
        """Return the state of all processes of the gateway."""
        return self.state.status() if self.process.worker is None else self.state.status_of_all()

    def profiles(self, query: str) -> Response:
        """Return the index page of profiles."""
        return page(200, _INDEX, HTML)

    def profile(self, query: str) -> Response | Awaitable[Response]:
        """Take a profile over the argument ``seconds``."""
        given = parse_qs(query).get("seconds", [_DEFAULT_SECONDS])
        if not re.fullmatch(r"[0-9]{1,4}", given[-1], re.ASCII) or not 0 < int(given[-1]) <= _MAX_SECONDS:
            return page(400, f"seconds must be a whole number from 1 to {_MAX_SECONDS}\n".encode())
        if not self.profiler.begin():
            return page(409, b"another profile is being taken; retry later\n", extra=((b"Retry-After", b"10"),))
        return self._profile(int(given[-1]))

    async def _profile(self, seconds: int) -> Response:
        body = await self.profiler.collect(seconds)
        disposition = (b"Content-Disposition", b'attachment; filename="profile.pb.gz"')
        return page(200, body, b"application/octet-stream", extra=(disposition,))
