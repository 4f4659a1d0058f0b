"""Tables of rows in one test each: what takes longest of a small test is to be a test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

Test = Callable[..., None]
Ids = Callable[[Any], object] | Sequence[str]


def each(names: str | Sequence[str], cases: Iterable[Any], *, ids: Ids = str) -> Callable[[Test], Test]:
    """Run a test for all cases, as ``pytest.mark.parametrize`` does, but within one test.

    All of them run. The first failure is shown, with the id of its case, and the ids of the others that failed.
    """
    parameters = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    found = [_case(case, number, len(parameters), ids) for number, case in enumerate(cases)]
    assert found, "a test without cases cannot fail"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def whole(**others: object) -> None:
            failed: dict[str, BaseException] = {}
            for shown, values in found:
                try:
                    test(**dict(zip(parameters, values, strict=True)), **others)
                except (Exception, pytest.fail.Exception) as error:
                    failed[shown] = error
            if failed:
                first, *more = failed
                failed[first].add_note(f"{', '.join(parameters)}: {first}")
                if more:
                    failed[first].add_note(f"{len(more)} more failed: {', '.join(more)}")
                raise failed[first]

        signature = inspect.signature(test)
        rest = [parameter for parameter in signature.parameters.values() if parameter.name not in parameters]
        whole.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
        return whole

    return decorate


def _case(case: Any, number: int, width: int, ids: Ids) -> tuple[str, Sequence[Any]]:  # noqa: ANN401
    """The id of a case and its values. It may be a ``pytest.param``."""
    named = None
    if isinstance(case, type(pytest.param())):
        assert not case.marks, "a case has no marks of its own here"
        named, values = case.id, case.values
    else:
        values = (case,) if width == 1 else case
    if not callable(ids):
        named = named or ids[number]
    else:
        named = named or "-".join(str(ids(value)) for value in values)
    return str(named), values
