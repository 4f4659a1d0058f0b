"""A flag that would have no effect is a mistake, whichever it is."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.support.each import each
from vmgw_core.configuration import BY_NAME, Kind, Settings, check_given, check_needs, parse
from vmgw_core.configuration.needs import NEEDS, NEVER_EMPTY
from vmgw_core.configuration.table import settings_of
from vmgw_core.configuration.values import Value
from vmgw_core.errors import ConfigurationError

ALONE: Final = frozenset(
    [
        "enable.auth",
        "traces.endpoint",
        "queryLog",
        "enable.rateLimit",
        "read.url",
        "write.url",
        "clusterMode",
        "backend.connectTimeout",
        "backend.responseTimeout",
        "failTimeout",
        "maxConcurrentRequests",
        "maxConcurrentPerTenant",
        "lane",
        "queryLog",
        "shadow.flags",
        "shadow.ratelimitConfig",
        "workers",
        "httpListenAddr",
        "enableTCP6",
        "httpListenAddr.reusePort",
        "httpListenAddr.useProxyProtocol",
        "tls",
        "http.maxHeadSize",
        "http.maxRequestLine",
        "http.maxHeaders",
        "http.headTimeout",
        "http.bodyTimeout",
        "http.idleConnTimeout",
        "http.connTimeout",
        "http.disableKeepAlive",
        "http.maxConnections",
        "http.maxChunkLine",
        "http.maxPipelined",
        "maxFormSize",
        "http.shutdownDelay",
        "http.maxGracefulShutdownDuration",
        "http.pathPrefix",
        "http.header.hsts",
        "http.header.csp",
        "http.header.frameOptions",
        "http.disableResponseCompression",
        "http.disableCORS",
        "httpAuth.username",
        "metricsAuthKey",
        "reloadAuthKey",
        "flagsAuthKey",
        "pprofAuthKey",
        "metrics.maxTenants",
        "pushmetrics.url",
        "accessLog",
        "loggerFormat",
        "loggerLevel",
        "loggerOutput",
        "loggerTimezone",
        "loggerDisableTimestamps",
        "loggerErrorsPerSecondLimit",
        "loggerWarnsPerSecondLimit",
        "loggerMaxArgLen",
        "capture.file",
        "capture.maxBodySize",
        "dryRun",
        "envflag.enable",
        "version",
    ]
)
"""Flags that have an effect by themselves."""


def other_value(name: str, text: str = "") -> Value:
    """A value that is not the default; of a text, ``text``."""
    flag = BY_NAME[name]
    match flag.kind:
        case Kind.BOOL:
            return not flag.default
        case Kind.STRING:
            return text or "x"
        case Kind.ARRAY:
            return (text or "x",)
    assert isinstance(flag.default, int | float)
    return flag.default + 1


def with_need(values: dict[str, Value], need: str) -> None:
    """Set what is needed, and what that needs."""
    name, _, text = need.partition("=")
    values[name] = other_value(name, text)
    if BY_NAME[name].kind is Kind.BOOL:
        values[name] = True
    for need in NEEDS.get(name, ())[:1]:
        with_need(values, need)


def test_every_flag_has_been_thought_of() -> None:
    effective = {name for name, flag in BY_NAME.items() if not flag.effect}
    assert ALONE.isdisjoint(NEEDS)
    assert effective - ALONE - set(NEEDS) == set()
    assert (ALONE | set(NEEDS)) - effective == set()


@each("name", NEEDS)
def test_a_flag_without_the_one_it_needs_is_refused_and_with_each_of_them_taken(name: str) -> None:
    values: dict[str, Value] = {}
    if "write.checkLabelNames" in NEEDS[name]:  # which is on by default
        values = {"write.checkLabelNames": False, "write.url": ("x",)}
    with pytest.raises(
        ConfigurationError, match=rf"^-{name} has no effect without .*-{NEEDS[name][0].partition('=')[0]}"
    ):
        check_needs(settings_of({**values, name: other_value(name)}))
    for need in NEEDS[name]:
        values = {name: other_value(name)}
        with_need(values, need)
        check_needs(settings_of(values))


def test_the_default_needs_nothing() -> None:
    check_needs(Settings())
    check_needs(parse(["-tlsCertFile=", "-mtls=false", "-pushmetrics.interval=10s"], {}).settings)


@each(
    ("flags", "message"),
    [
        ("-tlsCertFile=/c", "-tlsCertFile has no effect without -tls"),
        ("-mtlsCAFile=/c -tls", "-mtlsCAFile has no effect without -mtls"),
        ("-mtls -mtlsCAFile=/c", "-mtls has no effect without -tls"),
        (
            "-read.url=http://vm -read.tlsCAFile=/ca",
            "-read.tlsCAFile has no effect without an https URL in -read.url",
        ),
        ("-write.tlsServerName=a", "-write.tlsServerName has no effect without an https URL in -write.url"),
        ("-enable.rateLimit -auth.publicKeyFiles=/k", "-auth.publicKeyFiles has no effect without -enable.auth"),
        ("-ratelimit.config=/l", "-ratelimit.config has no effect without -enable.rateLimit"),
        ("-enable.rateLimit -ratelimit.failClosed", "-ratelimit.failClosed has no effect without -datasource.url"),
        (
            "-maxQueueDuration=1s",
            " or ".join(
                (
                    "-maxQueueDuration has no effect without -maxConcurrentRequests",
                    "-maxConcurrentPerTenant",
                    "-enable.rateLimit",
                )
            ),
        ),
        ("-loggerJSONFields=ts:t", "-loggerJSONFields has no effect without -loggerFormat=json"),
        (
            "-maxConcurrentPerTenant=5 -maxConcurrentRequests=4",
            "-maxConcurrentPerTenant has no effect: it is above -maxConcurrentRequests",
        ),
        ("-http.maxRequestLine=65KiB", "-http.maxRequestLine has no effect: it is above -http.maxHeadSize"),
        ("-httpAuth.password=secret", "-httpAuth.password has no effect without -httpAuth.username"),
    ],
)  # fmt: skip
def test_the_message(flags: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_needs(parse(flags.split(), {}).settings)
    assert str(caught.value) == message


@pytest.mark.parametrize("url", ["https://vm", "HTTPS://vm"])
def test_one_https_url_of_several_is_enough(url: str) -> None:
    check_needs(parse([f"-read.url=http://a,{url}", "-read.tlsCAFile=/ca"], {}).settings)


@pytest.mark.parametrize("name", sorted(NEVER_EMPTY))
def test_a_check_is_not_switched_off_by_an_empty_value(name: str) -> None:
    """As by a variable of a shell that is unset: -auth.audience=$AUDIENCE."""
    message = f"^flag -{re.escape(name)}: the value is empty; leave the flag out if you do not want it$"
    with pytest.raises(ConfigurationError, match=message):
        parse([f"-{name}="], {})
    with pytest.raises(ConfigurationError, match=message):
        parse(["-envflag.enable"], {name.replace(".", "_"): ""})
    assert name in parse([f"-{name}=", "-help"], {}).given, "help is shown whatever else is wrong"
    parse([f"-{name}=", f"-{name}=a"], {})
    check_given(["enable.auth"], Settings())


@pytest.mark.parametrize(
    "flags",
    [
        "-maxConcurrentPerTenant=4 -maxConcurrentRequests=4",
        "-maxConcurrentPerTenant=5",
        "-http.maxRequestLine=64KiB",
        "-http.maxHeadSize=8KiB",
    ],
)
def test_a_limit_that_is_not_above_the_other_is_taken(flags: str) -> None:
    check_needs(parse(flags.split(), {}).settings)
