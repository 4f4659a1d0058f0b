"""File descriptors: the soft limit is raised to the hard one, and what is beyond that is answered or logged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.processes import Gateway, find_program
from tests.support.wire.raw import RawClient

ASK: Final = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


class Limited(Gateway):
    """A gateway that may open so many files: the soft and the hard limit."""

    def __init__(self, soft: int, hard: int, *flags: str) -> None:
        self.limit = f"--nofile={soft}:{hard}"
        super().__init__("-enable.auth", "-read.url=http://127.0.0.1:1", *flags)

    def command(self) -> list[str]:
        return [find_program("prlimit"), self.limit, *super().command()]


def ask(clients: Sequence[RawClient]) -> list[int]:
    """The statuses that each client gets; 0 if the connection ends without an answer."""
    statuses = []
    for client in clients:
        try:
            statuses.append(client.send(ASK).receive_answer()[0])
        except (OSError, EOFError):
            statuses.append(0)
    return statuses


def test_the_soft_limit_is_raised() -> None:
    with Limited(256, 700) as gateway:
        assert "Max open files            700                  700" in Path(f"/proc/{gateway.pid}/limits").read_text()


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_more_clients_than_descriptors_get_an_answer_or_a_line_in_the_log(lane: str) -> None:
    with Limited(64, 64, f"-lane={lane}") as gateway:
        clients = [RawClient(gateway.port) for _ in range(100)]
        try:
            statuses = ask(clients)
            assert statuses[:10] == [200] * 10, "those that came first are served"
            assert 503 in statuses
            assert set(statuses) <= {200, 503, 0}
            gateway.wait_for_log(r"\twarn\t.*too many connections for the limit of open file descriptors; more are")
            assert gateway.log().count("too many connections") == 1
            assert ask(clients[:5]) == [200] * 5, "and served on"
        finally:
            for client in clients:
                client.socket.close()
        gateway.wait_until(lambda: gateway.client().get("/health").status == 200, what="serves new clients")
        gateway.wait_for_log("new connections are served again")
