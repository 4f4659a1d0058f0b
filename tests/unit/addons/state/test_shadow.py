"""The shadow in a gateway: it judges each request once, and no failure of it reaches a request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.addons.configured import asked, authorized, configured
from tests.support.addons.fakes import Lane
from tests.support.core import keys
from vmgw_addons.interactive.marks import METADATA, DecisionMarks
from vmgw_addons.observability import AccessLogging
from vmgw_addons.process.shadow import read_candidate
from vmgw_addons.state import LiveShadow
from vmgw_core.enforcement import Cycle
from vmgw_core.errors import ConfigurationError, Refusal
from vmgw_core.replay import Difference

TOKEN = keys.compact({"alg": "RS256"}, keys.claims(exp=4102444800))
REQUEST = f"GET /api/v1/query?query=up HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
LIMITS = "limits:\n- {type: queries, value: 1}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The flags of a candidate with another backend for reads."""
    made = tmp_path / "next.flags"
    made.write_text("-enable.auth -read.url=http://other.test:1 -write.url=http://write.test:1")
    return made


class Broken:
    """A shadow that cannot judge."""

    def __init__(self, live: LiveShadow) -> None:
        self.counts = live.shadow.counts
        self.gateway = live.shadow.gateway

    def judge(self, live: Cycle, form: bytes | None, now: float) -> str:
        live.shadow = ""
        raise ZeroDivisionError


def counts_of(live: LiveShadow | None) -> tuple[int, dict[Difference, int], int]:
    assert live is not None
    counts = live.shadow.counts
    return counts.requests, dict(counts.differences), counts.failures


@pytest.fixture
def lane(file: Path) -> Iterator[Lane]:
    lane = Lane(**{"shadow.flags": str(file)})
    yield lane
    lane.close()


def test_the_fast_lane_answers_when_the_shadow_fails(lane: Lane, caplog: pytest.LogCaptureFixture) -> None:
    live = lane.in_force.configured.shadow
    assert live is not None
    client = lane.client()
    lane.feed(client, REQUEST)
    assert counts_of(live) == (1, {Difference.OTHER_BACKEND: 1}, 0), "before there is a response"
    lane.feed(lane.backends[0], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert bytes(client.written).endswith(b"ok")
    assert counts_of(live) == (1, {Difference.OTHER_BACKEND: 1}, 0), "judged once"
    live.shadow = Broken(live)  # type: ignore[assignment]
    for number in (1, 2):
        lane.feed(client, REQUEST)
        lane.feed(lane.backends[0], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert bytes(client.written).count(b"200 OK") == number + 1
        assert counts_of(live)[2] == number
    assert [record.levelname for record in caplog.records if "cannot judge" in record.message] == ["ERROR"]


def test_the_flow_lane_goes_on_when_the_shadow_fails(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = configured(**{"shadow.flags": str(file)})
    live = state.configured.shadow
    assert live is not None
    live.shadow = Broken(live)  # type: ignore[assignment]
    logging_ = AccessLogging(state.in_force, state.cycles)

    async def run() -> Cycle:
        flow = asked()
        cycle = authorized(state, flow)
        cycle.enter()
        cycle.count(1.0)
        cycle.prepare()
        logging_.error(flow)
        await asyncio.sleep(0)
        return cycle

    assert asyncio.run(run()).upstream is not None
    assert asyncio.run(run()).upstream is not None
    assert counts_of(live)[2] == 2
    assert len([record for record in caplog.records if "cannot judge" in record.message]) == 1


def test_pages_of_the_gateway_itself_are_not_judged(file: Path) -> None:
    state = configured(**{"shadow.flags": str(file)})
    live = state.configured.shadow
    assert live is not None
    cycle = state.cycles.of(asked("/health"))
    cycle.own_page = True
    live.finished(cycle, 200, 0)
    assert cycle.shadow is None
    assert counts_of(live) == (0, {}, 0)


def test_without_a_shadow_nothing_is_asked() -> None:
    state = configured()
    assert state.configured.shadow is None
    assert state.configured.gateway is not None
    assert state.configured.gateway.shadow is None
    assert state.configured.request_logs == ()


def test_an_explanation_says_that_the_shadow_disagrees(file: Path) -> None:
    state = configured(**{"shadow.flags": str(file)})
    marks = DecisionMarks(state.in_force, state.cycles)

    async def run() -> str:
        flow = asked()
        cycle = authorized(state, flow)
        cycle.enter()
        cycle.count(1.0)
        cycle.prepare()
        await asyncio.sleep(0)
        marks.response(flow)
        return str(flow.metadata[METADATA]["text"])

    assert "\nThe shadow disagrees\n  other backend: http://read.test:1 -> http://other.test:1\n" in asyncio.run(run())
    flow = asked("/nope")
    cycle = state.cycles.of(flow)
    with pytest.raises(Refusal) as caught:
        cycle.authorize(state.configured.gateway)
    cycle.refuse(caught.value)
    marks.response(flow)
    assert cycle.shadow is not None, "a refused request is judged before its explanation is written"
    flow = asked("/health")
    state.cycles.of(flow).own_page = True
    marks.response(flow)
    assert state.cycles.of(flow).shadow is None


# --- its configuration -----------------------------------------------------------------------------------------------


def test_the_same_limits_are_not_counted_twice(tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text(LIMITS)
    flags = {"enable.rateLimit": "true", "ratelimit.config": str(limits), "shadow.ratelimitConfig": str(limits)}
    state = configured(**flags)
    first = state.configured.shadow
    assert first is not None
    assert first.shadow.same_limits
    assert first.shadow.gateway.limiter is None
    assert first.keyring is state.configured.keyring
    assert len(state.configured.keyrings) == 1


def test_own_keys_have_a_ring_of_their_own(file: Path) -> None:
    url = "http://keys.test/jwks"
    file.write_text(f"{file.read_text()} -auth.jwksEndpoints={url}")
    state = configured(**{"shadow.flags": str(file)})
    live = state.configured.shadow
    assert live is not None
    assert live.keyring is not state.configured.keyring
    assert [(whose, ring is live.keyring) for ring, _, whose in state.configured.keyrings] == [
        ("", False), ("shadow: ", True),
    ]  # fmt: skip
    assert live.shadow.gateway.policy.keys_awaited
    assert state.configured.policy is not None
    assert not state.configured.policy.keys_awaited
    (fetch,) = live.keyring.due(1.0)
    assert fetch.url == url
    policy = state.configured.policy
    state.in_force.use_keys(live.keyring)
    assert state.configured.policy is policy, "keys of the shadow do not drop what the gateway has verified"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"shadow.flags": "/nope/flags"}, "^shadow: -shadow.flags: cannot read /nope/flags: No such file"),
        ({"shadow.policy": "/nope/policy"}, "^shadow: -shadow.policy /nope/policy: cannot read it"),
        ({"shadow.ratelimitConfig": "/nope/limits"}, "^shadow: -shadow.ratelimitConfig /nope/limits: cannot read it"),
    ],
)
def test_a_file_that_cannot_be_read(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        configured(**flags)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"^shadow: -shadow.flags: .*f is not UTF-8 text$"):
        configured(**{"shadow.flags": str(tmp_path / "f")})


def test_the_candidate_has_the_keys_of_the_gateway_unless_it_names_others(file: Path) -> None:
    state = configured(**{"shadow.flags": str(file)})
    settings = state.configured.settings
    found = read_candidate(settings)
    assert found is not None
    assert found.settings.read_url == ("http://other.test:1",)
    assert found.settings.auth_jwks_endpoints == settings.auth_jwks_endpoints
