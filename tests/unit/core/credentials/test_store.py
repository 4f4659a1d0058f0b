"""Credentials in force: what a key and a password give, what is remembered, and who waits."""

from __future__ import annotations

import math
from hashlib import sha256
from unittest.mock import Mock

import pytest

from vmgw_core.base import TenantID
from vmgw_core.credentials import store
from vmgw_core.credentials.passwords import PasswordHash
from vmgw_core.credentials.store import Attempt, Credentials
from vmgw_core.errors import PasswordUnchecked, UnknownCredentials
from vmgw_core.tokens import AccessMode, BasicCredentials, Grants, Token, VMAccessClaim

KEY = "vmgw_" + "k" * 43
SEED = bytes(32)
HASH = PasswordHash.of(b"secret", SEED)
WRONG = r"^no such user in -auth.credentialsFile, or a wrong password$"


def token(name: str, kind: str) -> Token:
    claim = VMAccessClaim(tenant=TenantID(1, 0), labels=(), filters=(), mode=AccessMode.FULL)
    grants = Grants(alternatives=(claim,))
    return Token(
        grants=grants, expires_at=math.inf, not_before=None, subject=name, issuer=None, key=None, credential=kind
    )


AGENT, GRAFANA = token("agent", "key"), token("grafana", "user")


def credentials() -> Credentials:
    return Credentials(
        keys={sha256(KEY.encode()).digest(): AGENT}, users={b"grafana": (HASH, GRAFANA)}, seed=SEED
    )  # fmt: skip


def attempt_of(made: Credentials, user: bytes, password: bytes) -> Attempt:
    with pytest.raises(PasswordUnchecked) as caught:
        made.of_user(BasicCredentials(user, password))
    assert isinstance(caught.value.attempt, Attempt)
    return caught.value.attempt


def test_a_key_is_found_by_its_hash() -> None:
    made = credentials()
    assert len(made) == 2
    assert made.of_key(KEY) is AGENT
    for other in (KEY[:-1] + "x", "vmgw_" + "x" * 43):
        with pytest.raises(UnknownCredentials, match=r"^no such API key"):
            made.of_key(other)


def test_a_password_is_checked_once() -> None:
    made, woken = credentials(), Mock()
    attempt = attempt_of(made, b"grafana", b"secret")
    assert made.next() is None, "nobody waits yet"
    assert attempt.wait(woken, 0.0)
    assert attempt_of(made, b"grafana", b"secret") is attempt, "one check for all that send it"
    assert made.next() is attempt
    assert made.next() is None
    assert attempt.matches()
    made.finished(attempt, True)
    woken.assert_called_once_with()
    assert made.of_user(BasicCredentials(b"grafana", b"secret")) is GRAFANA


@pytest.mark.parametrize("given", [(b"grafana", b"Secret"), (b"nobody", b"secret"), (b"", b"secret")])
def test_wrong_passwords_and_unknown_users_are_refused_in_the_same_way(given: tuple[bytes, bytes]) -> None:
    made = credentials()
    attempt = attempt_of(made, *given)
    assert attempt.wait(Mock(), 0.0)
    made.check_all()
    for _ in range(2):
        with pytest.raises(UnknownCredentials, match=WRONG):
            made.of_user(BasicCredentials(*given))
    assert made.next() is None
    assert attempt_of(made, b"grafana", b"secret") is not attempt


def test_an_unknown_user_never_gets_in_even_with_the_right_hash() -> None:
    made = credentials()
    attempt = attempt_of(made, b"nobody", b"secret")
    assert attempt.wait(Mock(), 0.0)
    made.finished(attempt, True)
    with pytest.raises(UnknownCredentials, match=WRONG):
        made.of_user(BasicCredentials(b"nobody", b"secret"))


def test_the_split_between_user_and_password_counts() -> None:
    made = Credentials(keys={}, users={b"a": (HASH, GRAFANA), b"a:b": (HASH, AGENT)}, seed=SEED)
    first = attempt_of(made, b"a", b"b:c")
    assert first.wait(Mock(), 0.0)
    assert attempt_of(made, b"a:b", b"c").fingerprint != first.fingerprint


def test_a_password_that_cannot_be_one_costs_nothing() -> None:
    for password in (b"", b"x" * 5000, b"\xff", b"a\0", b"a.b.c"):
        with pytest.raises(UnknownCredentials):
            credentials().of_user(BasicCredentials(b"grafana", password))


def test_without_users_nothing_is_hashed() -> None:
    made = Credentials(keys={}, users={}, seed=SEED)
    with pytest.raises(UnknownCredentials, match=WRONG):
        made.of_user(BasicCredentials(b"grafana", b"secret"))


def test_few_wait() -> None:
    made = credentials()
    attempts = [attempt_of(made, b"user", b"%d" % number) for number in range(store.MAX_ATTEMPTS + 1)]
    assert [each.wait(Mock(), 0.0) for each in attempts] == [True] * store.MAX_ATTEMPTS + [False]
    waiters = [Mock() for _ in range(store.MAX_WAITING)]
    assert [attempts[0].wait(waiter, 0.0) for waiter in waiters] == [True] * (store.MAX_WAITING - 1) + [False]
    made.finished(attempts[0], False)
    assert attempts[-1].wait(Mock(), 0.0)


def test_a_password_that_nobody_waits_for_is_not_checked() -> None:
    made, first, second = credentials(), Mock(), Mock()
    attempt = attempt_of(made, b"grafana", b"secret")
    assert attempt.wait(first, 0.0)
    assert attempt.wait(second, 0.0)
    attempt.give_up(first)
    attempt.give_up(first)
    assert made.next() is attempt
    attempt.give_up(second)
    made.finished(attempt, True)
    assert made.of_user(BasicCredentials(b"grafana", b"secret")) is GRAFANA
    idle = attempt_of(made, b"grafana", b"other")
    assert idle.wait(first, 0.0)
    idle.give_up(first)
    assert made.next() is None
    first.assert_not_called()
    second.assert_not_called()


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_REMEMBERED", 2)
    made = Credentials(keys={}, users={b"%d" % number: (HASH, GRAFANA) for number in range(9)}, seed=SEED)

    def send(user: bytes, *, good: bool) -> None:
        attempt = attempt_of(made, user, b"secret")
        assert attempt.wait(Mock(), 0.0)
        made.finished(attempt, good)

    send(b"0", good=True)
    send(b"1", good=True)
    assert made.of_user(BasicCredentials(b"0", b"secret")) is GRAFANA  # so 1 was used least recently
    send(b"2", good=True)
    assert made.of_user(BasicCredentials(b"0", b"secret")) is GRAFANA
    attempt_of(made, b"1", b"secret")
    for user in (b"3", b"4", b"5"):
        send(user, good=False)
    attempt_of(made, b"3", b"secret")
    assert made.of_user(BasicCredentials(b"0", b"secret")) is GRAFANA, "bad ones do not push good ones out"
