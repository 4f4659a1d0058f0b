"""``vmgateway replay``: what a policy would decide about captured requests."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from vmgw_addons.capture import Choice, choose, opened, read
from vmgw_addons.process import check_limit_classes
from vmgw_addons.sources import limit_file
from vmgw_core.configuration import Settings, parse, read_flags_file
from vmgw_core.enforcement import Policy
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import Guards, Limiter, LimitFile
from vmgw_core.replay import (
    Captured,
    Expectation,
    Judge,
    Tally,
    read_expectations,
    report_json,
    report_junit,
    report_markdown,
    report_text,
)

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
                         quoted as in a shell, # begins a comment. Relative
                         paths in it start at its folder. A flag of the command
                         line replaces the file's
  --baseline-flags FILE  compare with the policy of these flags instead of the
                         recorded decisions
  --approved FILE        the changes that are intended, a line each; --update
                         writes the file
  --update               write all changes to the file of --approved, and report
                         what is then left
  --expect FILE          check the verdicts against a YAML file; with nothing
                         else to compare with, nothing is compared then
  --host NAME            only requests to this host, such as vm.example.com or
                         localhost:8431; may be repeated
  --filter EXPRESSION    only requests that match this filter expression of
                         mitmproxy, such as '~u /api/v1/query'
  --json                 print the report as JSON
  --junit FILE           also write it as JUnit XML
  --summary FILE         also append it to a file as Markdown, such as
                         "$GITHUB_STEP_SUMMARY"
  --verify               do not trust a capture about signatures, which it does
                         not contain: such verdicts are in doubt, and doubt
                         counts as a change
  --any-backend          ignore the addresses in -read.url and -write.url, and
                         compare the rest of the requests
  --list N               list up to N single changes, or refusals if there is
                         nothing to compare with
  --help                 show this help

Exit code: 0 if nothing would change but what is approved, and every expectation
holds; 1 if not; 2 if a file or flag is not valid.
"""

_WITH_VALUE: Final = (
    "flags", "baseline-flags", "approved", "expect", "host", "filter", "junit", "summary", "list",
)  # fmt: skip
_SWITCHES: Final = ("json", "verify", "any-backend", "update")
_APPROVED: Final = """\
# Changes that are intended. `vmgateway replay --approved FILE --update` writes this file: review its diff.
# A line approves these requests with these decisions, before and after, and no others.
"""


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
    approved, expected = found.last("approved"), found.last("expect")
    if found.has("update") and approved is None:
        raise ConfigurationError("--update: name the file with --approved")
    strict = found.has("verify")
    judge = _judge(found.flags, found.last("flags"), environ, trusting=not strict)
    baseline_flags = found.last("baseline-flags")
    baseline = None if baseline_flags is None else _judge([], baseline_flags, environ, trusting=True)
    expectations = [] if expected is None else read_expectations(_text(expected, "expect"), expected)
    tally = Tally(listed=int(listed), strict=strict, any_backend=found.has("any-backend"))
    run = Run(
        judge=judge,
        baseline=baseline,
        tally=tally,
        expectations=expectations,
        chosen=choose(found.options.get("host", []), found.options.get("filter", [])),
    )
    for path in found.positional:
        with opened(path) as file:
            run.judge_file(file, "stdin" if path == "-" else path)
    if not tally.groups:
        raise ConfigurationError("no requests in " + ", ".join(found.positional))
    if judge.policy.auth and not run.with_token and not expectations:
        names = b", ".join(judge.policy.token_source.headers).decode("latin-1")
        raise ConfigurationError(
            f"no request has a token (-auth.httpHeader: {names}), so all would be refused: export the HAR file with"
            " sensitive data, or replay the capture itself"
        )
    if approved is not None:
        _approve(tally, approved, update=found.has("update"))
    return _report(found, tally, expectations)


@dataclass(kw_only=True)
class Run:
    """One run over all files."""

    judge: Judge
    baseline: Judge | None
    tally: Tally
    expectations: Sequence[Expectation]
    chosen: Choice
    with_token: int = 0
    """Requests that have a token, or that a gateway has decided about."""

    def judge_file(self, file: BinaryIO, name: str) -> None:
        """Judge all requests of one file that are chosen."""
        with Progress(file, sys.stderr) as progress:
            for entry in read(file, name):
                progress.step()
                captured = entry.captured
                if captured is None:
                    self.tally.skipped += 1
                elif self.chosen(captured):
                    place = f"{name}#{entry.number}" + (" (token in a cookie)" if captured.token_in else "")
                    self.judge_request(captured, place, entry.number)
                else:
                    self.tally.not_chosen += 1

    def judge_request(self, captured: Captured, place: str, number: int) -> None:
        """Judge and count one request."""
        token = any(captured.head.values(name) for name in self.judge.policy.token_source.headers)
        self.with_token += token or captured.outcome is not None
        verdict = self.judge.judge(captured)
        before = captured.outcome if self.baseline is None else self.baseline.judge(captured).outcome
        self.tally.add(place, captured, before, verdict)
        for expectation in self.expectations:
            expectation.hold(number, place, captured, verdict)


def _approve(tally: Tally, path: str, *, update: bool) -> None:
    """Read the file of approved changes, or write it."""
    if update:
        lines = sorted(each.line for each in tally.classes.values())
        _write("approved", path, _APPROVED + "".join(f"{line}\n" for line in lines), "w")
    tally.approve(_text(path, "approved").splitlines())


def _write(option: str, path: str, text: str, mode: str) -> None:
    try:
        with Path(path).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"--{option}: cannot write {path}: {error.strerror}") from None


def _report(found: Arguments, tally: Tally, expectations: Sequence[Expectation]) -> int:
    junit, summary = found.last("junit"), found.last("summary")
    compared = not expectations or found.has("approved") or found.has("baseline-flags")
    if junit is not None:
        _write("junit", junit, report_junit(tally, expectations, compared=compared), "w")
    if summary is not None:
        _write("summary", summary, report_markdown(tally, expectations), "a")
    problems = [line for expectation in expectations for line in expectation.problems()]
    if found.has("json"):
        print(report_json(tally, expectations), end="")
    else:
        if compared:
            print(report_text(tally, every=found.has("list")), end="")
        if expectations:
            print("\n".join(problems) or f"all {len(expectations)} expectations hold for {tally.total.flows} requests")
    return int(bool(problems) or (compared and tally.changed))


# --- the policy ----------------------------------------------------------------------------------------------------


def _judge(flags: Sequence[str], file: str | None, environ: Mapping[str, str], *, trusting: bool) -> Judge:
    of_file = None if file is None else read_flags_file(_text(file, "flags"), file, str(Path(file).parent))
    try:
        settings = parse(flags, environ, file=of_file).settings
        policy = make_policy(settings, time.time())
        limits = _limits(settings, policy)
        limiter = None if limits is None else _limiter(settings, limits)
        return Judge(policy, limiter, None if limits is None else Guards(limits.guards), trusting=trusting)
    except ConfigurationError as error:
        raise error if of_file is None else of_file.error(error) from None


def _limits(settings: Settings, policy: Policy) -> LimitFile | None:
    """Read the limits; None without ``-enable.rateLimit``."""
    if not settings.enable_rate_limit:
        return None
    limits = limit_file.load(settings)
    check_limit_classes(policy, limits)
    return limits


def _limiter(settings: Settings, limits: LimitFile) -> Limiter:
    """Build a limiter that only counts the requests of the files."""
    if any(not limit.type.counted for limit in limits.limits):
        print("limits of series are ignored: the files do not contain what they count", file=sys.stderr)
    return Limiter(
        limits.limits, max_tenants=settings.ratelimit_max_tenants, refuse_oversized=settings.ratelimit_refuse_oversized
    )


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
