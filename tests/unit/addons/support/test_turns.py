"""Steps of long tasks take turns with everything else."""

from __future__ import annotations

import asyncio

from vmgw_addons.support import Turns


def test_each_turn_of_the_loop_has_one_step_in_the_order_of_the_tasks() -> None:
    seen: list[str] = []

    async def run() -> None:
        turns, loop = Turns(), asyncio.get_running_loop()

        def task(name: str, left: int) -> None:
            seen.append(name)
            if left:
                turns.add(lambda: task(name, left - 1))

        def other(left: int) -> None:
            seen.append("-")
            if left:
                loop.call_soon(lambda: other(left - 1))

        turns.add(lambda: task("a", 2))
        turns.add(lambda: task("b", 1))
        loop.call_soon(lambda: other(4))
        for _ in range(8):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert "".join(seen) == "a-b-a-b-a-"
