"""Fixtures of the wire tests: real servers once per run, gateways per test.

Servers are shared, so each test writes metrics of its own name (``metric``) and never counts anything else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, Program, auth_flags
from tests.support.wire.servers import Cluster, OidcProvider, Redis, VictoriaMetrics
from tests.support.wire.tokens import FULL, SigningKey, team, tenant
from tests.support.wire.upstream import RecordingUpstream

with warnings.catch_warnings():  # warnings are errors here, but for those that mitmproxy's own imports give
    warnings.simplefilter("ignore")
    import mitmproxy.addons  # noqa: F401

StartGateway = Callable[..., Gateway]


LONG = {"docs", "oracle", "lanes"}
"""Folders with files that take longest: a run over several processes begins with them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.wire)
    items.sort(key=lambda item: LONG.isdisjoint(item.path.parts))


# --- real servers, once per run -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def victoria_metrics() -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics() as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Tenants 0:0, 1:5 and 15:0."""
    with Cluster() as server:
        yield server


@pytest.fixture(scope="session")
def oidc() -> Iterator[OidcProvider]:
    """Clients ``admin``, ``dev`` (label team=dev), ``text`` (the claim as a string) and ``tenant`` (1:5)."""
    clients = {
        "admin": FULL,
        "dev": team("dev"),
        "text": '{"tenant_id":{},"extra_labels":{"team":"dev"}}',
        "tenant": tenant(1, 5),
    }
    with OidcProvider(clients) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


# --- per file -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backend() -> Iterator[RecordingUpstream]:
    """For the files whose tests share one gateway. What it recorded before is theirs to forget."""
    with RecordingUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def token(key: SigningKey) -> str:
    """Allows everything."""
    return key.mint()


# --- per test -------------------------------------------------------------------------------------------------------


@pytest.fixture
def flags(upstream: RecordingUpstream, key_file: Path) -> list[str]:
    return auth_flags(upstream.url, key_file)


@pytest.fixture(params=["vmgateway", "mitmdump"])
def program(request: pytest.FixtureRequest) -> Program:
    """Both ways to launch the product."""
    chosen: Program = request.param
    return chosen


@pytest.fixture
def start_gateway() -> Iterator[StartGateway]:
    """``Gateway(...)``; those started are closed behind the test, and must end in order."""
    with ExitStack() as stack:

        def start(*flags: str, **options: object) -> Gateway:
            return stack.enter_context(Gateway(*flags, **options))  # type: ignore[arg-type]

        yield start
