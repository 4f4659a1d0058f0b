"""What people at mitmproxy's interfaces see: bodies, the line of the flow in focus, and answers of commands."""

from __future__ import annotations

import json
from contextlib import ExitStack

import cramjam
import pytest
from mitmproxy import contentviews
from mitmproxy.addons.view import View
from mitmproxy.exceptions import CommandError
from mitmproxy.http import Headers, HTTPFlow, Message
from mitmproxy.tools.console import signals

from tests.support.addons.bodies import series
from tests.support.addons.configured import TOKEN, asked, configured
from tests.support.addons.fakes import Lane, mitmproxy_with
from tests.support.core import keys
from vmgw_addons.interactive.commands import DecisionCommands
from vmgw_addons.interactive.content_views import IS_NEW, VIEWS, About, ContentViews
from vmgw_addons.interactive.focus_line import FocusLine
from vmgw_addons.interactive.marks import METADATA
from vmgw_addons.process.lifecycle import Lifecycle
from vmgw_addons.state import InForce
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit, LimitType, Resolution

BY_NAME = {view.name: view for view in VIEWS}


def about(path: str = "/", content_type: str = "", *, is_request: bool = True) -> About:
    return About(content_type=content_type, encoding="", path=path, is_request=is_request, flow=None)


@pytest.mark.parametrize(
    ("name", "data", "known"),
    [
        ("Remote write", b"x", about("/api/v1/write", "application/x-protobuf")),
        ("OpenTelemetry metrics", b"x", about("/opentelemetry/v1/metrics", "application/x-protobuf")),
        ("JSON lines", b'{"metric":{}}', about("/api/v1/import")),
        ("JSON lines", b" {}", about("/x", "application/stream+json", is_request=False)),
        ("JWT", TOKEN.encode(), about()),
    ],
)
def test_a_body_has_one_view_of_its_own(name: str, data: bytes, known: About) -> None:
    assert [view.name for view in VIEWS if view.priority(data, known) > 0] == [name]


def test_no_view_is_for_an_empty_body() -> None:
    assert [view.name for view in VIEWS if view.priority(b"", about("/api/v1/import")) > 0] == []


@pytest.mark.parametrize("name", ["Remote write", "OpenTelemetry metrics", "vmgateway"])
def test_a_body_that_is_something_else_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError):
        BY_NAME[name].text(b"\xff\xfe", about())


def test_bodies_are_readable() -> None:
    body = series({"__name__": "m", "a": "b"}, [(1.5, 1000)])
    shown = BY_NAME["Remote write"].text(body, about("/api/v1/write", "application/x-protobuf"))
    assert 'm{a="b"}' in shown
    assert "1.5" in shown
    assert "account_id" in BY_NAME["JWT"].text(TOKEN.encode(), about())
    line = json.dumps({"metric": {"__name__": "m"}, "values": [1], "timestamps": [1000]})
    assert "m" in BY_NAME["JSON lines"].text(line.encode(), about("/api/v1/import"))


def test_the_views_are_registered() -> None:
    views = ContentViews()
    views.load(None)
    try:
        assert {view.name for view in VIEWS} == {view.name for view in views.views}
        known = (
            contentviews.registry.available_views() if IS_NEW else [view.name for view in vars(contentviews)["views"]]
        )
        assert {view.name.lower() for view in VIEWS} <= {name.lower() for name in known}
    finally:
        views.done()


def shown(message: Message, flow: HTTPFlow) -> tuple[str, str]:
    """The title of a body in mitmproxy, and the body."""
    if IS_NEW:
        result = contentviews.prettify_message(message, flow)
        return f"{result.view_name} {result.description}".strip(), result.text
    title, lines, _ = vars(contentviews)["get_message_content_view"]("auto", message, flow)
    return title, "\n".join("".join(text for _, text in line) for line in lines)


LINE = b'{"metric":{"__name__":"m"},"values":[1],"timestamps":[1000]}'


@pytest.mark.parametrize(
    ("path", "content_type", "body", "title", "text"),
    [
        ("/api/v1/write", "application/x-protobuf", series({"__name__": "m"}, [(1.5, 1000)]), "Remote write", "m 1.5"),
        ("/api/v1/import", "", LINE, "JSON lines", "m 1 @"),
        ("/api/v1/import/prometheus", "text/plain", b"m 1.5", "Raw", "m 1.5"),
    ],
    ids=["remote write", "JSON lines", "text"],
)
def test_bodies_in_snappy_are_shown_decoded(path: str, content_type: str, body: bytes, title: str, text: str) -> None:
    compressed = bytes(cramjam.snappy.compress_raw(body))
    flow = asked()
    flow.request.path = path
    flow.request.headers = Headers([(b"Content-Type", content_type.encode()), (b"Content-Encoding", b"snappy")])
    flow.request.raw_content = compressed
    views = ContentViews()
    views.load(None)
    with mitmproxy_with(View()), ExitStack() as stack:
        stack.callback(views.done)
        found = shown(flow.request, flow)
        assert found[0] == title
        assert text in found[1]
        assert flow.request.raw_content == compressed
        assert flow.request.headers["content-encoding"] == "snappy"
        flow.request.raw_content = b"\xff" * 20
        assert "[cannot decode]" in shown(flow.request, flow)[0]
        flow.request.raw_content = compressed
        stack.close()
        assert "[cannot decode]" in shown(flow.request, flow)[0]  # it is mitmproxy's own function again


def test_the_flow_in_focus_is_told_once_and_again_when_it_changes() -> None:
    told: list[str] = []

    def receive(message: tuple[str, str] | str, expire: int = 0) -> None:
        told.append(str(message))

    signals.status_message.connect(receive)
    line = FocusLine()
    with mitmproxy_with(View()) as context:
        context.master.addons.add(line)
        line.running()
        assert line.view is not None
        flow = asked()
        line.response(flow)
        flow.comment = "admitted"
        line.view.add([flow])
        for _ in range(2):
            line.response(flow)
        flow.comment = "refused"
        line.error(flow)
    assert told == ["admitted", "refused"]


# --- commands --------------------------------------------------------------------------------------------------------


def commands(in_force: InForce) -> DecisionCommands:
    lifecycle: Lifecycle = None  # type: ignore[assignment]
    return DecisionCommands(in_force, lifecycle)


def test_explain_tells_of_each_flow() -> None:
    decided, other = asked(), asked()
    decided.metadata[METADATA] = {"text": "admitted\nto the backend\n"}
    made = commands(configured().in_force)
    assert made.explain([decided, other]) == [
        "admitted", "to the backend", "", "the gateway took no decision on this flow"
    ]  # fmt: skip
    assert made.explain([]) == ["no flow is selected"]


def test_limits_are_told_with_what_is_used() -> None:
    state = configured()
    made = commands(state.in_force)
    assert made.limits() == ["no limits are enforced"]
    rule = Limit(type=LimitType.QUERIES, resolution=Resolution.MINUTE, value=7, tenant=None, total=True, labels=())
    state.change(limiter=Limiter([rule]))
    [line] = made.limits()
    assert "7" in line


def test_keys_and_a_token_are_told() -> None:
    lane = Lane(**{"auth.publicKeys": keys.pem(keys.rsa_key())})
    try:
        made = commands(lane.in_force)
        assert any("RS256" in line for line in made.key_list())
        told = "\n".join(made.token(f"Bearer {TOKEN}"))
        assert TOKEN.rpartition(".")[2] not in told
    finally:
        lane.close()
    with pytest.raises(CommandError):
        commands(InForce()).token(TOKEN)
