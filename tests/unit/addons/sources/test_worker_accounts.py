"""The accounts that workers share in a database of their directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from vmgw_addons.sources.exchange.worker_accounts import WorkerAccounts
from vmgw_core.limits.sharing.account import Reply, Want

WANT = Want(key="queries/minute/1:5", seconds=60, limit=10, need=1, client="192.0.2.1")


def asked(accounts: WorkerAccounts, *wants: Want) -> Sequence[Reply] | None:
    answers: list[Sequence[Reply] | None] = []
    accounts.ask(wants, answers.append)
    return answers[0]


def test_workers_share_one_account(tmp_path: Path) -> None:
    one, two = WorkerAccounts(tmp_path), WorkerAccounts(tmp_path)
    granted = [reply.granted for each in (one, two) * 6 for reply in each.take([WANT], 100.0)]
    assert granted == [True] * 10 + [False] * 2
    assert two.take([WANT], 161.0)[0].granted
    one.close()
    two.close()


def test_a_worker_that_comes_later_finds_what_was_taken(tmp_path: Path) -> None:
    one = WorkerAccounts(tmp_path)
    one.take([WANT] * 10, 100.0)
    one.close()
    two = WorkerAccounts(tmp_path)
    assert not two.take([WANT], 101.0)[0].granted
    two.close()


def test_a_transaction_that_fails_takes_nothing(tmp_path: Path) -> None:
    accounts = WorkerAccounts(tmp_path)
    accounts.take([WANT], 100.0)
    broken = Want(key="x", seconds=60, limit=10, need=1, returned=((1, 2, 3),))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="too many values"):
        accounts.take([WANT, broken], 100.0)
    assert accounts.take([WANT], 100.0)[0].used == 2
    accounts.close()


def test_accounts_that_count_nothing_any_more_are_removed(tmp_path: Path) -> None:
    accounts = WorkerAccounts(tmp_path)
    accounts.take([WANT], 100.0)
    other = Want(key="queries/hour/1:5", seconds=3600, limit=10, need=1)
    accounts.take([other], 100.0)
    accounts.take([other], 200.0)
    with sqlite3.connect(tmp_path / "accounts.sqlite") as database:
        assert database.execute("SELECT key FROM accounts").fetchall() == [(other.key,)]
    database.close()
    accounts.close()


@pytest.mark.parametrize("broken", ["no database", "an account"])
def test_what_cannot_be_read_is_a_failure_that_is_told(tmp_path: Path, broken: str) -> None:
    file = tmp_path / "accounts.sqlite"
    if broken == "no database":
        file.write_bytes(b"x" * 5000)
    else:
        other = WorkerAccounts(tmp_path)
        other.take([WANT], 100.0)
        other.close()
        with sqlite3.connect(file) as database:
            database.execute("UPDATE accounts SET text = '[1]'")
        database.close()
    accounts = WorkerAccounts(tmp_path)
    assert asked(accounts, WANT) is None
    assert str(accounts.failure).startswith("accounts.sqlite: ")
    accounts.close()


def test_a_worker_that_is_stopped_in_the_middle_does_not_hold_up_the_others_for_long(tmp_path: Path) -> None:
    accounts = WorkerAccounts(tmp_path)
    assert asked(accounts, WANT) is not None
    with sqlite3.connect(tmp_path / "accounts.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert asked(accounts, WANT) is None
        assert "OperationalError" in str(accounts.failure)
        other.execute("ROLLBACK")
    other.close()
    assert asked(accounts, WANT) is not None
    assert accounts.failure is None
    accounts.close()


# --- days and months -------------------------------------------------------------------------------------------------

DAY = 86400
DAILY = Want(key="queries/day/1:5", seconds=26 * 3600, limit=10, need=1, ends=(20 * DAY, 21 * DAY))


def test_workers_share_a_day_of_unix_time(tmp_path: Path) -> None:
    one, two = WorkerAccounts(tmp_path), WorkerAccounts(tmp_path)
    granted = [each.take([DAILY], 5.0, 20 * DAY - 9.0)[0].granted for each in (one, two) * 6]
    assert granted == [True] * 10 + [False] * 2
    assert not two.take([DAILY], 13.0, 20 * DAY - 1.0)[0].granted
    assert two.take([DAILY], 14.0, 20.0 * DAY)[0].granted
    one.close()
    two.close()


def test_only_the_first_worker_begins_with_the_counts_of_the_file(tmp_path: Path) -> None:
    one, two = WorkerAccounts(tmp_path), WorkerAccounts(tmp_path)
    other = Want(key="queries/day/2:0", seconds=26 * 3600, limit=10, need=1, ends=DAILY.ends)
    assert one.take([other], 5.0, 20 * DAY - 9.0)[0].granted
    counts = [(DAILY.key, 20 * DAY, 7), (DAILY.key, 21 * DAY, 1), (other.key, 20 * DAY, 4)]
    one.begin(counts, 5.0)
    two.begin(counts, 5.0)
    two.close()
    two.begin(counts, 5.0)
    replies = two.take([DAILY, other], 6.0, 20 * DAY - 8.0)
    assert [(reply.granted, reply.used) for reply in replies] == [(True, 9), (True, 6)]
    one.close()
    two.close()


def test_a_beginning_that_fails_begins_nothing(tmp_path: Path) -> None:
    accounts = WorkerAccounts(tmp_path)
    with pytest.raises(TypeError):
        accounts.begin([(DAILY.key, 20 * DAY, 7), (DAILY.key, 20 * DAY, None)], 5.0)  # type: ignore[list-item]
    accounts.begin([(DAILY.key, 20 * DAY, 3)], 5.0)
    assert accounts.take([DAILY], 5.0, 20 * DAY - 9.0)[0].used == 4
    accounts.close()
