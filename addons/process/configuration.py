"""Configuration: reads flags and files, at start and on reload, and puts them in force."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError

from vmgw_addons._mitmproxy import keep_script
from vmgw_addons.capture import check_capture
from vmgw_addons.observability import AccessLog, QueryLog, Traces, UsageLog, check_query_log, check_traces
from vmgw_addons.outgoing import build_datasource
from vmgw_addons.outgoing.upstream_tls import contexts
from vmgw_addons.sources import build_exchange, build_state_file, build_usage_store, limit_file, read_in_thread
from vmgw_addons.state import (
    Configured,
    InForce,
    LiveShadow,
    PageAccess,
    Process,
    Reloads,
    describe_keys,
    header_edit,
)
from vmgw_addons.support import LogStyle, Secret, certificate_end, in_thread, set_up_logging_beside
from vmgw_core.configuration import FLAGS, Settings, check_given, check_needs, option_name, settings_from_options
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import LimitFile
from vmgw_core.tokens import KeyRing, VerificationKey
from vmgw_core.usage import Accounting

from .checks import check, fail_start
from .fixed_options import FixedOptions
from .lane_choice import why_flows
from .mitmproxy_options import (
    WATCHED,
    Host,
    check_options,
    complete,
    option_that_needs_flows,
    read_host,
    set_up,
)
from .options import OPTION_TYPES, check_unknown, convert_deferred, default_of
from .policy import build_keyring, build_policy, check_limit_classes, limiter_for, read_static_keys
from .shadow import Candidate, build_shadow, read_candidate

logger = logging.getLogger(__name__)


class _Read(NamedTuple):
    """The result of reading settings and their files."""

    configured: Configured
    """Without the limiter: use() keeps the one that counts already."""
    static: list[VerificationKey]
    certificate_ends: dict[str, float]
    limits: LimitFile | None
    candidate: Candidate | ConfigurationError | None
    """The candidate configuration, or why the shadow stays the one before."""


class Configuration:
    """Reads flags and files, and puts them in force if all are valid."""

    def __init__(self, in_force: InForce, process: Process, reloads: Reloads, limit_reloads: Reloads) -> None:
        self.in_force = in_force
        self.process = process
        self.reloads = reloads
        self.limit_reloads = limit_reloads
        self.given: frozenset[str] = frozenset()
        """The flags that were given as options."""
        self.host: Host | None = None
        """What mitmproxy's options said at start."""
        self.fixed: FixedOptions | None = None
        """Keeps options as they are, once the gateway has set them."""

    def load(self, loader: Loader) -> None:
        for flag in FLAGS:
            loader.add_option(option_name(flag), OPTION_TYPES.get(flag.kind, str), default_of(flag), flag.help)
        self.process.offline = not ctx.options.server
        try:
            self.given = convert_deferred(ctx.options)
        except ConfigurationError as error:
            fail_start(error)

    def configure(self, updated: set[str]) -> None:
        given = any(ctx.options.has_changed(option_name(flag)) for flag in FLAGS)
        if not given or not any(name.startswith("vmgw_") or name in WATCHED for name in updated):
            return
        try:
            own = settings_from_options(lambda name: getattr(ctx.options, name))
            starting = self.in_force.configured.policy is None
            check_given(self.given if starting else _named(updated), own)
            settings = self.hosted(own)
            if starting:
                check(settings)
                if settings.dry_run:
                    print("the configuration is valid")
                    raise SystemExit
                self.start(settings)
            elif settings != self.in_force.configured.settings:
                self.start(settings)
        except ConfigurationError as error:
            if self.in_force.configured.policy is not None:  # set while running: mitmproxy rolls the option back
                raise OptionsError(str(error)) from None
            fail_start(error)

    def hosted(self, settings: Settings) -> Settings:
        """Complete ``settings`` with what mitmproxy's options say. Raises ``ConfigurationError``."""
        check_options(ctx.options)
        if settings.workers > 1 or settings.envflag_enable:
            flag = "workers" if settings.workers > 1 else "envflag.enable"
            raise ConfigurationError(f"-{flag}: only the command vmgateway has it")
        if self.host is None:
            self.host = read_host(ctx.options)
        if self.process.fast and (reason := option_that_needs_flows(ctx.options)):
            raise ConfigurationError(f"the fast lane is in use: {reason}")
        return complete(settings, self.host, address_is_given="httpListenAddr" in self.given)

    def running(self) -> None:
        configured = self.in_force.configured
        try:
            if "scripts" in ctx.options:  # one of mitmproxy's programs
                check_unknown(ctx.options)
                if configured.policy is None:
                    raise ConfigurationError("set at least vmgw_enable_auth, and vmgw_read_url or --mode reverse:URL")
                if self.fixed is not None:
                    self.fixed.script = keep_script(self)
            self.choose_lane(configured.settings)
        except ConfigurationError as error:
            fail_start(error)
        if configured.policy is None:
            return
        if configured.limiter is not None:
            logger.info(f"{configured.limit_file} are in force")
        verified = configured.policy.auth and configured.keyring is not None and configured.keyring.keyset is not None
        logger.log(logging.INFO if verified else logging.WARNING, describe_keys(configured))

    def choose_lane(self, settings: Settings) -> None:
        """Use the fast lane if nobody needs flows. Raises ``ConfigurationError`` if ``-lane=fast`` is not possible."""
        reason = None if self.process.offline else why_flows(ctx.master)
        if reason is not None and settings.lane == "fast":
            raise ConfigurationError(f"-lane=fast: {reason}")
        self.process.fast = settings.lane != "flow" and reason is None
        self.process.why_flows = reason or "" if settings.lane == "auto" else ""

    def start(self, settings: Settings) -> None:
        """Put ``settings`` in force at start, or when an option changes. Raises ``ConfigurationError``."""
        self.apply(settings)
        style = LogStyle.from_settings(settings)
        if style != LogStyle() and "termlog_verbosity" in ctx.options:
            set_up_logging_beside(style)
        set_up(ctx.options, settings, offline=self.process.offline)
        if "scripts" in ctx.options:  # one of mitmproxy's programs
            self.fixed = self.fixed or FixedOptions(ctx.options)

    def apply(self, settings: Settings, limits: LimitFile | None = None) -> None:
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

    def read(self, settings: Settings, limits: LimitFile | None = None, *, keeps_shadow: bool = False) -> _Read:
        """Read the files of ``settings``. Blocks, and changes nothing. Raises ``ConfigurationError``.

        ``keeps_shadow``: whether the shadow stays as it is if its files cannot be used.
        """
        before = self.in_force.configured
        static = read_static_keys(settings)
        keyring = build_keyring(settings, static)
        policy = build_policy(settings, keyring, before.policy)
        check_capture(settings)
        check_query_log(settings)
        check_traces(settings)
        check_needs(settings)
        style = LogStyle.from_settings(settings)
        if limits is None and settings.enable_rate_limit:
            limits = limit_file.load(settings)
        check_limit_classes(policy, limits)
        state_file = usage_store = None
        if not self.process.offline:
            state_file = build_state_file(settings, before.state_file)
            usage_store = build_usage_store(settings, state_file, before.settings, before.usage_store)
        accounting = None if usage_store is None else before.accounting or Accounting()
        configured = Configured(
            settings=settings,
            policy=policy,
            keyring=keyring,
            upstream_tls=contexts(settings),
            page_access=PageAccess.from_settings(settings, before.outages),
            header_edit=header_edit(settings),
            access_log=AccessLog(self.in_force, style, self.process.log) if settings.access_log else None,
            query_log=self.query_log(settings, style),
            usage_log=None if accounting is None else UsageLog(self.in_force, accounting),
            accounting=accounting,
            traces=self.traces(settings),
            datasource=build_datasource(settings, before.settings, before.datasource),
            exchange=build_exchange(settings, before.settings, before.exchange),
            usage_store=usage_store,
            state_file=state_file,
            login_secret=(
                Secret("login.clientSecret", settings.login_client_secret, before.outages)
                if settings.login_oidc_issuer
                else None
            ),
            outages=before.outages,
            turns=before.turns,
        )
        candidate: Candidate | ConfigurationError | None
        try:
            candidate = read_candidate(settings)
        except ConfigurationError as error:
            if not keeps_shadow:
                raise
            candidate = error
        return _Read(configured, static, _certificate_ends(settings), limits, candidate)

    def query_log(self, settings: Settings, style: LogStyle) -> QueryLog | None:
        """Return the log of ``-queryLog``: the present one, unless its place changes."""
        if not settings.query_log:
            return None
        before = self.in_force.configured
        if isinstance(before.query_log, QueryLog) and before.settings.query_log == settings.query_log:
            return before.query_log
        return QueryLog(self.in_force, settings.query_log, style, self.process.log)

    def traces(self, settings: Settings) -> Traces | None:
        """Return the traces of ``-traces.endpoint``: the present ones, unless their flags change."""
        if not settings.traces_endpoint:
            return None
        before = self.in_force.configured.traces
        if isinstance(before, Traces) and before.is_for(settings):
            return before
        return Traces(self.in_force, settings)

    def use(self, found: _Read) -> None:
        """Put the result of :meth:`read` in force."""
        before, settings = self.in_force.configured, found.configured.settings
        keyring, concurrency = found.configured.keyring, before.concurrency
        if before.keyring is not None and _endpoints(settings) == _endpoints(before.settings):
            keyring = before.keyring
            keyring.replace_static(found.static)  # keep the fetched keys
        limiter = limiter_for(settings, found.limits, before.limiter)
        if limiter is not None:
            limiter.calendar.tell_time(time.time(), time.monotonic())
        if found.configured.accounting is not None:
            found.configured.accounting.most = settings.usage_max_subjects
        file = found.limits or LimitFile()
        self.in_force.configured = replace(
            found.configured,
            keyring=keyring,
            limiter=limiter,
            concurrency=concurrency,
            limit_file=file,
            shadow=self.shadow(found, keyring),
        )
        self.in_force.use_limits(file)
        self.in_force.certificate_ends.update(found.certificate_ends)
        self.in_force.use_keys()
        if before.query_log is not None and before.query_log is not found.configured.query_log:
            before.query_log.close()
        if before.traces is not None and before.traces is not found.configured.traces:
            before.traces.close()

    def shadow(self, found: _Read, keyring: KeyRing | None) -> LiveShadow | None:
        """Return the shadow beside what was read; ``keyring`` is the live one."""
        before, candidate = self.in_force.configured.shadow, found.candidate
        if isinstance(candidate, ConfigurationError):
            logger.error(f"cannot reload the shadow, keeping the old one: {candidate}")
            return before
        if candidate is None:
            return None
        assert keyring is not None
        assert found.configured.policy is not None
        keys = candidate.keyring
        if _endpoints(candidate.settings) == _endpoints(found.configured.settings) and candidate.static == found.static:
            keys = keyring
        elif (
            before is not None
            and before.keyring is not keyring
            and _endpoints(candidate.settings) == _endpoints(before.settings)
        ):
            keys = before.keyring
            keys.replace_static(candidate.static)  # keep the fetched keys
        return build_shadow(candidate, found.configured.policy, found.limits, keys, before)

    async def reload(self) -> bool:
        """Read all files again, in a thread. Keep the old configuration if one is not valid. Returns success."""
        try:
            while True:
                settings = self.in_force.configured.settings
                limits = await self.limits(settings)
                found = await in_thread(partial(self.read, settings, limits, keeps_shadow=True), "reload")
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
        loaded = f"{limits}, " if limits is not None else ""
        logger.info(f"reloaded: {loaded}{describe_keys(self.in_force.configured)}")
        return True

    async def limits(self, settings: Settings) -> LimitFile | None:
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


def _named(options: set[str]) -> list[str]:
    """Return the names of the flags whose options are in ``options``."""
    return [flag.name for flag in FLAGS if option_name(flag) in options]


def _certificate_ends(settings: Settings) -> dict[str, float]:
    """Return when the certificates that the gateway shows to servers expire, by flag. Blocks."""
    found = {}
    for side in ("auth", "read", "write", "datasource", "traces"):
        path = settings.client_tls(side).cert_file
        end = certificate_end(path) if path else None
        if end is not None:
            found[f"-{side}.tlsCertFile"] = end
    return found


def _endpoints(settings: Settings) -> tuple[object, ...]:
    """Return the settings that the key ring is built from, apart from static keys."""
    return (
        settings.auth_jwks_endpoints,
        settings.auth_oidc_discovery_endpoints,
        settings.auth_keys_refresh_interval,
        settings.auth_issuer,
        bool(settings.auth_credentials_file or settings.auth_mtls_claims),
    )
