"""Access control in both lanes: a failure of the library of signatures, and what a flow may not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from mitmproxy.flow import Error
from mitmproxy.http import Headers
from mitmproxy.test import tflow, tutils

from tests.support.addons.fakes import Lane
from tests.support.core import keys
from vmgw_addons.sources import KeyRefresh, PasswordChecks
from vmgw_addons.state import Cycles, hide_token
from vmgw_addons.steps.access_control import AccessControl
from vmgw_addons.support import Background
from vmgw_core.enforcement import State
from vmgw_core.tokens.keys import KeySet, VerificationKey


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane(**{"auth.publicKeys": keys.pem(keys.rsa_key())})
    yield lane
    lane.close()


@pytest.fixture
def failing(lane: Lane) -> Lane:
    """Its only key makes the library raise: an RSA key under the name of an ES256 key, which no document can give."""
    lying = VerificationKey(
        kty="EC",
        algorithms=frozenset(("ES256",)),
        kid=None,
        issuer=None,
        source="test",
        thumbprint="",
        key=keys.rsa_key().public_key(),
    )
    policy = lane.in_force.configured.policy
    assert policy is not None
    policy.verifier.replace_keys(KeySet((lying,)))
    return lane


TOKEN = keys.sign(keys.claims(exp=4102444800), keys.ec_key())
MESSAGE = "the signature of the token could not be checked"


def _logged_once(caplog: pytest.LogCaptureFixture) -> None:
    [record] = [record for record in caplog.records if MESSAGE in record.getMessage()]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
    assert TOKEN.rpartition(".")[2] not in caplog.text


def test_a_failure_of_the_library_in_the_fast_lane(failing: Lane, caplog: pytest.LogCaptureFixture) -> None:
    client = failing.client()
    head = f"GET /api/v1/query?query=up HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    failing.feed(client, head.encode())
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert json.loads(client.written.partition(b"\r\n\r\n")[2])["error"] == MESSAGE
    assert failing.backends == []
    _logged_once(caplog)


def test_a_failure_of_the_library_in_the_flow_lane(failing: Lane, caplog: pytest.LogCaptureFixture) -> None:
    headers = Headers(host="a", authorization=f"Bearer {TOKEN}")
    flow = tflow.tflow(req=tutils.treq(path=b"/api/v1/query?query=up", headers=headers, content=b""))
    cycles = Cycles()
    background = Background()
    keys_of = KeyRefresh(failing.in_force, background)
    AccessControl(failing.in_force, cycles, keys_of, PasswordChecks(background)).requestheaders(flow)
    assert flow.response is not None
    assert (flow.response.status_code, flow.response.json()["error"]) == (500, MESSAGE)
    assert cycles[flow].grant is None
    _logged_once(caplog)


def test_a_flow_holds_no_credential_and_no_identity(lane: Lane) -> None:
    fields = [
        (b"Authorization", b"Bearer a"),
        (b"X-ID-Token", b"a.b.c"),
        (b"X-Forwarded-User", b"alice"),
        (b"x-auth-request-groups", b"ops"),
        (b"Cookie", b"a=b"),
        (b"Host", b"a"),
        (b"X-Forwarded-For", b"192.0.2.1"),
    ]
    flow = tflow.tflow(req=tutils.treq(headers=Headers(fields)))
    hide_token(flow, lane.in_force.configured.policy)
    assert flow.request.headers.fields == ((b"Host", b"a"), (b"X-Forwarded-For", b"192.0.2.1"))


def test_a_client_that_has_left_does_not_wait_in_the_flow_lane(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccessControl, "authorize", lambda *_: False)
    flow = tflow.tflow(req=tutils.treq(path=b"/api/v1/query?query=up", headers=Headers(host="a"), content=b""))
    flow.error = Error("the client left")
    cycles, background = Cycles(), Background()
    control = AccessControl(lane.in_force, cycles, KeyRefresh(lane.in_force, background), PasswordChecks(background))
    assert control.requestheaders(flow) is None
    assert cycles[flow].state is State.ENDED
    assert control.checking == {}
