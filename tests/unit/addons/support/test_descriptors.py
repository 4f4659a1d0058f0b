from __future__ import annotations

import logging
import resource
from collections.abc import Iterator

import pytest

from vmgw_addons.support.descriptors import raise_limit


@pytest.fixture
def hard() -> Iterator[int]:
    """The hard limit, while the soft one is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_becomes_the_hard_one(hard: int, caplog: pytest.LogCaptureFixture) -> None:
    raise_limit(10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert not caplog.messages


def test_a_limit_that_is_too_low_is_told(hard: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        raise_limit(hard + 1)
    [message] = caplog.messages
    assert f"-http.maxConnections={hard + 1} needs more file descriptors than this process may open ({hard})" in message
