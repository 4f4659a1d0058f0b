"""Strict parsing of request heads.

Rules of this file:
- what two parsers could read differently is refused (RFC 9112, sections 2.2, 3, 5 and 6), never repaired, but for one
  head of one client (:func:`mend`);
- only origin-form targets pass (RFC 9112, section 3.2.1): the gateway is not a forward proxy;
- every check takes linear time, so a hostile head costs no more than a long one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vmgw_core.base import Value
from vmgw_core.errors import HeadTooLarge, MalformedHead, TargetTooLong

from .headers import HeaderFacts, Headers, facts_of, values_of


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """The largest head: ``size`` and ``line`` (the request line) in bytes, ``fields`` as a number of headers."""

    size: int = 64 * 1024
    line: int = 32 * 1024
    fields: int = 200


class RequestLine(Value):
    """The first line of a request: ``old`` is HTTP/1.0, ``size`` is in bytes, with the line break."""

    __slots__ = ("method", "old", "size", "target")

    def __init__(self, method: str, target: str, old: bool, size: int) -> None:
        self.method = method
        self.target = target
        self.old = old
        self.size = size

    def fields(self) -> tuple[str, str, bool, int]:
        return self.method, self.target, self.old, self.size


END_OF_HEAD: Final = b"\r\n\r\n"

_DEFAULT_LIMITS: Final = HeadLimits()
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*+")
_BARE: Final = re.compile(rb"(?<!\r)\n|\0")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# RFC 9112, section 3: method SP request-target SP HTTP-version. A fragment never belongs on the wire, and CONNECT takes
# no path (section 3.2.3).
_REQUEST_LINE: Final = re.compile(rb"((?!(?i:CONNECT) )" + _TOKEN + rb") (/[!-\"$-~]*+) HTTP/1\.([01])\r\n")
# RFC 9112, section 5: no space before the colon, no folding, no control character other than a tab in a value.
_FIELDS: Final = re.compile(rb"(?:" + _TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+\r\n")
_BARE_BASIC: Final = re.compile(
    rb"(\r\nAuthorization:) (Basic [A-Za-z0-9+/]++=*+)\n(?=Content-(?:Type|Encoding): [ -~]*+\r\n)"
)
# Zeros before a length and a tab after a value are legal, but parsers differ on them, so they are refused.
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*+(0|[1-9][0-9]{0,17})[ ]*+\r\n")
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*+chunked[ ]*+\r\n")


class RequestHead(Value):
    """The parts of a request that decisions need.

    ``certificate`` is what the client's verified certificate says (``-mtls``), for the policy to judge.
    ``target`` is the origin-form target as sent; ``client`` the address of the peer, without its port. ``facts`` is
    what follows from the headers.
    """

    __slots__ = ("certificate", "client", "facts", "headers", "method", "path", "query", "target")

    def __init__(
        self, method: str, target: str, headers: Headers, client: str, facts: HeaderFacts | None = None
    ) -> None:
        self.certificate: object = None
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition("?")
        """The target before and after its first question mark."""
        self.headers = headers
        self.client = client
        self.facts = facts_of(headers) if facts is None else facts

    def with_headers(self, headers: Headers) -> RequestHead:
        """Return the same head with other headers."""
        head = RequestHead(method=self.method, target=self.target, headers=headers, client=self.client)
        head.certificate = self.certificate
        return head

    def fields(self) -> tuple[str, str, Headers, str]:
        return self.method, self.target, self.headers, self.client

    def values(self, name: bytes) -> list[bytes]:
        """Return all values of the header ``name`` (given in lower case), in order, without surrounding blanks."""
        return values_of(self.headers, name)

    @property
    def content_length(self) -> int | None:
        """The announced length of the content in bytes, or None.

        Raises:
            MalformedHead: there are several, or it is not a number. Only a head of HTTP/1 has passed
                :func:`check_head`.
        """
        if self.facts.bad_length:
            raise MalformedHead("the Content-Length is not one number of bytes")
        return self.facts.content_length

    @property
    def has_body(self) -> bool:
        """Whether the framing announces content (RFC 9112, section 6.3). Chunked counts, even if it ends empty.

        Raises:
            MalformedHead: see ``content_length``.
        """
        if self.facts.bad_length:
            raise MalformedHead("the Content-Length is not one number of bytes")
        return self.facts.has_body

    @property
    def awaits_continue(self) -> bool:
        """Whether the client waits for a 100 before it sends the body (RFC 9110, section 10.1.1)."""
        return self.facts.awaits_continue


def skip_empty_lines(received: bytes) -> int:
    """Return the bytes of empty lines before the head, which are ignored (RFC 9112, section 2.2)."""
    lines = _EMPTY_LINES.match(received)
    return 0 if lines is None else lines.end()


def find_head(received: bytes, max_size: int, seen: int = 0) -> int:
    """Return the length in bytes of the complete head that ``received`` begins with, or 0 if it is incomplete.

    Args:
        seen: the bytes of ``received`` that an earlier call has searched.

    Raises:
        HeadTooLarge: the head is, or can only become, larger than ``max_size`` bytes.
        MalformedHead: the bytes can no longer become a head that :func:`check_head` accepts.
    """
    end = received.find(END_OF_HEAD, max(0, seen - len(END_OF_HEAD)), max_size)
    if end < 0:
        if len(received) >= max_size:
            raise HeadTooLarge(f"the request line and headers are larger than {max_size} bytes")
        if _BARE.search(received, seen):
            raise MalformedHead("the request head has a bare line feed or a NUL")
        return 0
    return end + len(END_OF_HEAD)


def mend(received: bytes) -> bytes:
    """Return ``received`` with the line break that Netdata (up to 1.37) leaves incomplete after Basic credentials.

    A parser that takes the bare line feed for a part of the value misses the content's type or coding, but neither its
    length nor another credential. The result has the same length: a space before the credentials is left out.
    """
    return _BARE_BASIC.sub(rb"\1\2\r\n", received, count=1)


def check_head(head: bytes, limits: HeadLimits = _DEFAULT_LIMITS) -> RequestLine:
    """Check a complete head, with the empty line at its end, and return its first line.

    Raises:
        MalformedHead: the head is not exactly one unambiguous HTTP/1.x request head.
        TargetTooLong: the request line is longer than ``limits.line``.
        HeadTooLarge: there are more headers than ``limits.fields``.
    """
    line = check_request_line(head, limits)
    # The request line and the empty line at the end are no headers.
    if head.count(b"\n") - 2 > limits.fields:
        raise HeadTooLarge(f"the request has more than {limits.fields} headers")
    if _FIELDS.fullmatch(head, line.size) is None:
        raise MalformedHead("a header is not of the form Name: value, or holds a control character")
    lowered = head.lower()
    hosts = lowered.count(b"\r\nhost:")
    if hosts > 1 or (hosts == 0 and not line.old):
        raise MalformedHead("exactly one Host header is needed")
    _check_framing(lowered, line.old)
    return line


def check_fields(head: RequestHead, limits: HeadLimits = _DEFAULT_LIMITS) -> None:
    """Check a request that was not received as HTTP/1.1, such as one of HTTP/2, as the HTTP/1.1 request it becomes.

    Raises:
        MalformedHead: the HTTP/1.1 request would be ambiguous.
        TargetTooLong, HeadTooLarge: see :func:`check_head`.
    """
    lines = [f"{head.method} {head.target} HTTP/1.1".encode("utf-8", "surrogateescape"), b"Host: host"]
    lines += [b"%b: %b" % field for field in head.headers if field[0].lower() != b"host"]
    written = b"\r\n".join([*lines, b"", b""])
    if written.count(b"\n") != len(lines) + 1:
        raise MalformedHead("a header has a line break")  # it would become two
    check_head(written, limits)


def check_request_line(head: bytes, limits: HeadLimits = _DEFAULT_LIMITS) -> RequestLine:
    """Return the first line of a complete head.

    Raises:
        MalformedHead: it is malformed, or not HTTP/1.0 or 1.1.
        TargetTooLong: it is longer than ``limits.line``.
    """
    if len(head) > limits.line and head.find(b"\r\n") > limits.line:
        raise TargetTooLong(f"the request line is longer than {limits.line} bytes")
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise MalformedHead("the request line is not of the form METHOD /path HTTP/1.1")
    method, target, minor = line.groups()
    return RequestLine(method.decode("ascii"), target.decode("ascii"), minor == b"0", line.end())


def _check_framing(lowered: bytes, old: bool) -> None:
    """Check for one Content-Length of digits, or one Transfer-Encoding of ``chunked`` (RFC 9112, section 6)."""
    lengths = lowered.count(b"\r\ncontent-length:")
    codings = lowered.count(b"\r\ntransfer-encoding:")
    if lengths and codings:
        raise MalformedHead("the request has both Content-Length and Transfer-Encoding")
    if lengths > 1 or codings > 1:
        raise MalformedHead("the request has more than one Content-Length or Transfer-Encoding header")
    if lengths and _LENGTH.search(lowered) is None:
        raise MalformedHead("the Content-Length is not a number of bytes")
    if codings and (old or _CHUNKED.search(lowered) is None):
        raise MalformedHead("the Transfer-Encoding is not chunked, or the request is HTTP/1.0")
