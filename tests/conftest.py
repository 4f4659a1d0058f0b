"""Fixtures of all tests, and how many examples the property tests try.

These are few by default, and many with ``--hypothesis-profile=thorough``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.wire.certificates import Authority
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream

# How long an example takes says nothing on a machine that others use too, so there is no deadline.
settings.register_profile(
    "quick",
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=1000, derandomize=False)
settings.load_profile("quick")


@pytest.fixture(scope="session")
def key() -> SigningKey:
    """The key whose public half ``key_file`` holds."""
    return SigningKey.generate("ES256")


@pytest.fixture(scope="session")
def key_file(key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_text(key.public_pem)
    return path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for backends and listeners with TLS."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    with RecordingUpstream() as server:
        yield server


@pytest.fixture
def metric() -> str:
    """A metric name that no other test uses."""
    return f"m_{uuid.uuid4().hex[:12]}"
