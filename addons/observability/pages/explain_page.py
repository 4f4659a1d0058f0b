"""``/-/explain``: how this gateway would decide on a request now. ``vmgateway explain --url`` asks for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vmgw_addons.state import Configured, WireLimits
from vmgw_addons.state.page_access import page
from vmgw_core.backends import BackendGroup, Concurrency
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Policy
from vmgw_core.errors import BadRequest, Refusal
from vmgw_core.explain import Explanation, Outcome, explain, explanation_text, own_page
from vmgw_core.explain.remote import QUESTION, Question
from vmgw_core.explain.request import describe
from vmgw_core.http import Headers, RequestHead, Response, check_head, find_head
from vmgw_core.limits import Guards, Limiter

EXPLAIN: Final = "/-/explain"
_CLIENT: Final = "127.0.0.1"
_OPEN: Final = b"set -flagsAuthKey or -httpAuth.username: this page tells why tokens are refused\n"

Serves = Callable[[Policy, RequestHead], bool]
"""Whether the gateway answers a request with a page of its own."""


def answer(configured: Configured, headers: Headers, serves: Serves) -> Response:
    """Explain the request in the header :data:`QUESTION`. It is not counted, and no backend hears of it."""
    access, policy = configured.page_access, configured.policy
    if access is None or policy is None or not access.guards("flagsAuthKey"):
        return page(403, _OPEN)
    values = [value for name, value in headers if name.lower() == QUESTION.lower()]
    if len(values) != 1:
        return page(400, b"ask with vmgateway explain --url\n")
    try:
        question = Question.decode(values[0])
    except BadRequest as error:
        return page(400, f"{error}\n".encode())
    apart = replace(policy, read=_apart(policy.read), write=_apart(policy.write))
    head = with_token(question.method, question.target, question.headers, apart, question.token)
    now = time.time() if question.time is None else question.time
    story = judge(
        configured.settings,
        apart,
        configured.limiter,
        head,
        question.body,
        now,
        serves,
        slots=configured.concurrency,
        guards=None if configured.gateway is None else configured.gateway.guards,
        live=time.monotonic(),
    )
    document = {"verdict": story.verdict.value, "text": explanation_text(story), "explanation": story.as_json()}
    return page(200, json.dumps(document).encode(), b"application/json", extra=((b"Cache-Control", b"no-store"),))


def judge(
    settings: Settings,
    policy: Policy,
    limiter: Limiter | None,
    head: RequestHead,
    body: bytes | None,
    now: float,
    serves: Serves,
    *,
    slots: Concurrency | None = None,
    guards: Guards | None = None,
    live: float | None = None,
) -> Explanation:
    """Check the head as a lane does, and explain the request. ``live``: see ``vmgw_core.explain.explain``."""
    limits = WireLimits.of(settings).head
    try:
        received = bytes_of(head)
        find_head(received, limits.size)
        check_head(received, limits)
    except Refusal as refusal:
        return describe(policy, head, Outcome(now=now, refusal=refusal))
    if serves(policy, head):
        return own_page(head, now)
    return explain(policy, head, body, now, limiter=limiter, slots=slots, guards=guards, live=live)


def bytes_of(head: RequestHead) -> bytes:
    """Return the head as sent in HTTP/1.1."""
    lines = [f"{head.method} {head.target} HTTP/1.1".encode("utf-8", "surrogateescape")]
    lines += [name + b": " + value for name, value in head.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def with_token(method: str, target: str, headers: Headers, policy: Policy, token: str | None) -> RequestHead:
    """Make a head with ``token``, if there is one, instead of the request's own."""
    if token is not None:
        names = policy.token_source.headers
        headers = tuple(pair for pair in headers if pair[0].lower() not in names)
        headers += ((names[0], b"Bearer " + token.encode("utf-8", "surrogateescape")),)
    return RequestHead(method=method, target=target, headers=headers, client=_CLIENT)


def _apart(group: BackendGroup | None) -> BackendGroup | None:
    """Return the same backends without the state of the group, so that an explanation changes no choice."""
    return None if group is None else BackendGroup([member.backend for member in group.members])
