"""``vmgateway usage``: the usage report, from where it is kept or from a running gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from vmgw_addons.observability import USAGE
from vmgw_addons.outgoing import RequestFailed, send
from vmgw_addons.sources import usage_store
from vmgw_addons.sources.kept.usage_table import TooLong
from vmgw_addons.support import StateError
from vmgw_core.base import printable
from vmgw_core.errors import ConfigurationError
from vmgw_core.usage import ARGUMENTS, FORMATS, Question

from .arguments import Arguments, find_auth_key, read_arguments

HELP: Final = """\
Usage: vmgateway usage -ratelimit.stateFile=FILE [options]
       vmgateway usage -ratelimit.storage=redis://HOST [options]
       vmgateway usage --url=URL [options]

Shows who used what: queries, rows, bytes, seconds, series fetched and refusals
by time, tenant and subject. A gateway with -usage.retention keeps the report.

Examples:
  vmgateway usage -ratelimit.stateFile=/var/lib/vmgateway/state --by=hour
  vmgateway usage --url=http://gateway:8431 --auth-key-file=key --from=2026-10 \\
    --to=2026-11 --by=month --format=csv

Options:
  --from=TIME          begin at this time (UTC): 2026-01-31, 2026-01, or
                       2026-01-31T12:00:00Z. By default the report is of the
                       last day (by hour), 31 days (by day) or year (by month)
  --to=TIME            end at this time, which is not included (default now)
  --by=PERIOD          sum up by hour, day or month, in UTC (default day)
  --tenant=TENANT      only this tenant, such as 1:5
  --subject=SUBJECT    only this subject
  --format=FORMAT      text (the default: a table), csv or json
  --url=URL            ask the gateway at this address. It needs -flagsAuthKey
                       or -httpAuth.username there
  --auth-key-file=FILE a file with the gateway's -flagsAuthKey, or set
                       VMGATEWAY_AUTH_KEY. Those of -httpAuth.* go into URL

Without --url the file or Redis is read, also while the gateway runs. All flags
of the gateway are accepted (vmgateway -help).

Exit code: 0, or 2 if the input is not valid or the report cannot be read.
"""
_LARGEST: Final = 64 << 20  # bytes of a report


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the report. Returns the exit code."""
    given = read_arguments(arguments, values=(*ARGUMENTS, "format", "url", "auth-key-file"))
    if given.help_wanted:
        print(HELP, end="")
        return 0
    if given.positional:
        raise ConfigurationError(f'unexpected argument "{printable(given.positional[0])}"')
    form = given.last("format") or "text"
    if form not in FORMATS:
        raise ConfigurationError(f"--format: expected {', '.join(FORMATS)}")
    asked = {name: value for name in ARGUMENTS if (value := given.last(name)) is not None}
    url = given.last("url")
    print(
        _from_store(given, environ, asked, form) if url is None else _from_gateway(url, given, environ, asked, form),
        end="",
    )
    return 0


def _from_store(given: Arguments, environ: Mapping[str, str], asked: Mapping[str, str], form: str) -> str:
    """Read the report from where it is kept. Raises ``ConfigurationError``."""
    store = usage_store(given.settings(environ))
    if store is None:
        raise ConfigurationError("name -ratelimit.stateFile or -ratelimit.storage, or a gateway with --url")
    now = time.time()
    try:
        question = Question.read(asked, now)
    except ValueError as error:
        raise ConfigurationError(f"--{error}") from None
    try:
        return asyncio.run(store.read(question, int(now // 3600), lambda report: report.written(form))).decode()
    except (StateError, TooLong) as error:
        raise ConfigurationError(str(error)) from None


def _from_gateway(url: str, given: Arguments, environ: Mapping[str, str], asked: Mapping[str, str], form: str) -> str:
    """Ask a running gateway. Raises ``ConfigurationError``."""
    if given.flags:
        raise ConfigurationError(f"--url: the gateway has flags of its own, so leave out {given.flags[0]}")
    key = find_auth_key(given, environ)
    query = {**asked, "format": form, **({"authKey": key} if key else {})}
    try:
        return send("GET", f"{url.rstrip('/')}{USAGE}?{urlencode(query)}", largest=_LARGEST).decode()
    except RequestFailed as error:
        told = printable(error.body.decode("utf-8", "replace").strip())
        if key and key in told:  # another server may quote the URL
            told = ""
        raise ConfigurationError(f"--url: {error}{f': {told}' if told else ''}") from None
    except UnicodeDecodeError:
        raise ConfigurationError("--url: the response is not a usage report") from None
