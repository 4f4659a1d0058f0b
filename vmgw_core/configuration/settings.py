"""The settings in force: one typed field for each flag of the table, with the flag's default.

A field has the name of mitmproxy's option without ``vmgw_``. A test compares the fields with the table, and prints
the lines to write here when a flag changes. Durations are seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .table import BY_NAME, Flag, option_name
from .values import Value


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

    # Access control
    enable_auth: bool = False
    auth_http_header: str = "Authorization"
    auth_http_header_allow_without_prefix: bool = False
    auth_public_key_files: tuple[str, ...] = ()
    auth_public_keys: tuple[str, ...] = ()
    auth_jwks_endpoints: tuple[str, ...] = ()
    auth_oidc_discovery_endpoints: tuple[str, ...] = ()
    auth_keys_refresh_interval: float = 300.0
    auth_issuer: tuple[str, ...] = ()
    auth_audience: tuple[str, ...] = ()
    auth_required_claims: tuple[str, ...] = ()
    auth_leeway: float = 0.0
    auth_max_token_size: int = 32_768
    auth_token_cache_size: int = 33_554_432
    log_invalid_auth_tokens: bool = False

    # Backends
    read_url: tuple[str, ...] = ()
    read_tls_ca_file: str = ""
    read_tls_cert_file: str = ""
    read_tls_key_file: str = ""
    read_tls_server_name: str = ""
    read_tls_insecure_skip_verify: bool = False
    write_url: tuple[str, ...] = ()
    write_tls_ca_file: str = ""
    write_tls_cert_file: str = ""
    write_tls_key_file: str = ""
    write_tls_server_name: str = ""
    write_tls_insecure_skip_verify: bool = False
    write_check_label_names: bool = True
    cluster_mode: bool = False
    backend_connect_timeout: float = 5.0
    backend_response_timeout: float = 300.0
    fail_timeout: float = 3.0
    max_concurrent_requests: int = 0
    max_concurrent_per_tenant: int = 0
    max_queue_duration: float = 10.0

    # Rate limiting
    enable_rate_limit: bool = False
    ratelimit_config: str = ""
    ratelimit_config_check_interval: float = 0.0
    ratelimit_fail_closed: bool = False
    ratelimit_max_usage_age: float = 60.0
    ratelimit_max_tenants: int = 10_000
    ratelimit_max_decoded_size: int = 67_108_864
    ratelimit_extra_labels: tuple[str, ...] = ()
    ratelimit_refresh_interval: float = 5.0
    ratelimit_storage: str = ""
    ratelimit_storage_key_prefix: str = "vmgateway"

    # Datasource
    datasource_url: str = ""
    datasource_append_type_prefix: bool = False
    datasource_basic_auth_username: str = ""
    datasource_basic_auth_username_file: str = ""
    datasource_basic_auth_password: str = ""
    datasource_basic_auth_password_file: str = ""
    datasource_bearer_token: str = ""
    datasource_bearer_token_file: str = ""
    datasource_disable_keep_alive: bool = False
    datasource_disable_step_param: bool = False
    datasource_headers: str = ""
    datasource_lookback: float = 0.0
    datasource_max_idle_connections: int = 100
    datasource_oauth2_client_id: str = ""
    datasource_oauth2_client_secret: str = ""
    datasource_oauth2_client_secret_file: str = ""
    datasource_oauth2_endpoint_params: str = ""
    datasource_oauth2_scopes: str = ""
    datasource_oauth2_token_url: str = ""
    datasource_query_step: float = 300.0
    datasource_query_time_alignment: bool = True
    datasource_round_digits: int = 0
    datasource_show_url: bool = False
    datasource_tls_ca_file: str = ""
    datasource_tls_cert_file: str = ""
    datasource_tls_key_file: str = ""
    datasource_tls_server_name: str = ""
    datasource_tls_insecure_skip_verify: bool = False
    remote_read_disable_path_append: bool = False

    # Listener
    lane: str = "fast"
    workers: int = 1
    http_listen_addr: str = ":8431"
    enable_tcp6: bool = False
    http_listen_addr_use_proxy_protocol: bool = False
    tls: bool = False
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_cipher_suites: tuple[str, ...] = ()
    tls_min_version: str = ""
    mtls: bool = False
    mtls_ca_file: str = ""
    http_enable_http2: bool = False
    http_max_head_size: int = 65_536
    http_max_request_line: int = 32_768
    http_max_headers: int = 200
    http_head_timeout: float = 10.0
    http_body_timeout: float = 60.0
    http_idle_conn_timeout: float = 60.0
    http_conn_timeout: float = 120.0
    http_disable_keep_alive: bool = False
    http_max_connections: int = 10_000
    http_max_chunk_line: int = 4_096
    http_max_pipelined: int = 65_536
    max_form_size: int = 16_777_216
    http_shutdown_delay: float = 0.0
    http_max_graceful_shutdown_duration: float = 7.0
    http_path_prefix: str = ""
    http_header_hsts: str = ""
    http_header_csp: str = ""
    http_header_frame_options: str = ""
    http_disable_response_compression: bool = False
    http_disable_cors: bool = False

    # Own pages
    http_auth_username: str = ""
    http_auth_password: str = ""
    metrics_auth_key: str = ""
    reload_auth_key: str = ""
    flags_auth_key: str = ""
    pprof_auth_key: str = ""

    # Metrics
    metrics_max_tenants: int = 1_000
    metrics_expose_metadata: bool = False
    pushmetrics_url: tuple[str, ...] = ()
    pushmetrics_interval: float = 10.0
    pushmetrics_extra_label: tuple[str, ...] = ()
    pushmetrics_header: tuple[str, ...] = ()
    pushmetrics_disable_compression: bool = False

    # Logging
    access_log: bool = False
    logger_format: str = "default"
    logger_level: str = "INFO"
    logger_output: str = "stderr"
    logger_timezone: str = "UTC"
    logger_json_fields: str = ""
    logger_disable_timestamps: bool = False
    logger_errors_per_second_limit: int = 0
    logger_warns_per_second_limit: int = 0
    logger_max_arg_len: int = 5_000

    # Capture
    capture_file: str = ""
    capture_filter: str = ""
    capture_sample_rate: float = 1.0
    capture_max_body_size: int = 65_536
    capture_max_file_size: int = 1_073_741_824

    # Program
    dry_run: bool = False
    envflag_enable: bool = False
    envflag_prefix: str = ""
    version: bool = False

    # Without effect here
    license: str = ""
    license_force_offline: bool = False
    license_file: str = ""
    filestream_disable_fadvise: bool = False
    fs_disable_mmap: bool = False
    intern_string_cache_expire_duration: float = 360.0
    intern_string_disable_cache: bool = False
    intern_string_max_len: int = 500
    memory_allowed_bytes: int = 0
    memory_allowed_percent: float = 60.0
    eula: bool = False

    def client_tls(self, side: Literal["read", "write", "datasource"]) -> ClientTLS:
        """The values of ``-<side>.tls*``."""
        names = ("ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify")
        return ClientTLS(side=side, **{name: getattr(self, f"{side}_tls_{name}") for name in names})


def settings_of(values: Mapping[str, Value]) -> Settings:
    """The settings with ``values`` by the names of their flags, and the defaults of all others."""
    fields: dict[str, Any] = {field_name(BY_NAME[name]): value for name, value in values.items()}
    return Settings(**fields)


def field_name(flag: Flag) -> str:
    """The field of ``Settings`` that holds the value of ``flag``."""
    return option_name(flag).removeprefix("vmgw_")


def value_of(flag: Flag, settings: Settings) -> Value:
    value: Value = getattr(settings, field_name(flag))
    return value
