"""Decisions in mitmproxy's own terminal."""

from __future__ import annotations

from pathlib import Path

import cramjam

from tests.support.addons import bodies
from tests.support.wire.client import Client
from tests.support.wire.terminal import Terminal
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream


def test_a_session(upstream: RecordingUpstream, key: SigningKey, key_file: Path) -> None:
    """One session, since a terminal takes seconds to start: list, focus line, completion, explain, a body."""
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={upstream.url}")
    with Terminal(*flags, f"-write.url={upstream.url}") as terminal:
        client = Client(terminal.port, token=key.mint(tenant(1, 5, extra_labels={"team": "dev"})))
        client.get("/api/v1/query?query=up&extra_label=team=ops")
        client.get("/vmalert/groups")
        body = bytes(cramjam.snappy.compress_raw(bodies.WRITE_REQUEST))
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        client.post("/api/v1/write", body=body, headers=headers)

        # The first flow is that of the check whether it serves.
        terminal.see("/health", "/api/v1/query", "✅", "⛔", "/api/v1/write")
        terminal.press("Down")
        terminal.see("1:5 read -extra_label=team=ops +extra_label=team=dev")
        terminal.press("Down")
        terminal.see("1:5 read filters_ignored")

        terminal.press(":")
        terminal.see("\n:")
        terminal.press("vmgateway.e", "Tab")
        terminal.see(": vmgateway.explain", "flows")  # what the argument is
        terminal.press("Space", "@focus", "Enter")
        terminal.see("Data viewer", "NO  filters", '"team": "dev"', "The client gets")
        terminal.press("q")
        terminal.see("/health", but="Data viewer")

        terminal.press("Down")
        terminal.see("1:5 write +extra_label=team=dev")
        terminal.press("Enter")
        terminal.see(
            "Flow Details", "Remote write", 'up{job="shop"} 1 @ 2023-11-14T22:13:20Z', but="[cannot decode]"
        )  # fmt: skip
