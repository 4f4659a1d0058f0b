"""What mitmproxy's options say about mode and address, and which lane they need."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from mitmproxy.options import Options

from tests.support.addons.fakes import mitmproxy_with
from tests.support.each import each
from vmgw_addons.process.lane_choice import why_flows
from vmgw_addons.process.mitmproxy_options import Host, complete, read_host
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

URL = "http://127.0.0.1:8428"


@each(
    ("options", "url", "address"),
    [
        ({}, "", ""),
        ({"mode": [f"reverse:{URL}"]}, URL, ""),
        ({"mode": [f"reverse:{URL}/"]}, URL, ""),
        ({"mode": [f"reverse:{URL}@9000"]}, URL, ":9000"),
        ({"mode": [f"reverse:{URL}@127.0.0.1:9000"]}, URL, "127.0.0.1:9000"),
        ({"mode": [f"reverse:{URL}@9000"], "listen_host": "127.0.0.1"}, URL, "127.0.0.1:9000"),
        ({"mode": [f"reverse:{URL}@9000"], "listen_port": 9000}, URL, ":9000"),
        ({"mode": ["reverse:https://vm"]}, "https://vm:443", ""),
        ({"mode": ["reverse:vm:8428"]}, "https://vm:8428", ""),
        ({"mode": ["reverse:http://[::1]:8428@9000"]}, "http://[::1]:8428", ":9000"),
        ({"listen_port": 9000}, "", ":9000"),
        ({"listen_host": "127.0.0.1"}, "", "127.0.0.1:8080"),
        ({"listen_host": "::1", "listen_port": 9000}, "", "[::1]:9000"),
        ({"mode": ["reverse:http://127.0.0.1:1"], "listen_port": 9000}, "", ":9000"),
    ],
)
def test_mode_and_address(options: dict[str, Any], url: str, address: str) -> None:
    assert read_host(Options(**options)) == Host(url=url, address=address)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": ["socks5"]}, "expected reverse"),
        ({"mode": ["reverse:dns://a"]}, "expected reverse"),
        ({"mode": ["regular", f"reverse:{URL}@9000"]}, "the gateway needs one mode, got 2"),
        ({"mode": [f"reverse:{URL}@9000"], "listen_port": 9001}, "different addresses: 9000, 9001"),
        ({"mode": [f"reverse:{URL}@a:9000"], "listen_host": "b"}, "different addresses: a, b"),
    ],
)
def test_contradictions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_host(Options(**options))


def test_flags_win_over_the_mode() -> None:
    settings = Settings(read_url=("http://a:1",), http_listen_addr=":1")
    done = complete(settings, Host(url=URL, address="0.0.0.0:1"), address_is_given=True)
    assert (done.read_url, done.write_url, done.http_listen_addr) == (("http://a:1",), (URL,), ":1")


@pytest.mark.parametrize(
    ("settings", "host", "message"),
    [
        (Settings(), Host(address=":9000"), "-httpListenAddr=:8431 and mitmproxy's :9000 are different"),
        (Settings(http_listen_addr="127.0.0.1:1"), Host(address=":1"), "are different addresses"),
        (Settings(read_url=("http://a:1",), write_url=("http://b:1",)), Host(url=URL), "--mode names the backend"),
    ],
)
def test_two_answers_to_one_question(settings: Settings, host: Host, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        complete(settings, host, address_is_given=True)


class Sees:
    def response(self, flow: object) -> None:
        """A hook."""


class Lives:
    def running(self) -> None:
        """A hook, but of the program's life."""


def test_another_addon_needs_flows() -> None:
    with mitmproxy_with(Lives(), core=False) as context:
        assert why_flows(context.master) is None
        context.master.addons.add(Sees())
        name = f"{Sees.__module__}.Sees"
        assert why_flows(context.master) == f"the addon {name} has the hook response"


def test_a_script_needs_flows() -> None:
    script = ModuleType("__mitmproxy_script__.own")
    script.client_connected = print  # type: ignore[attr-defined]
    with mitmproxy_with(script, core=False) as context:
        assert why_flows(context.master) == "the addon own has the hook client_connected"
