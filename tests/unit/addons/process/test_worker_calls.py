"""Where workers keep what they share, and who answers their calls."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from vmgw_addons import chain
from vmgw_addons.process import Lifecycle, shared_directory
from vmgw_addons.process.configuration import Configuration
from vmgw_addons.state import InForce, Process, Reloads, Worker
from vmgw_core.errors import ConfigurationError


def test_a_directory_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    with shared_directory([str(tmp_path / "absent"), str(tmp_path)]) as directory:
        assert directory.parent == tmp_path
        (directory / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_without_any_directory_the_error_says_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^-workers needs a directory to write to: mount one at /tmp, or name"),
        shared_directory([str(tmp_path / "absent")]),
    ):
        pass


class Good(Configuration):
    async def reload(self) -> bool:
        return True


def test_a_worker_that_does_not_answer_has_not_reloaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def lifecycle_of(slot: int) -> Lifecycle:
        process = Process(worker=Worker(parent=1, slot=slot, count=2, directory=tmp_path))
        in_force = InForce()
        lifecycle = next(addon for addon in chain.build(in_force, process) if isinstance(addon, Lifecycle))
        lifecycle.configuration = Good(in_force, process, Reloads(), Reloads())
        return lifecycle

    async def scenario() -> None:
        one, two = lifecycle_of(0), lifecycle_of(1)
        await one.calls.running()
        assert not await one.reload_everywhere()
        assert caplog.messages == [
            "worker 1 does not answer to reload: No such file or directory; /metrics, /-/status, /-/me and /-/reload leave it out"  # noqa: E501
        ]
        await two.calls.running()
        one.paused_until = 0.0
        assert await one.reload_everywhere()
        assert caplog.messages[1:] == ["worker 1 answers again"]
        two.configuration.reload = lambda: asyncio.sleep(0, False)  # type: ignore[method-assign]
        one.paused_until = 0.0
        assert not await one.reload_everywhere()
        for each in (one, two):
            await each.calls.done()

    asyncio.run(scenario())
