"""The one table of flags.

Everything that names a flag is generated from it: the command line, the environment, mitmproxy's options,
``-help`` and the table in docs/flags.md.

Rules of this file:

- Names, defaults and meanings are those of the specification, "Configuration"; the help is our own.
- A flag either takes effect or says in ``effect`` why it does not.
- The default goes through the same parser as a user's value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from .flag import ARRAY, BOOL, DURATION, FLOAT, INT, SIZE, STRING, Flag, Kind

__all__ = ["BY_NAME", "FLAGS", "Flag", "Kind", "description", "markdown_table", "option_name", "variable_name"]


def _group(title: str, *flags: Flag) -> tuple[Flag, ...]:
    return tuple(replace(flag, group=title) for flag in flags)


def _backend(side: str, served: str, example: str) -> tuple[Flag, ...]:
    return (
        Flag(f"{side}.url", ARRAY, "", f"Address of the backend for {served}, http or https, such as {example}. "
             f"Of several, the least loaded one gets a request. Credentials become Basic auth. Without "
             f"any, {served} are refused.", secret=True),
        *_tls(side),
    )  # fmt: skip


def _tls(side: str) -> tuple[Flag, ...]:
    return (
        Flag(f"{side}.tlsCAFile", STRING, "", f"File with the CA certificates that verify -{side}.url; "
             "by default those of the system."),
        Flag(f"{side}.tlsCertFile", STRING, "", f"File with the client certificate shown to -{side}.url."),
        Flag(f"{side}.tlsKeyFile", STRING, "", f"File with the private key of -{side}.tlsCertFile."),
        Flag(f"{side}.tlsServerName", STRING, "", f"Server name asked for and verified at -{side}.url; "
             "by default the host in it."),
        Flag(f"{side}.tlsInsecureSkipVerify", BOOL, "false", f"Do not verify the certificate of -{side}.url."),
    )  # fmt: skip


_FROM_FILE: Final = "file:///path names a file that holds it, read again when it changes."


def _key(name: str, page: str) -> Flag:
    text = f"Key for {page}, passed as authKey=; it replaces -httpAuth.* there. {_FROM_FILE}"
    return Flag(name, STRING, "", text, secret=True)


_NO_LICENSE: Final = "this is open software, no license is needed"
_NO_DATA: Final = "the gateway keeps no data files"
_NO_STRINGS: Final = "Python interns strings by itself"
_NO_CACHES: Final = "the caches of the gateway are small and of a fixed size"

FLAGS: Final[tuple[Flag, ...]] = (
    *_group(
        "Access control",
        Flag("enable.auth", BOOL, "false", "Demand a valid JSON Web Token with every request."),
        Flag("auth.httpHeader", STRING, "Authorization", "Request header that carries the token."),
        Flag("auth.httpHeaderAllowWithoutPrefix", BOOL, "false", "Accept a token without the prefix 'Bearer '."),
        Flag("auth.publicKeyFiles", ARRAY, "", "PEM files with public keys that verify tokens."),
        Flag("auth.publicKeys", ARRAY, "", "Public keys that verify tokens, as PEM text."),
        Flag("auth.jwksEndpoints", ARRAY, "", "URLs of JSON Web Key Sets with keys that verify tokens."),
        Flag("auth.oidcDiscoveryEndpoints", ARRAY, "", "URLs of OpenID Connect discovery documents. The keys they "
             "lead to verify only tokens of the issuer they name."),
        Flag("auth.keysRefreshInterval", DURATION, "5m", "How often the keys of -auth.jwksEndpoints and "
             "-auth.oidcDiscoveryEndpoints are fetched again.", least="1s"),
        Flag("auth.issuer", ARRAY, "", "Issuers whose tokens the keys of -auth.publicKeyFiles, -auth.publicKeys and "
             "-auth.jwksEndpoints may verify, compared with iss to the letter. Empty: any issuer."),
        Flag("auth.audience", ARRAY, "", "Accept only tokens whose aud holds one of these. Empty: aud is not "
             "checked."),
        Flag("auth.requiredClaims", ARRAY, "", "Accept only tokens with all of these claims, such as role=admin or "
             "realm.roles=metrics: a dot leads into an object, \\. is a dot in a name. A list must contain the "
             "value."),
        Flag("auth.leeway", DURATION, "0s", "How far the clocks of issuer and gateway may differ when exp and nbf "
             "are checked.", least="0s"),
        Flag("auth.maxTokenSize", SIZE, "32KiB", "The longest token that is accepted. -http.maxHeadSize limits it "
             "too.", least="1KiB"),
        Flag("auth.tokenCacheSize", SIZE, "32MiB", "Memory for verified tokens, so that each signature is checked "
             "once. When it is full, the least recently used token makes room.", least="0"),
        Flag("logInvalidAuthTokens", BOOL, "false", "Log why a token was refused, and tell the client."),
    ),
    *_group(
        "Backends",
        *_backend("read", "reads", "http://vmselect:8481"),
        *_backend("write", "writes", "http://vminsert:8480"),
        Flag("write.checkLabelNames", BOOL, "true", "Answer 400 to a write with a label name that is empty, is not "
             "valid UTF-8 or has a control character, and to one with a series without a metric name. False is for "
             "backends whose -relabelConfig sees to that: then bodies are only looked at where rows are limited."),
        Flag("clusterMode", BOOL, "false", "The backends are a VictoriaMetrics cluster: requests go to the tenant's "
             "paths there."),
        Flag("backend.connectTimeout", DURATION, "5s", "How long a connection to a backend may take.", least="1ms"),
        Flag("backend.responseTimeout", DURATION, "5m", "How long a backend may take from the end of the request "
             "to the head of its response; then the client gets 504.", least="1ms"),
        Flag("failTimeout", DURATION, "3s", "How long one of several backends is ejected after a failure. Then "
             "/health is probed at this interval, until it succeeds.", least="100ms"),
        Flag("maxConcurrentRequests", INT, "0", "The most concurrent requests of each process; further ones wait "
             "for up to -maxQueueDuration. Zero is no limit.", least="0"),
        Flag("maxConcurrentPerTenant", INT, "0", "The most concurrent requests of one tenant in each process. Zero "
             "is no limit.", least="0"),
        Flag("maxQueueDuration", DURATION, "10s", "How long a request waits at -maxConcurrentRequests or "
             "-maxConcurrentPerTenant; then it gets 429. Over HTTP/2 and with -lane=flow none waits."),
    ),
    *_group(
        "Rate limiting",
        Flag("enable.rateLimit", BOOL, "false", "Apply the limits of -ratelimit.config. Without -enable.auth this "
             "needs -clusterMode: clients then name their tenant in the path, and nothing proves that it is "
             "theirs."),
        Flag("ratelimit.config", STRING, "", "File with the limits, or its http or https URL.", secret=True),
        Flag("ratelimit.configCheckInterval", DURATION, "0s", "How often -ratelimit.config is read again; with 0 only "
             "on SIGHUP and /-/reload. A bad file keeps the limits in force.", least="0s"),
        Flag("ratelimit.failClosed", BOOL, "false", "Answer 503 if -datasource.url has given no usage for "
             "-ratelimit.maxUsageAge. By default the last known usage applies."),
        Flag("ratelimit.maxUsageAge", DURATION, "1m", "How old the usage from -datasource.url may become with "
             "-ratelimit.failClosed.", least="1s"),
        Flag("ratelimit.maxTenants", INT, "10000", "How many tenants the rate limiter tracks. It never forgets a "
             "tenant that was active within the longest window; if all were, a new tenant gets 429.", least="1"),
        Flag("ratelimit.maxDecodedSize", SIZE, "64MiB", "With -write.checkLabelNames, or where rows are limited: a "
             "write that can only be read whole (remote write, OpenTelemetry, DataDog, New Relic, OpenTSDB, snappy, a "
             "line of JSON) and is larger, as sent or decoded, is answered 413.", least="1MiB"),
        Flag("ratelimit.extraLabels", ARRAY, "", "Labels, as name=value, that the metrics asked for at -datasource.url "
             "must have: which of several clusters in one datasource is meant."),
        Flag("ratelimit.refreshInterval", DURATION, "5s", "How often usage is asked for at -datasource.url.",
             least="100ms"),
        Flag("ratelimit.storage", STRING, "", "Where replicas exchange their counts: redis://host:6379/0, or "
             "rediss:// for TLS. Without it each replica counts for itself.",
             secret=True),
        Flag("ratelimit.storageKeyPrefix", STRING, "vmgateway", "The prefix of the keys in -ratelimit.storage; all "
             "replicas of a gateway need the same."),
    ),
    *_group(
        "Datasource",
        Flag("datasource.url", STRING, "", "The datasource that measures usage: single-node VictoriaMetrics, "
             "vmselect, or any server with the Prometheus HTTP API, such as http://victoria-metrics:8428. Without "
             "it only the gateway's own counts apply.", secret=True),
        Flag("datasource.appendTypePrefix", BOOL, "false", "Put /prometheus before /api/v1/query in -datasource.url, "
             "as the tenant's URL of a vmselect needs."),
        Flag("datasource.basicAuth.username", STRING, "", "User name of Basic auth at -datasource.url."),
        Flag("datasource.basicAuth.usernameFile", STRING, "", "File with that user name; read again when it changes."),
        Flag("datasource.basicAuth.password", STRING, "", "Password of Basic auth at -datasource.url.", secret=True),
        Flag("datasource.basicAuth.passwordFile", STRING, "", "File with that password; read again when it changes."),
        Flag("datasource.bearerToken", STRING, "", "Bearer token for -datasource.url.", secret=True),
        Flag("datasource.bearerTokenFile", STRING, "", "File with that token; read again when it changes."),
        Flag("datasource.disableKeepAlive", BOOL, "false", "Use a new connection for each query."),
        Flag("datasource.disableStepParam", BOOL, "false", "Do not send the argument step, which some datasources do "
             "not take in instant queries."),
        Flag("datasource.headers", STRING, "", "Headers to send to -datasource.url, as name:value, with ^^ between "
             "two of them.", secret=True),
        Flag("datasource.lookback", DURATION, "0s", "Ask as of that long ago, for a datasource whose newest samples "
             "are not complete."),
        Flag("datasource.maxIdleConnections", INT, "100", "How many idle connections to keep; 0 keeps none.",
             least="0"),
        Flag("datasource.oauth2.clientID", STRING, "", "Client of the OAuth2 client credentials grant for "
             "-datasource.url."),
        Flag("datasource.oauth2.clientSecret", STRING, "", "Secret of that client.", secret=True),
        Flag("datasource.oauth2.clientSecretFile", STRING, "", "File with that secret; read again when it changes."),
        Flag("datasource.oauth2.endpointParams", STRING, "", "More parameters of the token request, as a JSON object "
             "of strings.", secret=True),
        Flag("datasource.oauth2.scopes", STRING, "", "Scopes to ask for, with ; between two of them."),
        Flag("datasource.oauth2.tokenUrl", STRING, "", "Where tokens are issued.", secret=True),
        Flag("datasource.queryStep", DURATION, "5m", "The argument step: how far back a sample may be to count as "
             "the present one. 0 stands for -ratelimit.refreshInterval."),
        Flag("datasource.queryTimeAlignment", BOOL, "true", "Align the time asked for to -ratelimit.refreshInterval, "
             "so that all replicas ask for the same moment."),
        Flag("datasource.roundDigits", INT, "0", "The argument round_digits: decimal digits that values are rounded "
             "to; 0 does not round.", least="0"),
        Flag("datasource.showURL", BOOL, "false", "Show -datasource.url in logs as it is, secrets and all."),
        *_tls("datasource"),
        Flag("remoteRead.disablePathAppend", BOOL, "false", "Do not append /api/v1/query to -datasource.url."),
    ),
    *_group(
        "Listener",
        Flag("lane", STRING, "fast", "How HTTP/1.1 is carried: fast, or flow (through mitmproxy's flows, which can be "
             "watched and saved). mitmproxy, mitmweb and mitmdump always use flow."),
        Flag("workers", INT, "1", "How many processes serve requests on the one port.", least="1"),
        Flag("httpListenAddr", STRING, ":8431", "TCP address to listen on, as host:port or :port."),
        Flag("enableTCP6", BOOL, "false", "Use IPv6 as well as IPv4, to listen and to connect. With "
             "-lane=flow the name of a backend may lead to either."),
        Flag("httpListenAddr.useProxyProtocol", BOOL, "false", "Connections begin with a header of the PROXY protocol, "
             "version 1 or 2, which names the client."),
        Flag("tls", BOOL, "false", "Serve TLS, with -tlsCertFile and -tlsKeyFile."),
        Flag("tlsCertFile", STRING, "", "File with the certificate, and those between it and its root. Read anew "
             "within a second of a change."),
        Flag("tlsKeyFile", STRING, "", "File with the private key of -tlsCertFile. Read anew within a second of a "
             "change."),
        Flag("tlsCipherSuites", ARRAY, "", "Cipher suites for TLS up to 1.2, by Go's names. Empty: OpenSSL's choice."),
        Flag("tlsMinVersion", STRING, "", "The oldest version of TLS that is served: TLS10, TLS11, TLS12 or TLS13. "
             "Empty: TLS12."),
        Flag("mtls", BOOL, "false", "Demand a certificate of every client, from an authority in -mtlsCAFile."),
        Flag("mtlsCAFile", STRING, "", "File with the authorities of clients' certificates."),
        Flag("http.enableHTTP2", BOOL, "false", "Offer HTTP/2 over TLS. It is carried by the flow lane, at a fraction "
             "of the speed."),
        Flag("http.maxHeadSize", SIZE, "64KiB", "A request whose request line and headers are larger is answered 431.",
             least="1KiB"),
        Flag("http.maxRequestLine", SIZE, "32KiB", "A request whose request line is longer is answered 414.",
             least="1KiB"),
        Flag("http.maxHeaders", INT, "200", "A request with more headers is answered 431.", least="1"),
        Flag("http.headTimeout", DURATION, "10s", "How long the head of a request may take from its first byte to its "
             "last; then the client gets 408. A TLS handshake and a header of the PROXY protocol may take as long; "
             "then the connection is closed.", least="1ms"),
        Flag("http.bodyTimeout", DURATION, "1m", "How long a client may send nothing of an incomplete request "
             "(408) or take nothing of its response.", least="1ms"),
        Flag("http.idleConnTimeout", DURATION, "1m", "How long a connection without a request stays open.",
             least="1ms"),
        Flag("http.connTimeout", DURATION, "2m", "A connection is closed after the first response that follows "
             "this time, give or take a tenth, so that a load balancer can spread the load again. Zero keeps "
             "connections."),
        Flag("http.disableKeepAlive", BOOL, "false", "Close each connection after its response."),
        Flag("http.maxConnections", INT, "10000", "The most connections of clients; further ones get 503. "
             "Connections that wait for a TLS handshake or a PROXY protocol header count too. Zero is no limit.",
             least="0"),
        Flag("http.maxChunkLine", SIZE, "4KiB", "The longest size line of a chunk, with extensions, and the "
             "longest trailers; beyond: 400 (403 on writes).", least="32"),
        Flag("http.maxPipelined", SIZE, "64KiB", "Bytes of pipelined requests that are read while another request "
             "is in progress.", least="1KiB"),
        Flag("maxFormSize", SIZE, "16MiB", "A form on a read route that is larger is answered 413."),
        Flag("http.shutdownDelay", DURATION, "0s", "How long /health answers 503 before a shutdown begins, so that "
             "load balancers can turn away first."),
        Flag("http.maxGracefulShutdownDuration", DURATION, "7s", "How long requests in flight may take to end in a "
             "shutdown."),
        Flag("http.pathPrefix", STRING, "", "Path that all requests begin with, own pages included, such as /metrics. "
             "It is taken off before a request is judged."),
        Flag("http.header.hsts", STRING, "", "Value of Strict-Transport-Security in every response."),
        Flag("http.header.csp", STRING, "", "Value of Content-Security-Policy in every response."),
        Flag("http.header.frameOptions", STRING, "", "Value of X-Frame-Options in every response."),
        Flag("http.disableResponseCompression", BOOL, "false", "Do not ask backends for compressed responses."),
        Flag("http.disableCORS", BOOL, "false", "Remove the Access-Control-* headers from all responses, so that "
             "no page of another origin can read them."),
    ),
    *_group(
        "Own pages",
        Flag("httpAuth.username", STRING, "", "User name for /metrics, /flags and /debug/pprof (Basic auth). Empty: "
             "they are open."),
        Flag("httpAuth.password", STRING, "", f"Password for -httpAuth.username. {_FROM_FILE}", secret=True),
        _key("metricsAuthKey", "/metrics"),
        _key("reloadAuthKey", "/-/reload"),
        _key("flagsAuthKey", "/flags"),
        _key("pprofAuthKey", "/debug/pprof"),
    ),
    *_group(
        "Metrics",
        Flag("metrics.maxTenants", INT, "1000", "How many tenants have metrics of their own; the rest are counted "
             'together as "other".', least="0"),
        Flag("metrics.exposeMetadata", BOOL, "false", "Show TYPE and HELP at /metrics.",
             effect="they are always shown"),
        Flag("pushmetrics.url", ARRAY, "", "URLs that the metrics of /metrics are pushed to, such as "
             "http://victoria-metrics:8428/api/v1/import/prometheus. Credentials in them become Basic auth.",
             secret=True),
        Flag("pushmetrics.interval", DURATION, "10s", "How often metrics are pushed to -pushmetrics.url.",
             least="100ms"),
        Flag("pushmetrics.extraLabel", ARRAY, "", "Labels added to the metrics pushed, such as 'instance=\"foo\"'."),
        Flag("pushmetrics.header", ARRAY, "", "Headers sent along with a push, such as 'My-Auth: foobar'.",
             secret=True),
        Flag("pushmetrics.disableCompression", BOOL, "false", "Push without gzip."),
    ),
    *_group(
        "Logging",
        Flag("accessLog", BOOL, "false", "Log every request in one line: client, request, verdict and response, "
             "but never the token."),
        Flag("loggerFormat", STRING, "default", "How log lines look: default, or json."),
        Flag("loggerLevel", STRING, "INFO", "The least level logged: INFO, WARN, ERROR, FATAL or PANIC. The access log "
             "does not depend on it."),
        Flag("loggerOutput", STRING, "stderr", "Where logs go: stderr or stdout."),
        Flag("loggerTimezone", STRING, "UTC", "IANA time zone of timestamps, such as Europe/Berlin, or Local."),
        Flag("loggerJSONFields", STRING, "", "Other names for the fields of -loggerFormat=json, such as "
             '"ts:timestamp,msg:message". The fields are ts, level, caller and msg.'),
        Flag("loggerDisableTimestamps", BOOL, "false", "Write no timestamps."),
        Flag("loggerErrorsPerSecondLimit", INT, "0", "How many errors one place in the code may log in a second; 0: "
             "any number.", least="0"),
        Flag("loggerWarnsPerSecondLimit", INT, "0", "How many warnings one place in the code may log in a second; 0: "
             "any number.", least="0"),
        Flag("loggerMaxArgLen", INT, "5000", "Longer messages are shortened to their beginning and end; in characters.",
             least="10"),
    ),
    *_group(
        "Capture",
        Flag("capture.file", STRING, "", "File to append captured requests to, for vmgateway replay and mitmproxy: "
             "the client's request, the decision and the response. Signatures of tokens, cookies, credentials and "
             "passwords are removed."),
        Flag("capture.filter", STRING, "", "Capture only what this mitmproxy filter expression matches, such as "
             "~u /api/v1/write."),
        Flag("capture.sampleRate", FLOAT, "1", "The share of requests that is captured, above 0 and up to 1."),
        Flag("capture.maxBodySize", SIZE, "64KiB", "A larger body is left out of the capture."),
        Flag("capture.maxFileSize", SIZE, "1GiB", "The capture stops before its file becomes larger.", least="1KiB"),
    ),
    *_group(
        "Program",
        Flag("dryRun", BOOL, "false", "Check flags, files and keys, then exit."),
        Flag("envflag.enable", BOOL, "false", "Read flags from environment variables too: the variable is the name "
             "with underscores for dots. The command line wins."),
        Flag("envflag.prefix", STRING, "", "What the variables of -envflag.enable begin with."),
        Flag("version", BOOL, "false", "Show the version, then exit."),
    ),
    *_group(
        "Without effect here",
        Flag("license", STRING, "", "License key.", secret=True, effect=_NO_LICENSE),
        Flag("license.forceOffline", BOOL, "false", "Verify the license key offline.", effect=_NO_LICENSE),
        Flag("licenseFile", STRING, "", "File with the license key.", effect=_NO_LICENSE),
        Flag("filestream.disableFadvise", BOOL, "false", "Do without fadvise() for large files.", effect=_NO_DATA),
        Flag("fs.disableMmap", BOOL, "false", "Read data files with pread().", effect=_NO_DATA),
        Flag("internStringCacheExpireDuration", DURATION, "6m", "How long interned strings are kept.",
             effect=_NO_STRINGS),
        Flag("internStringDisableCache", BOOL, "false", "Do not intern strings.", effect=_NO_STRINGS),
        Flag("internStringMaxLen", INT, "500", "The longest string to intern.", effect=_NO_STRINGS),
        Flag("memory.allowedBytes", SIZE, "0", "Memory that caches may occupy.", effect=_NO_CACHES),
        Flag("memory.allowedPercent", FLOAT, "60", "Percentage of memory that caches may occupy.", effect=_NO_CACHES),
        Flag("eula", BOOL, "false", "Was the consent to a license agreement.",
             effect="this is open software, there is nothing to accept"),
    ),
)  # fmt: skip

BY_NAME: Final[Mapping[str, Flag]] = {flag.name: flag for flag in FLAGS}

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def option_name(flag: Flag) -> str:
    """Return the mitmproxy option of a flag: ``vmgw_`` and the name in snake case, with acronyms as one word."""
    return "vmgw_" + _WORD_START.sub("_", flag.name).replace(".", "_").lower()


def variable_name(flag: Flag, prefix: str = "") -> str:
    """Return the environment variable of a flag: its name with underscores for dots, as in VictoriaMetrics."""
    return prefix + flag.name.replace(".", "_")


def description(flag: Flag) -> str:
    """Return the help of a flag, with the reason if it has no effect."""
    return f"{flag.help} Accepted without effect: {flag.effect}." if flag.effect else flag.help


def markdown_table() -> str:
    """Return the table of flags for docs/flags.md, with a newline at its end."""
    lines = ["| Flag | Type | Default | What it does |", "|---|---|---|---|"]
    for flag in FLAGS:
        default = f"`{flag.default_text}`" if flag.default_text else ""
        text = description(flag).replace("|", "\\|")
        lines.append(f"| `-{flag.name}` | {flag.kind.value} | {default} | {text} |")
    return "\n".join(lines) + "\n"
