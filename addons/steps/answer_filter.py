"""Large answers that must be limited to a token: made in a thread, so that all other requests go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from vmgw_addons.support import OneThread
from vmgw_core.answers import Filtered
from vmgw_core.errors import InternalError, Refusal

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Filtering:
    """One answer that is being made by ``make``."""

    make: Callable[[], Filtered]
    made: Filtered | Refusal | None = None

    def result(self) -> Filtered:
        """Return the answer. Raises the ``Refusal`` that came of it."""
        if isinstance(self.made, Filtered):
            return self.made
        raise self.made or InternalError("the answer could not be limited to the token")


class AnswerFilter:
    """Makes the answers of the flow lane, one at a time."""

    def __init__(self, thread: OneThread) -> None:
        self.thread = thread

    async def answer_collected(self, filtering: Filtering) -> None:
        """Make an answer: mitmproxy awaits what a hook returns."""
        try:
            filtering.made = await self.thread.call(filtering.make)
        except Refusal as refusal:
            filtering.made = refusal
        except Exception:
            logger.exception("an answer could not be limited to its token")
