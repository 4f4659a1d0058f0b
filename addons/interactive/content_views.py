"""Content views for bodies of VictoriaMetrics' protocols, on mitmproxy 11 and 12.

mitmproxy 12 has a new interface for views (``Contentview``); mitmproxy 11 only has the old one (``View``). Each view is
written once, as a function, and wrapped for the interface at hand.

mitmproxy does not know snappy, and titles such bodies "[cannot decode]". So its function that shows a message gets a
copy whose body is decoded. The message itself stays as it is: what is saved, exported and sent again is the client's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from mitmproxy import contentviews
from mitmproxy.flow import Flow
from mitmproxy.http import Message, Request

from vmgw_core.explain import unverified_lines

from .body_text import at_most, decompress, json_lines, opentelemetry, remote_write
from .marks import story_lines

IS_NEW: Final = hasattr(contentviews, "Contentview")
"""mitmproxy 12 or later."""
_SHOW: Final = "prettify_message" if IS_NEW else "get_message_content_view"
"""The function of ``contentviews`` by which all of mitmproxy's programs show a message."""


@dataclass(frozen=True, slots=True)
class About:
    """What is known about a body; any of it may be missing."""

    content_type: str
    encoding: str
    path: str
    is_request: bool
    flow: Flow | None


@dataclass(frozen=True, slots=True)
class GatewayView:
    """A view: its name in menus, whether it is the default for a body, and the lines it shows."""

    name: str
    fits: Callable[[bytes, About], bool]
    lines: Callable[[bytes, About], Iterable[str]]

    def priority(self, data: bytes, about: About) -> float:
        """Return 2 for the default view, which exceeds mitmproxy's own views, else -1."""
        return 2 if data and self.fits(data, about) else -1

    def text(self, data: bytes, about: About) -> str:
        """Return the text. Raises ``ValueError`` if the body is something else."""
        return "\n".join(at_most(self.lines(data, about)))


def _otlp(about: About) -> bool:
    return about.is_request and "/opentelemetry/" in about.path


def _jwt(data: bytes) -> bool:
    return data.startswith(b"eyJ") and data.count(b".") == 2 and len(data) < 20_000


def _story(data: bytes, about: About) -> list[str]:
    story = story_lines(about.flow) if about.flow is not None else None
    if story is None:
        raise ValueError("the gateway took no decision on this flow")
    return story


VIEWS: Final = (
    GatewayView(
        "Remote write",
        lambda data, about: about.is_request and "protobuf" in about.content_type and not _otlp(about),
        lambda data, about: remote_write(decompress(data, about.encoding)),
    ),
    GatewayView(
        "OpenTelemetry metrics",
        lambda data, about: _otlp(about) and "json" not in about.content_type,
        lambda data, about: opentelemetry(decompress(data, about.encoding)),
    ),
    GatewayView(
        "JSON lines",
        lambda data, about: (
            data.lstrip()[:1] == b"{"
            and (about.path.endswith(("/api/v1/import", "/api/v1/export")) or "stream+json" in about.content_type)
        ),
        lambda data, about: json_lines(decompress(data, about.encoding)),
    ),
    GatewayView(
        "JWT",
        lambda data, about: _jwt(data.strip()),
        lambda data, about: unverified_lines(data.decode("latin-1").strip()),
    ),
    GatewayView("vmgateway", lambda data, about: False, _story),
)


class ContentViews:
    """Registers the views, and shows bodies in snappy decoded."""

    def __init__(self) -> None:
        self.views: list[Any] = [NewView(view) if IS_NEW else _old_view(view) for view in VIEWS]
        self.show: Callable[..., Any] = vars(contentviews)[_SHOW]

    def load(self, loader: object) -> None:
        for view in self.views:
            contentviews.add(view)
        vars(contentviews)[_SHOW] = self.show_decoded

    def show_decoded(self, *arguments: object, **options: object) -> Any:  # noqa: ANN401
        """Show a message as mitmproxy does, with its body decoded if that is in snappy."""
        return self.show(*map(_without_snappy, arguments), **options)

    def done(self) -> None:
        """Remove the views: mitmproxy 11 refuses a second view of the same name when the script is loaded again."""
        vars(contentviews)[_SHOW] = self.show
        for view in [] if IS_NEW else self.views:
            vars(contentviews)["remove"](view)


def _without_snappy(argument: object) -> object:
    """Return a copy of a message in snappy, with its body decoded; anything else as it is."""
    if not isinstance(argument, Message) or argument.raw_content is None:
        return argument
    if argument.headers.get("content-encoding", "").strip().lower() != "snappy":
        return argument
    try:
        decoded = decompress(argument.raw_content, "snappy")
    except ValueError:
        return argument  # "[cannot decode]" is true then
    message = argument.copy()
    del message.headers["content-encoding"]
    message.data.content = decoded
    return message


def _about(content_type: str | None, message: object, flow: Flow | None) -> About:
    headers: Any = getattr(message, "headers", {})
    request = getattr(flow, "request", None)
    return About(
        content_type=(content_type or headers.get("content-type", "")).lower(),
        encoding=headers.get("content-encoding", ""),
        path=str(getattr(request, "path", "")).partition("?")[0],
        is_request=isinstance(message, Request),
        flow=flow,
    )


def _old_view(view: GatewayView) -> Any:  # noqa: ANN401
    """For mitmproxy 11."""

    def call(self: object, data: bytes, **metadata: Any) -> Any:  # noqa: ANN401
        try:
            lines = view.text(data, _about_old(metadata)).splitlines()
        except ValueError:
            return None  # mitmproxy shows the body as it is
        return view.name, ([("text", line)] for line in lines)

    def render_priority(self: object, data: bytes, **metadata: Any) -> float:  # noqa: ANN401
        return view.priority(data, _about_old(metadata))

    base: Any = vars(contentviews)["View"]
    return type(view.name, (base,), {"name": view.name, "__call__": call, "render_priority": render_priority})()


def _about_old(metadata: dict[str, Any]) -> About:
    return _about(metadata.get("content_type"), metadata.get("http_message"), metadata.get("flow"))


if IS_NEW:

    class NewView(contentviews.Contentview):
        """For mitmproxy 12."""

        def __init__(self, view: GatewayView) -> None:
            self.view = view

        @property
        def name(self) -> str:
            return self.view.name

        def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
            return self.view.text(data, _about(metadata.content_type, metadata.http_message, metadata.flow))

        def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
            return self.view.priority(data, _about(metadata.content_type, metadata.http_message, metadata.flow))
