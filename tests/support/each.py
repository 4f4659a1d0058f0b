"""Tables of hundreds of rows in one test each: what takes longest of a small test is to be a test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest

T = TypeVar("T")
Test = Callable[..., None]


def each(name: str, cases: Iterable[T], *, ids: Callable[[T], str] = str) -> Callable[[Test], Test]:
    """Run a test for all cases, as ``pytest.mark.parametrize`` does, but within one test.

    All of them run. The first failure is shown, with the id of its case, and the ids of the others that failed.
    """
    found = [(ids(case), case) for case in cases]
    assert found, "a test without cases cannot fail"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def whole(**others: object) -> None:
            failed: dict[str, BaseException] = {}
            for shown, case in found:
                try:
                    test(**{name: case}, **others)
                except (Exception, pytest.fail.Exception) as error:
                    failed[shown] = error
            if failed:
                first, *more = failed
                failed[first].add_note(f"{name}: {first}")
                if more:
                    failed[first].add_note(f"{len(more)} more failed: {', '.join(more)}")
                raise failed[first]

        signature = inspect.signature(test)
        rest = [parameter for parameter in signature.parameters.values() if parameter.name != name]
        whole.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
        return whole

    return decorate
