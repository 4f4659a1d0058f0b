"""The options of curl, and the command line split into them.

https://curl.se/docs/manpage.html. Options that would change the request in a way that is not known here are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import printable

_SHORT: Final = {
    "H": "header", "X": "request", "d": "data", "b": "cookie", "A": "user-agent", "e": "referer", "u": "user",
    "G": "get", "I": "head", "F": "form", "T": "upload-file", "K": "config", "o": "output", "m": "max-time",
    "x": "proxy", "U": "proxy-user", "w": "write-out", "E": "cert", "c": "cookie-jar", "s": "silent",
    "S": "show-error", "v": "verbose", "i": "include", "k": "insecure", "L": "location", "f": "fail", "g": "globoff",
    "N": "no-buffer", "q": "disable", "#": "progress-bar", "4": "ipv4", "6": "ipv6", "O": "remote-name",
    "D": "dump-header", "r": "range", "0": "http1.0", "1": "tlsv1", "J": "remote-header-name", "R": "remote-time",
    "Z": "parallel", "j": "junk-session-cookies", "y": "speed-time", "Y": "speed-limit", "p": "proxytunnel",
    ":": "next",
}  # fmt: skip

_USED: Final = frozenset((
    "header", "request", "data", "data-ascii", "data-raw", "data-binary", "data-urlencode", "json", "cookie",
    "user-agent", "referer", "user", "url", "url-query", "range", "oauth2-bearer", "upload-file", "request-target",
))  # fmt: skip

_IGNORED: Final = frozenset((
    "alt-svc", "cacert", "capath", "cert", "cert-type", "ciphers", "connect-timeout", "connect-to", "cookie-jar",
    "crlfile", "curves", "dns-interface", "dns-servers", "doh-url", "dump-header", "engine", "etag-save",
    "expect100-timeout", "happy-eyeballs-timeout-ms", "hsts", "interface", "keepalive-time", "key", "key-type",
    "limit-rate", "local-port", "max-filesize", "max-redirs", "max-time", "noproxy", "output", "output-dir",
    "parallel-max", "pass", "pinnedpubkey", "preproxy", "proto", "proto-redir", "proxy", "proxy-cacert",
    "proxy-header", "proxy-user", "rate", "resolve", "retry", "retry-delay", "retry-max-time", "socks4", "socks4a",
    "socks5", "socks5-hostname", "speed-limit", "speed-time", "stderr", "tls-max", "tls13-ciphers", "trace",
    "trace-ascii", "unix-socket", "write-out",
))  # fmt: skip
"""Options with a value that changes the connection or the output, but not the request."""

_REFUSED: Final = {
    "form": "multipart forms (-F) are not supported: use --data-urlencode",
    "form-string": "multipart forms (--form-string) are not supported: use --data-urlencode",
    "config": "configuration files (-K) are not supported: give their options in the command line",
}

_SWITCHES: Final = frozenset((
    "basic", "compressed", "create-dirs", "disable", "fail", "fail-early", "fail-with-body", "get", "globoff", "head",
    "http0.9", "http1.0", "http1.1", "http2", "http2-prior-knowledge", "http3", "http3-only", "include", "insecure",
    "ipv4", "ipv6", "junk-session-cookies", "location", "location-trusted", "no-buffer", "no-keepalive",
    "no-progress-meter", "no-sessionid", "parallel", "parallel-immediate", "path-as-is", "progress-bar",
    "proxytunnel", "proxy-insecure", "raw", "remote-header-name", "remote-name", "remote-name-all", "remote-time",
    "retry-all-errors", "retry-connrefused", "show-error", "silent", "ssl-no-revoke", "styled-output", "tcp-fastopen",
    "tcp-nodelay", "tlsv1", "tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3", "trace-time", "verbose",
))  # fmt: skip


class CurlError(ValueError):
    """A command line without clear requests. The message names the option and no value."""


@dataclass(slots=True)
class Operation:
    """What stands between two ``--next``: options with values in their order, switches, and URLs."""

    options: list[tuple[str, str]] = field(default_factory=list, repr=False)
    switches: set[str] = field(default_factory=set)
    urls: list[str] = field(default_factory=list)

    def values(self, *names: str) -> list[str]:
        return [value for name, value in self.options if name in names]

    def last(self, name: str) -> str | None:
        return next(reversed(self.values(name)), None)


def read_operations(words: Sequence[str]) -> list[Operation]:
    """Split the command line ``words``, which begin with ``curl``. Raises ``CurlError``."""
    found = [Operation()]
    for name, value in _options(words):
        if name == "next":
            if found[-1].urls:  # curl goes on with the options of an operation without a URL
                found.append(Operation())
        elif name == "url":
            found[-1].urls.append(value)
        elif name in _SWITCHES:
            found[-1].switches.add(name)
        elif name.removeprefix("no-") in _SWITCHES:
            found[-1].switches.discard(name.removeprefix("no-"))
        elif name in _USED:
            found[-1].options.append((name, value))
    return found


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option by its long name, with its value; other arguments are a ``url``."""
    rest = iter(words)
    if next(rest, "").rpartition("/")[2] != "curl":
        raise CurlError("the command line does not begin with curl")
    for word in rest:
        if word == "--":
            yield from (("url", each) for each in rest)
        elif word.startswith("--"):
            yield _long(word[2:], f"--{word[2:]}", rest)
        elif word.startswith("-"):
            yield from _cluster(word[1:], rest)
        else:
            yield "url", word


def _long(name: str, option: str, rest: Iterator[str]) -> tuple[str, str]:
    if name in _REFUSED:
        raise CurlError(_REFUSED[name])
    if name == "next" or name in _SWITCHES or (name.startswith("no-") and name[3:] in _SWITCHES):
        return name, ""
    if name in _USED or name in _IGNORED:
        return name, _following(option, rest)
    known, equals, _ = name.partition("=")
    if equals and known in _USED | _IGNORED | _SWITCHES:
        raise CurlError(f"curl does not know --{known}=VALUE: write --{known} VALUE")
    raise CurlError(f"the curl option --{printable(known, 40)} is not supported")


def _cluster(letters: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Split ``-sS`` and ``-XPOST``: the first option that takes a value gets the rest."""
    for index, letter in enumerate(letters):
        name = _SHORT.get(letter)
        if name is None:
            raise CurlError(f"the curl option -{printable(letter)} is not supported")
        left = iter((letters[index + 1 :],)) if letters[index + 1 :] else rest
        yield _long(name, f"-{letter}", left)
        if name not in _SWITCHES and name != "next":
            return
    if not letters:
        raise CurlError("the curl option - is not supported")


def _following(option: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise CurlError(f"the value of {option} is missing")
    return value
