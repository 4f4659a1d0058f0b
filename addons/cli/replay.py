"""``vmgateway replay``: what a policy would decide about captured requests."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from vmgw_addons.capture import opened, read
from vmgw_addons.sources import limit_file
from vmgw_core.configuration import Settings, parse
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import Limiter
from vmgw_core.replay import Expectation, Judge, Tally, read_expectations, report_json, report_junit, report_text

from .arguments import Arguments, read_arguments
from .policy import make_policy

_HELP: Final = """\
Usage: vmgateway replay FILE ... [options] [flags of the policy to test]

Replays captured requests against another policy, at the time they were
captured, and shows what would change. A FILE was written by vmgateway
-capture.file or mitmdump -w, or is a HAR file; - is standard input.

Examples:
  vmgateway replay flows.mitm -enable.auth -auth.publicKeyFiles=new-key.pem \\
    -read.url=http://vm:8428 -write.url=http://vm:8428
  vmgateway replay flows.mitm --flags new.flags --baseline-flags old.flags \\
    --junit report.xml
  vmgateway replay flows.mitm --flags new.flags --expect expect.yaml

Options:
  --flags FILE           read flags of the policy from a file: one per line,
                         quoted as in a shell, # begins a comment
  --baseline-flags FILE  compare with the policy of these flags instead of the
                         recorded decisions
  --expect FILE          check the verdicts against a YAML file instead of
                         comparing them
  --json                 print the report as JSON
  --junit FILE           also write it as JUnit XML
  --verify               do not trust a capture about signatures, which it does
                         not contain: such verdicts are in doubt, and doubt
                         counts as a change
  --any-backend          ignore the addresses in -read.url and -write.url, and
                         compare the rest of the requests
  --list N               show up to N changes (default 100)
  --help                 show this help

Exit code: 0 if nothing would change (or every expectation holds), 1 if
something would, 2 if a file or flag is not valid.
"""

_WITH_VALUE: Final = ("flags", "baseline-flags", "expect", "junit", "list")
_SWITCHES: Final = ("json", "verify", "any-backend")


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Judge all files and report. Returns the exit code. Raises ``ConfigurationError``."""
    found = read_arguments(arguments, values=_WITH_VALUE, switches=_SWITCHES)
    if found.help_wanted:
        print(_HELP, end="")
        return 0
    if not found.positional:
        raise ConfigurationError("expected a file to replay; see vmgateway replay --help")
    listed = found.last("list") or "100"
    if not (listed.isascii() and listed.isdigit() and len(listed) < 7):
        raise ConfigurationError("--list: expected a number from 0 to 999999")
    strict = found.has("verify")
    judge = _judge(found.flags, found.last("flags"), environ, trusting=not strict)
    baseline_flags, expected = found.last("baseline-flags"), found.last("expect")
    baseline = None if baseline_flags is None else _judge([], baseline_flags, environ, trusting=True)
    expectations = [] if expected is None else read_expectations(_text(expected, "expect"), expected)
    tally = Tally(listed=int(listed), strict=strict, any_backend=found.has("any-backend"))
    for path in found.positional:
        with opened(path) as file:
            _judge_file(file, path, judge, baseline, tally, expectations)
    if not tally.groups:
        raise ConfigurationError("no requests in " + ", ".join(found.positional))
    return _report(found, tally, expectations)


def _judge_file(
    file: BinaryIO,
    path: str,
    judge: Judge,
    baseline: Judge | None,
    tally: Tally,
    expectations: Sequence[Expectation],
) -> None:
    name = "stdin" if path == "-" else path
    with Progress(file, sys.stderr) as progress:
        for entry in read(file, name):
            progress.step()
            captured = entry.captured
            if captured is None:
                tally.skipped += 1
                continue
            verdict = judge.judge(captured)
            before = captured.outcome if baseline is None else baseline.judge(captured).outcome
            place = f"{name}#{entry.number}"
            tally.add(place, captured, before, verdict)
            for expectation in expectations:
                expectation.hold(entry.number, place, captured, verdict)


def _report(found: Arguments, tally: Tally, expectations: Sequence[Expectation]) -> int:
    junit = found.last("junit")
    if junit is not None:
        try:
            Path(junit).write_text(report_junit(tally, expectations), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--junit: cannot write {junit}: {error.strerror}") from None
    problems = [line for expectation in expectations for line in expectation.problems()]
    if found.has("json"):
        print(report_json(tally, expectations), end="")
    elif expectations:
        print("\n".join(problems) or f"all {len(expectations)} expectations hold for {tally.total.flows} requests")
    else:
        print(report_text(tally), end="")
    return int(bool(problems)) if expectations else int(tally.changed)


# --- the policy ----------------------------------------------------------------------------------------------------


def _judge(flags: Sequence[str], file: str | None, environ: Mapping[str, str], *, trusting: bool) -> Judge:
    arguments = [*(read_flags(_text(file, "flags"), file) if file is not None else ()), *flags]
    settings = parse(arguments, environ).settings
    return Judge(make_policy(settings, time.time()), _limiter(settings), trusting=trusting)


def _limiter(settings: Settings) -> Limiter | None:
    """Build a limiter that only counts the requests of the files; None without ``-enable.rateLimit``."""
    if not settings.enable_rate_limit:
        return None
    limits = limit_file.load(settings)
    if any(not limit.type.counted for limit in limits):
        print("limits of series are ignored: the files do not contain the datasource's usage", file=sys.stderr)
    return Limiter(limits, max_tenants=settings.ratelimit_max_tenants)


def read_flags(text: str, name: str) -> Iterator[str]:
    """Read flags from a file: one or more per line, quoted as in a shell. Raises ``ConfigurationError``."""
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            yield from shlex.split(line, comments=True)
        except ValueError as error:
            raise ConfigurationError(f"{name}:{number}: {str(error).lower()}") from None


def _text(path: str, option: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--{option}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--{option}: {path} is not UTF-8 text") from None


# --- progress ------------------------------------------------------------------------------------------------------


class Progress:
    """A progress line on the terminal, if there is one."""

    def __init__(self, file: BinaryIO, terminal: TextIO) -> None:
        self.file = file
        self.terminal = terminal if terminal.isatty() else None
        self.size = self._size()
        self.flows = 0
        self.shown = time.monotonic()

    def _size(self) -> int:
        try:
            return Path(f"/dev/fd/{self.file.fileno()}").stat().st_size
        except (OSError, ValueError):
            return 0

    def step(self) -> None:
        """Count one flow."""
        self.flows += 1
        if self.terminal is not None and self.flows % 256 == 0 and time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            share = f"{min(100, 100 * self.file.tell() // self.size):3}% " if self.size else ""
            print(f"\r{share}{self.flows} flows", end="", file=self.terminal, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal is not None:
            print("\r\x1b[K", end="", file=self.terminal, flush=True)
