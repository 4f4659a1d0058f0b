"""What mitmproxy's own options mean beside the gateway. ``docs/mitmproxy.md`` has the same as a table.

An option that would weaken a decision is refused, and so is one that the gateway has another flag for: silence would
let the user believe that it holds. Options that read, show or save flows need the flow lane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode

from vmgw_addons._mitmproxy import Options
from vmgw_addons.listener import parse_listen_address
from vmgw_addons.state import DEAD_TARGET
from vmgw_core.base import quoted
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

_BYPASS: Final = "it would forward connections without a decision"
_LISTENER_TLS: Final = "set vmgw_tls, vmgw_tls_cert_file and vmgw_tls_key_file"
_BACKEND_TLS: Final = "set vmgw_read_tls_* and vmgw_write_tls_*"

REFUSED: Final = {
    "allow_hosts": _BYPASS,
    "ignore_hosts": _BYPASS,
    "tcp_hosts": _BYPASS,
    "udp_hosts": _BYPASS,
    "proxyauth": "clients send tokens in the same header",
    "stickyauth": "it would add the token of one client to requests of others",
    "stickycookie": "it would add the cookies of one client to requests of others",
    "upstream_auth": "write user and password into the URL of the backend, http://user:password@host",
    "map_remote": "the token decides where a request goes",
    "modify_body": "bodies stream unchanged",
    "body_size_limit": "bodies stream in constant memory, and vmgw_max_form_size limits forms",
    "store_streamed_bodies": "it would keep bodies without a limit, and vmgw_capture_max_body_size is one",
    "validate_inbound_headers": "heads are always checked",
    "certs": _LISTENER_TLS,
    "cert_passphrase": _LISTENER_TLS,
    "ciphers_client": "set vmgw_tls_cipher_suites",
    "tls_version_client_min": "set vmgw_tls_min_version",
    "tls_version_client_max": "set vmgw_tls_min_version",
    "tls_ecdh_curve_client": _LISTENER_TLS,
    "request_client_cert": "set vmgw_mtls and vmgw_mtls_ca_file",
    "client_certs": _BACKEND_TLS,
    "ssl_insecure": _BACKEND_TLS,
    "ssl_verify_upstream_trusted_ca": _BACKEND_TLS,
    "ssl_verify_upstream_trusted_confdir": _BACKEND_TLS,
    "ciphers_server": _BACKEND_TLS,
    "tls_version_server_min": _BACKEND_TLS,
    "tls_version_server_max": _BACKEND_TLS,
    "tls_ecdh_curve_server": _BACKEND_TLS,
}
"""Options that must not be set, with the reason or what to set instead."""

NEEDS_FLOWS: Final = {
    "save_stream_file": "-w saves flows",
    "hardump": "hardump saves flows",
    "server_replay": "--server-replay responds to flows",
    "anticache": "--anticache changes requests",
    "anticomp": "anticomp changes requests",
    "modify_headers": "--modify-headers changes requests and responses",
    "map_local": "--map-local responds to flows",
    "block_list": "block_list blocks flows",
    "block_private": "block_private blocks connections",
    "connect_addr": "connect_addr chooses the address of connections",
}
"""Options that only the flow lane can honour, with the reason."""

WATCHED: Final = frozenset((*REFUSED, *NEEDS_FLOWS, "flow_detail"))
"""Options that are looked at again when they change."""

DEFAULT_PORT: Final = 8080
"""The port of mitmproxy, if its options name an address without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What mitmproxy's options say about the two ends of the gateway. Both may be empty."""

    url: str = ""
    """The backend, from ``--mode reverse:URL``."""
    address: str = ""
    """``host:port`` to listen on, from ``--mode …@host:port``, ``--listen-host`` and ``--listen-port``."""


def check_options(options: Options) -> None:
    """Check that no option is set that the gateway refuses. Raises ``ConfigurationError``."""
    for name, reason in REFUSED.items():
        if name in options and options.has_changed(name):
            raise ConfigurationError(f"mitmproxy's option {name} cannot be used with vmgateway: {reason}")


def option_that_needs_flows(options: Options) -> str | None:
    """Return why the options of mitmproxy need the flow lane, or None."""
    for name, reason in NEEDS_FLOWS.items():
        if name in options and options.has_changed(name):
            return reason
    if "flow_detail" in options and options.flow_detail > 0:
        return "mitmdump shows flows; -q or flow_detail=0 makes it fast"
    return None


def read_host(options: Options) -> Host:
    """Read the mode and the address of mitmproxy.

    Raises:
        ConfigurationError: the mode is not one reverse mode over HTTP, or two addresses differ.
    """
    modes = [mode for mode in options.mode if mode != f"reverse:{DEAD_TARGET}"]
    if not options.has_changed("mode") or not modes:
        return Host(address=_address(options, None, None))
    if len(modes) > 1:
        raise ConfigurationError(f"--mode: the gateway needs one mode, got {len(modes)}")
    mode = ProxyMode.parse(modes[0])
    if not isinstance(mode, ReverseMode) or mode.scheme not in ("http", "https"):
        raise ConfigurationError(f"--mode: expected reverse:http://host:port, got {quoted(modes[0])}")
    host, port = mode.address
    return Host(
        url=f"{mode.scheme}://{_joined(host, port)}",
        address=_address(options, mode.custom_listen_host, mode.custom_listen_port),
    )


def complete(settings: Settings, host: Host, *, address_is_given: bool) -> Settings:
    """Fill in what the flags leave out.

    Raises:
        ConfigurationError: flags and mitmproxy's options contradict each other.
    """
    if host.url:
        read, write = settings.read_url, settings.write_url
        if read and write and host.url not in (url.rstrip("/") for url in (*read, *write)):
            raise ConfigurationError(
                f"--mode names the backend {host.url}, but -read.url and -write.url name others: remove one"
            )
        settings = replace(settings, read_url=read or (host.url,), write_url=write or (host.url,))
    if host.address:
        ours = settings.http_listen_addr
        if not address_is_given:
            return replace(settings, http_listen_addr=host.address)
        if parse_listen_address(ours, ipv6=False) != parse_listen_address(host.address, ipv6=False):
            raise ConfigurationError(
                f"-httpListenAddr={ours} and mitmproxy's {host.address} are different addresses: remove one"
            )
    return settings


def set_up(options: Options, settings: Settings, *, offline: bool) -> None:
    """Give mitmproxy's reverse mode a dead target: only a decision leads to a backend."""
    changes: dict[str, object] = {"connection_strategy": "lazy"}
    changes["keep_host_header"] = True  # the record has the client's; a decision writes the backend's
    changes["showhost"] = True  # a refused flow has no backend: show the host that the client asked
    if not offline:  # flows from a file would get the mode's address
        changes["mode"] = [f"reverse:{DEAD_TARGET}"]
    # The gateway has its own access control, and does not serve the certificate page mitm.it.
    changes |= {name: False for name in ("block_global", "onboarding") if name in options}
    if "tcp_timeout" in options:  # mitmproxy 12; 600 seconds in 11
        changes["tcp_timeout"] = int(settings.backend_response_timeout + 60)
    options.update(**changes)


def _address(options: Options, mode_host: str | None, mode_port: int | None) -> str:
    host, port = options.listen_host, options.listen_port
    for option, of_mode, of_option in (("host", mode_host, host or None), ("port", mode_port, port)):
        if None not in (of_mode, of_option) and of_mode != of_option:
            raise ConfigurationError(f"--mode and --listen-{option} name different addresses: {of_mode}, {of_option}")
    host = mode_host if mode_host is not None else host
    port = mode_port if mode_port is not None else port
    return "" if not host and port is None else _joined(host, DEFAULT_PORT if port is None else port)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
