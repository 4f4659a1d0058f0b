"""Capture: writes flows with the client's request and the decision, without usable secrets."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from weakref import WeakKeyDictionary

from mitmproxy import ctx
from mitmproxy.http import HTTPFlow

from vmgw_addons._mitmproxy import tnetstring
from vmgw_addons.state import CaptureStatus, Cycles, InForce
from vmgw_addons.support import Outage, ThreadWriter, in_thread
from vmgw_core.base import Access
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Cycle, Policy
from vmgw_core.errors import ConfigurationError, Refusal
from vmgw_core.replay import MAX_BODY, METADATA_KEY, OWN_PAGE, to_metadata
from vmgw_core.replay.recorder import record
from vmgw_core.rows import row_counter

from .choice import parse_filter
from .file import CaptureFile
from .redaction import Tee, bounded, redact_flow
from .tap import FastTap

logger = logging.getLogger(__name__)

_MAX_WAITING = 64 << 20  # bytes of queued flows
_PAUSE = 0.2  # seconds in which flows are written together


def check_capture(settings: Settings) -> None:
    """Check the flags of the capture. Raises ``ConfigurationError``, which names the flag."""
    if not 0 < settings.capture_sample_rate <= 1:
        raise ConfigurationError("-capture.sampleRate: expected a number above 0 and up to 1")
    read_filter(settings)
    path = settings.capture_file
    if not path:
        return
    file = Path(path)
    if file.exists():
        if not file.is_file():
            raise ConfigurationError(f"-capture.file: {path} is not a regular file")
        writable = os.access(file, os.R_OK | os.W_OK)
    else:
        writable = file.parent.is_dir() and os.access(file.parent, os.W_OK)
    if not writable:
        raise ConfigurationError(f"-capture.file: {path} cannot be written")


def read_filter(settings: Settings) -> Callable[[HTTPFlow], bool] | None:
    """Parse ``-capture.filter``. Raises ``ConfigurationError``."""
    return parse_filter(settings.capture_filter, "-capture.filter") if settings.capture_filter else None


@dataclass(slots=True)
class _Kept:
    """What the capture keeps of a flow until its end."""

    sampled: bool
    request: Tee | None = None
    response: Tee | None = None


TapWith = Callable[[Callable[[], FastTap | None]], None]
"""Tells the fast lane whom to ask for the tap of each request."""


class Capture:
    """Records decisions in flows, removes their secrets, and writes them to ``-capture.file``.

    It runs after all addons that handle a request, and before mitmproxy's addons that save flows.
    """

    def __init__(
        self, in_force: InForce, cycles: Cycles, status: CaptureStatus, tap_with: TapWith | None = None
    ) -> None:
        self.in_force = in_force
        self.cycles = cycles
        self.status = status
        self.tap_with = tap_with
        self.file: CaptureFile | None = None
        self.writer: ThreadWriter[bytes] | None = None
        self.outage = Outage(logger, "flows are missing in the capture")
        self.matches: Callable[[HTTPFlow], bool] | None = None
        self.kept: WeakKeyDictionary[HTTPFlow, _Kept] = WeakKeyDictionary()

    def running(self) -> None:
        settings = self.in_force.configured.settings
        if settings.capture_file:
            self.matches = read_filter(settings)
            size = settings.capture_max_file_size
            self.file = CaptureFile(settings.capture_file, size, self.status, keep=settings.capture_keep_files)
            self.writer = ThreadWriter(self.file.write, "capture", _MAX_WAITING, pause=_PAUSE)
            if self.tap_with is not None:
                self.tap_with(self.tap)

    async def done(self) -> None:
        for flow in list(self.kept):  # mitmproxy saves unfinished flows, too
            self.finish(flow, broken_off=True)
        if self.file is not None and self.writer is not None:
            if await in_thread(self.writer.close, "end of the capture"):
                self.file.close()
            else:
                logger.warning("the end of the capture is lost: the disk is too slow, or the file is locked")
            self.status.stopped = self.status.stopped or "the gateway has ended"

    def requestheaders(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if cycle is None or cycle.own_page or not flow.live or flow.is_replay is not None:
            return
        if self.in_force.configured.policy is None:
            return  # every request is refused
        sampled = self.samples()
        if not sampled and not saves_flows():
            return
        kept = self.kept[flow] = _Kept(sampled=sampled)
        if flow.request.stream:
            kept.request = flow.request.stream = Tee(flow.request.stream, self.limit())

    def tap(self) -> FastTap | None:
        """Return a tap for a request of the fast lane, if it is one of the sample."""
        return FastTap(self.limit(), self.finish_fast) if self.samples() else None

    def finish_fast(self, tap: FastTap, cycle: Cycle, complete: bool) -> None:
        """Write a request of the fast lane with the decision, without secrets."""
        policy = cycle.policy
        if policy is None or self.writer is None:
            return  # every request is refused
        rows = rows_of(cycle, _Kept(sampled=True, request=tap.request))
        metadata = {METADATA_KEY: self.record(policy, cycle, rows=rows, sampled=True)}
        data = tap.flow(cycle, metadata, policy.token_source.headers, complete=complete)
        if self.matches is None or self.matches(cast(HTTPFlow, HTTPFlow.from_state(tnetstring.loads(data)))):
            self.writer.put(data, len(data), self.lose)

    def responseheaders(self, flow: HTTPFlow) -> None:
        kept = self.kept.get(flow)
        if kept is not None and flow.response is not None and flow.response.stream:
            kept.response = flow.response.stream = Tee(flow.response.stream, self.limit())

    def response(self, flow: HTTPFlow) -> None:
        self.finish(flow)

    def error(self, flow: HTTPFlow) -> None:
        self.finish(flow, broken_off=True)

    def samples(self) -> bool:
        """Decide whether to capture a request to the file."""
        if self.file is None or self.file.status.stopped:
            return False
        return random.random() < self.rate()  # noqa: S311

    def rate(self) -> float:
        """Return the share of requests to capture."""
        return self.in_force.configured.settings.capture_sample_rate

    def limit(self) -> int:
        """Return the largest body to keep, in bytes."""
        return self.in_force.configured.settings.capture_max_body_size

    def finish(self, flow: HTTPFlow, *, broken_off: bool = False) -> None:
        """Complete the flow at its end: add streamed bodies, record the decision, redact, write."""
        kept = self.kept.pop(flow, None)
        if kept is None and not saves_flows():
            return
        response_is_sent = flow.response is not None and flow.response.raw_content is None  # it has been streamed
        cycle = self.cycles.get(flow)
        policy = self.in_force.configured.policy if cycle is None or cycle.policy is None else cycle.policy
        if cycle is not None and cycle.own_page:
            flow.metadata[METADATA_KEY] = dict(OWN_PAGE)
        if kept is not None:
            if not broken_off:
                take_over(flow, kept)
            if cycle is not None and policy is not None:
                flow.metadata[METADATA_KEY] = self.record(
                    policy, cycle, rows=rows_of(cycle, kept), sampled=kept.sampled
                )
        headers = policy.token_source.headers if policy is not None else ()
        redact_flow(flow, headers, response_is_sent=response_is_sent)
        if kept is not None and kept.sampled:
            self.write(flow)

    def record(self, policy: Policy, cycle: Cycle, *, rows: int | None, sampled: bool) -> dict[str, object]:
        """Make the record of a decision, as metadata of its flow."""
        captured = record(
            policy,
            cycle.head,
            at=cycle.at,
            grant=cycle.grant,
            refusal=cycle.refusal,
            form=cycle.kept_form,
            rows=rows,
            sample=self.rate() if sampled else 1.0,
            guards=cycle.guards,
        )
        return to_metadata(captured)

    def write(self, flow: HTTPFlow) -> None:
        """Queue the flow for the file, if it matches the filter."""
        if self.writer is not None and (self.matches is None or self.matches(flow)):
            data = tnetstring.dumps(bounded(flow.get_state(), self.limit()))
            self.writer.put(data, len(data), self.lose)

    def lose(self) -> None:
        """Count a flow that did not fit into the queue."""
        self.status.lost += 1
        self.outage.failed("the capture is too slow: the disk hangs, or the file is locked")


def rows_of(cycle: Cycle, kept: _Kept) -> int | None:
    """Return the number of rows of a write: as the limits counted them, or from the body that was kept."""
    grant = cycle.grant
    if grant is None or grant.route.access is not Access.WRITE:
        return None
    if cycle.meter is not None:
        return cycle.meter.rows
    if kept.request is None or not kept.request.whole:
        return None
    try:
        counter = row_counter(grant.route, cycle.head, max_decoded=MAX_BODY)
        if counter is None:
            return None
        counter.feed(bytes(kept.request.data))
        counter.finish()
    except Refusal:
        return None
    return counter.rows


def take_over(flow: HTTPFlow, kept: _Kept) -> None:
    """Put streamed bodies that were kept into the flow."""
    for message, tee in ((flow.request, kept.request), (flow.response, kept.response)):
        if message is not None and tee is not None and message.raw_content is None and tee.whole:
            message.data.content = bytes(tee.data)


def saves_flows() -> bool:
    """Whether this is one of mitmproxy's tools, which save flows (``-w``, or by hand)."""
    return "save_stream_file" in ctx.options
