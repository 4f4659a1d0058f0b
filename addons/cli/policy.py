"""The policy of a sub-command, with its keys fetched once."""

from __future__ import annotations

from dataclasses import replace

from vmgw_addons.outgoing import TLSFiles, describe, download
from vmgw_addons.process import build_keyring, build_policy, read_static_keys
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Policy
from vmgw_core.errors import ConfigurationError
from vmgw_core.tokens import KeyDocumentError, KeyRing, VerificationKey, keys_from_jwks

from .arguments import read_file
from .waiting import waiting_for

_STAND_IN = "http://victoriametrics:8428"
_MAX_FETCHES = 100


def with_defaults(settings: Settings) -> Settings:
    """Add what every gateway has: authentication and a backend."""
    # A gateway may run with rate limits alone, without tokens.
    settings = replace(settings, enable_auth=settings.enable_auth or not settings.enable_rate_limit)
    if not settings.read_url and not settings.write_url:
        settings = replace(settings, read_url=(_STAND_IN,), write_url=(_STAND_IN,))
    return settings


def make_policy(settings: Settings, now: float, jwks_file: str | None = None) -> Policy:
    """Build the policy, with keys from endpoints, or from ``jwks_file`` instead of them.

    Raises:
        ConfigurationError: a flag or file is not valid, or keys cannot be fetched.
    """
    static = read_static_keys(settings)
    if jwks_file is not None:
        static += read_jwks(jwks_file)
        settings = replace(settings, auth_jwks_endpoints=(), auth_oidc_discovery_endpoints=())
    keyring = build_keyring(settings, static)
    fetch_keys(keyring, now, TLSFiles(settings.client_tls("auth")))
    return build_policy(settings, keyring)


def read_jwks(path: str) -> list[VerificationKey]:
    """Read the usable keys of a JSON Web Key Set in a file. Raises ``ConfigurationError`` if there are none."""
    try:
        result = keys_from_jwks(read_file("--jwks-file", path), f"--jwks-file {path}")
    except KeyDocumentError as error:
        raise ConfigurationError(f"--jwks-file {path}: {error}") from None
    if not result.keys:
        raise ConfigurationError(f"--jwks-file {path}: {result.why_none()}")
    return list(result.keys)


def fetch_keys(keyring: KeyRing, now: float, tls: TLSFiles) -> None:
    """Fetch the keys of all endpoints once. Raises ``ConfigurationError`` if one has no keys."""
    for _ in range(_MAX_FETCHES):  # OpenID Connect discovery takes two fetches
        fetches = keyring.due(now)
        if not fetches:
            break
        for fetch in fetches:
            try:
                with waiting_for(f"fetching the keys of {fetch.source}"):
                    document = download(fetch.url, tls)
            except Exception as error:  # whatever a library raises
                keyring.failed(fetch, describe(error), now)
            else:
                keyring.received(fetch, document, now)
    for status in keyring.status():
        if status.last_error is not None or not status.keys:
            reason = status.last_error or "the endpoint has none"
            raise ConfigurationError(f"{status.name}: cannot fetch keys: {reason}")
