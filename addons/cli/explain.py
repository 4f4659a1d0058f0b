"""``vmgateway explain``: the decision on one request, without a backend and without a server."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from vmgw_addons import chain
from vmgw_addons.observability import StatusPages
from vmgw_addons.observability.explain_page import EXPLAIN, judge, with_token
from vmgw_addons.outgoing import RequestFailed, send
from vmgw_addons.process import limiter_for
from vmgw_addons.sources.limit_file import load
from vmgw_core.base import printable
from vmgw_core.errors import ConfigurationError
from vmgw_core.explain import (
    CurlError,
    CurlRequest,
    ShellError,
    Verdict,
    explanation_text,
    parse_curl,
    split_words,
)
from vmgw_core.explain.remote import QUESTION, Question

from .arguments import Arguments, find_token, read_arguments, read_file
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
with a browser's "Copy as cURL".

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
  --url=URL            ask the gateway at this address instead, such as
                       http://gateway:8431: it answers with its own flags, keys
                       and counts, and counts nothing. It needs -flagsAuthKey or
                       -httpAuth.username there
  --auth-key-file=FILE a file with the gateway's -flagsAuthKey, or set
                       VMGATEWAY_AUTH_KEY. Those of -httpAuth.* go into URL
  --json               print JSON; docs/debugging.md lists its keys

All flags of the gateway are accepted (vmgateway -help). -enable.auth is the
default unless -enable.rateLimit is set. Without -read.url and -write.url the
backend is http://victoriametrics:8428. With -enable.rateLimit the limits are
shown that the request would count against; their usage is zero.

Exit code: 0 if the request is admitted, 1 if it is refused, 2 if the input is
not valid.
"""

_VALUES = ("token", "token-file", "H", "header", "d", "data", "time", "jwks-file", "url", "auth-key-file")
_KEY_VARIABLE = "VMGATEWAY_AUTH_KEY"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Explain one request. Returns the exit code."""
    given = read_arguments(arguments, values=_VALUES, switches=("json",))
    if given.help_wanted:
        print(HELP, end="")
        return 0
    if (url := given.last("url")) is not None:
        return ask_gateway(given, environ, url)
    settings = with_defaults(given.settings(environ))
    now = read_time(given.last("time"))
    policy = make_policy(settings, now, given.last("jwks-file"))
    request = read_request(given, environ)
    head = with_token(request.method, request.target, request.headers, policy, find_token(given, environ))
    limiter = limiter_for(settings, load(settings) if settings.enable_rate_limit else None, None)
    pages = next(addon for addon in chain.build() if isinstance(addon, StatusPages))
    story = judge(settings, policy, limiter, head, request.body, now, pages.serves)
    print(json.dumps(story.as_json(), indent=2) + "\n" if given.has("json") else explanation_text(story), end="")
    return 1 if story.verdict is Verdict.REFUSED else 0


def ask_gateway(given: Arguments, environ: Mapping[str, str], url: str) -> int:
    """Let a running gateway explain the request. Returns the exit code. Raises ``ConfigurationError``."""
    if given.flags or given.has("jwks-file"):
        needless = given.flags[0] if given.flags else "--jwks-file"
        raise ConfigurationError(f"--url: the gateway has flags and keys of its own, so leave out {needless}")
    request, time_text = read_request(given, environ), given.last("time")
    question = Question(
        method=request.method,
        target=request.target,
        headers=request.headers,
        body=request.body,
        token=find_token(given, environ),
        time=None if time_text is None else read_time(time_text),
    )
    path = given.last("auth-key-file")
    key = environ.get(_KEY_VARIABLE, "") if path is None else read_file("--auth-key-file", path).decode().strip()
    address = url.rstrip("/") + EXPLAIN + ("?authKey=" + quote(key, safe="") if key else "")
    try:
        answer = json.loads(send("GET", address, headers={QUESTION.decode(): question.encoded()}))
        text, story, verdict = answer["text"], answer["explanation"], Verdict(answer["verdict"])
    except RequestFailed as error:
        told = printable(error.body.decode("utf-8", "replace").strip())
        if key and key in told:  # another server may quote the URL
            told = ""
        raise ConfigurationError(f"--url: {error}{f': {told}' if told else ''}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError("--url: the response is not an explanation") from None
    print(json.dumps(story, indent=2) + "\n" if given.has("json") else text, end="")
    return 1 if verdict is Verdict.REFUSED else 0


# --- the request ---------------------------------------------------------------------------------------------------


def read_request(given: Arguments, environ: Mapping[str, str]) -> CurlRequest:
    """Read the request from the command line or from standard input. Raises ``ConfigurationError``."""
    text = " ".join(given.positional)
    if text in ("", "-"):
        if sys.stdin.isatty():
            raise ConfigurationError("give a request such as 'GET /api/v1/query?query=up', or curl on standard input")
        text = sys.stdin.read()
    words = text.split(maxsplit=1)
    if words[:1] in (["curl"], ["$"]) or (words and words[0].endswith("/curl")):
        return read_curl(text.removeprefix("$ "), environ, headers(given))
    return plain_request(text.strip(), given)


def read_curl(text: str, environ: Mapping[str, str], extra: Sequence[str]) -> CurlRequest:
    """Parse a curl command line. Raises ``ConfigurationError``."""
    if text.rstrip().endswith("^") or ' ^"' in text:
        raise ConfigurationError('this is a command line for cmd.exe: choose "Copy as cURL (bash)"')
    try:
        return parse_curl([*split_words(text, environ), *extra], lambda path: Path(path).read_bytes())
    except (CurlError, ShellError) as error:
        raise ConfigurationError(f"curl: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"curl: cannot read a file: {error.strerror}") from None


def plain_request(text: str, given: Arguments) -> CurlRequest:
    """Parse ``GET /api/v1/query?query=up``, with headers and body from options. Raises ``ConfigurationError``."""
    body = given.last("data") or given.last("d")
    method, _, target = text.rpartition(" ") if text.count(" ") == 1 else text.partition(" ")
    if method.startswith(("/", "http://", "https://")):
        method, target = "", text
    target = target.strip().removesuffix(" HTTP/1.1")
    words = ["curl", "--path-as-is", "-X", method or ("GET" if body is None else "POST")]
    words += headers(given)
    if body is not None:
        words += ["--data-raw", body]
    if target.startswith("/"):
        target = f"http://localhost:8431{target}"
    if not target.startswith(("http://", "https://")) or not (method or "GET").isupper():
        raise ConfigurationError("expected a request such as 'GET /api/v1/query?query=up'")
    try:
        return parse_curl([*words, target.replace(" ", "%20")], lambda path: b"")
    except CurlError as error:
        raise ConfigurationError(f"the request: {error}") from None


def headers(given: Arguments) -> list[str]:
    """Return the headers from options, as arguments of curl."""
    values = given.options.get("H", []) + given.options.get("header", [])
    return [word for value in values for word in ("-H", value)]


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
