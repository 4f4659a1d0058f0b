"""The state file: written whole or not at all, shared by processes, and never begun anew by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import pytest

from vmgw_addons.cli.main import main
from vmgw_addons.support import StateError, StateFile, state_file
from vmgw_core.errors import ConfigurationError

T = TypeVar("T")

TABLES: Final = ("CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID",)
FLAGS: Final = ("-enable.auth", "-read.url=http://127.0.0.1:1", "-enable.rateLimit")


def opened(path: Path) -> StateFile:
    return StateFile(str(path), TABLES)


def run(path: Path, work: Callable[[StateFile], Awaitable[T]]) -> T:
    async def main() -> T:
        file = opened(path)
        try:
            return await work(file)
        finally:
            await file.close()

    return asyncio.run(main())


def add(database: sqlite3.Connection) -> int:
    database.execute("INSERT INTO counts VALUES ('a', 1) ON CONFLICT DO UPDATE SET number = number + 1")
    return number(database)


def number(database: sqlite3.Connection) -> int:
    with closing(database.execute("SELECT sum(number) FROM counts")) as cursor:
        return int(cursor.fetchone()[0] or 0)


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert run(path, lambda file: file.read(number)) == 0
    assert run(path, lambda file: file.write(add)) == 1
    assert run(path, lambda file: file.write(add)) == 2
    assert run(path, lambda file: file.read(number)) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["state"], "closed in order, it is one file"


def test_a_transaction_that_fails_writes_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    async def work(file: StateFile) -> int:
        def fail(database: sqlite3.Connection) -> None:
            add(database)
            raise ValueError

        def be_refused(database: sqlite3.Connection) -> None:
            add(database)
            database.execute("INSERT INTO nowhere VALUES (1)")

        with pytest.raises(ValueError):
            await file.write(fail)
        with pytest.raises(StateError, match="no such table"):
            await file.write(be_refused)
        return await file.write(add)

    assert run(tmp_path / "state", work) == 1


def test_a_reader_cannot_write_and_sees_one_state(tmp_path: Path) -> None:
    async def work(file: StateFile) -> tuple[int, int, int]:
        await file.write(add)
        with pytest.raises(StateError, match="readonly"):
            await file.read(add)
        writer = opened(tmp_path / "state")

        def twice(database: sqlite3.Connection) -> tuple[int, int]:
            before = number(database)
            asyncio.run(writer.write(add))
            return before, number(database)

        before, after = await file.read(twice)
        await writer.close()
        return before, after, await file.read(number)

    assert run(tmp_path / "state", work) == (1, 1, 2)


def test_a_file_that_is_removed_while_the_gateway_runs_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "state"

    async def work(file: StateFile) -> int:
        assert [await file.write(add) for _ in range(2)] == [1, 2]
        for each in tmp_path.iterdir():
            each.unlink()
        with pytest.raises(StateError, match="unable to open"):
            await file.read(number)
        return await file.write(add)

    assert run(path, work) == 1
    assert run(path, lambda file: file.read(number)) == 1


_COUNTER: Final = """
import asyncio, sys
from tests.unit.addons.support.test_state_file import add, opened
from pathlib import Path

async def main():
    file = opened(Path(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        print(await file.write(add), flush=True)

asyncio.run(main())
"""


def counter(path: Path, times: int) -> subprocess.Popen[str]:
    """A process that adds, and says so after each time."""
    command = [sys.executable, "-c", _COUNTER, str(path), str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[4])


def test_processes_that_begin_together_add_up(tmp_path: Path) -> None:
    path = tmp_path / "state"
    programs = [counter(path, 20) for _ in range(4)]
    for program in programs:
        program.communicate()
        assert program.returncode == 0
    assert run(path, lambda file: file.read(number)) == 80


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with counter(path, 1000) as program:
        assert program.stdout is not None
        told = [int(program.stdout.readline()) for _ in range(10)][-1]
        os.kill(program.pid, signal.SIGKILL)
        told = int((program.stdout.read().splitlines() or [str(told)])[-1])
    opened(path).check()
    assert run(path, lambda file: file.read(number)) in (told, told + 1), "one may have been written but not told"


# --- a file that cannot be used --------------------------------------------------------------------------------------


def is_text(path: Path) -> None:
    path.write_text("what somebody else needs\n" * 100)


def is_of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE grafana (id)")


def is_marked_by_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA application_id = 7")


def is_newer(path: Path) -> None:
    run(path, lambda file: file.write(add))
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {state_file.VERSION + 1}")


def is_damaged(path: Path) -> None:
    run(path, lambda file: file.write(add))
    data = bytearray(path.read_bytes())
    data[4096:4200] = b"\xff" * 104  # the root of the first table
    path.write_bytes(data)


def is_a_directory(path: Path) -> None:
    path.mkdir()


def is_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def is_a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "other")


def is_a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def is_nowhere(path: Path) -> None:
    path.parent.rmdir()


ANEW: Final = "move it away, with PATH-wal and PATH-shm, to begin without counts"
BAD: Final = [
    (is_text, f"it is not a state file, or it is damaged: name another file, or {ANEW}"),
    (is_of_another_program, "it is a database of another program: name another file"),
    (is_marked_by_another_program, "it is a database of another program: name another file"),
    (is_newer, "a newer version of the gateway has written it: run that one, or name another file"),
    (is_damaged, f"it is damaged: restore it, or {ANEW}"),
    (is_a_directory, "Is a directory"),
    (is_a_pipe, "it is not a regular file"),
    (is_a_link_to_nothing, "No such file or directory"),
    (is_a_link_to_itself, "Too many levels of symbolic links"),
    (is_nowhere, "No such file or directory"),
]


@pytest.mark.parametrize(("make", "reason"), BAD)
def test_a_file_that_cannot_be_used_ends_the_start_and_stays_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "folder" / "state"
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else None
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits:\n- type: queries\n  resolution: minute\n  value: 1\n")
    assert main([*FLAGS, f"-ratelimit.config={limits}", f"-ratelimit.stateFile={path}"], {}) == 2
    said = f"vmgateway: -ratelimit.stateFile: cannot use {path}: {reason.replace('PATH', str(path))}\n"
    assert capsys.readouterr().err == said
    assert (path.read_bytes() if path.is_file() else None) == before

    with pytest.raises(StateError):
        run(path, lambda file: file.write(add))
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_file_that_another_program_has_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "BUSY", 0.01)
    path = tmp_path / "state"
    run(path, lambda file: file.write(add))
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match=r"another program has locked it$"):
            opened(path).check()


def test_a_check_makes_no_file(tmp_path: Path) -> None:
    opened(tmp_path / "state").check()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "state").touch()
    opened(tmp_path / "state").check()
    assert (tmp_path / "state").stat().st_size == 0


def test_an_empty_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, "-ratelimit.stateFile="], {}) == 2
    assert "-ratelimit.stateFile: the value is empty" in capsys.readouterr().err
