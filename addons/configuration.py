"""Configuration: flags as mitmproxy options, files read at start and on reload, the policy built from both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError
from mitmproxy.proxy.mode_specs import ProxyMode

from vmgw_core import __version__
from vmgw_core.commandline import settings_from_options
from vmgw_core.discovery import KeyRing
from vmgw_core.errors import ConfigurationError
from vmgw_core.flags import FLAGS, Flag, Kind, option_name
from vmgw_core.gateway import Policy
from vmgw_core.jwk import VerificationKey, keys_from_pem
from vmgw_core.jwt import TokenVerifier
from vmgw_core.tenancy import Backend

from .capture import check_capture
from .listener import DEAD_TARGET, parse_listen_address
from .runtime import Runtime, Settings
from .upstream_tls import contexts

logger = logging.getLogger(__name__)

_OPTION_TYPES: dict[Kind, Any] = {Kind.BOOL: bool, Kind.INT: int, Kind.ARRAY: Sequence[str]}


class Configuration:
    """Reads flags and files, and replaces the policy in force when all of it is good."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def load(self, loader: Loader) -> None:
        for flag in FLAGS:
            loader.add_option(option_name(flag), _OPTION_TYPES.get(flag.kind, str), _default(flag), flag.help)

    def configure(self, updated: set[str]) -> None:
        given = any(ctx.options.has_changed(option_name(flag)) for flag in FLAGS)
        if not given or not any(name.startswith("vmgw_") for name in updated):
            return
        try:
            settings = settings_from_options(lambda name: getattr(ctx.options, name))
            if settings != self.runtime.settings:
                self.start(settings)
        except ConfigurationError as error:
            if self.runtime.policy is not None:  # set while running: mitmproxy rolls the option back
                raise OptionsError(str(error)) from None
            logger.error(str(error))  # at start: mitmproxy stops, and every request before that is refused

    async def running(self) -> None:
        if self.runtime.policy is None:
            logger.error("vmgateway has no usable configuration: set at least vmgw_enable_auth and vmgw_read_url")
            return
        # mitmproxy 12 opens its listener while it loads scripts, so in the mode that was set before.
        proxyserver = ctx.master.addons.get("proxyserver")
        await proxyserver.servers.update([ProxyMode.parse(mode) for mode in ctx.options.mode])
        verified = self.runtime.keyring is not None and self.runtime.keyring.keyset is not None
        logger.log(logging.INFO if verified else logging.WARNING, describe_keys(self.runtime))
        if not ctx.options.server:
            return
        address = f"{ctx.options.listen_host or '*'}:{ctx.options.listen_port}"
        logger.info(f"vmgateway {__version__} listens on {address}")

    def start(self, settings: Settings) -> None:
        """Put the first ``settings`` in force, or others while running.

        Raises:
            ConfigurationError: as :meth:`apply`.
        """
        self.apply(settings)
        _set_up_mitmproxy(settings)

    def apply(self, settings: Settings) -> None:
        """Put ``settings`` in force, files read anew, or leave everything as it was.

        Raises:
            ConfigurationError: names the flag or file that cannot be used.
        """
        runtime = self.runtime
        static = read_static_keys(settings)
        keyring = build_keyring(settings, static)
        policy = build_policy(settings, keyring)
        tls = contexts(settings)
        check_capture(settings)
        if runtime.keyring is not None and all(settings[flag] == runtime.settings[flag] for flag in _ENDPOINT_FLAGS):
            runtime.keyring.replace_static(static)  # what was fetched stays
        else:
            runtime.keyring = keyring
        runtime.settings, runtime.policy, runtime.upstream_tls = settings, policy, tls
        runtime.use_keys()

    def reload(self) -> bool:
        """Read all files anew; a bad one leaves the configuration in force as it is. Returns whether it worked."""
        try:
            self.apply(self.runtime.settings)
        except ConfigurationError as error:
            self.runtime.reloads["error"] += 1
            logger.error(f"cannot reload, the old configuration stays in force: {error}")
            return False
        self.runtime.reloads["success"] += 1
        logger.info(f"reloaded: {describe_keys(self.runtime)}")
        return True


def _default(flag: Flag) -> object:
    if flag.kind in (Kind.BOOL, Kind.INT):
        return flag.default
    return [] if flag.kind is Kind.ARRAY else flag.default_text


def _set_up_mitmproxy(settings: Settings) -> None:
    """Point mitmproxy's listener at an address that answers nobody: only a decision leads to a backend."""
    if ctx.options.has_changed("mode") and ctx.options.mode != [f"reverse:{DEAD_TARGET}"]:
        raise ConfigurationError("--mode: leave it out, vmgateway sets it; -httpListenAddr says where to listen")
    options: dict[str, object] = {"mode": [f"reverse:{DEAD_TARGET}"], "connection_strategy": "lazy"}
    if not ctx.options.server:  # mitmdump -n: flows that are read would be given the mode's address
        del options["mode"]
    host, port = parse_listen_address(str(settings["httpListenAddr"]), ipv6=bool(settings["enableTCP6"]))
    if not ctx.options.has_changed("listen_port"):
        options["listen_port"] = port
    if not ctx.options.has_changed("listen_host"):
        options["listen_host"] = host
    # mitmproxy's own guards that a gateway replaces: who may connect, and the certificate page under mitm.it.
    options |= {name: False for name in ("block_global", "onboarding") if name in ctx.options}
    if "tcp_timeout" in ctx.options:  # mitmproxy 12; 600 seconds in 11
        options["tcp_timeout"] = int(float(str(settings["backend.responseTimeout"])) + 60)
    ctx.options.update(**options)


_ENDPOINT_FLAGS = ("auth.jwksEndpoints", "auth.oidcDiscoveryEndpoints", "auth.keysRefreshInterval")


def read_static_keys(settings: Settings) -> list[VerificationKey]:
    """The public keys of files and flags.

    Raises:
        ConfigurationError: a file cannot be read, or holds no usable public key.
    """
    keys: list[VerificationKey] = []
    for path in _texts(settings, "auth.publicKeyFiles"):
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"-auth.publicKeyFiles: cannot read {path}: {error.strerror}") from None
        keys += keys_from_pem(data, f"-auth.publicKeyFiles {path}")
    for index, text in enumerate(_texts(settings, "auth.publicKeys")):
        keys += keys_from_pem(text, f"-auth.publicKeys[{index}]")
    return keys


def build_keyring(settings: Settings, static: Sequence[VerificationKey]) -> KeyRing:
    """The keys and the endpoints that give more.

    Raises:
        ConfigurationError: an endpoint is no URL.
    """
    return KeyRing(
        static=static,
        jwks_endpoints=_texts(settings, "auth.jwksEndpoints"),
        oidc_endpoints=_texts(settings, "auth.oidcDiscoveryEndpoints"),
        refresh_interval=float(str(settings["auth.keysRefreshInterval"])),
    )


def build_policy(settings: Settings, keyring: KeyRing) -> Policy:
    """The policy that ``settings`` ask for.

    Raises:
        ConfigurationError: they let everything through, lead nowhere, or name a URL that is none.
    """
    if not settings["enable.auth"]:
        raise ConfigurationError("-enable.auth is not set: without it the gateway would let everybody through")
    read, write = _backend(settings, "read.url"), _backend(settings, "write.url")
    if read is None and write is None:
        raise ConfigurationError("-read.url or -write.url is needed: there is no backend to send requests to")
    header = str(settings["auth.httpHeader"])
    if not header or not header.replace("-", "").replace("_", "").isalnum() or not header.isascii():
        raise ConfigurationError("-auth.httpHeader: expected the name of a header, such as Authorization")
    return Policy(
        verifier=TokenVerifier(keyring.keyset),
        token_header=header.lower().encode(),
        allow_without_prefix=bool(settings["auth.httpHeaderAllowWithoutPrefix"]),
        cluster=bool(settings["clusterMode"]),
        read=read,
        write=write,
        max_form_size=int(str(settings["maxFormSize"])),
        tell_why=bool(settings["logInvalidAuthTokens"]),
        keys_awaited=keyring.waiting,
    )


def describe_keys(runtime: Runtime) -> str:
    """One line on what tokens are verified with."""
    keyset = runtime.keyring.keyset if runtime.keyring is not None else None
    if keyset is None:
        return "0 keys loaded: token signatures are NOT verified, anybody can make a token"
    return f"{len(keyset)} key{'' if len(keyset) == 1 else 's'} loaded"


def _backend(settings: Settings, flag: str) -> Backend | None:
    url = str(settings[flag])
    return Backend.parse(url, flag) if url else None


def _texts(settings: Settings, flag: str) -> tuple[str, ...]:
    value = settings[flag]
    assert isinstance(value, tuple)
    return value
