"""The one table of flags: each field of ``Settings`` is a flag, with its name, kind, default and help.

Everything that names a flag is generated from it: the command line, the environment, mitmproxy's options,
``-help`` and the table in docs/flags.md. The values are typed: durations are seconds, sizes bytes.

Rules of this file:

- Names, defaults and meanings are those of the specification, "Configuration"; the help is our own.
- A field has the name of mitmproxy's option without ``vmgw_``.
- A flag either takes effect or says in ``effect`` why it does not.
- The default goes through the same parser as a user's value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from .flag import ARRAY, BOOL, DURATION, FLOAT, INT, SIZE, STRING, Flag, Kind

_PROVIDERS: Final = (
    "-auth.jwksEndpoints, -auth.oidcDiscoveryEndpoints and the URLs of -auth.policy and -auth.credentialsFile"
)
_FROM_FILE: Final = "file:///path names a file that holds it, read again when it changes."
_NO_LICENSE: Final = "this is open software, no license is needed"
_NO_DATA: Final = "the gateway keeps no data files"
_NO_STRINGS: Final = "Python interns strings by itself"
_NO_CACHES: Final = "the caches of the gateway are small and of a fixed size"


def _flag(name: str, kind: Kind, default: str, text: str, **more: Any) -> Any:  # noqa: ANN401
    """Return the field of a flag. ``group`` begins a group, for the fields that follow too."""
    flag = Flag(name, kind, default, text, **more)
    return field(default=flag.default, metadata={"flag": flag})


def _backend(side: str, served: str, example: str, **more: Any) -> Any:  # noqa: ANN401
    return _flag(f"{side}.url", ARRAY, "", f"Address of the backend for {served}, http or https, such as {example}. "
                 "Of several, the least loaded one gets a request. Credentials become Basic auth. Without any, "
                 f"{served} are refused.", secret=True, **more)  # fmt: skip


def _tls(side: str, name: str, server: str = "url") -> Any:  # noqa: ANN401
    return _flag(f"{side}.tls{name}", *_TLS[name][:2], _TLS[name][2].format(side=side, server=f"{side}.{server}"))


_TLS: Final[dict[str, tuple[Kind, str, str]]] = {
    "CAFile": (
        STRING, "", "File with the CA certificates that verify -{server}; by default those of the system."
    ),
    "CertFile": (STRING, "", "File with the client certificate shown to -{server}."),
    "KeyFile": (STRING, "", "File with the private key of -{side}.tlsCertFile."),
    "ServerName": (STRING, "", "Server name asked for and verified at -{server}; by default the host in it."),
    "InsecureSkipVerify": (BOOL, "false", "Do not verify the certificate of -{server}."),
}  # fmt: skip


def _key(name: str, page: str) -> Any:  # noqa: ANN401
    text = f"Key for {page}, passed as authKey=; it replaces -httpAuth.* there. {_FROM_FILE}"
    return _flag(name, STRING, "", text, secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTLS:
    """The flags ``-<side>.tls*``: how to speak TLS as a client."""

    side: str = field(default="", compare=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)  # a repr would show secrets
class Settings:
    """The value of each flag."""

    # fmt: off
    enable_auth: bool = _flag("enable.auth", BOOL, "false",
        "Demand a valid JSON Web Token with every request.", group="Access control")
    auth_http_header: tuple[str, ...] = _flag("auth.httpHeader", ARRAY, "Authorization",
        "Request headers that may carry the token, as 'Bearer TOKEN', 'Token TOKEN', or as the password of Basic "
        "credentials. Different tokens in two of them are refused.")
    auth_basic_user: str = _flag("auth.basicUser", STRING, "",
        "The user name that Basic credentials must have if the token is their password; empty: any.")
    auth_http_header_allow_without_prefix: bool = _flag("auth.httpHeaderAllowWithoutPrefix", BOOL, "false",
        "Accept a token without a prefix such as 'Bearer '.")
    auth_public_key_files: tuple[str, ...] = _flag("auth.publicKeyFiles", ARRAY, "",
        "PEM files with public keys that verify tokens.")
    auth_public_keys: tuple[str, ...] = _flag("auth.publicKeys", ARRAY, "",
        "Public keys that verify tokens, as PEM text.")
    auth_jwks_endpoints: tuple[str, ...] = _flag("auth.jwksEndpoints", ARRAY, "",
        "URLs of JSON Web Key Sets with keys that verify tokens.")
    auth_oidc_discovery_endpoints: tuple[str, ...] = _flag("auth.oidcDiscoveryEndpoints", ARRAY, "",
        "URLs of OpenID Connect discovery documents. The keys they lead to verify only tokens of the issuer they name.")
    auth_tls_ca_file: str = _flag("auth.tlsCAFile", STRING, "",
        f"File with the CA certificates that verify {_PROVIDERS}, in place of those of the system.")
    auth_tls_cert_file: str = _flag("auth.tlsCertFile", STRING, "",
        f"File with the client certificate shown to {_PROVIDERS}.")
    auth_tls_key_file: str = _flag("auth.tlsKeyFile", STRING, "", "File with the private key of -auth.tlsCertFile.")
    auth_tls_server_name: str = _flag("auth.tlsServerName", STRING, "",
        f"Server name asked for and verified at {_PROVIDERS}; by default the host of each URL.")
    auth_keys_refresh_interval: float = _flag("auth.keysRefreshInterval", DURATION, "5m",
        "How often the keys of -auth.jwksEndpoints and -auth.oidcDiscoveryEndpoints are fetched again.", least="1s")
    auth_issuer: tuple[str, ...] = _flag("auth.issuer", ARRAY, "",
        "Issuers whose tokens the keys of -auth.publicKeyFiles, -auth.publicKeys and -auth.jwksEndpoints may verify, "
        "compared with iss to the letter. Empty: any issuer.")
    auth_audience: tuple[str, ...] = _flag("auth.audience", ARRAY, "",
        "Accept only tokens whose aud holds one of these. Empty: aud is not checked.")
    auth_required_claims: tuple[str, ...] = _flag("auth.requiredClaims", ARRAY, "",
        "Accept only tokens with all of these claims, such as role=admin or realm.roles=metrics: a dot leads into an "
        "object, \\. is a dot in a name. A list must contain the value.")
    auth_policy: str = _flag("auth.policy", STRING, "",
        "A file or URL that says which claims of a token grant which access, for identity providers that cannot issue "
        "the claim vm_access. See docs/identity.md.")
    auth_credentials_file: str = _flag("auth.credentialsFile", STRING, "",
        "A file or URL with API keys and Basic users, and what they may do, for machines without an identity provider. "
        "See docs/identity.md.", secret=True)
    auth_mtls_claims: bool = _flag("auth.mtlsClaims", BOOL, "false",
        "Let -auth.policy judge the certificate of a client, by the claims mtls.common_name, mtls.dns and mtls.uri, if "
        "a request has no other credential. See docs/identity.md.")
    auth_leeway: float = _flag("auth.leeway", DURATION, "0s",
        "How far the clocks of issuer and gateway may differ when exp and nbf are checked.", least="0s")
    auth_max_token_size: int = _flag("auth.maxTokenSize", SIZE, "32KiB",
        "The longest token that is accepted. -http.maxHeadSize limits it too.", least="1KiB")
    auth_token_cache_size: int = _flag("auth.tokenCacheSize", SIZE, "32MiB",
        "Memory for verified tokens, so that each signature is checked once. When it is full, the least recently used "
        "token makes room.", least="0")
    log_invalid_auth_tokens: bool = _flag("logInvalidAuthTokens", BOOL, "false",
        "Log why a token was refused, and tell the client.")

    login_oidc_issuer: str = _flag("login.oidcIssuer", STRING, "",
        "Log browsers in at this OpenID Connect provider: its issuer, such as https://sso.example.com/realms/main. "
        "Needs -login.url, -login.clientID and -login.cookieKeyFile. See docs/login.md.", group="Login")
    login_url: str = _flag("login.url", STRING, "",
        "Address of the gateway as browsers see it, such as https://metrics.example.com. The provider must know "
        "/-/callback there as a redirect URI. http is accepted on loopback only.")
    login_client_id: str = _flag("login.clientID", STRING, "", "Client of the gateway at -login.oidcIssuer.")
    login_client_secret: str = _flag("login.clientSecret", STRING, "",
        f"Secret of that client; empty for a public client. {_FROM_FILE}", secret=True)
    login_cookie_key_file: str = _flag("login.cookieKeyFile", STRING, "",
        "File with the keys that encrypt cookies, one a line: base64 of at least 32 bytes. The first encrypts, all "
        "decrypt. All replicas need the same. Read again on a reload.")
    login_scopes: tuple[str, ...] = _flag("login.scopes", ARRAY, "openid",
        "Scopes to ask for. Most providers issue a refresh token only with offline_access.")
    login_arguments: tuple[str, ...] = _flag("login.arguments", ARRAY, "",
        "More arguments of the request for a login, as name=value, such as audience=metrics or prompt=select_account.")
    login_token_type: str = _flag("login.tokenType", STRING, "id",
        "Which token stands for the user in each request: id or access. It must be a JSON Web Token that the -auth.* "
        "flags accept.")

    read_url: tuple[str, ...] = _backend("read", "reads", "http://vmselect:8481", group="Backends")
    read_tls_ca_file: str = _tls("read", "CAFile")
    read_tls_cert_file: str = _tls("read", "CertFile")
    read_tls_key_file: str = _tls("read", "KeyFile")
    read_tls_server_name: str = _tls("read", "ServerName")
    read_tls_insecure_skip_verify: bool = _tls("read", "InsecureSkipVerify")
    write_url: tuple[str, ...] = _backend("write", "writes", "http://vminsert:8480")
    write_tls_ca_file: str = _tls("write", "CAFile")
    write_tls_cert_file: str = _tls("write", "CertFile")
    write_tls_key_file: str = _tls("write", "KeyFile")
    write_tls_server_name: str = _tls("write", "ServerName")
    write_tls_insecure_skip_verify: bool = _tls("write", "InsecureSkipVerify")
    write_check_label_names: bool = _flag("write.checkLabelNames", BOOL, "true",
        "Answer 400 to a write with a label name that is empty, is not valid UTF-8 or has a control character, and to "
        "one with a series without a metric name. False is for backends whose -relabelConfig sees to that: then bodies "
        "are only looked at where rows are limited.")
    cluster_mode: bool = _flag("clusterMode", BOOL, "false",
        "The backends are a VictoriaMetrics cluster: requests go to the tenant's paths there.")
    vmalert_tenant: str = _flag("vmalert.tenant", STRING, "group",
        "How the tenant of a rule is known in a cluster, where one vmalert serves all tenants (vmselect's "
        "-vmalert.proxyURL): group (the member tenant of its group), labels (its labels vm_account_id and "
        "vm_project_id), or a tenant such as 0:0 that all rules belong to. Nobody sees a rule without a known tenant.")
    response_max_filter_bytes: int = _flag("response.maxFilterBytes", SIZE, "16MiB",
        "The largest response, decoded, that the gateway limits to a token itself, such as rules and alerts. A larger "
        "one is answered 502. Responses that wait for it take at most four times as much memory.", least="64KiB")
    backend_connect_timeout: float = _flag("backend.connectTimeout", DURATION, "5s",
        "How long a connection to a backend may take.", least="1ms")
    backend_response_timeout: float = _flag("backend.responseTimeout", DURATION, "5m",
        "How long a backend may take from the end of the request to the head of its response; then the client gets "
        "504.", least="1ms")
    fail_timeout: float = _flag("failTimeout", DURATION, "3s",
        "How long one of several backends is ejected after a failure. Then /health is probed at this interval, until "
        "it succeeds.", least="100ms")
    max_concurrent_requests: int = _flag("maxConcurrentRequests", INT, "0",
        "The most concurrent requests of each process; further ones wait for up to -maxQueueDuration. Zero is no "
        "limit.", least="0")
    max_concurrent_per_tenant: int = _flag("maxConcurrentPerTenant", INT, "0",
        "The most concurrent requests of one tenant in each process. Zero is no limit.", least="0")
    max_queue_duration: float = _flag("maxQueueDuration", DURATION, "10s",
        "How long a request waits at a limit of concurrent requests; then it gets 429. Over HTTP/2 "
        "requests with a body do not wait.")

    enable_rate_limit: bool = _flag("enable.rateLimit", BOOL, "false",
        "Apply the limits of -ratelimit.config. Without -enable.auth this needs -clusterMode: clients then name their "
        "tenant in the path, and nothing proves that it is theirs.", group="Rate limiting")
    ratelimit_config: str = _flag("ratelimit.config", STRING, "",
        "File with the limits, or its http or https URL.", secret=True)
    ratelimit_config_check_interval: float = _flag("ratelimit.configCheckInterval", DURATION, "0s",
        "How often -ratelimit.config is read again; with 0 only on SIGHUP and /-/reload. A bad file keeps the limits "
        "in force.", least="0s")
    ratelimit_fail_closed: bool = _flag("ratelimit.failClosed", BOOL, "false",
        "Answer 503 if -datasource.url has given no usage for -ratelimit.maxUsageAge. By default the last known usage "
        "applies.")
    ratelimit_max_usage_age: float = _flag("ratelimit.maxUsageAge", DURATION, "1m",
        "How old the usage from -datasource.url may become with -ratelimit.failClosed.", least="1s")
    ratelimit_max_tenants: int = _flag("ratelimit.maxTenants", INT, "10000",
        "How many tenants the rate limiter tracks. It never forgets a tenant that was active within the longest "
        "window; if all were, a new tenant gets 429.", least="1")
    ratelimit_max_decoded_size: int = _flag("ratelimit.maxDecodedSize", SIZE, "64MiB",
        "With -write.checkLabelNames, or where rows are limited: a write that can only be read whole (remote write, "
        "OpenTelemetry, DataDog, New Relic, OpenTSDB, snappy, a line of JSON) and is larger, as sent or decoded, is "
        "answered 413.", least="1MiB")
    ratelimit_refuse_oversized: bool = _flag("ratelimit.refuseOversized", BOOL, "false",
        "Answer 400 to a write with more rows than a whole limit, so that vmagent and Prometheus drop it. By default "
        "it passes if nothing else was counted in the window, and the next writes wait.")
    ratelimit_headers: bool = _flag("ratelimit.headers", BOOL, "false",
        "Tell clients their limits and what is left of them in the headers RateLimit-Policy and RateLimit of every "
        "response. See docs/limits.md.")
    ratelimit_extra_labels: tuple[str, ...] = _flag("ratelimit.extraLabels", ARRAY, "",
        "Labels, as name=value, that the metrics asked for at -datasource.url must have: which of several clusters in "
        "one datasource is meant.")
    ratelimit_refresh_interval: float = _flag("ratelimit.refreshInterval", DURATION, "5s",
        "How often usage is asked for at -datasource.url.", least="100ms")
    ratelimit_state_file: str = _flag("ratelimit.stateFile", STRING, "",
        "File that keeps counts over a restart: an SQLite database, made if it is not there. All -workers share it. By "
        "default there is none, and a restart begins without counts. See docs/limits.md.")
    ratelimit_storage: str = _flag("ratelimit.storage", STRING, "",
        "Where replicas exchange their counts: redis://host:6379/0, or rediss:// for TLS. Without it each replica "
        "counts for itself.", secret=True)
    ratelimit_storage_key_prefix: str = _flag("ratelimit.storageKeyPrefix", STRING, "vmgateway",
        "The prefix of the keys in -ratelimit.storage; all replicas of a gateway need the same.")

    datasource_url: str = _flag("datasource.url", STRING, "",
        "The datasource that measures usage: single-node VictoriaMetrics, vmselect, or any server with the Prometheus "
        "HTTP API, such as http://victoria-metrics:8428. Without it only the gateway's own counts "
        "apply.", group="Datasource", secret=True)
    datasource_append_type_prefix: bool = _flag("datasource.appendTypePrefix", BOOL, "false",
        "Put /prometheus before /api/v1/query in -datasource.url, as the tenant's URL of a vmselect needs.")
    datasource_basic_auth_username: str = _flag("datasource.basicAuth.username", STRING, "",
        "User name of Basic auth at -datasource.url.")
    datasource_basic_auth_username_file: str = _flag("datasource.basicAuth.usernameFile", STRING, "",
        "File with that user name; read again when it changes.")
    datasource_basic_auth_password: str = _flag("datasource.basicAuth.password", STRING, "",
        "Password of Basic auth at -datasource.url.", secret=True)
    datasource_basic_auth_password_file: str = _flag("datasource.basicAuth.passwordFile", STRING, "",
        "File with that password; read again when it changes.")
    datasource_bearer_token: str = _flag("datasource.bearerToken", STRING, "",
        "Bearer token for -datasource.url.", secret=True)
    datasource_bearer_token_file: str = _flag("datasource.bearerTokenFile", STRING, "",
        "File with that token; read again when it changes.")
    datasource_disable_keep_alive: bool = _flag("datasource.disableKeepAlive", BOOL, "false",
        "Use a new connection for each query.")
    datasource_disable_step_param: bool = _flag("datasource.disableStepParam", BOOL, "false",
        "Do not send the argument step, which some datasources do not take in instant queries.")
    datasource_headers: str = _flag("datasource.headers", STRING, "",
        "Headers to send to -datasource.url, as name:value, with ^^ between two of them.", secret=True)
    datasource_lookback: float = _flag("datasource.lookback", DURATION, "0s",
        "Ask as of that long ago, for a datasource whose newest samples are not complete.")
    datasource_max_idle_connections: int = _flag("datasource.maxIdleConnections", INT, "100",
        "How many idle connections to keep; 0 keeps none.", least="0")
    datasource_oauth2_client_id: str = _flag("datasource.oauth2.clientID", STRING, "",
        "Client of the OAuth2 client credentials grant for -datasource.url.")
    datasource_oauth2_client_secret: str = _flag("datasource.oauth2.clientSecret", STRING, "",
        "Secret of that client.", secret=True)
    datasource_oauth2_client_secret_file: str = _flag("datasource.oauth2.clientSecretFile", STRING, "",
        "File with that secret; read again when it changes.")
    datasource_oauth2_endpoint_params: str = _flag("datasource.oauth2.endpointParams", STRING, "",
        "More parameters of the token request, as a JSON object of strings.", secret=True)
    datasource_oauth2_scopes: str = _flag("datasource.oauth2.scopes", STRING, "",
        "Scopes to ask for, with ; between two of them.")
    datasource_oauth2_token_url: str = _flag("datasource.oauth2.tokenUrl", STRING, "",
        "Where tokens are issued.", secret=True)
    datasource_query_step: float = _flag("datasource.queryStep", DURATION, "5m",
        "The argument step: how far back a sample may be to count as the present one. 0 stands for "
        "-ratelimit.refreshInterval.")
    datasource_query_time_alignment: bool = _flag("datasource.queryTimeAlignment", BOOL, "true",
        "Align the time asked for to -ratelimit.refreshInterval, so that all replicas ask for the same moment.")
    datasource_round_digits: int = _flag("datasource.roundDigits", INT, "0",
        "The argument round_digits: decimal digits that values are rounded to; 0 does not round.", least="0")
    datasource_show_url: bool = _flag("datasource.showURL", BOOL, "false",
        "Show -datasource.url in logs as it is, secrets and all.")
    datasource_tls_ca_file: str = _tls("datasource", "CAFile")
    datasource_tls_cert_file: str = _tls("datasource", "CertFile")
    datasource_tls_key_file: str = _tls("datasource", "KeyFile")
    datasource_tls_server_name: str = _tls("datasource", "ServerName")
    datasource_tls_insecure_skip_verify: bool = _tls("datasource", "InsecureSkipVerify")
    remote_read_disable_path_append: bool = _flag("remoteRead.disablePathAppend", BOOL, "false",
        "Do not append /api/v1/query to -datasource.url.")

    lane: str = _flag("lane", STRING, "auto",
        "How HTTP/1.1 is carried: fast, or flow (through mitmproxy's flows, which can be watched and saved). With auto "
        "it is fast unless flows are shown, saved, or seen by other addons.", group="Listener")
    workers: int = _flag("workers", INT, "1", "How many processes serve requests on the one port.", least="1")
    http_listen_addr: str = _flag("httpListenAddr", STRING, ":8431", "TCP address to listen on, as host:port or "
        ":port. With mitmdump, mitmproxy and mitmweb --mode, --listen-host and --listen-port may give it.")
    enable_tcp6: bool = _flag("enableTCP6", BOOL, "false",
        "Use IPv6 as well as IPv4, to listen and to connect. With -lane=flow the name of a backend may lead to either.")
    http_listen_addr_reuse_port: bool = _flag("httpListenAddr.reusePort", BOOL, "false",
        "Share the port with gateways that have this flag or several -workers. To replace a gateway without a lost "
        "request, start the new one with this flag, then stop the old one.")
    http_listen_addr_use_proxy_protocol: bool = _flag("httpListenAddr.useProxyProtocol", BOOL, "false",
        "Connections begin with a header of the PROXY protocol, version 1 or 2, which names the client.")
    tls: bool = _flag("tls", BOOL, "false", "Serve TLS, with -tlsCertFile and -tlsKeyFile.")
    tls_cert_file: str = _flag("tlsCertFile", STRING, "",
        "File with the certificate, and those between it and its root. Read anew within a second of a change.")
    tls_key_file: str = _flag("tlsKeyFile", STRING, "",
        "File with the private key of -tlsCertFile. Read anew within a second of a change.")
    tls_cipher_suites: tuple[str, ...] = _flag("tlsCipherSuites", ARRAY, "",
        "Cipher suites for TLS up to 1.2, by Go's names. Empty: OpenSSL's choice.")
    tls_min_version: str = _flag("tlsMinVersion", STRING, "",
        "The oldest version of TLS that is served: TLS10, TLS11, TLS12 or TLS13. Empty: TLS12.")
    mtls: bool = _flag("mtls", BOOL, "false", "Demand a certificate of every client, from an authority in -mtlsCAFile.")
    mtls_ca_file: str = _flag("mtlsCAFile", STRING, "", "File with the authorities of clients' certificates.")
    http_enable_http2: bool = _flag("http.enableHTTP2", BOOL, "false",
        "Offer HTTP/2 over TLS. It is carried by the flow lane, at a fraction of the speed.")
    http_max_head_size: int = _flag("http.maxHeadSize", SIZE, "64KiB",
        "A request whose request line and headers are larger is answered 431.", least="1KiB")
    http_max_request_line: int = _flag("http.maxRequestLine", SIZE, "32KiB",
        "A request whose request line is longer is answered 414.", least="1KiB")
    http_max_headers: int = _flag("http.maxHeaders", INT, "200",
        "A request with more headers is answered 431.", least="1")
    http_head_timeout: float = _flag("http.headTimeout", DURATION, "10s",
        "How long the head of a request may take from its first byte to its last; then the client gets 408. A TLS "
        "handshake and a header of the PROXY protocol may take as long; then the connection is closed.", least="1ms")
    http_body_timeout: float = _flag("http.bodyTimeout", DURATION, "1m",
        "How long a client may send nothing of an incomplete request (408) or take nothing of its "
        "response.", least="1ms")
    http_idle_conn_timeout: float = _flag("http.idleConnTimeout", DURATION, "1m",
        "How long a connection without a request stays open.", least="1ms")
    http_conn_timeout: float = _flag("http.connTimeout", DURATION, "2m",
        "A connection is closed after the first response that follows this time, give or take a tenth, so that a load "
        "balancer can spread the load again. Zero keeps connections.")
    http_disable_keep_alive: bool = _flag("http.disableKeepAlive", BOOL, "false",
        "Close each connection after its response.")
    http_max_connections: int = _flag("http.maxConnections", INT, "10000",
        "The most connections of clients; further ones get 503. Connections that wait for a TLS handshake or a PROXY "
        "protocol header count too. Zero is no limit.", least="0")
    http_max_chunk_line: int = _flag("http.maxChunkLine", SIZE, "4KiB",
        "The longest size line of a chunk, with extensions, and the longest trailers; beyond: 400 (403 on "
        "writes).", least="32")
    http_max_pipelined: int = _flag("http.maxPipelined", SIZE, "64KiB",
        "Bytes of pipelined requests that are read while another request is in progress.", least="1KiB")
    max_form_size: int = _flag("maxFormSize", SIZE, "16MiB", "A form on a read route that is larger is answered 413.")
    http_shutdown_delay: float = _flag("http.shutdownDelay", DURATION, "0s",
        "How long /health answers 503 before a shutdown begins, so that load balancers can turn away first.")
    http_max_graceful_shutdown_duration: float = _flag("http.maxGracefulShutdownDuration", DURATION, "7s",
        "How long requests in flight may take to end in a shutdown.")
    http_path_prefix: str = _flag("http.pathPrefix", STRING, "",
        "Path that all requests begin with, own pages included, such as /metrics. It is taken off before a request is "
        "judged.")
    http_header_hsts: str = _flag("http.header.hsts", STRING, "",
        "Value of Strict-Transport-Security in every response.")
    http_header_csp: str = _flag("http.header.csp", STRING, "", "Value of Content-Security-Policy in every response.")
    http_header_frame_options: str = _flag("http.header.frameOptions", STRING, "",
        "Value of X-Frame-Options in every response.")
    http_disable_response_compression: bool = _flag("http.disableResponseCompression", BOOL, "false",
        "Do not ask backends for compressed responses.")
    http_disable_cors: bool = _flag("http.disableCORS", BOOL, "false",
        "Remove the Access-Control-* headers from all responses, so that no page of another origin can read them.")

    http_auth_username: str = _flag("httpAuth.username", STRING, "",
        "User name for /metrics, /flags, /-/status, /-/usage and /debug/pprof (Basic auth). Empty: they are "
        "open.", group="Own pages")
    http_auth_password: str = _flag("httpAuth.password", STRING, "",
        "Password for -httpAuth.username. "
        f"{_FROM_FILE}", secret=True)
    metrics_auth_key: str = _key("metricsAuthKey", "/metrics")
    reload_auth_key: str = _key("reloadAuthKey", "/-/reload")
    flags_auth_key: str = _key("flagsAuthKey", "/flags, /-/status, /-/usage and /-/explain")
    pprof_auth_key: str = _key("pprofAuthKey", "/debug/pprof")

    metrics_max_tenants: int = _flag("metrics.maxTenants", INT, "1000",
        "How many tenants have metrics of their own; the rest are counted together as "
        '"other".', group="Metrics", least="0")
    metrics_expose_metadata: bool = _flag("metrics.exposeMetadata", BOOL, "false",
        "Show TYPE and HELP at /metrics.", effect="they are always shown")
    pushmetrics_url: tuple[str, ...] = _flag("pushmetrics.url", ARRAY, "",
        "URLs that the metrics of /metrics are pushed to, such as "
        "http://victoria-metrics:8428/api/v1/import/prometheus. Credentials in them become Basic auth.", secret=True)
    pushmetrics_interval: float = _flag("pushmetrics.interval", DURATION, "10s",
        "How often metrics are pushed to -pushmetrics.url.", least="100ms")
    pushmetrics_extra_label: tuple[str, ...] = _flag("pushmetrics.extraLabel", ARRAY, "",
        "Labels added to the metrics pushed, such as 'instance=\"foo\"'.")
    pushmetrics_header: tuple[str, ...] = _flag("pushmetrics.header", ARRAY, "",
        "Headers sent along with a push, such as 'My-Auth: foobar'.", secret=True)
    pushmetrics_disable_compression: bool = _flag("pushmetrics.disableCompression", BOOL, "false", "Push without gzip.")

    traces_endpoint: str = _flag("traces.endpoint", STRING, "",
        "Send spans of requests to this URL, by OTLP over HTTP, such as http://collector:4318/v1/traces. Credentials "
        "in it become Basic auth. Needs OpenTelemetry's SDK: pip install 'vmgateway[traces]'. See "
        "docs/operation.md.", group="Traces", secret=True)
    traces_ratio: float = _flag("traces.ratio", FLOAT, "0.01",
        "The share of requests that get a span, from 0 to 1. If a request has a traceparent header, its flag decides "
        "instead.")
    traces_max_per_second: int = _flag("traces.maxPerSecond", INT, "100",
        "How many requests a second get a span in each process because the traceparent of the client asks for "
        "it.", least="0")
    traces_service_name: str = _flag("traces.serviceName", STRING, "vmgateway",
        "The attribute service.name of all spans.")
    traces_tls_ca_file: str = _tls("traces", "CAFile", "endpoint")
    traces_tls_cert_file: str = _tls("traces", "CertFile", "endpoint")
    traces_tls_key_file: str = _tls("traces", "KeyFile", "endpoint")
    traces_tls_server_name: str = _tls("traces", "ServerName", "endpoint")
    traces_tls_insecure_skip_verify: bool = _tls("traces", "InsecureSkipVerify", "endpoint")

    access_log: bool = _flag("accessLog", BOOL, "false",
        "Log every request in one line: client, request, verdict and response, but never the token.", group="Logging")
    query_log: str = _flag("queryLog", STRING, "",
        "Log every read of series as a line of JSON: who asked, the query, its duration and size. The value is a file, "
        "stdout or stderr. A file that is renamed or removed is begun anew.")
    query_log_min_duration: float = _flag("queryLog.minDuration", DURATION, "0s",
        "Log only reads that took at least as long.", least="0s")
    usage_retention: float = _flag("usage.retention", DURATION, "0s",
        "How long the usage report is kept, such as 400d: who used what, by hour, tenant and subject. It is kept in "
        "-ratelimit.storage, or else in -ratelimit.stateFile, and shown at /-/usage. Zero: there is none. See "
        "docs/usage.md.", least="0s")
    usage_max_subjects: int = _flag("usage.maxSubjects", INT, "1000",
        "How many pairs of tenant and subject the usage report counts apart in an hour, in each process. The rest is "
        "counted together.", least="1")
    logger_format: str = _flag("loggerFormat", STRING, "default", "How log lines look: default, or json.")
    logger_level: str = _flag("loggerLevel", STRING, "INFO",
        "The least level logged: INFO, WARN, ERROR, FATAL or PANIC. The access log does not depend on it.")
    logger_output: str = _flag("loggerOutput", STRING, "stderr", "Where logs go: stderr or stdout.")
    logger_timezone: str = _flag("loggerTimezone", STRING, "UTC",
        "IANA time zone of timestamps, such as Europe/Berlin, or Local.")
    logger_json_fields: str = _flag("loggerJSONFields", STRING, "",
        'Other names for the fields of -loggerFormat=json, such as "ts:timestamp,msg:message". The fields are ts, '
        "level, caller and msg.")
    logger_disable_timestamps: bool = _flag("loggerDisableTimestamps", BOOL, "false", "Write no timestamps.")
    logger_errors_per_second_limit: int = _flag("loggerErrorsPerSecondLimit", INT, "0",
        "How many errors one place in the code may log in a second; 0: any number.", least="0")
    logger_warns_per_second_limit: int = _flag("loggerWarnsPerSecondLimit", INT, "0",
        "How many warnings one place in the code may log in a second; 0: any number.", least="0")
    logger_max_arg_len: int = _flag("loggerMaxArgLen", INT, "5000",
        "Longer messages are shortened to their beginning and end; in characters.", least="10")

    capture_file: str = _flag("capture.file", STRING, "",
        "File to append captured requests to, for vmgateway replay and mitmproxy: the client's request, the decision "
        "and the response. Signatures of tokens, cookies, credentials and passwords are removed.", group="Capture")
    capture_filter: str = _flag("capture.filter", STRING, "",
        "Capture only what this mitmproxy filter expression matches, such as ~u /api/v1/write.")
    capture_sample_rate: float = _flag("capture.sampleRate", FLOAT, "1",
        "The share of requests that is captured, above 0 and up to 1.")
    capture_max_body_size: int = _flag("capture.maxBodySize", SIZE, "64KiB",
        "A larger body is left out of the capture.")
    capture_max_file_size: int = _flag("capture.maxFileSize", SIZE, "1GiB",
        "The capture stops, or begins a new file, before its file becomes larger.", least="1KiB")
    capture_keep_files: int = _flag("capture.keepFiles", INT, "0",
        "How many full files are kept, as FILE.1 (the newest), FILE.2 and so on; 0: the capture stops instead.",
        least="0")

    shadow_flags: str = _flag("shadow.flags", STRING, "",
        "File with all flags of a candidate configuration, as vmgateway replay reads them. It judges every request, "
        "without effect on it. Differences are counted and logged. If it names no keys, it has those of the gateway.",
        group="Shadow")
    shadow_ratelimit_config: str = _flag("shadow.ratelimitConfig", STRING, "",
        "File of limits that the candidate configuration has in place of -ratelimit.config.")
    shadow_policy: str = _flag("shadow.policy", STRING, "",
        "File of grants that the candidate configuration has in place of -auth.policy.")

    dry_run: bool = _flag("dryRun", BOOL, "false", "Check flags, files and keys, then exit.", group="Program")
    envflag_enable: bool = _flag("envflag.enable", BOOL, "false",
        "Read flags from environment variables too: the variable is the name with underscores for dots. The command "
        "line wins.")
    envflag_prefix: str = _flag("envflag.prefix", STRING, "", "What the variables of -envflag.enable begin with.")
    version: bool = _flag("version", BOOL, "false", "Show the version, then exit.")

    license: str = _flag("license", STRING, "",
        "License key.", group="Without effect here", secret=True, effect=_NO_LICENSE)
    license_force_offline: bool = _flag("license.forceOffline", BOOL, "false",
        "Verify the license key offline.", effect=_NO_LICENSE)
    license_file: str = _flag("licenseFile", STRING, "", "File with the license key.", effect=_NO_LICENSE)
    filestream_disable_fadvise: bool = _flag("filestream.disableFadvise", BOOL, "false",
        "Do without fadvise() for large files.", effect=_NO_DATA)
    fs_disable_mmap: bool = _flag("fs.disableMmap", BOOL, "false", "Read data files with pread().", effect=_NO_DATA)
    intern_string_cache_expire_duration: float = _flag("internStringCacheExpireDuration", DURATION, "6m",
        "How long interned strings are kept.", effect=_NO_STRINGS)
    intern_string_disable_cache: bool = _flag("internStringDisableCache", BOOL, "false",
        "Do not intern strings.", effect=_NO_STRINGS)
    intern_string_max_len: int = _flag("internStringMaxLen", INT, "500",
        "The longest string to intern.", effect=_NO_STRINGS)
    memory_allowed_bytes: int = _flag("memory.allowedBytes", SIZE, "0",
        "Memory that caches may occupy.", effect=_NO_CACHES)
    memory_allowed_percent: float = _flag("memory.allowedPercent", FLOAT, "60",
        "Percentage of memory that caches may occupy.", effect=_NO_CACHES)
    eula: bool = _flag("eula", BOOL, "false",
        "Was the consent to a license agreement.", effect="this is open software, there is nothing to accept")
    # fmt: on

    def client_tls(self, side: Literal["auth", "read", "write", "datasource", "traces"]) -> ClientTLS:
        """The values of ``-<side>.tls*``. Providers of keys are always verified."""
        names = ["ca_file", "cert_file", "key_file", "server_name"]
        if side != "auth":
            names.append("insecure_skip_verify")
        return ClientTLS(side=side, **{name: getattr(self, f"{side}_tls_{name}") for name in names})
