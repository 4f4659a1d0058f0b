"""Configuration: flags as mitmproxy options, files read at start and on reload, the policy built from both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
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
from vmgw_addons.state import (
    DEAD_TARGET,
    Configured,
    InForce,
    PageAccess,
    Process,
    Reloads,
    header_edit,
    path_prefix,
)
from vmgw_addons.support import LogStyle, in_thread, set_up_logging_beside
from vmgw_core.backends import Backend, BackendGroup, Concurrency
from vmgw_core.configuration import FLAGS, Flag, Kind, Settings, option_name, settings_from_options
from vmgw_core.enforcement import Policy
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import Limit, Limiter
from vmgw_core.tokens import (
    IssuerPattern,
    KeyRing,
    RequiredClaim,
    TokenRules,
    TokenVerifier,
    VerificationKey,
    keys_from_pem,
)

logger = logging.getLogger(__name__)

_OPTION_TYPES: dict[Kind, Any] = {Kind.BOOL: bool, Kind.INT: int, Kind.ARRAY: Sequence[str]}


class _Read(NamedTuple):
    """What settings and the files they name ask for."""

    configured: Configured
    """Without limits: use() puts them into what counts already."""
    static: list[VerificationKey]
    limits: tuple[Limit, ...] | None


class Configuration:
    """Reads flags and files, and replaces the policy in force when all of it is good."""

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
            logger.error(str(error))  # at start: mitmproxy stops, and every request before that is refused

    def running(self) -> None:
        configured = self.in_force.configured
        if configured.policy is None:
            logger.error("vmgateway has no usable configuration: set at least vmgw_enable_auth and vmgw_read_url")
            return
        if configured.limiter is not None:
            logger.info(f"{len(configured.limiter.limits)} limits are enforced")
        elif configured.settings.ratelimit_config:
            logger.warning("-ratelimit.config is given without -enable.rateLimit: no limit is enforced")
        verified = configured.policy.auth and configured.keyring is not None and configured.keyring.keyset is not None
        logger.log(logging.INFO if verified else logging.WARNING, describe_keys(configured))

    def start(self, settings: Settings) -> None:
        """Put the first ``settings`` in force, or others while running.

        Raises:
            ConfigurationError: as :meth:`apply`.
        """
        self.apply(settings)
        style = LogStyle.from_settings(settings)
        if style != LogStyle() and "termlog_verbosity" in ctx.options:
            set_up_logging_beside(style)
        if self.process.offline is None:  # what is set below says nothing any more
            self.process.offline = not ctx.options.server
        _set_up_mitmproxy(settings, offline=self.process.offline)

    def apply(self, settings: Settings, limits: tuple[Limit, ...] | None = None) -> None:
        """Put ``settings`` in force, files read anew, or leave everything as it was.

        Args:
            limits: those of ``-ratelimit.config`` where they have been read already.

        Raises:
            ConfigurationError: names the flag or file that cannot be used.
        """
        self.use(self.read(settings, limits))

    def read(self, settings: Settings, limits: tuple[Limit, ...] | None = None) -> _Read:
        """Read all files that ``settings`` name. Blocks, and changes nothing.

        Raises:
            ConfigurationError: as :meth:`apply`.
        """
        before = self.in_force.configured
        static = read_static_keys(settings)
        keyring = build_keyring(settings, static)
        policy = build_policy(settings, keyring, before.policy)
        check_capture(settings)
        style = LogStyle.from_settings(settings)
        if limits is None and settings.enable_rate_limit:
            limits = limit_file.load(settings)
        configured = Configured(
            settings=settings,
            policy=policy,
            keyring=keyring,
            upstream_tls=contexts(settings),
            page_access=PageAccess.from_settings(settings),
            header_edit=header_edit(settings),
            access_log=AccessLog(self.in_force, style, self.process.log) if settings.access_log else None,
            datasource=build_datasource(settings, before.settings, before.datasource),
            exchange=build_exchange(settings, before.settings, before.exchange),
        )
        return _Read(configured, static, limits)

    def use(self, found: _Read) -> None:
        """Put in force what was read."""
        before, settings = self.in_force.configured, found.configured.settings
        keyring, concurrency = found.configured.keyring, before.concurrency
        if before.keyring is not None and _endpoints(settings) == _endpoints(before.settings):
            keyring = before.keyring
            keyring.replace_static(found.static)  # what was fetched stays
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
        """Read all files again, in a thread; a bad one leaves the configuration as it is. Returns whether it worked."""
        try:
            while True:
                settings = self.in_force.configured.settings
                limits = await self.limits(settings)
                found = await in_thread(partial(self.read, settings, limits), "reload")
                if self.in_force.configured.settings is settings:  # no option was set meanwhile
                    break
            self.use(found)
        except ConfigurationError as error:
            self.reloads.error += 1
            logger.error(f"cannot reload, the old configuration stays in force: {error}")
            return False
        except Exception:
            self.reloads.error += 1
            raise
        self.reloads.success += 1
        held = f"{len(limits)} limits, " if limits is not None else ""
        logger.info(f"reloaded: {held}{describe_keys(self.in_force.configured)}")
        return True

    async def limits(self, settings: Settings) -> tuple[Limit, ...] | None:
        """Those of ``-ratelimit.config``, read without holding up requests. Raises ConfigurationError."""
        if not settings.enable_rate_limit:
            return None
        try:
            limits = await read_in_thread(settings)
        except ConfigurationError:
            self.limit_reloads.error += 1
            raise
        self.limit_reloads.success += 1
        return limits


def _default(flag: Flag) -> object:
    if flag.kind in (Kind.BOOL, Kind.INT):
        return flag.default
    return [] if flag.kind is Kind.ARRAY else flag.default_text


def _set_up_mitmproxy(settings: Settings, *, offline: bool) -> None:
    """Point mitmproxy's listener at an address that answers nobody: only a decision leads to a backend."""
    if ctx.options.has_changed("mode") and ctx.options.mode != [f"reverse:{DEAD_TARGET}"]:
        raise ConfigurationError("--mode: leave it out, vmgateway sets it; -httpListenAddr says where to listen")
    parse_listen_address(settings.http_listen_addr, ipv6=settings.enable_tcp6)
    # The listener is the gateway's own: see ``Listener``.
    options: dict[str, object] = {"connection_strategy": "lazy", "server": False}
    if not offline:  # flows that are read from a file would be given the mode's address
        options["mode"] = [f"reverse:{DEAD_TARGET}"]
    # mitmproxy's own guards that a gateway replaces: who may connect, and the certificate page under mitm.it.
    options |= {name: False for name in ("block_global", "onboarding") if name in ctx.options}
    if "tcp_timeout" in ctx.options:  # mitmproxy 12; 600 seconds in 11
        options["tcp_timeout"] = int(settings.backend_response_timeout + 60)
    ctx.options.update(**options)


def _endpoints(settings: Settings) -> tuple[object, ...]:
    """What the keys that were fetched depend on."""
    return (
        settings.auth_jwks_endpoints,
        settings.auth_oidc_discovery_endpoints,
        settings.auth_keys_refresh_interval,
        settings.auth_issuer,
    )


def read_static_keys(settings: Settings) -> list[VerificationKey]:
    """The public keys of files and flags.

    Raises:
        ConfigurationError: a file cannot be read, or holds no usable public key.
    """
    keys: list[VerificationKey] = []
    for path in settings.auth_public_key_files:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"-auth.publicKeyFiles: cannot read {path}: {error.strerror}") from None
        keys += keys_from_pem(data, f"-auth.publicKeyFiles {path}")
    for index, text in enumerate(settings.auth_public_keys):
        keys += keys_from_pem(text, f"-auth.publicKeys[{index}]")
    return keys


def build_keyring(settings: Settings, static: Sequence[VerificationKey]) -> KeyRing:
    """The keys and the endpoints that give more.

    Raises:
        ConfigurationError: an endpoint is no URL.
    """
    return KeyRing(
        static=static,
        jwks_endpoints=settings.auth_jwks_endpoints,
        oidc_endpoints=settings.auth_oidc_discovery_endpoints,
        issuers=_issuers(settings),
        refresh_interval=settings.auth_keys_refresh_interval,
    )


def _issuers(settings: Settings) -> list[IssuerPattern]:
    try:
        return [IssuerPattern(text) for text in settings.auth_issuer]
    except ValueError as error:
        raise ConfigurationError(f"-auth.issuer: {error}") from None


def token_rules(settings: Settings) -> TokenRules:
    """What the flags ask of every token.

    Raises:
        ConfigurationError: a flag cannot be used.
    """
    required = []
    for index, text in enumerate(settings.auth_required_claims):
        try:
            required.append(RequiredClaim.parse(text))
        except ValueError as error:
            raise ConfigurationError(f"-auth.requiredClaims[{index}]: {error}") from None
    audiences = settings.auth_audience
    if "" in audiences:
        raise ConfigurationError("-auth.audience: an audience is not empty")
    leeway = settings.auth_leeway
    if not leeway.is_integer():
        raise ConfigurationError("-auth.leeway: expected whole seconds")
    length, head = settings.auth_max_token_size, settings.http_max_head_size
    if length > head and length != Settings().auth_max_token_size:
        raise ConfigurationError("-auth.maxTokenSize: no larger token fits in the request head: see -http.maxHeadSize")
    return TokenRules(
        audiences=audiences,
        required=tuple(required),
        leeway=int(leeway),
        max_length=min(length, head),
    )


def build_policy(settings: Settings, keyring: KeyRing, before: Policy | None = None) -> Policy:
    """The policy that ``settings`` ask for. What is known of the backends of the one ``before`` goes on.

    Raises:
        ConfigurationError: they let everything through, lead nowhere, or name a URL that is none.
    """
    auth, cluster = settings.enable_auth, settings.cluster_mode
    if not auth and not settings.enable_rate_limit:
        raise ConfigurationError("-enable.auth is not set: without it the gateway would let everybody through")
    if not auth and not cluster:
        raise ConfigurationError(
            "-enable.rateLimit without -enable.auth needs -clusterMode: the tenant is then taken from the path"
        )
    read = _backends("read.url", settings.read_url, before.read if before is not None else None)
    write = _backends("write.url", settings.write_url, before.write if before is not None else None)
    if read is None and write is None:
        raise ConfigurationError("-read.url or -write.url is needed: there is no backend to send requests to")
    header = settings.auth_http_header
    if not header or not header.replace("-", "").replace("_", "").isalnum() or not header.isascii():
        raise ConfigurationError("-auth.httpHeader: expected the name of a header, such as Authorization")
    if settings.auth_issuer and auth and keyring.keyset is None:
        raise ConfigurationError("-auth.issuer needs keys: without any, tokens are not verified")
    cache_bytes = settings.auth_token_cache_size
    return Policy(
        verifier=TokenVerifier(keyring.keyset, rules=token_rules(settings), cache_bytes=cache_bytes),
        token_header=header.lower().encode(),
        allow_without_prefix=settings.auth_http_header_allow_without_prefix,
        cluster=cluster,
        read=read,
        write=write,
        max_form_size=settings.max_form_size,
        tell_why=settings.log_invalid_auth_tokens,
        path_prefix=path_prefix(settings),
        keys_awaited=auth and keyring.waiting,
        auth=auth,
        compression=not settings.http_disable_response_compression,
        check_label_names=settings.write_check_label_names,
        max_decoded=settings.ratelimit_max_decoded_size,
    )


def limiter_for(settings: Settings, limits: tuple[Limit, ...] | None, old: Limiter | None) -> Limiter | None:
    """The limiter that ``settings`` ask for: the old one, so that its counts stay, with what is new."""
    if limits is None:
        return None
    limiter = old or Limiter()
    limiter.max_tenants = settings.ratelimit_max_tenants
    limiter.measured = bool(settings.datasource_url)
    closed = limiter.measured and settings.ratelimit_fail_closed
    limiter.stale_after = settings.ratelimit_max_usage_age if closed else None
    limiter.replace(limits)
    return limiter


def describe_keys(configured: Configured) -> str:
    """One line on what tokens are verified with."""
    if configured.policy is not None and not configured.policy.auth:
        return "-enable.auth is not set: NO token is needed, whoever can connect has every tenant it names"
    keyset = configured.keyring.keyset if configured.keyring is not None else None
    if keyset is None:
        return "0 keys loaded: token signatures are NOT verified, anybody can make a token"
    return f"{len(keyset)} key{'' if len(keyset) == 1 else 's'} loaded"


def _backends(flag: str, urls: Sequence[str], before: BackendGroup | None) -> BackendGroup | None:
    backends = [Backend.parse(url, flag) for url in urls]
    return BackendGroup(backends, before) if backends else None
