"""Large answers of the flow lane: made in a thread, and refused if that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from vmgw_addons.steps import AnswerFilter, Filtering
from vmgw_addons.support import OneThread
from vmgw_core.answers import Filtered
from vmgw_core.errors import BadAnswer, InternalError

ANSWER = Filtered(status=200, body=b"{}", kind="filtered", note="")


def done(make: Callable[[], Filtered]) -> Filtering:
    filtering = Filtering(make)
    asyncio.run(AnswerFilter(OneThread("test")).answer_collected(filtering))
    return filtering


def test_it_is_made_in_another_thread() -> None:
    threads = []

    def make() -> Filtered:
        threads.append(threading.current_thread())
        return ANSWER

    assert done(make).result() is ANSWER
    assert threads != [threading.current_thread()]


@pytest.mark.parametrize(("error", "told"), [(BadAnswer("bad"), BadAnswer), (ValueError("x"), InternalError)])
def test_what_fails_is_refused(error: Exception, told: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    def make() -> Filtered:
        raise error

    with pytest.raises(told):
        done(make).result()
    assert ("could not be limited" in caplog.text) is (told is InternalError)


def test_nothing_is_shown_that_was_not_made() -> None:
    with pytest.raises(InternalError):
        Filtering(lambda: ANSWER).result()
