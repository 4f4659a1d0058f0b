"""Supervised tasks and threads. No test waits for real time: the sleep of ``Background`` is the test's."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Awaitable, Callable

import pytest

from vmgw_addons.support.tasks import FIRST_BACKOFF, LONGEST_BACKOFF, Background, OneThread, in_thread


class Clock:
    """Sleeps are noted and over at once, the first ``rounds`` of them; the next one has no end."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.sleeps: list[float] = []
        self.reached = asyncio.Event()
        self.background = Background(self.sleep, lambda low, high: high)

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if len(self.sleeps) >= self.rounds:
            self.reached.set()
            await asyncio.Event().wait()


def sleeps_of(step: Callable[[], Awaitable[float]], rounds: int) -> Clock:
    """The clock of a task that repeats ``step``, stopped in its last sleep."""

    async def main() -> Clock:
        clock = Clock(rounds)
        task = clock.background.repeat("test", step)
        await clock.reached.wait()
        await clock.background.stop(task)
        assert task.cancelled()
        return clock

    return asyncio.run(main())


def test_a_step_says_when_the_next_one_is_due() -> None:
    pauses = iter([3.0, 0.0, 7.5])

    async def step() -> float:
        return next(pauses)

    clock = sleeps_of(step, 3)
    assert clock.sleeps == [3.0, 0.0, 7.5]
    assert clock.background.errors.total() == 0


def test_a_step_that_fails_is_tried_again_after_a_backoff(caplog: pytest.LogCaptureFixture) -> None:
    failures = iter([True] * 8 + [False, True])

    async def step() -> float:
        if next(failures):
            raise RuntimeError("defect")
        return 5

    clock = sleeps_of(step, 10)
    growing = [FIRST_BACKOFF * 2**number for number in range(6)]
    assert clock.sleeps == [*growing, LONGEST_BACKOFF, LONGEST_BACKOFF, 5, FIRST_BACKOFF]
    assert clock.background.errors == {"test": 9}
    assert caplog.messages[0] == "background task test failed, retrying in 1.0 seconds"
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 9
    assert "RuntimeError: defect" in caplog.text


def test_a_cancelled_task_that_a_step_awaits_does_not_end_the_repetition() -> None:
    async def step() -> float:
        awaited = asyncio.get_running_loop().create_task(asyncio.sleep(1000))
        awaited.cancel()
        await awaited
        return 0

    clock = sleeps_of(step, 3)
    assert clock.background.errors == {"test": 3}


def test_stop_waits_until_a_step_has_cleaned_up() -> None:
    async def main() -> list[str]:
        background = Background()
        happened: list[str] = []
        begun = asyncio.Event()

        async def step() -> float:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                happened.append("cleaned up")
            return 0

        task = background.repeat("test", step)
        await begun.wait()
        await background.stop(task, None)
        happened.append("stopped")
        await background.stop(task)
        assert background.errors.total() == 0
        return happened

    assert asyncio.run(main()) == ["cleaned up", "stopped"]


def test_close_stops_every_task() -> None:
    async def main() -> None:
        background = Background()
        tasks = [
            background.once("once", asyncio.sleep(3600)),
            background.repeat("repeat", lambda: asyncio.sleep(3600, 1)),
        ]
        await asyncio.sleep(0)
        await background.close()
        assert [task.cancelled() for task in tasks] == [True, True]

    asyncio.run(main())


def test_a_task_that_runs_once_and_fails_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Background:
        background = Background()

        async def work() -> None:
            raise KeyError("defect")

        await asyncio.wait([background.once("test", work())])
        await asyncio.sleep(0)
        return background

    assert asyncio.run(main()).errors == {"test": 1}
    assert caplog.messages == ["background task test failed, not retrying"]
    assert "KeyError: 'defect'" in caplog.text


def test_the_value_and_the_error_of_a_thread() -> None:
    async def main() -> None:
        assert await in_thread(lambda: threading.current_thread().name, "worker") == "worker"
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0, "worker")

    asyncio.run(main())


def test_a_thread_that_hangs_does_not_pile_up_others_behind_it() -> None:
    async def main() -> list[str]:
        one, calls = OneThread("the only worker"), list[str]()
        begun, go_on = threading.Event(), threading.Event()

        def hang() -> None:
            begun.set()
            go_on.wait()
            calls.append("hung")

        given_up = asyncio.ensure_future(one.call(hang))
        await in_thread(begun.wait, "waiting")
        given_up.cancel()
        waiting = asyncio.ensure_future(one.call(lambda: calls.append("next")))
        await asyncio.sleep(0)
        assert sum(thread.name == "the only worker" for thread in threading.enumerate()) == 1
        go_on.set()
        await waiting
        await asyncio.wait([given_up])
        assert given_up.cancelled()
        with pytest.raises(ZeroDivisionError):
            await one.call(lambda: 1 // 0)
        await one.call(lambda: calls.append("last"))
        return calls

    assert asyncio.run(main()) == ["hung", "next", "last"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has no eager tasks")
def test_a_task_never_begins_before_the_caller_goes_on() -> None:
    """mitmproxy's programs make tasks that would."""

    async def scenario() -> list[str]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        seen: list[str] = []

        async def work() -> None:
            seen.append("work")

        task = Background().once("test", work())
        seen.append("caller")
        await task
        return seen

    assert asyncio.run(scenario()) == ["caller", "work"]
