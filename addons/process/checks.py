"""Checks before the start, the same in every program."""

from __future__ import annotations

import atexit
import sys
from typing import NoReturn

from mitmproxy import ctx

from vmgw_addons.capture import check_capture
from vmgw_addons.listener import ListenerTLS, parse_listen_address
from vmgw_addons.observability import PushTarget, check_query_log, check_traces
from vmgw_addons.outgoing import build_datasource
from vmgw_addons.outgoing.upstream_tls import contexts
from vmgw_addons.sources import build_exchange, build_state_file, limit_file
from vmgw_addons.state import PageAccess, header_edit
from vmgw_addons.support import LogStyle
from vmgw_core.base import quoted
from vmgw_core.configuration import Settings, check_needs
from vmgw_core.errors import ConfigurationError

from .policy import build_keyring, build_policy, check_limit_classes, read_static_keys
from .shadow import read_candidate


def check(settings: Settings) -> None:
    """Check all flags and files before the start. Raises ``ConfigurationError``, which names the flag."""
    parse_listen_address(settings.http_listen_addr, ipv6=settings.enable_tcp6)
    if settings.lane not in ("auto", "fast", "flow"):
        raise ConfigurationError(f"-lane: expected auto, fast or flow, got {quoted(settings.lane)}")
    if settings.tls:
        ListenerTLS(settings)
    policy = build_policy(settings, build_keyring(settings, read_static_keys(settings)))
    contexts(settings)
    check_capture(settings)
    check_query_log(settings)
    check_traces(settings)
    LogStyle.from_settings(settings)
    PageAccess.from_settings(settings)
    header_edit(settings)
    PushTarget.from_settings(settings)
    check_limit_classes(policy, limit_file.load(settings) if settings.enable_rate_limit else None)
    build_datasource(settings)
    build_exchange(settings)
    state_file = build_state_file(settings)
    if state_file is not None:
        state_file.check()
    read_candidate(settings)
    check_needs(settings)  # last: a value that is not valid is told first


def fail_start(error: ConfigurationError) -> NoReturn:
    """End one of mitmproxy's programs with one line and exit code 2, before anything listens."""
    line = f"vmgateway: {error}"
    if type(ctx.master).__name__ == "ConsoleMaster":  # its screen hides the line until it is gone
        atexit.register(print, line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)
    raise SystemExit(2)
