"""Headers of the flow lane's messages."""

from __future__ import annotations

from typing import Any

from mitmproxy.http import Headers

from vmgw_core.http import Headers as Fields


class FlowHeaders(Headers):
    """mitmproxy's headers, found in one pass: some twenty names of a request are looked up, most of which it lacks.

    mitmproxy converts and compares the name of each field in several calls.
    """

    checked: tuple[bytes, bytes, Fields] | None = None
    """Method, path and fields of the head that the core has checked, from a client on HTTP/1."""

    edited = False
    """Whether ``ResponseHeaders`` has edited them."""

    def __init__(self, fields: Fields = ()) -> None:
        self.fields = tuple(fields)

    def get_all(self, name: str | bytes) -> list[str]:
        wanted = (name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name).lower()
        return [value.decode("utf-8", "surrogateescape") for key, value in self.fields if key.lower() == wanted]

    def get(self, name: str | bytes, default: Any = None) -> Any:  # noqa: ANN401 - as in a Mapping
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str | bytes) and bool(self.get_all(name))

    def __bytes__(self) -> bytes:
        return b"".join([b"%b: %b\r\n" % field for field in self.fields])
