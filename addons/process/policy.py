"""Keys, policy and limiter, built from settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmgw_addons.outgoing import TLSFiles, read, shown
from vmgw_addons.state import path_prefix
from vmgw_core.access import read_access_policy
from vmgw_core.answers import HeldBytes, RulesTenant
from vmgw_core.backends import Backend, BackendGroup
from vmgw_core.configuration import ClientTLS, Settings
from vmgw_core.credentials import MTLS, Credentials, read_credentials
from vmgw_core.enforcement import Policy
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import Limiter, LimitFile, check_classes
from vmgw_core.login import CookieKeys, Login, build_login, check_login
from vmgw_core.tokens import (
    Grants,
    IssuerPattern,
    KeyRing,
    RequiredClaim,
    TokenRules,
    TokenSource,
    TokenVerifier,
    VerificationKey,
    keys_from_pem,
)


def read_static_keys(settings: Settings) -> list[VerificationKey]:
    """Read the public keys of files and flags. Raises ``ConfigurationError`` if one cannot be read or used."""
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
    """Build the key ring, with static keys and endpoints.

    Raises ``ConfigurationError`` if a URL is not valid, or a file of ``-auth.tls*`` cannot be used.
    """
    tls = settings.client_tls("auth")
    if tls != ClientTLS():
        TLSFiles(tls).context()
    return KeyRing(
        static=static,
        jwks_endpoints=settings.auth_jwks_endpoints,
        oidc_endpoints=settings.auth_oidc_discovery_endpoints,
        issuers=_issuers(settings),
        refresh_interval=settings.auth_keys_refresh_interval,
        verifying=bool(
            settings.auth_credentials_file or settings.auth_mtls_claims
        ),  # without a key, nobody but these credentials may pass
    )


def _issuers(settings: Settings) -> list[IssuerPattern]:
    try:
        return [IssuerPattern(text) for text in settings.auth_issuer]
    except ValueError as error:
        raise ConfigurationError(f"-auth.issuer: {error}") from None


def token_rules(settings: Settings) -> TokenRules:
    """Read the rules for tokens, and the access policy. Raises ``ConfigurationError`` if a flag cannot be used."""
    required = []
    for index, text in enumerate(settings.auth_required_claims):
        try:
            required.append(RequiredClaim.parse(text))
        except ValueError as error:
            raise ConfigurationError(f"-auth.requiredClaims[{index}]: {error}") from None
    audiences = settings.auth_audience
    if "" in audiences:
        raise ConfigurationError("-auth.audience: an audience must not be empty")
    leeway = settings.auth_leeway
    if not leeway.is_integer():
        raise ConfigurationError("-auth.leeway: expected whole seconds")
    length, head = settings.auth_max_token_size, settings.http_max_head_size
    if length > head and length != Settings().auth_max_token_size:
        raise ConfigurationError(
            "-auth.maxTokenSize: must not exceed -http.maxHeadSize, since the token is in the head"
        )
    if settings.auth_mtls_claims and not (settings.auth_policy and settings.enable_auth):
        raise ConfigurationError(
            "-auth.mtlsClaims needs -enable.auth and -auth.policy, which says what a certificate grants"
        )
    grants = Grants.from_claims
    limit_classes: Mapping[str, str] = {}
    if settings.auth_policy:
        name, tls = shown("-auth.policy", settings.auth_policy), TLSFiles(settings.client_tls("auth"))
        policy = read_access_policy(read("-auth.policy", settings.auth_policy, tls), name)
        grants, limit_classes = policy.grants, policy.limit_classes
    return TokenRules(
        audiences=audiences,
        required=tuple(required),
        reserved=MTLS if settings.auth_mtls_claims else "",
        leeway=int(leeway),
        max_length=min(length, head),
        grants=grants,
        limit_classes=limit_classes,
    )


def _credentials(settings: Settings, rules: TokenRules) -> Credentials | None:
    location = settings.auth_credentials_file
    if not location:
        return None
    flag, tls = "-auth.credentialsFile", TLSFiles(settings.client_tls("auth"))
    name = shown(flag, location)
    return read_credentials(read(flag, location, tls), name, grants=rules.grants, seed=os.urandom(32))


def build_policy(settings: Settings, keyring: KeyRing, before: Policy | None = None) -> Policy:
    """Build the policy. The state of the backends is taken over from the policy ``before``.

    Raises:
        ConfigurationError: everybody would be let through, there is no backend, or a flag is not valid.
    """
    auth, cluster = settings.enable_auth, settings.cluster_mode
    if not auth and not settings.enable_rate_limit:
        raise ConfigurationError("-enable.auth is not set: the gateway would let everybody through")
    if not auth and not cluster:
        raise ConfigurationError(
            "-enable.rateLimit without -enable.auth needs -clusterMode, which takes the tenant from the path"
        )
    read = _backends("read.url", settings.read_url, before.read if before is not None else None)
    write = _backends("write.url", settings.write_url, before.write if before is not None else None)
    if read is None and write is None:
        raise ConfigurationError("set -read.url or -write.url: there is no backend to send requests to")
    for header in settings.auth_http_header or ("",):
        if not header.replace("-", "").replace("_", "").isalnum() or not header.isascii():
            raise ConfigurationError("-auth.httpHeader: expected the name of a header, such as Authorization")
    if settings.auth_issuer and auth and keyring.keyset is None:
        raise ConfigurationError("-auth.issuer needs keys: without keys, tokens are not verified")
    cache_bytes = settings.auth_token_cache_size
    login = read_login(settings, keyring)
    rules = token_rules(settings)
    credentials = _credentials(settings, rules)
    return Policy(
        verifier=TokenVerifier(keyring.keyset, rules=rules, cache_bytes=cache_bytes),
        credentials=credentials,
        certificates=settings.auth_mtls_claims,
        token_source=TokenSource(
            headers=tuple(dict.fromkeys(header.lower().encode() for header in settings.auth_http_header)),
            allow_without_prefix=settings.auth_http_header_allow_without_prefix,
            basic_user=settings.auth_basic_user or None,
            session=None if login is None else login.token,
            machines=credentials is not None,
        ),
        login=login,
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
        filters_responses=True,
        rules_tenant=_rules_tenant(settings),
        held=HeldBytes(settings.response_max_filter_bytes),
    )


def read_login(settings: Settings, keyring: KeyRing) -> Login | None:
    """Read the flags ``-login.*`` and the keys of cookies; None without a login.

    Raises ``ConfigurationError`` if a flag is missing or cannot be used.
    """
    if not settings.login_oidc_issuer:
        return None
    check_login(settings)
    if keyring.keyset is None:
        raise ConfigurationError(
            "-login.oidcIssuer needs keys that verify its tokens, such as those of -auth.oidcDiscoveryEndpoints"
        )
    path = settings.login_cookie_key_file
    try:
        keys = CookieKeys.parse(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"-login.cookieKeyFile: cannot read {path}: {error.strerror}") from None
    return build_login(settings, keys, path_prefix(settings))


def _rules_tenant(settings: Settings) -> RulesTenant:
    try:
        return RulesTenant.parse(settings.vmalert_tenant)
    except ValueError as error:
        raise ConfigurationError(f"-vmalert.tenant: {error}") from None


def limiter_for(settings: Settings, limits: LimitFile | None, old: Limiter | None) -> Limiter | None:
    """Update the old limiter, so that its counts stay, or build one. None without limits."""
    if limits is None:
        return None
    limiter = old or Limiter()
    limiter.max_tenants = settings.ratelimit_max_tenants
    limiter.measured = bool(settings.datasource_url)
    closed = limiter.measured and settings.ratelimit_fail_closed
    limiter.stale_after = settings.ratelimit_max_usage_age if closed else None
    limiter.refuse_oversized = settings.ratelimit_refuse_oversized
    limiter.replace(limits.limits)
    return limiter


def check_limit_classes(policy: Policy, limits: LimitFile | None) -> None:
    """Raise ``ConfigurationError`` if a grant names a class that has no limits; ``limits`` None: there are none."""
    if limits is None and policy.limit_classes:
        name, place = next(iter(policy.limit_classes.items()))
        raise ConfigurationError(f"{place}: the class {name} needs -enable.rateLimit and -ratelimit.config")
    check_classes(policy.limit_classes, limits or LimitFile())


def _backends(flag: str, urls: Sequence[str], before: BackendGroup | None) -> BackendGroup | None:
    backends = [Backend.parse(url, flag) for url in urls]
    return BackendGroup(backends, before) if backends else None
