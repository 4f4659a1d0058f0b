"""Which flags need another one, or a value, to have an effect: a flag that would be ignored stops the start.

Rules of this file:

- A flag needs at least one of those beside it. ``name`` is a flag that is set; ``name=text`` is one with a value that
  begins with ``text``.
- A flag with its default value asks for nothing, so it needs nothing.
- What a needed flag needs itself is in its own row.
- A flag that makes the gateway stricter must not be given without a value, which is what a shell makes of
  ``-auth.audience=$AUDIENCE`` if the variable is unset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from vmgw_core.errors import ConfigurationError

from .flag import Flag
from .settings import Settings
from .table import BY_NAME, value_of


def _all(names: str, *needed: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names.split(), needed)


def _tls(side: str, server: str = "url") -> dict[str, tuple[str, ...]]:
    names = ("CAFile", "CertFile", "KeyFile", "ServerName", "InsecureSkipVerify")
    return _all(" ".join(f"{side}.tls{name}" for name in names), f"{side}.{server}=https:")


NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    **_all(
        "auth.httpHeader auth.basicUser auth.httpHeaderAllowWithoutPrefix auth.publicKeyFiles auth.publicKeys "
        "auth.jwksEndpoints auth.oidcDiscoveryEndpoints auth.issuer auth.policy auth.credentialsFile auth.audience "
        "auth.requiredClaims auth.leeway auth.maxTokenSize auth.tokenCacheSize logInvalidAuthTokens",
        "enable.auth",
    ),
    **_all("login.oidcIssuer", "enable.auth"),
    **_all(
        "login.url login.clientID login.clientSecret login.cookieKeyFile login.scopes login.arguments login.tokenType",
        "login.oidcIssuer",
    ),
    **_all("auth.mtlsClaims", "mtls"),
    **_all("auth.keysRefreshInterval", "auth.jwksEndpoints", "auth.oidcDiscoveryEndpoints"),
    **_all(
        "auth.tlsCAFile auth.tlsCertFile auth.tlsKeyFile auth.tlsServerName",
        "auth.jwksEndpoints=https:",
        "auth.oidcDiscoveryEndpoints",
        "auth.policy=https:",
        "auth.credentialsFile=https:",
    ),
    **_tls("read"),
    **_tls("write"),
    **_all("write.checkLabelNames", "write.url"),
    **_all("vmalert.tenant", "clusterMode"),
    **_all("response.maxFilterBytes", "read.url"),
    **_all("maxQueueDuration", "maxConcurrentRequests", "maxConcurrentPerTenant", "enable.rateLimit"),
    **_all(
        "ratelimit.config ratelimit.configCheckInterval ratelimit.maxTenants datasource.url",
        "enable.rateLimit",
    ),
    **_all("ratelimit.stateFile ratelimit.storage", "enable.rateLimit", "usage.retention"),
    **_all("usage.retention", "ratelimit.stateFile", "ratelimit.storage"),
    **_all("usage.maxSubjects", "usage.retention"),
    **_all("ratelimit.failClosed ratelimit.extraLabels ratelimit.refreshInterval", "datasource.url"),
    **_all("ratelimit.maxUsageAge", "ratelimit.failClosed"),
    **_all("ratelimit.maxDecodedSize", "write.checkLabelNames", "enable.rateLimit", "usage.retention"),
    **_all("ratelimit.refuseOversized ratelimit.headers", "enable.rateLimit"),
    **_all("ratelimit.storageKeyPrefix", "ratelimit.storage"),
    **_all(
        "datasource.appendTypePrefix datasource.basicAuth.username datasource.basicAuth.usernameFile "
        "datasource.bearerToken datasource.bearerTokenFile datasource.disableKeepAlive datasource.disableStepParam "
        "datasource.headers datasource.lookback datasource.maxIdleConnections datasource.oauth2.clientID "
        "datasource.queryStep datasource.queryTimeAlignment datasource.roundDigits datasource.showURL "
        "remoteRead.disablePathAppend",
        "datasource.url",
    ),
    **_all(
        "datasource.basicAuth.password datasource.basicAuth.passwordFile",
        "datasource.basicAuth.username",
        "datasource.basicAuth.usernameFile",
    ),
    **_all(
        "datasource.oauth2.clientSecret datasource.oauth2.clientSecretFile datasource.oauth2.endpointParams "
        "datasource.oauth2.scopes datasource.oauth2.tokenUrl",
        "datasource.oauth2.clientID",
    ),
    **_tls("datasource"),
    **_all("tlsCertFile tlsKeyFile tlsCipherSuites tlsMinVersion mtls http.enableHTTP2", "tls"),
    **_all("mtlsCAFile", "mtls"),
    **_all("httpAuth.password", "httpAuth.username"),
    **_all(
        "pushmetrics.interval pushmetrics.extraLabel pushmetrics.header pushmetrics.disableCompression",
        "pushmetrics.url",
    ),
    **_all("traces.ratio traces.maxPerSecond traces.serviceName", "traces.endpoint"),
    **_tls("traces", "endpoint"),
    **_all("queryLog.minDuration", "queryLog"),
    **_all("loggerJSONFields", "loggerFormat=json"),
    **_all("capture.filter capture.sampleRate capture.maxFileSize capture.keepFiles", "capture.file"),
    **_all("shadow.policy", "enable.auth", "shadow.flags"),
    **_all("envflag.prefix", "envflag.enable"),
}
"""By the name of a flag, the flags of which it needs one."""

BELOW: Final[Mapping[str, str]] = {
    "http.maxRequestLine": "http.maxHeadSize",
    "maxConcurrentPerTenant": "maxConcurrentRequests",
}
"""Limits that have no effect above another one, unless that is 0, which means none."""

NEVER_EMPTY: Final = frozenset(
    _all(
        "auth.publicKeyFiles auth.publicKeys auth.jwksEndpoints auth.oidcDiscoveryEndpoints auth.issuer auth.audience "
        "auth.requiredClaims auth.tlsCAFile read.tlsCAFile write.tlsCAFile datasource.tlsCAFile traces.tlsCAFile "
        "ratelimit.config ratelimit.stateFile ratelimit.storage tlsCipherSuites tlsMinVersion mtlsCAFile "
        "http.header.hsts http.header.csp http.header.frameOptions httpAuth.username httpAuth.password metricsAuthKey "
        "reloadAuthKey flagsAuthKey login.oidcIssuer login.url login.clientID login.clientSecret login.cookieKeyFile "
        "login.scopes pprofAuthKey capture.filter"
    )
)
"""Flags whose empty value would switch a check off."""


def check_given(names: Iterable[str], settings: Settings) -> None:
    """Raise ``ConfigurationError`` if one of the flags that were given would switch a check off by its empty value."""
    for name in sorted(NEVER_EMPTY.intersection(names)):
        if not value_of(BY_NAME[name], settings):
            raise ConfigurationError(f"flag -{name}: the value is empty; leave the flag out if you do not want it")


def check_needs(settings: Settings) -> None:
    """Raise ``ConfigurationError`` for the first flag that would have no effect, in the order of the table."""
    for name in filter(NEEDS.__contains__, BY_NAME):
        flag = BY_NAME[name]
        if value_of(flag, settings) != flag.default and not any(_is_set(each, settings) for each in NEEDS[name]):
            needed = " or ".join(_shown(each) for each in NEEDS[name])
            raise ConfigurationError(f"-{name} has no effect without {needed}")
    for name, other in BELOW.items():
        value, least = value_of(BY_NAME[name], settings), value_of(BY_NAME[other], settings)
        assert isinstance(value, int)
        assert isinstance(least, int)
        if value > least > 0 and value != BY_NAME[name].default:
            raise ConfigurationError(f"-{name} has no effect: it is above -{other}")


def _is_set(need: str, settings: Settings) -> bool:
    name, equals, start = need.partition("=")
    flag = BY_NAME[name]
    if not equals:
        return bool(value_of(flag, settings))
    return any(text.lower().startswith(start) for text in _texts(flag, settings))


def _texts(flag: Flag, settings: Settings) -> Iterator[str]:
    value = value_of(flag, settings)
    yield from value if isinstance(value, tuple) else (str(value),)


def _shown(need: str) -> str:
    name, _, start = need.partition("=")
    return f"an https URL in -{name}" if start == "https:" else f"-{need}"
