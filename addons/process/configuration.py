"""Configuration: reads flags and files, at start and on reload, and puts them in force."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError

from vmgw_addons.capture import check_capture
from vmgw_addons.listener import parse_listen_address
from vmgw_addons.observability import AccessLog
from vmgw_addons.outgoing import build_datasource
from vmgw_addons.outgoing.upstream_tls import contexts
from vmgw_addons.sources import build_exchange, limit_file, read_in_thread
from vmgw_addons.state import DEAD_TARGET, Configured, InForce, PageAccess, Process, Reloads, header_edit
from vmgw_addons.support import LogStyle, in_thread, set_up_logging_beside
from vmgw_core.backends import Concurrency
from vmgw_core.configuration import FLAGS, Flag, Kind, Settings, check_needs, option_name, settings_from_options
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import Limit
from vmgw_core.tokens import VerificationKey

from .policy import build_keyring, build_policy, describe_keys, limiter_for, read_static_keys

logger = logging.getLogger(__name__)

_OPTION_TYPES: dict[Kind, Any] = {Kind.BOOL: bool, Kind.INT: int, Kind.ARRAY: Sequence[str]}


class _Read(NamedTuple):
    """The result of reading settings and their files."""

    configured: Configured
    """Without the limiter: use() keeps the one that counts already."""
    static: list[VerificationKey]
    limits: tuple[Limit, ...] | None


class Configuration:
    """Reads flags and files, and puts them in force if all are valid."""

    def __init__(self, in_force: InForce, process: Process, reloads: Reloads, limit_reloads: Reloads) -> None:
        self.in_force = in_force
        self.process = process
        self.reloads = reloads
        self.limit_reloads = limit_reloads

    def load(self, loader: Loader) -> None:
        for flag in FLAGS:
            loader.add_option(option_name(flag), _OPTION_TYPES.get(flag.kind, str), _default(flag), flag.help)

    def configure(self, updated: set[str]) -> None:
        given = any(ctx.options.has_changed(option_name(flag)) for flag in FLAGS)
        if not given or not any(name.startswith("vmgw_") for name in updated):
            return
        try:
            settings = settings_from_options(lambda name: getattr(ctx.options, name))
            if self.in_force.configured.policy is None or settings != self.in_force.configured.settings:
                self.start(settings)
        except ConfigurationError as error:
            if self.in_force.configured.policy is not None:  # set while running: mitmproxy rolls the option back
                raise OptionsError(str(error)) from None
            logger.error(str(error))  # at start: mitmproxy stops; until then every request is refused

    def running(self) -> None:
        configured = self.in_force.configured
        if configured.policy is None:
            logger.error("vmgateway is not configured: set at least vmgw_enable_auth and vmgw_read_url")
            return
        if configured.limiter is not None:
            logger.info(f"{len(configured.limiter.limits)} limits are enforced")
        verified = configured.policy.auth and configured.keyring is not None and configured.keyring.keyset is not None
        logger.log(logging.INFO if verified else logging.WARNING, describe_keys(configured))

    def start(self, settings: Settings) -> None:
        """Put ``settings`` in force at start, or when an option changes. Raises ``ConfigurationError``."""
        self.apply(settings)
        style = LogStyle.from_settings(settings)
        if style != LogStyle() and "termlog_verbosity" in ctx.options:
            set_up_logging_beside(style)
        if self.process.offline is None:  # read the option before it is changed below
            self.process.offline = not ctx.options.server
        _set_up_mitmproxy(settings, offline=self.process.offline)

    def apply(self, settings: Settings, limits: tuple[Limit, ...] | None = None) -> None:
        """Read the files of ``settings`` and put both in force, or change nothing.

        Args:
            limits: those of ``-ratelimit.config``, if they have been read already.

        Raises:
            ConfigurationError: names the flag or file that cannot be used.
        """
        self.use(self.read(settings, limits))
        self.reloads.read()
        if settings.enable_rate_limit:
            self.limit_reloads.read()

    def read(self, settings: Settings, limits: tuple[Limit, ...] | None = None) -> _Read:
        """Read the files of ``settings``. Blocks, and changes nothing. Raises ``ConfigurationError``."""
        before = self.in_force.configured
        static = read_static_keys(settings)
        keyring = build_keyring(settings, static)
        policy = build_policy(settings, keyring, before.policy)
        check_capture(settings)
        check_needs(settings)
        style = LogStyle.from_settings(settings)
        if limits is None and settings.enable_rate_limit:
            limits = limit_file.load(settings)
        configured = Configured(
            settings=settings,
            policy=policy,
            keyring=keyring,
            upstream_tls=contexts(settings),
            page_access=PageAccess.from_settings(settings, before.outages),
            header_edit=header_edit(settings),
            access_log=AccessLog(self.in_force, style, self.process.log) if settings.access_log else None,
            datasource=build_datasource(settings, before.settings, before.datasource),
            exchange=build_exchange(settings, before.settings, before.exchange),
            outages=before.outages,
        )
        return _Read(configured, static, limits)

    def use(self, found: _Read) -> None:
        """Put the result of :meth:`read` in force."""
        before, settings = self.in_force.configured, found.configured.settings
        keyring, concurrency = found.configured.keyring, before.concurrency
        if before.keyring is not None and _endpoints(settings) == _endpoints(before.settings):
            keyring = before.keyring
            keyring.replace_static(found.static)  # keep the fetched keys
        total, of_tenant = settings.max_concurrent_requests, settings.max_concurrent_per_tenant
        if concurrency is None and (total or of_tenant):
            concurrency = Concurrency(total, of_tenant)
        limiter = limiter_for(settings, found.limits, before.limiter)
        self.in_force.configured = replace(found.configured, keyring=keyring, limiter=limiter, concurrency=concurrency)
        self.in_force.use_keys()
        if concurrency is not None:
            for waiter in concurrency.resize(total, of_tenant):
                waiter()

    async def reload(self) -> bool:
        """Read all files again, in a thread. Keep the old configuration if one is not valid. Returns success."""
        try:
            while True:
                settings = self.in_force.configured.settings
                limits = await self.limits(settings)
                found = await in_thread(partial(self.read, settings, limits), "reload")
                if self.in_force.configured.settings is settings:  # no option has changed meanwhile
                    break
            self.use(found)
        except ConfigurationError as error:
            self.reloads.failed()
            logger.error(f"cannot reload, keeping the old configuration: {error}")
            return False
        except Exception:
            self.reloads.failed()
            raise
        self.reloads.succeeded()
        loaded = f"{len(limits)} limits, " if limits is not None else ""
        logger.info(f"reloaded: {loaded}{describe_keys(self.in_force.configured)}")
        return True

    async def limits(self, settings: Settings) -> tuple[Limit, ...] | None:
        """Read ``-ratelimit.config`` in a thread. Raises ``ConfigurationError``."""
        if not settings.enable_rate_limit:
            return None
        try:
            limits = await read_in_thread(settings)
        except ConfigurationError:
            self.limit_reloads.failed()
            raise
        self.limit_reloads.succeeded()
        return limits


def _default(flag: Flag) -> object:
    if flag.kind in (Kind.BOOL, Kind.INT):
        return flag.default
    return [] if flag.kind is Kind.ARRAY else flag.default_text


def _set_up_mitmproxy(settings: Settings, *, offline: bool) -> None:
    """Close mitmproxy's listener, and give its reverse mode a dead target: only a decision leads to a backend."""
    if ctx.options.has_changed("mode") and ctx.options.mode != [f"reverse:{DEAD_TARGET}"]:
        raise ConfigurationError("remove --mode: vmgateway sets it; -httpListenAddr is the address to listen on")
    parse_listen_address(settings.http_listen_addr, ipv6=settings.enable_tcp6)
    # The listener is the gateway's own: see ``Listener``.
    options: dict[str, object] = {"connection_strategy": "lazy", "server": False}
    if not offline:  # flows from a file would get the mode's address
        options["mode"] = [f"reverse:{DEAD_TARGET}"]
    # The gateway has its own access control, and does not serve the certificate page mitm.it.
    options |= {name: False for name in ("block_global", "onboarding") if name in ctx.options}
    if "tcp_timeout" in ctx.options:  # mitmproxy 12; 600 seconds in 11
        options["tcp_timeout"] = int(settings.backend_response_timeout + 60)
    ctx.options.update(**options)


def _endpoints(settings: Settings) -> tuple[object, ...]:
    """Return the settings that the fetched keys depend on."""
    return (
        settings.auth_jwks_endpoints,
        settings.auth_oidc_discovery_endpoints,
        settings.auth_keys_refresh_interval,
        settings.auth_issuer,
    )
