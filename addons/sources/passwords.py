"""Password checks: hashes the passwords of Basic users (-auth.credentialsFile) in a thread, one after the other."""

from __future__ import annotations

import asyncio

from vmgw_addons.support import Background, in_thread
from vmgw_core.credentials import Credentials


class PasswordChecks:
    """Checks the passwords that requests wait for. One thread bounds the CPU time that wrong ones can take."""

    def __init__(self, background: Background) -> None:
        self.background = background
        self.waiting: dict[Credentials, None] = {}
        """The files with passwords to check: one, and those that a reload has replaced."""
        self.task: asyncio.Task[None] | None = None

    def begin(self, credentials: Credentials) -> None:
        """Check all passwords that wait in ``credentials``."""
        self.waiting[credentials] = None
        if self.task is None or self.task.done():
            self.task = self.background.once("password_check", self.check())

    async def check(self) -> None:
        """Check passwords until none is left."""
        while self.waiting:
            credentials = next(iter(self.waiting))
            attempt = credentials.next()
            if attempt is None:
                del self.waiting[credentials]
                continue
            try:
                matches = await in_thread(attempt.matches, "password check")
            except BaseException:
                credentials.forget(attempt)  # its requests are told to come back
                raise
            credentials.finished(attempt, matches)
