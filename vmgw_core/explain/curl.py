"""A parser of curl command lines, with the options that browsers, Grafana and documentation use.

https://curl.se/docs/manpage.html. Unknown options that would change the request are refused, so that the explained
request is the one that curl would send.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from vmgw_core.base import printable
from vmgw_core.http import URLENCODED, Headers

ReadFile = Callable[[str], bytes]

_SHORT: Final = {
    "H": "header", "X": "request", "d": "data", "b": "cookie", "A": "user-agent", "e": "referer", "u": "user",
    "G": "get", "I": "head", "F": "form", "T": "upload-file", "K": "config", "o": "output", "m": "max-time",
    "x": "proxy", "w": "write-out", "E": "cert", "c": "cookie-jar", "s": "silent", "S": "show-error", "v": "verbose",
    "i": "include", "k": "insecure", "L": "location", "f": "fail", "g": "globoff", "N": "no-buffer", "q": "disable",
    "#": "progress-bar", "4": "ipv4", "6": "ipv6", "O": "remote-name", "D": "dump-header", "r": "range",
}  # fmt: skip
_USED: Final = frozenset((
    "header", "request", "data", "data-ascii", "data-raw", "data-binary", "data-urlencode", "json", "cookie",
    "user-agent", "referer", "user", "url", "range", "oauth2-bearer", "form", "form-string", "upload-file", "config",
))  # fmt: skip
_IGNORED: Final = frozenset((
    "output", "max-time", "proxy", "write-out", "cert", "cookie-jar", "dump-header", "connect-timeout", "resolve",
    "connect-to", "cacert", "capath", "key", "retry", "retry-delay", "noproxy", "interface", "ciphers",
))  # fmt: skip
_REFUSED: Final = {
    "form": "multipart forms (-F) are not supported: use --data-urlencode",
    "form-string": "multipart forms are not supported: use --data-urlencode",
    "upload-file": "uploads (-T) are not supported: use --data-binary @FILE with -X PUT",
    "config": "configuration files (-K) are not supported: give their options in the command line",
}
_SWITCHES: Final = frozenset((
    "get", "head", "silent", "show-error", "verbose", "include", "insecure", "location", "fail", "globoff",
    "no-buffer", "disable", "progress-bar", "ipv4", "ipv6", "remote-name", "compressed", "path-as-is", "http1.0",
    "http1.1", "http2", "http2-prior-knowledge", "http3", "fail-with-body", "no-progress-meter", "no-keepalive",
    "tlsv1.2", "tlsv1.3", "location-trusted", "tcp-nodelay",
))  # fmt: skip


class CurlError(ValueError):
    """A command line without one clear request. The message names the option and no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurlRequest:
    """The request that curl would send. ``body`` is None if there is none."""

    method: str
    target: str
    headers: Headers = field(repr=False)
    body: bytes | None = field(repr=False)


def parse_curl(words: Sequence[str], read_file: ReadFile) -> CurlRequest:
    """Parse the command line ``words``, which begin with ``curl``.

    ``read_file``: returns the content of a file that ``@name`` names; may raise ``OSError``. Raises ``CurlError`` if
    the command line is not curl's, or has an unsupported option.
    """
    options: list[tuple[str, str]] = []
    switches: set[str] = set()
    urls: list[str] = []
    for name, value in _options(words):
        if name in _REFUSED:
            raise CurlError(_REFUSED[name])
        if name in _SWITCHES:
            switches.add(name)
        elif name == "url":
            urls.append(value)
        else:
            options.append((name, value))
    if len(urls) != 1:
        raise CurlError(f"expected one URL, got {len(urls)}")
    return _request(urls[0], options, switches, read_file)


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option by its long name, with its value; other arguments are a ``url``."""
    rest = iter(words)
    if next(rest, "").rpartition("/")[2] != "curl":
        raise CurlError("the command line does not begin with curl")
    for word in rest:
        if word.startswith("--"):
            yield _long(word[2:], rest)
        elif word.startswith("-") and len(word) > 1:
            yield from _cluster(word[1:], rest)
        else:
            yield "url", word


def _long(name: str, rest: Iterator[str]) -> tuple[str, str]:
    if name in _SWITCHES:
        return name, ""
    if name in _USED or name in _IGNORED:
        return name, _following(f"--{name}", rest)
    raise CurlError(f"the curl option --{printable(name, 40)} is not supported")


def _cluster(letters: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Split ``-sS`` and ``-XPOST``: the first option that takes a value gets the rest."""
    for index, letter in enumerate(letters):
        name = _SHORT.get(letter)
        if name is None:
            raise CurlError(f"the curl option -{letter} is not supported")
        if name not in _SWITCHES:
            yield name, letters[index + 1 :] or _following(f"-{letter}", rest)
            return
        yield name, ""


def _following(option: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise CurlError(f"the value of {option} is missing")
    return value


def _request(url: str, options: Sequence[tuple[str, str]], switches: set[str], read_file: ReadFile) -> CurlRequest:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise CurlError("the URL is not an http or https URL")
    host = parts.netloc.rpartition("@")[2]
    path = parts.path if "path-as-is" in switches else _without_dots(parts.path)
    query = parts.query
    pieces = [piece for name, value in options if (piece := _data(name, value, read_file)) is not None]
    body = b"&".join(pieces) if pieces else None
    if any(name == "json" for name, _ in options):
        body = b"".join(pieces)
    method = "HEAD" if "head" in switches else "GET"
    if "get" in switches and body is not None:
        query = "&".join(filter(None, (query, body.decode("utf-8", "surrogateescape"))))
        body = None
    elif body is not None:
        method = "POST"
    method = next((value for name, value in reversed(options) if name == "request"), method)
    target = (path or "/") + (f"?{query}" if query else "")
    headers = _headers(host, parts.netloc, options, body)
    return CurlRequest(method=method, target=target, headers=headers, body=body)


def _headers(host: str, netloc: str, options: Sequence[tuple[str, str]], body: bytes | None) -> Headers:
    values = dict(options)
    defaults = {"Host": host, "User-Agent": values.get("user-agent", "curl"), "Accept": "*/*"}
    credentials = values.get("user") or unquote(netloc.rpartition("@")[0])
    if credentials:
        defaults["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    if "oauth2-bearer" in values:
        defaults["Authorization"] = f"Bearer {values['oauth2-bearer']}"
    if "cookie" in values:
        defaults["Cookie"] = values["cookie"]
    if "referer" in values:
        defaults["Referer"] = values["referer"]
    if "range" in values:
        defaults["Range"] = f"bytes={values['range']}"
    if "json" in values:
        defaults |= {"Content-Type": "application/json", "Accept": "application/json"}
    elif body is not None:
        defaults["Content-Type"] = URLENCODED
    own: list[tuple[str, str]] = []
    for line in (value for name, value in options if name == "header"):
        name, colon, value = line.partition(":")
        if not colon:
            name, colon, value = line.removesuffix(";"), ";" if line.endswith(";") else "", ""
            if not colon:
                raise CurlError("a header (-H) has no colon")
        elif not value.strip():  # "Name:" removes a header, "Name;" sends it empty
            defaults = {key: kept for key, kept in defaults.items() if key.lower() != name.strip().lower()}
            continue
        own.append((name.strip(), value.strip()))
    given = {name.lower() for name, _ in own}
    fields = [(name, value) for name, value in defaults.items() if name.lower() not in given] + own
    if body is not None and "content-length" not in given and "transfer-encoding" not in given:
        fields.append(("Content-Length", str(len(body))))
    return tuple(
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")) for name, value in fields
    )


def _data(option: str, value: str, read_file: ReadFile) -> bytes | None:
    """Return the bytes that a data option adds to the body; None for other options."""
    raw = value.encode("utf-8", "surrogateescape")
    if option == "data-raw":
        return raw
    if option in ("data", "data-ascii", "data-binary", "json"):
        if not value.startswith("@"):
            return raw
        content = read_file(value[1:])
        return content if option in ("data-binary", "json") else content.translate(None, b"\r\n\0")
    if option != "data-urlencode":
        return None
    # name=content, =content, content, name@file, @file: the first of the two signs counts.
    index = next((index for index, char in enumerate(value) if char in "=@"), None)
    if index is None:
        return quote(raw, safe="").encode()
    name, content = value[:index], value[index + 1 :].encode("utf-8", "surrogateescape")
    if value[index] == "@":
        content = read_file(value[index + 1 :])
    encoded = quote(content, safe="").encode()
    return f"{name}=".encode() + encoded if name else encoded


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
