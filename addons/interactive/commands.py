"""Commands for mitmproxy's prompt and mitmweb's command bar: ``vmgateway.explain`` and others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from mitmproxy import command, flow
from mitmproxy.exceptions import CommandError

from vmgw_addons.process import Lifecycle
from vmgw_addons.state import InForce, describe_keys
from vmgw_core.base import printable
from vmgw_core.explain import judge_token, limit_line, moment
from vmgw_core.limits import slot_usages

from .marks import story_lines

F = TypeVar("F", bound=Callable[..., object])


def _command(name: str) -> Callable[[F], F]:
    """Apply mitmproxy's decorator, with a type."""
    decorator: Callable[[F], F] = command.command(name)
    return decorator


class DecisionCommands:
    """Commands on decisions, limits, keys and tokens."""

    def __init__(self, in_force: InForce, lifecycle: Lifecycle) -> None:
        self.in_force = in_force
        self.lifecycle = lifecycle

    @_command("vmgateway.explain")
    def explain(self, flows: Sequence[flow.Flow]) -> Sequence[str]:
        """
        Explain flows: token, key, route, arguments before and after, limits, upstream request, verdict.
        Example: vmgateway.explain @focus
        """
        lines: list[str] = []
        for each in flows:
            story = story_lines(each) or ["the gateway took no decision on this flow"]
            lines += [*([""] if lines else []), *story]
        return lines or ["no flow is selected"]

    @_command("vmgateway.limits")
    def limits(self) -> Sequence[str]:
        """
        Show the rate limits, and the usage of each in the present window.
        Example: vmgateway.limits
        """
        limiter, slots = self.in_force.configured.limiter, self.in_force.configured.concurrency
        if limiter is None:
            return ["no limits are enforced"]
        in_use = () if slots is None else slot_usages(slots.in_use())
        found = (*limiter.status(time.monotonic()), *in_use)
        return [limit_line(usage) for usage in found] or ["no requests counted so far"]

    @_command("vmgateway.keys")
    def key_list(self) -> Sequence[str]:
        """
        Show the keys that verify tokens, and when each endpoint was last fetched.
        Example: vmgateway.keys
        """
        lines = [describe_keys(self.in_force.configured)]
        keyring = self.in_force.configured.keyring
        for key in keyring.keyset.keys if keyring is not None and keyring.keyset is not None else ():
            kid = "" if key.kid is None else f", kid {printable(key.kid)}"
            issuer = "" if key.issuer is None else f", only for {printable(key.issuer.template)}"
            algorithms = " ".join(sorted(key.algorithms))
            lines.append(f"  {key.thumbprint} {key.kty} {algorithms}{kid}{issuer}, from {printable(key.source)}")
        for status in keyring.status() if keyring is not None else ():
            last = "never" if status.last_success is None else moment(status.last_success)
            error = "" if status.last_error is None else f", last error: {printable(status.last_error)}"
            lines.append(f"  {status.name} {printable(status.url)}: {status.keys} keys, last {last}{error}")
            lines += [f"    skipped: {printable(line)}" for line in status.skipped]
        return lines

    @_command("vmgateway.reload")
    def reload(self) -> None:
        """
        Read all files again, as on SIGHUP, and fetch keys. An invalid file changes nothing; see the event log.
        Example: vmgateway.reload
        """
        self.lifecycle.reload()

    @_command("vmgateway.token")
    def token(self, token: str) -> Sequence[str]:
        """
        Decode a token, verify it with the gateway's keys, and show what it grants.
        Example: vmgateway.token eyJhbGciOi...
        """
        policy = self.in_force.configured.policy
        if policy is None:
            raise CommandError("the gateway is not configured")
        text = token.strip().removeprefix("Bearer ").strip()
        return judge_token(policy.verifier, text, time.time()).as_text().splitlines()
