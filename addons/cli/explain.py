"""``vmgateway explain``: the decision on one request, without a backend and without a server."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from vmgw_addons import chain
from vmgw_addons.observability import StatusPages
from vmgw_addons.observability.pages.explain_page import EXPLAIN, judge, with_token
from vmgw_addons.outgoing import RequestFailed, send
from vmgw_addons.process import check_limit_classes, limiter_for
from vmgw_addons.sources.limit_file import load
from vmgw_core.backends import Concurrency
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
from vmgw_core.limits import Guards

from .arguments import Arguments, find_auth_key, find_token, read_arguments, read_time
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

Exit code: 0 if the request is admitted, 1 if one is refused, 2 if the input
is not valid.
"""

_VALUES = (
    "token", "token-file", "H", "header", "d", "data", "time", "jwks-file", "url", "auth-key-file",
)  # fmt: skip
_CURL = re.compile(r"(?:\s*#[^\n]*\n)*\s*(?:\$ )?(?=(?:\S*/)?curl(?:\s|\Z))")
_FOR_CMD = re.compile(r"\s*(?:curl|\S*curl\.exe)\s(?:.*\^\s*(?:\n|\Z)|(?:-\S+\s+)*\^\")")
_OTHER_COPIES = re.compile(r"\s*(?:(?:await )?fetch\(|Invoke-WebRequest\b|\$session\b)")


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
    requests = read_requests(given, environ)
    token = find_token(given, environ)
    limits = load(settings) if settings.enable_rate_limit else None
    if limits is not None:
        check_limit_classes(policy, limits)
    limiter = limiter_for(settings, limits, None)
    slots = None if limits is None else Concurrency(0, 0, limits.concurrency)
    guards = None if limits is None else Guards(limits.guards)
    pages = next(addon for addon in chain.build() if isinstance(addon, StatusPages))
    stories = []
    for request in requests:
        head = with_token(request.method, request.target, request.headers, policy, token)
        stories.append(
            judge(settings, policy, limiter, head, request.body, now, pages.serves, slots=slots, guards=guards)
        )
    return show(
        [story.as_json() for story in stories],
        [explanation_text(story) for story in stories],
        [story.verdict for story in stories],
        as_json=given.has("json"),
    )


def show(documents: Sequence[object], texts: Sequence[str], verdicts: Sequence[Verdict], *, as_json: bool) -> int:
    """Print explanations; return the exit code."""
    if as_json:
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2))
    else:
        print("\n\n".join(texts), end="")
    return 1 if Verdict.REFUSED in verdicts else 0


def ask_gateway(given: Arguments, environ: Mapping[str, str], url: str) -> int:
    """Let a running gateway explain the request. Returns the exit code. Raises ``ConfigurationError``."""
    if given.flags or given.has("jwks-file"):
        needless = given.flags[0] if given.flags else "--jwks-file"
        raise ConfigurationError(f"--url: the gateway has flags and keys of its own, so leave out {needless}")
    time_text = given.last("time")
    at = None if time_text is None else read_time(time_text)
    token = find_token(given, environ)
    key = find_auth_key(given, environ)
    address = url.rstrip("/") + EXPLAIN + ("?authKey=" + quote(key, safe="") if key else "")
    answers = []
    for request in read_requests(given, environ):
        question = Question(
            method=request.method,
            target=request.target,
            headers=request.headers,
            body=request.body,
            token=token,
            time=at,
        )
        answers.append(_ask(address, question, key))
    documents, texts, verdicts = zip(*answers, strict=True)
    return show(documents, texts, verdicts, as_json=given.has("json"))


def _ask(address: str, question: Question, key: str) -> tuple[object, str, Verdict]:
    """Return the explanation of one request, as JSON and as text, and its verdict. Raises ``ConfigurationError``."""
    try:
        answer = json.loads(send("GET", address, headers={QUESTION.decode(): question.encoded()}))
        return answer["explanation"], str(answer["text"]), Verdict(answer["verdict"])
    except RequestFailed as error:
        told = printable(error.body.decode("utf-8", "replace").strip())
        if key and key in told:  # another server may quote the URL
            told = ""
        raise ConfigurationError(f"--url: {error}{f': {told}' if told else ''}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError("--url: the response is not an explanation") from None


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
