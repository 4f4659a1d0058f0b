"""The credentials in force, and the passwords that are being checked.

The rules:

- An API key has 256 random bits, so its SHA-256 is found by a plain look-up.
- A password costs much to check. Both outcomes are remembered by a keyed hash, in bounded memory.
- An unknown user costs the same, and is refused in the same words.
- Few passwords wait to be checked, and few requests wait for one. Others are told to come back.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

from vmgw_core.errors import PasswordUnchecked, UnknownCredentials
from vmgw_core.tokens import BasicCredentials, Token

from .passwords import PasswordHash, check_password

MAX_ATTEMPTS: Final = 16
"""Passwords that may wait to be checked."""
MAX_WAITING: Final = 256
"""Requests that may wait for one password."""
MAX_REMEMBERED: Final = 4096
"""Good passwords that are remembered, and as many bad ones."""


class Attempt:
    """A password to check. Run :meth:`matches` in a thread, and pass its result to ``Credentials.finished``."""

    __slots__ = ("_credentials", "_hash", "_password", "fingerprint", "running", "token", "waiters")

    def __init__(
        self,
        credentials: Credentials,
        fingerprint: bytes,
        password: bytes,
        password_hash: PasswordHash,
        token: Token | None,
    ) -> None:
        self._credentials = credentials
        self._password = password
        self._hash = password_hash
        self.fingerprint = fingerprint
        self.token = token
        """What the password gives if it is right; None for an unknown user."""
        self.running = False
        self.waiters: dict[Callable[[], None], None] = {}

    def matches(self) -> bool:
        """Return whether the password is right. Blocks, and changes nothing."""
        return self._hash.matches(self._password) and self.token is not None

    def wait(self, waiter: Callable[[], None], now: float) -> bool:
        """Call ``waiter`` once the password is checked. Return False if too many wait."""
        return self._credentials.enqueue(self, waiter)

    def give_up(self, waiter: Callable[[], None]) -> None:
        """Do not call ``waiter``. A password that nobody waits for is not checked."""
        self.waiters.pop(waiter, None)
        if not self.waiters and not self.running:
            self._credentials.forget(self)


class Credentials:
    """All API keys, by their SHA-256, and all users, by their name in UTF-8.

    ``seed`` is 32 random bytes. All hashes of users have the same cost.
    """

    def __init__(
        self,
        *,
        keys: Mapping[bytes, Token],
        users: Mapping[bytes, tuple[PasswordHash, Token]],
        seed: bytes,
        limit_classes: Mapping[str, str] | None = None,
    ) -> None:
        self.limit_classes = limit_classes or {}
        """The classes of limits that the grants of the file name, and where the first grant with each is."""
        self._keys = dict(keys)
        self._users = dict(users)
        self._seed = seed
        self._decoy = next((known.decoy(seed) for known, _ in users.values()), None)
        self._good: OrderedDict[bytes, Token] = OrderedDict()
        self._bad: OrderedDict[bytes, None] = OrderedDict()
        self._attempts: dict[bytes, Attempt] = {}

    def __len__(self) -> int:
        return len(self._keys) + len(self._users)

    def of_key(self, key: str) -> Token:
        """Return what an API key gives. Raises ``UnknownCredentials``."""
        token = self._keys.get(sha256(key.encode()).digest())
        if token is None:
            raise UnknownCredentials("no such API key in -auth.credentialsFile")
        return token

    def of_user(self, given: BasicCredentials) -> Token:
        """Return what a user and a password give.

        Raises:
            UnknownCredentials: there is no such user, or the password is wrong.
            PasswordUnchecked: it must be checked first.
        """
        try:
            check_password(given.password)
        except ValueError as error:
            raise UnknownCredentials(str(error)) from None
        fingerprint = self._fingerprint(given)
        token = self._good.get(fingerprint)
        if token is not None:
            self._good.move_to_end(fingerprint)
            return token
        if fingerprint in self._bad or self._decoy is None:
            raise UnknownCredentials("no such user in -auth.credentialsFile, or a wrong password")
        attempt = self._attempts.get(fingerprint)
        if attempt is None:
            known, token = self._users.get(given.user, (self._decoy, None))
            attempt = Attempt(self, fingerprint, given.password, known, token)
        raise PasswordUnchecked("the password could not be checked yet: others are being checked; retry", attempt)

    def take_over(self, given: BasicCredentials, other: Credentials) -> bool:
        """Remember a password that ``other`` has found right, if the hash is the same here. Return False if not."""
        known, theirs = self._users.get(given.user), other._users.get(given.user)
        if known is None or theirs is None or known[0] != theirs[0] or other._fingerprint(given) not in other._good:
            return False
        self._good[self._fingerprint(given)] = known[1]
        self._trim()
        return True

    def enqueue(self, attempt: Attempt, waiter: Callable[[], None]) -> bool:
        """Queue ``attempt``, if it is not yet, and call ``waiter`` at its end. Return False if there is no room."""
        queued = self._attempts.get(attempt.fingerprint)
        if queued is None and len(self._attempts) >= MAX_ATTEMPTS:
            return False
        if len(attempt.waiters) >= MAX_WAITING:
            return False
        self._attempts[attempt.fingerprint] = attempt
        attempt.waiters[waiter] = None
        return True

    def forget(self, attempt: Attempt) -> None:
        """Take ``attempt`` from the queue."""
        self._attempts.pop(attempt.fingerprint, None)

    def next(self) -> Attempt | None:
        """Return the password to check next, or None."""
        attempt = next((each for each in self._attempts.values() if not each.running), None)
        if attempt is not None:
            attempt.running = True
        return attempt

    def check_all(self) -> None:
        """Check all passwords that wait. Blocks."""
        while (attempt := self.next()) is not None:
            self.finished(attempt, attempt.matches())

    def finished(self, attempt: Attempt, matches: bool) -> None:
        """Remember a result, and call those that wait for it."""
        self.forget(attempt)
        if matches and attempt.token is not None:
            self._good[attempt.fingerprint] = attempt.token
        else:
            self._bad[attempt.fingerprint] = None
        self._trim()
        waiters, attempt.waiters = attempt.waiters, {}
        for waiter in waiters:
            waiter()

    def _trim(self) -> None:
        for remembered in (self._good, self._bad):
            while len(remembered) > MAX_REMEMBERED:
                remembered.popitem(last=False)

    def _fingerprint(self, given: BasicCredentials) -> bytes:
        return hmac.digest(self._seed, b"%d:%b:%b" % (len(given.user), given.user, given.password), "sha256")
