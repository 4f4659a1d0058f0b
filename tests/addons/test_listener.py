from __future__ import annotations

import pytest

from vmgw_addons.listener import parse_listen_address
from vmgw_core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "ipv6", "expected"),
    [
        (":8431", False, ("0.0.0.0", 8431)),
        (":8431", True, ("", 8431)),
        ("127.0.0.1:1", False, ("127.0.0.1", 1)),
        ("[::1]:65535", True, ("::1", 65535)),
        ("localhost:8431", False, ("localhost", 8431)),
    ],
)
def test_accepts(text: str, ipv6: bool, expected: tuple[str, int]) -> None:
    assert parse_listen_address(text, ipv6=ipv6) == expected


@pytest.mark.parametrize("text", ["", "8431", ":", ":0", ":65536", ":-1", "host:", "host:http", ":٣"])
def test_rejects(text: str) -> None:
    with pytest.raises(ConfigurationError, match="-httpListenAddr"):
        parse_listen_address(text, ipv6=False)
