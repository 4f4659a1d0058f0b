"""Runs the fuzz targets for some time: with atheris, which looks at coverage, where it is installed, else at random.

    python -m tests.fuzz SECONDS [DIRECTORY]

``DIRECTORY`` keeps inputs that are worth starting from (atheris), and the input that failed.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None


def with_atheris(seconds: int, directory: Path) -> None:
    """libFuzzer drives, and ends the process itself."""
    with atheris.instrument_imports(
        include=["vmgw_core.http.head", "vmgw_core.http.framing", "vmgw_addons.lanes.fast"]
    ):
        from tests.fuzz.targets import one_input
        from tests.support.addons.fakes import Lane
    options = [
        f"-max_total_time={seconds}",
        "-max_len=400",
        "-timeout=20",
        "-len_control=0",
        f"-artifact_prefix={directory}/",
    ]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(directory)], one_input(Lane()))
    atheris.Fuzz()


def at_random(seconds: int, directory: Path) -> None:
    """Random bytes; the scripts they make are what carries the structure."""
    from tests.fuzz.targets import one_input
    from tests.support.addons.fakes import Lane

    lane = Lane()
    run = one_input(lane)
    end, count = time.monotonic() + seconds, 0
    generator = random.Random()  # noqa: S311
    while time.monotonic() < end:
        data = generator.randbytes(generator.randrange(4, 400))
        try:
            run(data)
        except BaseException:
            (directory / "failed").write_bytes(data)
            print(f"failed on {data!r}, kept in {directory}/failed")
            raise
        count += 1
    print(f"{count} inputs in {seconds} s, no failure")
    lane.close()


def main() -> None:
    """See the module."""
    seconds = int(sys.argv[1])
    directory = Path(sys.argv[2] if len(sys.argv) > 2 else ".fuzz")
    directory.mkdir(exist_ok=True)
    if atheris is not None:
        with_atheris(seconds, directory)
    else:
        at_random(seconds, directory)


main()
