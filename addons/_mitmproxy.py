"""The private parts of mitmproxy and h11 that the gateway uses or overrides.

They may change with any release, so they are checked when this module is loaded. If one is missing, the gateway does
not start, since the flow lane would not be safe.
"""

# ruff: noqa: F401 (other modules import these names from here)

from __future__ import annotations

import asyncio
import inspect
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any, Final

import mitmproxy
from mitmproxy import ctx
from mitmproxy.version import VERSION

from vmgw_core.errors import ConfigurationError

if TYPE_CHECKING:
    from mitmproxy.addons.view import View

SUPPORTED: Final = "11.0.2 to 12.x"


def unsupported(reason: str) -> ConfigurationError:
    """Make the error for a mitmproxy that the gateway does not support."""
    return ConfigurationError(f"mitmproxy {VERSION} is not supported: {reason}; use {SUPPORTED}")


def _load_single_addons() -> None:
    """Let addons of mitmproxy be imported one by one: the package imports all of them, and that takes 11 MB.

    It is loaded whole if anybody asks it for something else, and mitmproxy's programs have loaded it before.
    """
    spec = find_spec("mitmproxy.addons")
    if "mitmproxy.addons" in sys.modules or spec is None or spec.loader is None:
        return
    package, loader = module_from_spec(spec), spec.loader

    def load(name: str) -> object:
        if find_spec(f"mitmproxy.addons.{name}") is not None:
            return import_module(f"mitmproxy.addons.{name}")
        vars(package).pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__getattr__"] = load
    sys.modules["mitmproxy.addons"] = vars(mitmproxy)["addons"] = package


_load_single_addons()
try:
    from h11._readers import ChunkedReader
    from h11._receivebuffer import ReceiveBuffer
    from mitmproxy.addonmanager import AddonManager, traverse
    from mitmproxy.addons.errorcheck import ErrorCheck
    from mitmproxy.addons.next_layer import NextLayer as NextLayerAddon
    from mitmproxy.addons.proxyserver import Proxyserver
    from mitmproxy.addons.script import Script, ScriptLoader
    from mitmproxy.addons.tlsconfig import TlsConfig
    from mitmproxy.hooks import Hook, all_hooks
    from mitmproxy.http import Headers, MessageData
    from mitmproxy.io import compat, tnetstring
    from mitmproxy.master import Master
    from mitmproxy.net.http import http1
    from mitmproxy.options import Options
    from mitmproxy.optmanager import OptManager, _UnconvertedStrings
    from mitmproxy.proxy import commands, events, layer, tunnel
    from mitmproxy.proxy.layer import Layer, NextLayer
    from mitmproxy.proxy.layers.http import (
        GetHttpConnection,
        GetHttpConnectionCompleted,
        HttpLayer,
        HTTPMode,
        HttpStream,
        RegisterHttpConnection,
        SendHttp,
    )
    from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
    from mitmproxy.proxy.layers.http._events import (
        RequestData,
        RequestEndOfMessage,
        RequestHeaders,
        RequestProtocolError,
        ResponseData,
        ResponseEndOfMessage,
        ResponseHeaders,
        ResponseProtocolError,
    )
    from mitmproxy.proxy.layers.http._hooks import HttpErrorHook, HttpRequestHeadersHook
    from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server, make_body_reader
    from mitmproxy.proxy.layers.http._http2 import Http2Server, StreamState
    from mitmproxy.proxy.layers.tls import ServerTLSLayer
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler, ServerInstance
    from mitmproxy.proxy.mode_servers import logger as mode_servers_logger
    from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO
    from mitmproxy.utils import asyncio_utils
except ImportError as error:
    name = ".".join(filter(None, (error.name, getattr(error, "name_from", None))))
    raise unsupported(f"{name or error} is missing") from None

PARTS: Final = """
AddonManager: __init__(master) | _iter_hooks(addon, event) | add(addons) | get(name) | handle_lifecycle(event) | invoke_addon(addon, event) | register(addon) | trigger_event(event)
ConnectionHandler: handle_client() | open_connection(command) | server_event(event) | client | layer | max_conns | transports
ConnectionIO: handler | reader | writer
ErrorCheck: finish() | shutdown_if_errored()
GetHttpConnection: connection_spec_matches(connection)
Headers: __init__(fields, headers) | __bytes__() | get_all(name) | fields
Http1Client: __init__(context) | read_headers(event) | send(event)
Http1Connection: done(event) | mark_done(request, response) | read_body(event) | wait(event) | body_reader | buf | request | response | state
Http1Server: __init__(context) | read_headers(event) | send(event)
Http2Server: __init__(context) | _handle_event(event) | handle_h2_event(event) | protocol_error(message, error_code) | h2_conn | streams
HttpLayer: __init__(context, mode) | _handle_event(event) | event_to_child(child, event) | get_connection(event, reuse) | make_stream(stream_id) | register_connection(command) | command_sources | connections | streams | waiting_for_establishment
HttpStream: __init__(context, stream_id) | _handle_event(event) | check_body_size(request) | check_invalid(request) | flow_done() | handle_event(event) | handle_protocol_error(event) | make_server_connection() | send_response(already_streamed) | start_request_stream() | start_response_stream() | state_consume_request_body(event) | state_consume_response_body(event) | state_done(_) | state_errored(_) | state_stream_request_body(event) | state_wait_for_request_headers(event) | state_wait_for_response_headers(event) | flow | request_body_buf | stream_id
Layer: _handle_event(event)
Master: __init__(opts, event_loop, with_termlog) | _asyncio_exception_handler(loop, context) | done() | run() | running()
MessageData: __post_init__()
OptManager: has_changed(option) | keys() | process_deferred() | subscribe(func, opts) | update(kwargs)
ProxyConnectionHandler: __init__(master, r, w, options, mode)
Proxyserver: register_connection(connection_id, handler) | setup_servers() | connections | servers
ReceiveBuffer: __iadd__(byteslike) | maybe_extract_at_most(count)
Script: addons | done() | loadscript() | watcher()
ServerInstance: __init__(mode, manager) | make(mode, manager) | make_top_layer(context)
ServerTLSLayer: event_to_child(event) | on_handshake_error(err) | receive_close() | receive_data(data)
TlsConfig: configure(updated) | running()
"""  # noqa: E501
"""The methods that the gateway overrides or calls, and the attributes that it uses."""


def check() -> None:
    """Check all parts. Raises ``ConfigurationError``, which names a part that is missing or has other parameters."""
    for line in PARTS.strip().splitlines():
        name, _, parts = line.partition(": ")
        cls = globals()[name]
        declared = {part for base in cls.__mro__ for part in (*vars(base), *vars(base).get("__annotations__", ()))}
        for expected in parts.split(" | "):
            part, is_method, _ = expected.partition("(")
            if part not in declared:
                raise unsupported(f"{name}.{part} is missing")
            if is_method:
                parameters = [each for each in inspect.signature(getattr(cls, part)).parameters if each != "self"]
                found = f"{part}({', '.join(parameters)})"
                if found != expected:
                    raise unsupported(f"{name}.{found} was {expected}")


check()


def proxyserver() -> Proxyserver:
    """Return mitmproxy's addon with the listeners and the connections of clients."""
    addon = ctx.master.addons.get("proxyserver")
    assert isinstance(addon, Proxyserver)
    return addon


def deferred_options(options: Options) -> dict[str, Any]:
    """Return the given options that nobody has declared yet, by name. It may be changed."""
    deferred = vars(options).get("deferred")
    if not isinstance(deferred, dict):
        raise unsupported("OptManager.deferred is missing")
    return deferred


def given_texts(value: object) -> list[str] | None:
    """Return the texts of a deferred option that was given with ``--set``; None if it is from a file."""
    return list(value.val) if isinstance(value, _UnconvertedStrings) else None


def cancel_setup_of_servers() -> bool:
    """Cancel mitmproxy's start of its listeners, if that is under way. Return whether it was."""
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "cr_code", None) is Proxyserver.setup_servers.__code__:
            task.cancel()
            vars(proxyserver().servers)["_instances"].clear()  # they would be stopped without having started
            return True
    return False


def keep_script(addon: object) -> str | None:
    """Stop mitmproxy from loading the script of ``addon`` again when its file changes or goes. Return its path."""
    loader = ctx.master.addons.get("scriptloader")
    for script in loader.addons if isinstance(loader, ScriptLoader) else ():
        if addon in traverse([script]) and isinstance(script, Script):
            if script.reloadtask is not None:
                script.reloadtask.cancel()
            return str(script.path)
    return None


def show_status(message: str, seconds: int) -> None:
    """Show a message in the status bar of mitmproxy's console, which only that program loads."""
    from mitmproxy.tools.console import signals

    signals.status_message.send(message=message, expire=seconds)
