"""Explanation costs nothing where nobody looks at flows, and its parts work where somebody does."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from mitmproxy.options import Options
from mitmproxy.test import tflow

from vmgw_addons import chain
from vmgw_addons.explanation import Explanation
from vmgw_addons.kept_bodies import MAX_BODY, Copy, KeptBodies
from vmgw_addons.master import GatewayMaster
from vmgw_addons.runtime import Runtime

PARTS = ("content_views", "decision_commands", "decision_marks", "kept_bodies", "focus_line", "body_text")


def test_the_launcher_loads_nothing_of_it() -> None:
    async def build() -> Explanation:
        addons = chain.build()
        GatewayMaster(Options(), addons, asyncio.get_running_loop())
        return next(addon for addon in addons if isinstance(addon, Explanation))

    explanation = asyncio.run(build())
    assert explanation.addons == []
    assert not explanation.runtime.interactive
    hooks = {name for name in dir(Explanation) if not name.startswith("_")}
    assert hooks == {"load"}  # an addon that is asked for nothing at a request


def test_the_launcher_imports_nothing_of_it() -> None:
    program = "import sys, vmgw_addons.launcher; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "vmgw_addons.explanation" in ran.stdout.split()
    assert not {f"vmgw_addons.{part}" for part in PARTS} & set(ran.stdout.split())


# --- kept bodies ---------------------------------------------------------------------------------------------------


def test_a_copy_passes_on_what_another_function_makes() -> None:
    copy = Copy(lambda data: [data.upper(), b"!"] if data else b"end")
    assert copy(b"ab") == [b"AB", b"!"]
    assert copy(b"") == b"end"
    assert copy.content() == b"AB!end"


def test_a_copy_has_a_bound() -> None:
    copy = Copy(inner=True)
    half = bytes(MAX_BODY // 2)
    assert copy(half) == half
    assert copy(half) == half
    assert copy.content() is not None
    assert copy(b"x") == b"x"
    assert copy(b"y") == b"y"
    assert copy.content() is None
    assert copy.parts == []


def test_all_copies_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_addons.kept_bodies.MAX_TOTAL", 100)
    keeper = KeptBodies(Runtime())
    flows = [tflow.tflow() for _ in range(4)]
    for flow in flows:
        flow.request.data.content = None
        flow.request.stream = Copy(inner=True)
        flow.request.stream(bytes(40))
        keeper.request(flow)
    assert [flow.request.raw_content for flow in flows] == [None, None, bytes(40), bytes(40)]
    assert keeper.total == 80


def test_a_body_that_is_there_already_stays() -> None:
    flow = tflow.tflow(resp=True)
    keeper = KeptBodies(Runtime())
    flow.request.stream = Copy(inner=True)
    keeper.request(flow)
    keeper.response(flow)
    assert flow.request.raw_content == b"content"
