"""Explanations in words: a line per step, the whole text, and one line for a list of flows.

All values of clients, tokens and backends are escaped, so that they cannot control a terminal or begin a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from vmgw_core.base import printable
from vmgw_core.enforcement import NAME_AS_IT_IS, TRACE_KEY
from vmgw_core.limits.model import Usage
from vmgw_core.routing import Filters, Match
from vmgw_core.tokens import VMAccessClaim

from .model import ArgumentsReport, Explanation, Pair, Step, StepReport, TokenReport, Verdict, mode_words

_FAR: Final = 1 << 53
_LISTED: Final = 40
"""The most arguments that are printed of a URL or a form."""

_FILTERS: Final = {
    Filters.BIND: "the backend honours labels and filters here",
    Filters.LEAK: "the backend ignores labels and filters here, and the token has none",
    Filters.OPEN: "the backend ignores labels and filters here, the token has none, and there is one tenant",
    Filters.NONE: "there is nothing to filter here",
}
_FILTERED: Final = "the backend ignores what limits the token here, so the gateway limits the response itself"
_BODIES: Final = {"none": "no body", "stream": "streamed to the backend", "hold": "a form: read and rewritten"}


def report_step(story: Explanation, step: Step) -> StepReport | None:
    """Return the report of a step that was reached, or None if it has nothing to report."""
    if story.refusal is not None and story.refusal.step is step:
        return StepReport(step=step, passed=False, text=printable(story.refusal.message))
    if step is Step.HEAD or (step is Step.LIMITS and story.limits is None):
        return None
    return StepReport(step=step, passed=True, text=_passed(story, step))


def _passed(story: Explanation, step: Step) -> str:
    """Return what a step found, in one line."""
    found = story.match
    assert found is not None
    route, by_token = found.route, story.token is not None
    match step:
        case Step.ROUTE:
            return f"{route.path}: {route.access.value} access, by {' or '.join(route.methods)}"
        case Step.TOKEN:
            return (
                "no token is needed: -enable.auth is not set"
                if story.token is None
                else token_key(story.token) + (", from the cookie of a login" if story.token.in_cookie else "")
            )
        case Step.MODE:
            modes = mode_words(*(claim.mode for claim in story.claims))
            return f"{'the token' if by_token else 'the path'} gives {modes} access"
        case Step.FILTERS:
            return _FILTERED if story.filtered else _FILTERS[route.filters]
        case Step.TENANT:
            return f"{story.tenant}{_named(found) if by_token else ''}"
        case Step.BACKEND:
            return f"-{'write' if route.inserts else 'read'}.url"
        case Step.BODY:
            return _BODIES.get(story.body or "", "checked")
        case Step.LIMITS:
            return "; ".join(limit_line(limit) for limit in story.limits or ()) or "no limit applies"
        case Step.ARGUMENTS:
            return _arguments(story)
        case _:
            return _upstream(story)


def _named(match: Match) -> str:
    if match.multitenant:
        return ", enforced by labels on the path for all tenants"
    return "" if match.tenant is None else ", as in the path"


def token_key(token: TokenReport) -> str:
    """Return the key that verified a token, in words."""
    key = token.key
    if token.credential is not None:
        flag = "-auth.policy" if token.credential.startswith("certificate ") else "-auth.credentialsFile"
        return f"{printable(token.credential)}, as {flag} says"
    if key is None:
        return "NOT verified: no key is configured, so anybody can make such a token"
    kid = f"kid {printable(key.kid)}, " if key.kid is not None else ""
    return f"verified with {printable(key.source)} ({key.kty}, {kid}thumbprint {key.thumbprint})"


def limit_line(usage: Usage) -> str:
    """Return a limit and its usage in one line."""
    return printable(usage.limit.described(usage.usage, usage.tenant))


def _arguments(story: Explanation) -> str:
    text = changes(story) or "nothing added, nothing removed"
    places = [each for each in (story.url_arguments, story.form_arguments) if each is not None]
    if any(name.strip().lower() == TRACE_KEY for each in places for name, _ in each.removed):
        text += "; trace was removed: it would show data of other tenants or teams"
    quoted = NAME_AS_IT_IS.replace("\\", r"\\")
    if any(quoted in value for each in places for _, value in each.added):
        text += f"; {NAME_AS_IT_IS} always matches, and stops the backend from widening a filter on the metric name"
    return text


def _upstream(story: Explanation) -> str:
    assert story.upstream is not None
    return f"{story.upstream.method} {printable(story.upstream.url, 1000)}"


def changes(story: Explanation) -> str:
    """Return what was removed and added, such as ``-extra_label=team=ops +extra_label=team=dev``."""
    words = []
    for arguments in (story.url_arguments, story.form_arguments):
        if arguments is not None:
            words += [f"-{_pair(pair, 60)}" for pair in arguments.removed[:_LISTED]]
            words += [f"+{_pair(pair, 60)}" for pair in arguments.added[:_LISTED]]
    return " ".join(words)


def summary(story: Explanation) -> str:
    """Return the decision in one line: tenant, access and changes, or the refusal."""
    words = [] if story.tenant is None else [story.tenant]
    if story.match is not None:
        words.append(story.match.route.access.value)
    if story.refusal is not None:
        words.append(f"{story.refusal.code}: {printable(story.refusal.message)}")
    elif story.verdict is Verdict.OWN_PAGE:
        words.append("a page of the gateway itself, which needs no token and no backend")
    elif story.verdict is Verdict.PENDING:
        words.append("waiting for the form")
    else:
        words.append(changes(story) or "unchanged")
        if story.filtered:
            words.append(f"response limited to the token{story.answer and ': '}{printable(story.answer)}")
    return " ".join(words)


def explanation_text(story: Explanation) -> str:
    """Return the whole explanation, with a newline at its end."""
    return "\n".join(_lines(story)) + "\n"


def _lines(story: Explanation) -> Iterator[str]:
    refusal = story.refusal
    yield f"{story.verdict.value.upper()}  {summary(story)}"
    yield (
        f"{printable(story.method)} {printable(story.path)} from {printable(story.client)}, "
        f"judged at {moment(story.time)}"
    )
    yield ""
    for taken in story.steps:
        yield f"  {'ok' if taken.passed else 'NO'}  {taken.step.value:<9}  {taken.text}"
    if refusal is not None:
        yield from ("", "The client gets", f"  {refusal.answer_status} {printable(refusal.answer)}")
    if story.shadow:
        yield from ("", "The shadow disagrees", f"  {printable(story.shadow, 1000)}")
    if story.token is not None:
        yield from token_lines(story.token, story.time)
    if story.claims:
        yield from ("", "Access", *access_lines(story.claims, story.entries, story.tenant))
    for place, arguments in (("URL", story.url_arguments), ("form", story.form_arguments)):
        if arguments is not None and (arguments.before or arguments.after):
            yield from ("", f"Arguments of the {place}")
            yield from _argument_lines(arguments)
    if story.limits:
        yield from ("", "Limits")
        yield from (f"  {limit_line(limit)}" for limit in story.limits)
    if story.guards:
        yield from ("", "Guards", *(f"  {printable(str(guard))}" for guard in story.guards))
    if story.upstream is not None:
        yield from ("", f"Upstream (-{story.upstream.flag})", f"  {_upstream(story)}")
        yield f"  headers removed: {printable(', '.join(story.upstream.dropped_headers))}"


def token_lines(token: TokenReport, now: float | None) -> Iterator[str]:
    """Yield the header, claims and times of a token, after an empty line and a title."""
    if token.credential is not None:
        yield from ("", "Credential", f"  {printable(token.credential)}")
        return
    yield from ("", "Token", *_json_lines("header", token.header), *_json_lines("claims", token.claims))
    yield from (f"  {line}" for line in times(token.claims or {}, now))


def access_lines(claims: Sequence[VMAccessClaim], entries: Sequence[str], tenant: str | None = None) -> Iterator[str]:
    """Yield one or several alternatives; ``tenant`` is that of a single claim, if it is not its own."""
    if entries:
        yield f"  by -auth.policy: {printable(', '.join(entries))}"
    for claim in claims:
        shown = tenant if tenant is not None and len(claims) == 1 else claim.tenant
        yield f"  tenant {shown}, mode {mode_words(claim.mode)}"
        yield from (f"  label  {printable(name)}={printable(value)}" for name, value in claim.labels)
        yield from (f"  filter {printable(selector)}" for selector in claim.filters)
        if claim.limit_class:
            yield f"  limits of class {claim.limit_class}"


def _argument_lines(arguments: ArgumentsReport) -> Iterator[str]:
    gone = list(arguments.removed)
    for pair in arguments.before[:_LISTED]:
        mark = " "
        if pair in gone:
            gone.remove(pair)
            mark = "-"
        yield f"  {mark} {_pair(pair)}"
    if len(arguments.before) > _LISTED:
        yield f"    … and {len(arguments.before) - _LISTED} more"
    yield from (f"  + {_pair(pair)}" for pair in arguments.added[:_LISTED])
    if len(arguments.added) > _LISTED:
        yield f"  + … and {len(arguments.added) - _LISTED} more"


def _pair(pair: Pair, length: int = 200) -> str:
    return f"{printable(pair[0], length)}={printable(pair[1], length)}"


def _json_lines(title: str, value: Mapping[str, object] | None) -> Iterator[str]:
    if value is None:
        yield f"  {title}: unreadable"
        return
    yield f"  {title}:"
    for line in json.dumps(dict(value), indent=2, ensure_ascii=False).splitlines():
        yield f"    {printable(line)}"


def times(claims: Mapping[str, object], now: float | None) -> Iterator[str]:
    """Yield a line each for ``exp`` and ``nbf``, relative to the Unix time ``now`` if it is known."""
    for name, after, before in (("exp", "expires in {}", "expired {} ago"), ("nbf", "valid in {}", "valid for {}")):
        value = claims.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if now is None:
                yield f"{name}: {moment(value)}"
                continue
            left = min(max(value, -_FAR), _FAR) - now  # integers may be larger than floats
            distance = (after if left > 0 else before).format(_span(abs(left)))
            yield f"{name}: {moment(value)}, {distance}"


def moment(seconds: float) -> str:
    """Return a Unix time as UTC text, or as a number if it is out of range."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s" if isinstance(seconds, float) else f"{str(seconds)[:20]} s"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
