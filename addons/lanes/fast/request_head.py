"""From the bytes of a head to the value that the core decides on.

The core checks every byte, llhttp takes the head apart. A client sends the same headers over and over, so what was
checked and taken apart once is not done again for the very same bytes.
"""

from __future__ import annotations

import httptools

from vmgw_core.errors import BadRequest
from vmgw_core.http import Headers, HeadLimits, RequestHead, check_head, check_request_line, facts_of


class HeadReader:
    """Reads the heads of one connection.

    ``old`` and ``keep_alive`` are of the head read last: whether it is HTTP/1.0, and whether the client wants the
    connection to stay (RFC 9112, section 9.3).
    """

    __slots__ = ("_facts", "_fields", "_found", "_headers", "_parser", "keep_alive", "old")

    def __init__(self) -> None:
        self.old = False
        self.keep_alive = False
        self._fields = b""
        self._headers: Headers = ()
        self._facts = facts_of(())
        self._found: list[tuple[bytes, bytes]] = []
        self._parser: httptools.HttpRequestParser | None = None

    def read(self, head: bytes, limits: HeadLimits, client: str) -> RequestHead:
        """The request that the complete ``head`` is. Raises ``BadRequest``, ``TargetTooLong`` and ``HeadTooLarge``."""
        # The version, which says what the headers mean, and all that follows.
        fields = head[head.index(b"\r\n") - 8 :]
        if fields == self._fields:
            line = check_request_line(head, limits)
        else:
            line = check_head(head, limits)
            self._fields = b""
            self._take_apart(fields)
            self._fields, self.old = fields, line.old
        return RequestHead(line.method, line.target, self._headers, client, self._facts)

    def _take_apart(self, fields: bytes) -> None:
        """Have llhttp read the headers. The request line is the core's: llhttp knows but a fixed list of methods."""
        self._found = []
        self.keep_alive = False
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(b"GET / " + fields)
        except httptools.HttpParserUpgrade:
            pass  # the head is complete; nothing is upgraded
        except httptools.HttpParserError:
            raise BadRequest("the request is not valid HTTP") from None
        finally:
            self._parser = None
        self._headers = tuple(self._found)
        self._facts = facts_of(self._headers)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp."""
        self._found.append((name, value.rstrip(b" \t")))  # llhttp takes blanks off the front only

    def on_headers_complete(self) -> None:
        """Called by llhttp, which forgets what it was told of the connection when the message ends."""
        assert self._parser is not None
        self.keep_alive = self._parser.should_keep_alive()
