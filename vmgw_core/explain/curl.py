"""The requests that a curl command line sends, with the options that browsers, Grafana and documentation use.

Tests compare them with those of the real curl. What would change a request in a way that is not known here is refused.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, quote_plus, unquote

from vmgw_core.http import URLENCODED, Headers

from .curl_glob import GlobError, expand_url
from .curl_options import CurlError, Operation, read_operations

ReadFile = Callable[[str], bytes]
"""Returns the content of a file; ``-`` is the standard input. May raise ``OSError``."""

MAX_REQUESTS: Final = 20
"""The most requests of one command line."""

_DATA: Final = ("data", "data-ascii", "data-raw", "data-binary", "data-urlencode", "json")
_URL: Final = re.compile(r"(?i:(https?)://)?([^/?#]+)([^?#]*)(\?[^#]*)?")
_NOT_IN_A_URL: Final = re.compile(r"[\x00-\x20\x7f]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_PORTS: Final = {"http": ":80", "https": ":443"}
_CONTINUE: Final = 1 << 20
"""Bytes of a body for which curl waits for a 100 Continue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurlRequest:
    """The request that curl would send. ``body`` is None if there is none."""

    method: str
    target: str
    headers: Headers = field(repr=False)
    body: bytes | None = field(repr=False)


def parse_curl(words: Sequence[str], read_file: ReadFile) -> tuple[CurlRequest, ...]:
    """Parse the command line ``words``, which begin with ``curl``, into the requests that it sends.

    Raises ``CurlError`` if the command line is not curl's, has an unsupported option, or sends no request or more than
    ``MAX_REQUESTS``. What ``read_file`` raises is not caught.
    """
    requests: list[CurlRequest] = []
    for operation in read_operations(words):
        globbing = "globoff" not in operation.switches
        if operation.urls or not requests:
            requests += _requests(operation, globbing, MAX_REQUESTS - len(requests), read_file)
    return tuple(requests)


def _requests(operation: Operation, globbing: bool, at_most: int, read_file: ReadFile) -> Iterator[CurlRequest]:
    if not operation.urls:
        raise CurlError("there is no URL")
    try:
        urls = [each for url in operation.urls for each in (expand_url(url, at_most) if globbing else [url])]
    except GlobError as error:
        raise CurlError(str(error)) from None
    if len(urls) > at_most:
        raise CurlError(f"the command line sends more than {MAX_REQUESTS} requests, which are not explained")
    data = _body(operation, read_file)
    uploads = operation.values("upload-file")
    if uploads and (len(uploads) + len(operation.urls) > 2 or (globbing and re.search(r"[][{}]", uploads[0]))):
        raise CurlError("several uploads (-T) are not supported: give one file and one URL")
    if data is not None and "get" not in operation.switches and ("head" in operation.switches or uploads):
        raise CurlError("curl refuses a body (-d) together with -I or -T")
    headers = _given_headers(operation, read_file)
    upload = None if not uploads else read_file("-" if uploads[0] == "." else uploads[0])
    for url in urls:
        yield _request(url, operation, headers, data, upload, read_file)


def _request(
    url: str,
    operation: Operation,
    headers: Sequence[str],
    data: bytes | None,
    upload: bytes | None,
    read_file: ReadFile,
) -> CurlRequest:
    """Make one request; ``data`` is that of ``-d`` and its siblings, ``upload`` that of ``-T``."""
    if _NOT_IN_A_URL.search(url):
        raise CurlError("the URL has a space or a control character: curl refuses it")
    parts = _URL.match(url)
    if parts is None or ("://" in url.partition("?")[0] and not parts[1]):
        raise CurlError("the URL is not an http or https URL")
    scheme, (userinfo, _, host) = (parts[1] or "http").lower(), parts[2].rpartition("@")
    path, query = parts[3] or "/", parts[4] or ""
    if not host.isascii():
        raise CurlError("the host of the URL is not ASCII: write it in its xn-- form")
    path = path if "path-as-is" in operation.switches else _without_dots(path)
    if upload is not None and path.endswith("/"):
        path += quote(_file_name(operation), safe="", errors="surrogateescape")
    added = [_url_query(value, read_file) for value in operation.values("url-query")]
    body, method = upload, "GET" if upload is None else "PUT"
    if "get" in operation.switches:
        added = [data] if data is not None else added
    elif data is not None:
        body, method = data, "POST"
    if added:
        text = b"&".join(added).decode("utf-8", "surrogateescape")
        if _NOT_IN_A_URL.search(text):
            raise CurlError("an argument of the URL (-G, --url-query) has a space or a control character: encode it")
        query = (f"{query[1:]}&" if query[1:] else "") + text
        query = query and f"?{query}"
    if "head" in operation.switches:
        method = "HEAD"
    target = operation.last("request-target")
    method = method if (own := operation.last("request")) is None else own
    fields = _headers(host.removesuffix(":").removesuffix(_PORTS[scheme]), userinfo, operation, headers, body)
    return CurlRequest(
        method=method, target=_encoded(path) + query if target is None else target, headers=fields, body=body
    )


def _encoded(path: str) -> str:
    """Encode what is not ASCII, as curl does in a path and not in a query."""
    return _NOT_ASCII.sub(lambda match: quote(match[0], errors="surrogateescape"), path)


def _file_name(operation: Operation) -> str:
    name = operation.values("upload-file")[0].rpartition("/")[2]
    return "" if name in ("-", ".") else name


# --- headers -------------------------------------------------------------------------------------------------------


def _given_headers(operation: Operation, read_file: ReadFile) -> list[str]:
    """Return the lines of ``-H``, in their order, those of files too."""
    lines: list[str] = []
    for value in operation.values("header"):
        if value.startswith("@"):
            text = read_file(value[1:]).decode("utf-8", "surrogateescape")
            lines += filter(None, re.split(r"[\r\n]+", text))
        else:
            lines.append(value)
    if operation.values("json"):
        for name in ("Content-Type", "Accept"):
            if not _is_given(name, lines):
                lines.append(f"{name}: application/json")
    return lines


def _is_given(name: str, lines: Sequence[str]) -> bool:
    """Whether a line is for the header: curl then leaves out its own."""
    starts = (f"{name.lower()}:", f"{name.lower()};")
    return any(line.lower().startswith(starts) for line in lines)


def _headers(
    host: str, userinfo: str, operation: Operation, lines: Sequence[str], body: bytes | None
) -> tuple[tuple[bytes, bytes], ...]:
    own = [("Host", host), *_own_headers(userinfo, operation)]
    if body is not None:
        stream = any(re.match(r"(?i)transfer-encoding:.*chunked", line) for line in lines)
        upload = operation.values("upload-file")
        if upload[:1] in (["-"], ["."]):
            own.append(("Transfer-Encoding", "chunked"))
        elif not stream:
            own.append(("Content-Length", str(len(body))))
        if not upload:
            own.append(("Content-Type", URLENCODED))
        if upload or len(body) > _CONTINUE:
            own.append(("Expect", "100-continue"))
    fields = [(name, value) for name, value in own if not _is_given(name, lines)]
    hosts = 0
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon and line.find(";") == len(line) - 1:  # "Name;" sends it empty
            name = line[:-1]
        elif not value.strip(" \t"):  # "Name:" removes a header; others are not sent
            continue
        hosts += name.lower() == "host"
        if name and (name.lower() != "host" or hosts == 1):
            fields.append((name, value.strip(" \t")))
    return tuple(
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")) for name, value in fields
    )


def _own_headers(userinfo: str, operation: Operation) -> Iterator[tuple[str, str]]:
    """Yield the headers that curl makes of options and of the name and password in the URL."""
    credentials, bearer = operation.last("user"), operation.last("oauth2-bearer")
    if bearer is not None:
        yield "Authorization", f"Bearer {bearer}"
    elif credentials is not None or userinfo:
        if credentials is None:
            name, _, password = (unquote(part, errors="surrogateescape") for part in userinfo.partition(":"))
            credentials = f"{name}:{password}"
        elif ":" not in credentials:
            raise CurlError("curl asks for the password of -u: give it as in -u NAME:PASSWORD")
        encoded = credentials.encode("utf-8", "surrogateescape")
        yield "Authorization", f"Basic {b64encode(encoded).decode()}"
    agent = operation.last("user-agent")
    if agent != "":
        yield "User-Agent", "curl" if agent is None else agent
    yield "Accept", "*/*"
    if "compressed" in operation.switches:
        yield "Accept-Encoding", "deflate, gzip, br, zstd"
    if referer := (operation.last("referer") or "").removesuffix(";auto"):
        yield "Referer", referer
    if cookies := [value for value in operation.values("cookie") if value]:
        if any("=" not in value or value.startswith("@") for value in cookies):
            raise CurlError("files of cookies (-b FILE) are not read: give the cookies as in -b NAME=VALUE")
        yield "Cookie", ";".join(cookies)
    if (span := operation.last("range")) is not None:
        if operation.values(*_DATA, "upload-file"):
            raise CurlError("a range (-r) of a body is not supported")
        yield "Range", f"bytes={span if '-' in span else f'{span}-'}"


# --- bodies --------------------------------------------------------------------------------------------------------


def _body(operation: Operation, read_file: ReadFile) -> bytes | None:
    """Return what ``-d`` and its siblings make together; None if there are none of them."""
    body: bytes | None = None
    for option, value in operation.options:
        if option in _DATA:
            joined = b"" if body is None else body + (b"" if option == "json" else b"&")
            body = joined + _data(option, value, read_file)
    return body


def _data(option: str, value: str, read_file: ReadFile) -> bytes:
    """Return the bytes that a data option adds to the body."""
    if option == "data-urlencode":
        return _urlencoded(value, read_file)
    if option == "data-raw" or not value.startswith("@"):
        return value.encode("utf-8", "surrogateescape")
    content = read_file(value[1:])
    return content if option in ("data-binary", "json") else content.translate(None, b"\r\n\0")


def _url_query(value: str, read_file: ReadFile) -> bytes:
    return value[1:].encode("utf-8", "surrogateescape") if value.startswith("+") else _urlencoded(value, read_file)


def _urlencoded(value: str, read_file: ReadFile) -> bytes:
    """Encode one of ``content``, ``=content``, ``name=content``, ``@file`` and ``name@file``."""
    sign = "=" if "=" in value else "@"
    name, found, text = value.partition(sign)
    if not found:
        name, text = "", value
    content = read_file(text) if found == "@" else text.encode("utf-8", "surrogateescape")
    encoded = quote_plus(content)
    return f"{name}={encoded}".encode("utf-8", "surrogateescape") if name else encoded.encode()


def _without_dots(path: str) -> str:
    """Remove dot segments (RFC 3986, section 5.2.4), as curl does without ``--path-as-is``."""
    kept: list[str] = []
    segments = path.split("/")
    for index, segment in enumerate(segments):
        if segment in (".", ".."):
            if segment == ".." and len(kept) > 1:
                kept.pop()
            if index == len(segments) - 1:
                kept.append("")
        else:
            kept.append(segment)
    return "/".join(kept)
