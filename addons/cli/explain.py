"""``vmgateway explain``: the decision on one request, without a backend and without a server."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from vmgw_addons import chain
from vmgw_addons.observability import ME, StatusPages
from vmgw_addons.process import check_limit_classes, limiter_for
from vmgw_addons.sources.limit_file import load
from vmgw_addons.state import WireLimits
from vmgw_core.base import printable
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import TENANTS, Policy
from vmgw_core.errors import ConfigurationError, Refusal
from vmgw_core.explain import (
    CurlError,
    CurlRequest,
    Explanation,
    Outcome,
    ShellError,
    Verdict,
    explain,
    explanation_text,
    own_page,
    parse_curl,
    split_words,
)
from vmgw_core.explain.request import describe
from vmgw_core.http import Headers, RequestHead, check_head, find_head
from vmgw_core.limits import Limiter
from vmgw_core.login import LOGIN_PAGES

from .arguments import Arguments, find_token, read_arguments
from .policy import make_policy, with_defaults

HELP = """\
Usage: vmgateway explain [-flag[=value] ...] [options] ['METHOD /path?query']

Explains what the gateway would do with a request, and why: the token, the key
that verified it, the route, the arguments before and after, and the request
that the backend would get. It contacts no backend and starts no server.

Examples:
  vmgateway explain -auth.publicKeyFiles=public.pem --token-file=token \\
    'GET /api/v1/query?query=up'
  vmgateway explain -clusterMode --token-file=token --json \\
    'GET /api/v1/series?match[]=up'
  vmgateway explain -auth.publicKeyFiles=public.pem < request.sh

Without a request, a curl command line is read from standard input, as copied
with a browser's "Copy as cURL" (the form for bash). Each of its requests is
explained, up to 20; with --json they are then a list.

Options:
  --token=TOKEN        the token; it is never printed
  --token-file=FILE    a file with the token, or set VMGATEWAY_TOKEN; by default
                       the request's own header is used
  -H 'NAME: VALUE'     a header of the request
  -d, --data=TEXT      its body; the default method is then POST
  --time=TIME          decide at this time: Unix seconds, or as in
                       2026-01-31T12:00:00Z (default now)
  --jwks-file=FILE     use this JSON Web Key Set instead of fetching those of
                       -auth.jwksEndpoints and -auth.oidcDiscoveryEndpoints.
                       The issuer is then not checked
  --json               print JSON; docs/debugging.md lists its keys

All flags of the gateway are accepted (vmgateway -help). -enable.auth is the
default unless -enable.rateLimit is set. Without -read.url and -write.url the
backend is http://victoriametrics:8428. With -enable.rateLimit the limits are
shown that the request would count against; their usage is zero.

Exit code: 0 if the request is admitted, 1 if one is refused, 2 if the input
is not valid.
"""

_VALUES = ("token", "token-file", "H", "header", "d", "data", "time", "jwks-file")
_CLIENT = "127.0.0.1"
_READ = ("GET", "HEAD")
_CURL = re.compile(r"(?:\s*#[^\n]*\n)*\s*(?:\$ )?(?=(?:\S*/)?curl(?:\s|\Z))")
_FOR_CMD = re.compile(r"\s*(?:curl|\S*curl\.exe)\s(?:.*\^\s*(?:\n|\Z)|(?:-\S+\s+)*\^\")")
_OTHER_COPIES = re.compile(r"\s*(?:(?:await )?fetch\(|Invoke-WebRequest\b|\$session\b)")


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Explain one request. Returns the exit code."""
    given = read_arguments(arguments, values=_VALUES, switches=("json",))
    if given.help_wanted:
        print(HELP, end="")
        return 0
    settings = with_defaults(given.settings(environ))
    now = read_time(given.last("time"))
    policy = make_policy(settings, now, given.last("jwks-file"))
    requests = read_requests(given, environ)
    token = find_token(given, environ)
    limits = load(settings) if settings.enable_rate_limit else None
    if limits is not None:
        check_limit_classes(policy, limits)
    limiter = limiter_for(settings, limits, None)
    stories = [
        judge(settings, policy, limiter, with_token(request, policy, token), request.body, now) for request in requests
    ]
    if given.has("json"):
        documents = [story.as_json() for story in stories]
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2))
    else:
        print("\n\n".join(explanation_text(story) for story in stories), end="")
    return 1 if any(story.verdict is Verdict.REFUSED for story in stories) else 0


def judge(
    settings: Settings, policy: Policy, limiter: Limiter | None, head: RequestHead, body: bytes | None, now: float
) -> Explanation:
    """Check the head as a lane does, and explain the request."""
    limits = WireLimits.of(settings).head
    received = bytes_of(head)
    try:
        find_head(received, limits.size)
        check_head(received, limits)
    except Refusal as refusal:
        return describe(policy, head, Outcome(now=now, refusal=refusal))
    pages = next(addon for addon in chain.build() if isinstance(addon, StatusPages))
    path = head.target.partition("?")[0]
    own = path.startswith(f"{policy.path_prefix}/") and path.removeprefix(policy.path_prefix)
    by_token = policy.auth and (own == ME or (own == TENANTS and policy.cluster))
    login = policy.login is not None and own in LOGIN_PAGES
    if (head.method in _READ and (own in pages.open or own in pages.guarded or by_token or login)) or (
        own and head.method == "OPTIONS"
    ):
        return own_page(head, now)
    return explain(policy, head, body, now, limiter=limiter)


def bytes_of(head: RequestHead) -> bytes:
    """Return the head as sent in HTTP/1.1."""
    lines = [f"{head.method} {head.target} HTTP/1.1".encode("utf-8", "surrogateescape")]
    lines += [name + b": " + value for name, value in head.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


# --- the request ---------------------------------------------------------------------------------------------------


def read_requests(given: Arguments, environ: Mapping[str, str]) -> Sequence[CurlRequest]:
    """Read the requests from the command line or from standard input. Raises ``ConfigurationError``."""
    text = " ".join(given.positional)
    piped = text in ("", "-")
    if piped:
        if sys.stdin.isatty():
            raise ConfigurationError("give a request such as 'GET /api/v1/query?query=up', or curl on standard input")
        text = sys.stdin.read()
    if _FOR_CMD.match(text):
        raise ConfigurationError('this is a command line for cmd.exe: choose "Copy as cURL (bash)"')
    if _OTHER_COPIES.match(text):
        raise ConfigurationError('this is code, not a request: choose "Copy as cURL (bash)"')
    if curl := _CURL.match(text):
        return read_curl(text[curl.end() :], environ, headers(given), piped=piped)
    return [plain_request(text.strip(), given)]


def read_curl(text: str, environ: Mapping[str, str], extra: Sequence[str], *, piped: bool) -> Sequence[CurlRequest]:
    """Parse a curl command line; ``piped``: it came from standard input. Raises ``ConfigurationError``."""

    def read(path: str) -> bytes:
        if path != "-":
            return Path(path).read_bytes()
        if piped:
            raise CurlError("standard input is the command line itself: name a file for the body")
        return sys.stdin.buffer.read()

    try:
        return parse_curl([*split_words(text, environ), *extra], read)
    except (CurlError, ShellError) as error:
        raise ConfigurationError(f"curl: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"curl: cannot read {printable(str(error.filename), 200)}: {error.strerror}") from None


def plain_request(text: str, given: Arguments) -> CurlRequest:
    """Parse ``GET /api/v1/query?query=up``, with headers and body from options. Raises ``ConfigurationError``."""
    body = given.last("data") or given.last("d")
    method, _, target = text.rpartition(" ") if text.count(" ") == 1 else text.partition(" ")
    if method.startswith(("/", "http://", "https://")):
        method, target = "", text
    target = target.strip().removesuffix(" HTTP/1.1")
    words = ["curl", "--path-as-is", "--globoff", "-X", method or ("GET" if body is None else "POST")]
    words += headers(given)
    if body is not None:
        words += ["--data-raw", body]
    if target.startswith("/"):
        target = f"http://localhost:8431{target}"
    if not target.startswith(("http://", "https://")) or not (method or "GET").isupper():
        raise ConfigurationError("expected a request such as 'GET /api/v1/query?query=up'")
    try:
        return parse_curl([*words, target.replace(" ", "%20")], lambda path: Path(path).read_bytes())[0]
    except CurlError as error:
        raise ConfigurationError(f"the request: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"-H: cannot read {printable(str(error.filename), 200)}: {error.strerror}") from None


def headers(given: Arguments) -> list[str]:
    """Return the headers from options, as arguments of curl."""
    values = given.options.get("H", []) + given.options.get("header", [])
    if any(":" not in value and not value.startswith("@") and not value.endswith(";") for value in values):
        raise ConfigurationError("-H: the header has no colon")
    return [word for value in values for word in ("-H", value)]


def with_token(request: CurlRequest, policy: Policy, token: str | None) -> RequestHead:
    """Make the head of ``request``, with ``token``, if there is one, instead of the request's own."""
    fields: Headers = request.headers
    if token is not None:
        names = policy.token_source.headers
        fields = tuple(pair for pair in fields if pair[0].lower() not in names)
        fields += ((names[0], b"Bearer " + token.encode("utf-8", "surrogateescape")),)
    return RequestHead(method=request.method, target=request.target, headers=fields, client=_CLIENT)


def read_time(text: str | None) -> float:
    """Read ``--time`` as Unix seconds; the default is now. Raises ``ConfigurationError``."""
    if text is None:
        return time.time()
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)):
            return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError("--time: expected Unix seconds, or a time as in 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
