"""Decision marks: each flow in the list shows its decision."""

from __future__ import annotations

import json
import time
from weakref import WeakKeyDictionary

from mitmproxy import ctx
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles, InForce
from vmgw_core.base import printable
from vmgw_core.enforcement import Cycle, Grant, UpstreamRequest
from vmgw_core.errors import Refusal
from vmgw_core.explain import Explanation, Outcome, Verdict, explanation_text, own_page, summary, usages
from vmgw_core.explain.request import describe

METADATA = "vmgateway.explanation"
"""The key in a flow's metadata for the explanation, as text and JSON, which are saved with the flow."""

_MARKS = {
    Verdict.ADMITTED: ":white_check_mark:",
    Verdict.REFUSED: ":no_entry:",
    Verdict.PENDING: ":hourglass_flowing_sand:",
    Verdict.OWN_PAGE: ":house:",
}
_FAILED = ":warning:"
_MAX_JSON = 256 * 1024
_MAX_LINE = 4096


class DecisionMarks:
    """Writes the decision into a flow's marker, comment and metadata.

    It keeps the token's header and claims, never its signature. A comment or marker of the user stays.
    """

    def __init__(self, in_force: InForce, cycles: Cycles) -> None:
        self.in_force = in_force
        self.cycles = cycles
        self.shown: WeakKeyDictionary[
            HTTPFlow, tuple[Grant | None, UpstreamRequest | None, Refusal | None, str, str | None]
        ] = WeakKeyDictionary()
        """The decision that each flow shows."""

    def running(self) -> None:
        """Show comments in mitmweb's list, unless the user has chosen columns."""
        if "web_columns" in ctx.options and not ctx.options.has_changed("web_columns"):
            ctx.options.update(web_columns=["icon", "path", "method", "status", "comment", "time"])

    def requestheaders(self, flow: HTTPFlow) -> None:
        """Write the decision so far into the flow, if it has changed."""
        cycle = self.cycles.get(flow)
        if cycle is None:
            return
        state = (cycle.grant, cycle.upstream, cycle.refusal, cycle.answer_note, cycle.shadow)
        if self.shown.get(flow) == state:
            return
        now = time.time()
        if cycle.own_page:
            story = own_page(cycle.head, now)
        elif cycle.policy is not None:
            story = describe(cycle.policy, cycle.head, self.outcome(cycle, now))
        else:
            return
        self.shown[flow] = state
        write(flow, story)

    request = requestheaders

    def response(self, flow: HTTPFlow) -> None:
        """Write the decision, with what the shadow says of it."""
        cycle, shadow = self.cycles.get(flow), self.in_force.configured.shadow
        if cycle is not None and shadow is not None and not cycle.own_page:
            shadow.judge(cycle)
        self.requestheaders(flow)

    error = response

    def outcome(self, cycle: Cycle, now: float) -> Outcome:
        """Return the outcome of the request so far."""
        limits = None
        limiter = self.in_force.configured.limiter
        if limiter is not None and cycle.grant is not None:
            limits = usages(limiter, self.in_force.configured.concurrency, cycle.grant, time.monotonic())
        return Outcome(
            now=now,
            grant=cycle.grant,
            upstream=cycle.upstream,
            refusal=cycle.refusal,
            form=cycle.kept_form,
            limits=limits,
            guards=cycle.guards,
            answer=cycle.answer_note,
            shadow=cycle.shadow or "",
        )


def write(flow: HTTPFlow, story: Explanation) -> None:
    """Write ``story`` into the flow."""
    kept = flow.metadata.get(METADATA)
    old = kept if isinstance(kept, dict) else {}
    mark = _MARKS[story.verdict]
    if story.refusal is not None and story.refusal.status >= 500:
        mark = _FAILED
    line = summary(story)
    if flow.marked in ("", old.get("mark")):
        flow.marked = mark
    if flow.comment in ("", old.get("comment")):
        flow.comment = line
    document = json.dumps(story.as_json())
    if len(document) > _MAX_JSON:
        document = ""
    flow.metadata[METADATA] = {"mark": mark, "comment": line, "text": explanation_text(story), "json": document}


def story_lines(flow: Flow) -> list[str] | None:
    """Return the explanation in a flow's metadata, or None. It is escaped, since a flow may come from any file."""
    kept = flow.metadata.get(METADATA)
    text = kept.get("text") if isinstance(kept, dict) else None
    return [printable(line, _MAX_LINE) for line in text.split("\n")][:-1] if isinstance(text, str) else None
