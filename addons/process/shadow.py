"""The shadow, built from ``-shadow.flags``, ``-shadow.policy`` and ``-shadow.ratelimitConfig``."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmgw_addons.sources import limit_file
from vmgw_addons.state import LiveShadow
from vmgw_core.configuration import FlagsFile, Settings, check_needs, parse, read_flags_file
from vmgw_core.enforcement import Gateway, Policy
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import Guards, LimitFile
from vmgw_core.replay import Shadow, ShadowCounts, ShadowTokens
from vmgw_core.tokens import KeyRing, VerificationKey

from .policy import build_keyring, build_policy, check_limit_classes, limiter_for, read_static_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate configuration, and what its files have."""

    settings: Settings
    policy: Policy
    keyring: KeyRing
    static: Sequence[VerificationKey]
    limits: LimitFile | None


def read_candidate(live: Settings) -> Candidate | None:
    """Read the candidate configuration; None without one. Blocks.

    Raises ``ConfigurationError``, which names the file, and the line if it is known.
    """
    if not (live.shadow_flags or live.shadow_policy or live.shadow_ratelimit_config):
        return None
    file = None
    try:
        file = _flags_file(live.shadow_flags) if live.shadow_flags else None
        settings = _settings(live, file)
        static = read_static_keys(settings)
        keyring = build_keyring(settings, static)
        policy = build_policy(settings, keyring)
        limits = limit_file.load(settings) if settings.enable_rate_limit else None
        check_limit_classes(policy, limits)
        if file is not None:
            check_needs(settings)
    except ConfigurationError as error:
        told = str(error if file is None else file.error(error))
        if live.shadow_policy:
            told = told.replace("-auth.policy", "-shadow.policy")
        if live.shadow_ratelimit_config:
            told = told.replace("-ratelimit.config", "-shadow.ratelimitConfig")
        raise ConfigurationError(f"shadow: {told}") from None
    return Candidate(settings=settings, policy=policy, keyring=keyring, static=static, limits=limits)


def _flags_file(path: str) -> FlagsFile:
    try:
        return read_flags_file(Path(path).read_text(encoding="utf-8"), path, str(Path(path).parent))
    except OSError as error:
        raise ConfigurationError(f"-shadow.flags: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"-shadow.flags: {path} is not UTF-8 text") from None


def _settings(live: Settings, file: FlagsFile | None) -> Settings:
    """Return the settings of the candidate. A file of flags is complete, but for the keys."""
    settings = live
    if file is not None:
        settings = parse((), os.environ, file=file).settings
        if not (
            settings.auth_public_keys
            or settings.auth_public_key_files
            or settings.auth_jwks_endpoints
            or settings.auth_oidc_discovery_endpoints
        ):
            settings = replace(
                settings,
                auth_public_keys=live.auth_public_keys,
                auth_public_key_files=live.auth_public_key_files,
                auth_jwks_endpoints=live.auth_jwks_endpoints,
                auth_oidc_discovery_endpoints=live.auth_oidc_discovery_endpoints,
            )
    if live.shadow_policy:
        settings = replace(settings, auth_policy=live.shadow_policy)
    if live.shadow_ratelimit_config:
        settings = replace(settings, enable_rate_limit=True, ratelimit_config=live.shadow_ratelimit_config)
    return settings


def build_shadow(
    candidate: Candidate | None,
    policy: Policy,
    limits: LimitFile | None,
    keyring: KeyRing,
    before: LiveShadow | None,
) -> LiveShadow | None:
    """Build the shadow beside ``policy``, with its ``limits``. Counts of ``before`` stay.

    ``keyring`` has the keys that the candidate uses.
    """
    if candidate is None:
        return None
    verifier = candidate.policy.verifier
    tokens = ShadowTokens(verifier.keys, rules=verifier.rules, cache_bytes=candidate.settings.auth_token_cache_size)
    judged = replace(candidate.policy, verifier=tokens)
    file, live_file = candidate.limits or LimitFile(), limits or LimitFile()
    has_limits = (candidate.limits is None) is (limits is None)
    same = has_limits and file.limits == live_file.limits and judged.limit_classes == policy.limit_classes
    limiter = None
    if not same:
        settings = replace(candidate.settings, datasource_url="")  # nobody asks it
        limiter = limiter_for(settings, candidate.limits, None if before is None else before.shadow.gateway.limiter)
        if limiter is not None:
            limiter.calendar.tell_time(time.time(), time.monotonic())
    guards = Guards(file.guards) if file.guards else None
    gateway = Gateway(policy=judged, clock=time.monotonic, limiter=limiter, guards=guards)
    counts = ShadowCounts() if before is None else before.shadow.counts
    return LiveShadow(Shadow(gateway, counts, same_limits=same), candidate.settings, keyring)
