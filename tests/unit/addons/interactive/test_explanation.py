"""Explanation costs nothing where nobody looks at flows, and its parts work where somebody does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from mitmproxy.options import Options
from mitmproxy.test import tflow

from vmgw_addons import chain
from vmgw_addons.capture import Tee
from vmgw_addons.interactive.explanation import Explanation
from vmgw_addons.interactive.kept_bodies import MAX_BODY, KeptBodies
from vmgw_addons.interactive.marks import METADATA, story_lines, write
from vmgw_addons.process.master import GatewayMaster
from vmgw_addons.state import Cycles
from vmgw_core.explain.model import Verdict
from vmgw_core.explain.request import own_page
from vmgw_core.explain.text import summary
from vmgw_core.http.head import RequestHead

PARTS = ("content_views", "commands", "marks", "kept_bodies", "focus_line", "body_text", "refusal_lines")


def test_the_launcher_loads_nothing_of_it() -> None:
    async def build() -> Explanation:
        addons = chain.build()
        GatewayMaster(Options(), addons, asyncio.get_running_loop())
        return next(addon for addon in addons if isinstance(addon, Explanation))

    explanation = asyncio.run(build())
    assert explanation.addons == []
    assert not explanation.process.interactive
    hooks = {name for name in dir(Explanation) if not name.startswith("_")}
    assert hooks == {"load"}  # an addon that is asked for nothing at a request


def test_the_launcher_imports_nothing_of_it() -> None:
    program = "import sys, vmgw_addons.cli.main; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "vmgw_addons.interactive.explanation" in ran.stdout.split()
    assert not {f"vmgw_addons.interactive.{part}" for part in PARTS} & set(ran.stdout.split())


# --- what flows carry ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "lines"),
    [
        ({}, None),
        ({METADATA: "text"}, None),
        ({METADATA: {"text": 1}}, None),
        ({METADATA: {"text": "a\x1b[2J\nb\n"}}, ["a\\x1b[2J", "b"]),
    ],
)
def test_a_flow_of_a_file_may_carry_anything(metadata: dict[str, object], lines: list[str] | None) -> None:
    flow = tflow.tflow()
    flow.metadata.update(metadata)
    assert story_lines(flow) == lines


def test_marks_and_comments_of_the_user_stay() -> None:
    flow = tflow.tflow()
    story = own_page(RequestHead(method="GET", target="/health", headers=(), client="192.0.2.1"), 0.0)
    write(flow, story)
    assert (flow.marked, flow.comment) == (":house:", summary(story))
    write(flow, replace(story, verdict=Verdict.ADMITTED))
    assert (flow.marked, flow.comment) == (":white_check_mark:", "unchanged")
    flow.marked, flow.comment = ":red_circle:", "mine"
    write(flow, story)
    assert (flow.marked, flow.comment) == (":red_circle:", "mine")
    assert json.loads(flow.metadata[METADATA]["json"])["verdict"] == "own_page"
    flow.metadata[METADATA] = "rubbish"
    write(flow, story)


# --- kept bodies ---------------------------------------------------------------------------------------------------


def test_all_copies_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_addons.interactive.kept_bodies.MAX_TOTAL", 100)
    keeper = KeptBodies(Cycles())
    flows = [tflow.tflow() for _ in range(4)]
    for flow in flows:
        flow.request.data.content = None
        flow.request.stream = Tee(True, MAX_BODY)
        flow.request.stream(bytes(40))
        keeper.request(flow)
    assert [flow.request.raw_content for flow in flows] == [None, None, bytes(40), bytes(40)]
    assert keeper.total == 80


def test_a_body_that_is_there_already_stays() -> None:
    flow = tflow.tflow(resp=True)
    keeper = KeptBodies(Cycles())
    flow.request.stream = Tee(True, MAX_BODY)
    keeper.request(flow)
    keeper.response(flow)
    assert flow.request.raw_content == b"content"
