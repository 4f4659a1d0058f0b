"""What takes long is shown on a terminal, and nowhere else."""

from __future__ import annotations

import io
import threading

import pytest

from tests.support.wire.waiting import HANGS
from vmgw_addons.cli.waiting import waiting_for


class Terminal(io.StringIO):
    def __init__(self, *, is_terminal: bool = True) -> None:
        super().__init__()
        self.is_terminal = is_terminal
        self.written = threading.Event()

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


def test_what_takes_long_is_shown_and_wiped_out() -> None:
    terminal = Terminal()
    with waiting_for("fetching keys", terminal, patience=0):
        assert terminal.written.wait(HANGS)
    assert terminal.getvalue() == "fetching keys ...\r                 \r"


def test_what_fails_is_wiped_out_too() -> None:
    terminal = Terminal()

    def fail() -> None:
        with waiting_for("a", terminal, patience=0):
            assert terminal.written.wait(HANGS)
            raise OSError

    with pytest.raises(OSError):
        fail()
    assert terminal.getvalue().endswith("\r")


@pytest.mark.parametrize(("is_terminal", "patience"), [(True, HANGS), (False, 0)])
def test_nothing_is_shown_of_what_is_quick_or_off_a_terminal(is_terminal: bool, patience: float) -> None:
    terminal = Terminal(is_terminal=is_terminal)
    with waiting_for("a", terminal, patience=patience):
        pass
    assert terminal.getvalue() == ""
