"""``/-/status``, the state of all processes for operators, and ``/-/me``, what a token grants for its holder."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from vmgw_addons.observability.metrics import Telemetry
from vmgw_addons.observability.worker_calls import WorkerCalls
from vmgw_addons.state import InForce, Process, describe_keys
from vmgw_addons.state.page_access import page
from vmgw_addons.support import Background
from vmgw_core import __version__
from vmgw_core.backends import Concurrency
from vmgw_core.base import Subject
from vmgw_core.enforcement import Policy, authenticate
from vmgw_core.errors import Refusal
from vmgw_core.explain import moment
from vmgw_core.http import RequestHead, Response, refusal_response
from vmgw_core.limits import Guard, slot_usages
from vmgw_core.limits.model import Usage
from vmgw_core.pages import (
    HEADERS,
    BackendState,
    Html,
    KeyState,
    OwnAccess,
    SourceState,
    Status,
    TaskState,
    document,
    holder,
    merged,
    written,
)
from vmgw_core.pages.html import bad, element
from vmgw_core.tokens import Token

ME: Final = "/-/me"
HTML: Final = b"text/html; charset=utf-8"
_JSON: Final = b"application/json"
_CALL: Final = "status"
_REFUSALS: Final = "refusals"
_SECONDS: Final = 2.0  # to wait for another worker
_KEY: Final = "flagsAuthKey"


class StatePages:
    """Reads the state when a page is asked for."""

    def __init__(
        self, in_force: InForce, process: Process, background: Background, telemetry: Telemetry, calls: WorkerCalls
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.telemetry = telemetry
        self.calls = calls
        calls.handlers[_CALL] = self.own
        calls.handlers[_REFUSALS] = self.own_refusals

    @property
    def worker(self) -> str:
        """The name of this process among several, as in the label ``worker`` of metrics; empty if it is alone."""
        worker = self.process.worker
        return "" if worker is None else f"Worker {worker.slot}"

    # --- /-/status -------------------------------------------------------------------------------------------------

    def status(self) -> Response:
        """Return the page of the only process."""
        return _status_page(self.state().section())

    async def status_of_all(self) -> Response:
        """Return the page of all workers. It says which did not answer."""
        worker = self.calls.worker
        assert worker is not None
        sections = {worker.slot: await self.own(), **await self.calls.call_others(_CALL, _SECONDS)}
        parts = [
            Html(sections[slot].decode())
            if slot in sections
            else Html(element("h1", f"Worker {slot}") + element("p", bad("it does not answer")))
            for slot in range(worker.count)
        ]
        return _status_page(*parts)

    async def own(self, argument: str = "") -> bytes:
        """Return the section of this process, for itself and for the other workers."""
        return self.state().section().encode()

    def state(self) -> Status:
        """Read the state of this process."""
        configured, access = self.in_force.configured, self.in_force.configured.page_access
        keyring, limiter = configured.keyring, configured.limiter
        keyset = keyring.keyset if keyring is not None else None
        return Status(
            name=self.worker,
            now=time.time(),
            version=__version__,
            lane="fast" if self.process.fast else "flow",
            draining=self.process.draining,
            keys_in_words=describe_keys(configured),
            backends=[
                BackendState(
                    side=member.backend.flag.partition(".")[0],
                    url=str(member.backend),
                    up=member.up,
                    failing=member.failing,
                    load=member.load,
                    requests=member.requests,
                    errors=member.errors,
                )
                for group in configured.groups
                for member in group.members
            ],
            keys=[
                KeyState(
                    kid=key.kid,
                    algorithms=" ".join(sorted(key.algorithms)),
                    issuer=None if key.issuer is None else key.issuer.template,
                    source=key.source,
                    thumbprint=key.thumbprint,
                )
                for key in (() if keyset is None else keyset.keys)
            ],
            sources=[
                SourceState(
                    name=f"{source.name} {source.url}",
                    keys=source.keys,
                    last_success=source.last_success,
                    last_error=source.last_error,
                )
                for source in (() if keyring is None else keyring.status())
            ],
            usages=() if limiter is None else (*limiter.status(time.monotonic()), *_slots(configured.concurrency)),
            refusals=self.telemetry.refusals,
            decisions=self.telemetry.decisions.last() if access is not None and access.guards(_KEY) else None,
            needs=[
                TaskState(name=name, failures=outage.failures, problem=outage.reason)
                for name, outage in sorted(configured.outages.by_name.items())
            ],
            tasks=list(self._tasks()),
            shadow=None if configured.shadow is None else configured.shadow.shadow.counts,
        )

    def _tasks(self) -> Iterator[TaskState]:
        for name, failures in sorted(self.background.errors.items()):
            last = self.background.last.get(name)
            yield TaskState(
                name=name, failures=failures, problem=None if last is None else f"{moment(last[0])} {last[1]}"
            )

    # --- /-/me -----------------------------------------------------------------------------------------------------

    def own_access(self, policy: Policy, head: RequestHead) -> Response | Awaitable[Response]:
        """Return what the token of ``head`` grants, or the refusal of the token. Other workers are asked."""
        now = time.time()
        try:
            token, text = authenticate(policy, head, now)
        except Refusal as refusal:
            return refusal_response(refusal, tell_why=policy.tell_why)
        of = holder(token, text)
        found = OwnAccess(
            token=token,
            now=now,
            usages=tuple(self._usages(token)),
            guards=tuple(self._guards(token)),
            refusals=self.telemetry.decisions.of(of),
        )
        as_html = b"text/html" in b",".join(head.values(b"accept")).lower()
        return _own_page(found, as_html) if self.calls.worker is None else self._of_all(found, of, as_html)

    async def _of_all(self, found: OwnAccess, of: bytes, as_html: bool) -> Response:
        """Return the page with the refusals of all workers. It says which did not answer."""
        worker = self.calls.worker
        assert worker is not None
        others = await self.calls.call_others(_REFUSALS, _SECONDS, of.hex())
        refusals = merged(written(found.refusals), *others.values())
        silent = [slot for slot in range(worker.count) if slot != worker.slot and slot not in others]
        return _own_page(replace(found, refusals=refusals, silent=silent), as_html)

    async def own_refusals(self, argument: str) -> bytes:
        """Return this process's refusals of one holder, for another worker."""
        return written(self.telemetry.decisions.of(bytes.fromhex(argument)))

    def _usages(self, token: Token) -> Iterator[Usage]:
        """Yield the limits that the token's requests count for, each once."""
        limiter, slots = self.in_force.configured.limiter, self.in_force.configured.concurrency
        if limiter is None:
            return
        now, seen = time.monotonic(), set[str]()
        for subject in _subjects(token):
            of_slots = () if slots is None else slot_usages(slots.uses(subject))
            for usage in (*limiter.status_of(subject, now), *of_slots):
                if usage.key not in seen:
                    seen.add(usage.key)
                    yield usage

    def _guards(self, token: Token) -> Iterable[Guard]:
        """Return the guards of the token's requests, each once."""
        gateway = self.in_force.configured.gateway
        if gateway is None or gateway.guards is None:
            return ()
        return dict.fromkeys(guard for subject in _subjects(token) for guard in gateway.guards.of(subject))


def _subjects(token: Token) -> Iterator[Subject]:
    """Yield what the token's requests count for, by tenant."""
    for tenant in token.grants.tenants:
        yield Subject(tenant, token.grants.labels, token.grants.limit_classes(tenant))


def _slots(slots: Concurrency | None) -> tuple[Usage, ...]:
    return () if slots is None else slot_usages(slots.in_use())


def _own_page(found: OwnAccess, as_html: bool) -> Response:
    extra = (*HEADERS, (b"Vary", b"Accept, Authorization"))
    if as_html:
        return page(200, found.as_html(), HTML, extra=extra)
    return page(200, found.as_json(), _JSON, extra=extra)


def _status_page(*parts: Html) -> Response:
    return page(200, document("vmgateway: status", *parts), HTML, extra=HEADERS)
