"""The one table of flags.

Everything that names a flag is generated from it: the command line, the environment, mitmproxy's options,
``-help`` and the README's table.

Rules of this file:

- Names, defaults and meanings are those of the specification, heading "Configuration"; the help is our own words.
- A flag is in the table when it takes effect, or says in ``effect`` why it is accepted without one.
- The default goes through the same parser as a user's value, when this module is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from vmgw_core import flagtypes
from vmgw_core.flagtypes import Value


class Kind(Enum):
    """The type of a flag; the value is the word that help shows for it."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STRING = "string"
    DURATION = "duration"
    SIZE = "size"
    ARRAY = "array"

    @property
    def expected(self) -> str:
        """What a value of this kind looks like, for errors that must not show the one they got."""
        return _EXPECTED[self]


BOOL, INT, FLOAT, STRING = Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.STRING
DURATION, SIZE, ARRAY = Kind.DURATION, Kind.SIZE, Kind.ARRAY

_PARSERS: Final[Mapping[Kind, Callable[[str], Value]]] = {
    Kind.BOOL: flagtypes.parse_bool,
    Kind.INT: flagtypes.parse_int,
    Kind.FLOAT: flagtypes.parse_float,
    Kind.STRING: flagtypes.parse_string,
    Kind.DURATION: flagtypes.parse_duration,
    Kind.SIZE: flagtypes.parse_size,
    Kind.ARRAY: flagtypes.parse_array,
}

_EXPECTED: Final[Mapping[Kind, str]] = {
    Kind.BOOL: flagtypes.A_BOOL,
    Kind.INT: flagtypes.AN_INT,
    Kind.FLOAT: flagtypes.A_FLOAT,
    Kind.STRING: "a string",
    Kind.DURATION: flagtypes.A_DURATION,
    Kind.SIZE: flagtypes.A_SIZE,
    Kind.ARRAY: "a list of strings",
}


# Rows of a table: the first four columns are positional, so that one flag stays on one or two lines.
@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of the program."""

    name: str
    kind: Kind
    default_text: str
    """The default as help shows it."""
    help: str
    group: str = field(default="", kw_only=True)
    """The heading it is listed under."""
    secret: bool = field(default=False, kw_only=True)
    """The value holds credentials: it is never shown."""
    effect: str = field(default="", kw_only=True)
    """Empty, or the reason why the flag is accepted without effect."""
    least: str = field(default="", kw_only=True)
    """The smallest value that makes sense, for numbers; empty if every value of the kind does."""
    default: Value = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "default", self.parse(self.default_text))

    def parse(self, text: str, *, hidden: bool = False) -> Value:
        """The value that ``text`` means, or a ``ValueError`` with a short reason.

        The reason does not show the text of a secret flag, nor of any flag when ``hidden`` is set.
        """
        try:
            return self._parsed(text)
        except ValueError as error:
            reason = str(error)
        if hidden or self.secret:
            reason = f"expected {self.kind.expected}" + (f", at least {self.least}" if self.least else "")
        raise ValueError(reason)

    def _parsed(self, text: str) -> Value:
        parser = _PARSERS[self.kind]
        value = parser(text)
        if self.least:
            least = parser(self.least)
            assert isinstance(value, int | float)
            assert isinstance(least, int | float)
            if value < least:
                raise flagtypes.refused(f"at least {self.least}", text)
        return value


def _group(title: str, *flags: Flag) -> tuple[Flag, ...]:
    return tuple(replace(flag, group=title) for flag in flags)


def _backend(side: str, served: str, example: str) -> tuple[Flag, ...]:
    return (
        Flag(f"{side}.url", STRING, "", f"Address of the backend for {served}, http or https, such as {example}. "
             f"Credentials in it become Basic auth. Without it, {served} are refused.", secret=True),
        Flag(f"{side}.tlsCAFile", STRING, "", f"File with the CA certificates that verify -{side}.url; "
             "by default those of the system."),
        Flag(f"{side}.tlsCertFile", STRING, "", f"File with the client certificate shown to -{side}.url."),
        Flag(f"{side}.tlsKeyFile", STRING, "", f"File with the private key of -{side}.tlsCertFile."),
        Flag(f"{side}.tlsServerName", STRING, "", f"Server name asked for and verified at -{side}.url; "
             "by default the host in it."),
        Flag(f"{side}.tlsInsecureSkipVerify", BOOL, "false", f"Do not verify the certificate of -{side}.url."),
    )  # fmt: skip


FLAGS: Final[tuple[Flag, ...]] = (
    *_group(
        "Access control",
        Flag("enable.auth", BOOL, "false", "Demand a valid JSON Web Token with every request."),
        Flag("auth.httpHeader", STRING, "Authorization", "Request header that carries the token."),
        Flag("auth.httpHeaderAllowWithoutPrefix", BOOL, "false", "Accept a token without 'Bearer ' in front of it."),
        Flag("auth.publicKeyFiles", ARRAY, "", "PEM files with public keys that verify tokens."),
        Flag("auth.publicKeys", ARRAY, "", "Public keys that verify tokens, as PEM text."),
        Flag("auth.jwksEndpoints", ARRAY, "", "URLs of JSON Web Key Sets with keys that verify tokens."),
        Flag("auth.oidcDiscoveryEndpoints", ARRAY, "", "URLs of OpenID Connect discovery documents. The keys they "
             "lead to verify only tokens of the issuer they name."),
        Flag("auth.keysRefreshInterval", DURATION, "5m", "How often the keys of -auth.jwksEndpoints and "
             "-auth.oidcDiscoveryEndpoints are fetched again.", least="1s"),
        Flag("logInvalidAuthTokens", BOOL, "false", "Log why a token was refused, and tell the client."),
    ),
    *_group(
        "Backends",
        *_backend("read", "reads", "http://vmselect:8481"),
        *_backend("write", "writes", "http://vminsert:8480"),
        Flag("clusterMode", BOOL, "false", "The backends are a VictoriaMetrics cluster: requests go to the tenant's "
             "paths there."),
        Flag("backend.connectTimeout", DURATION, "5s", "How long a connection to a backend may take.", least="1ms"),
        Flag("backend.responseTimeout", DURATION, "5m", "How long a backend may take from the whole request sent to "
             "the head of its answer; then the client gets 504.", least="1ms"),
    ),
    *_group(
        "Rate limiting",
        Flag("enable.rateLimit", BOOL, "false", "Hold tenants to the limits of -ratelimit.config. Without -enable.auth "
             "this needs -clusterMode: clients then name their tenant in the path, and nobody checks that it is "
             "theirs."),
        Flag("ratelimit.config", STRING, "", "File with the limits, or its http or https URL.", secret=True),
        Flag("ratelimit.configCheckInterval", DURATION, "0s", "How often -ratelimit.config is read again; with 0 only "
             "on SIGHUP and /-/reload. A bad file keeps the limits in force.", least="0s"),
        Flag("ratelimit.failClosed", BOOL, "false", "Answer 503 where -datasource.url has given no usage for "
             "-ratelimit.maxUsageAge, rather than hold to what is known."),
        Flag("ratelimit.maxUsageAge", DURATION, "1m", "How old the usage from -datasource.url may become with "
             "-ratelimit.failClosed.", least="1s"),
        Flag("ratelimit.maxTenants", INT, "10000", "For how many tenants usage is kept. One that was active within "
             "the hour is never forgotten: beyond that many a new tenant is answered 429.", least="1"),
    ),
    *_group(
        "Listener",
        Flag("httpListenAddr", STRING, ":8431", "TCP address to listen on, as host:port or :port."),
        Flag("enableTCP6", BOOL, "false", "Use IPv6 as well as IPv4, to listen and to connect."),
        Flag("http.maxHeadSize", SIZE, "64KiB", "A request whose request line and headers are larger is answered 431.",
             least="1KiB"),
        Flag("maxFormSize", SIZE, "16MiB", "A form on a read route that is larger is answered 413."),
        Flag("http.shutdownDelay", DURATION, "0s", "How long /health answers 503 before a shutdown begins, so that "
             "load balancers can turn away first."),
        Flag("http.maxGracefulShutdownDuration", DURATION, "7s", "How long requests in flight may take to end in a "
             "shutdown."),
    ),
    *_group(
        "Metrics",
        Flag("metrics.maxTenants", INT, "1000", "How many tenants have metrics of their own; the rest are counted "
             'together as "other".', least="0"),
    ),
    *_group(
        "Capture",
        Flag("capture.file", STRING, "", "File to append captured requests to, for vmgateway replay and mitmproxy: "
             "what the client sent, the decision and the answer. Signatures of tokens, cookies, credentials and "
             "passwords are taken out first."),
        Flag("capture.filter", STRING, "", "Capture only what this mitmproxy filter expression matches, such as "
             "~u /api/v1/write."),
        Flag("capture.sampleRate", FLOAT, "1", "The share of requests that is captured, above 0 and up to 1."),
        Flag("capture.maxBodySize", SIZE, "64KiB", "A larger body is left out of the capture."),
        Flag("capture.maxFileSize", SIZE, "1GiB", "The capture stops before its file becomes larger.", least="1KiB"),
    ),
    *_group(
        "Program",
        Flag("dryRun", BOOL, "false", "Check flags, files and keys, then exit."),
        Flag("envflag.enable", BOOL, "false", "Read flags from environment variables too: the variable is the name "
             "with underscores for dots. The command line wins."),
        Flag("envflag.prefix", STRING, "", "What the variables of -envflag.enable begin with."),
        Flag("version", BOOL, "false", "Show the version, then exit."),
    ),
    *_group(
        "Deprecated",
        Flag("eula", BOOL, "false", "Was the consent to a license agreement.",
             effect="this is open software, there is nothing to accept"),
    ),
)  # fmt: skip

BY_NAME: Final[Mapping[str, Flag]] = {flag.name: flag for flag in FLAGS}

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def option_name(flag: Flag) -> str:
    """The mitmproxy option of a flag: ``vmgw_`` and the name in snake case, an acronym counting as one word."""
    return "vmgw_" + _WORD_START.sub("_", flag.name).replace(".", "_").lower()


def variable_name(flag: Flag, prefix: str = "") -> str:
    """The environment variable of a flag: VictoriaMetrics changes dots to underscores and nothing else."""
    return prefix + flag.name.replace(".", "_")


def description(flag: Flag) -> str:
    """The help of a flag, with the reason where it has no effect."""
    return f"{flag.help} Accepted without effect: {flag.effect}." if flag.effect else flag.help


def markdown_table() -> str:
    """The table of all flags for the README, in the order of `FLAGS`, with a newline at its end."""
    lines = ["| Flag | Type | Default | What it does |", "|---|---|---|---|"]
    for flag in FLAGS:
        default = f"`{flag.default_text}`" if flag.default_text else ""
        text = description(flag).replace("|", "\\|")
        lines.append(f"| `-{flag.name}` | {flag.kind.value} | {default} | {text} |")
    return "\n".join(lines) + "\n"
