"""flow_state: what mitmproxy reads of a flow that was written without its objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection
from mitmproxy.http import Headers, HTTPFlow, Request, Response

from vmgw_addons._mitmproxy import tnetstring
from vmgw_addons.capture.flow_state import flow_netstring, netstring

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
_PLAIN = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(_PLAIN)
def test_plain_data_is_written_as_mitmproxy_does(value: object) -> None:
    theirs = tnetstring.dumps(value)  # type: ignore[arg-type]
    assert (len(netstring(value)), tnetstring.loads(netstring(value))) == (len(theirs), tnetstring.loads(theirs))


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="a value of type object"):
        netstring({"a": [object()]})


@pytest.mark.parametrize("answered", [True, False])
def test_a_flow_is_what_mitmproxy_would_save(answered: bool) -> None:
    server = ("backend", 8428) if answered else None
    client = connection.Client(peername=("10.0.0.1", 0), sockname=("", 0), timestamp_start=1.5)
    flow = HTTPFlow(client, connection.Server(address=server))
    fields = ((b"Host", b"x"), (b"A", b"\xff"))
    flow.request = Request(
        "backend", 8428, b"GET", b"http", b"", b"/p?q", b"HTTP/1.1", Headers(fields), b"body", None, 1.5, 2.5
    )
    if answered:
        flow.response = Response(b"HTTP/1.1", 200, b"", Headers(fields), None, None, 2.5, 2.5)
    flow.metadata["vmgateway"] = {"a": [1, None, b"\x00"]}
    expected = flow.get_state()
    written = flow_netstring(
        client=("10.0.0.1", 0),
        server=server,
        at=1.5,
        request=expected["request"],
        response=expected["response"],
        metadata=expected["metadata"],
    )
    state = HTTPFlow.from_state(tnetstring.loads(written)).get_state()
    for one in (state, expected):
        assert len({one.pop("id"), one["client_conn"].pop("id"), one["server_conn"].pop("id")}) == 3
    assert state.pop("timestamp_created") == 1.5
    del expected["timestamp_created"]
    assert state == expected
