"""HTTP/2 on the client's side: mitmproxy's, with an early limit on frames, and with every reset."""

from __future__ import annotations

from typing import Final

import h2.errors
import h2.events
from mitmproxy.proxy.context import Context

from vmgw_addons._mitmproxy import Http2Server, StreamState, events, layer

_PREFACE_SIZE: Final = 24  # bytes, RFC 9113, section 3.4
_HEADER_SIZE: Final = 9  # bytes, section 4.1


class FrameSizes:
    """Follows the headers of incoming frames, to find one that is too large before its payload arrives."""

    def __init__(self) -> None:
        self._skip = _PREFACE_SIZE
        self._header = b""

    def fit(self, data: bytes, limit: int) -> bool:
        """Whether every frame that begins in ``data`` has at most ``limit`` bytes."""
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
            else:
                step = _HEADER_SIZE - len(self._header)
                self._header += data[position : position + step]
            position += step
            if len(self._header) == _HEADER_SIZE:
                self._skip, self._header = int.from_bytes(self._header[:3], "big"), b""
                if self._skip > limit:
                    return False
        return True


class GatewayHttp2Server(Http2Server):
    """Refuses a large frame at once, and passes every reset on.

    h2 buffers a whole frame, up to 16 MiB, before it checks the size. mitmproxy forgets a request whose reset comes
    together with its end, and does all of its work.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sizes = FrameSizes()

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            limit = self.h2_conn.max_inbound_frame_size
            if not self.sizes.fit(event.data, limit):
                yield from self.protocol_error(
                    f"a frame of more than {limit} bytes", h2.errors.ErrorCodes.FRAME_SIZE_ERROR
                )
                return
        yield from super()._handle_event(event)

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        if isinstance(event, h2.events.StreamReset):
            self.streams.setdefault(event.stream_id, StreamState.HEADERS_RECEIVED)
        return (yield from super().handle_h2_event(event))
