"""The page of flags: nothing secret on it, and all else is what the command line takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.configuration.command_line import parse
from vmgw_core.configuration.flag import Flag, Kind
from vmgw_core.configuration.page import flags_page, format_duration, shown
from vmgw_core.configuration.table import BY_NAME, FLAGS
from vmgw_core.configuration.values import parse_duration


@each(
    ("argument", "line"),
    [
        ("-enable.auth", '-enable.auth="true"'),
        ("-dryRun=0", '-dryRun="false"'),
        ("-http.shutdownDelay=90s", '-http.shutdownDelay="1m30s"'),
        ("-maxFormSize=1KiB", '-maxFormSize="1024"'),
        ("-metrics.maxTenants=7", '-metrics.maxTenants="7"'),
        ("-memory.allowedPercent=2.5", '-memory.allowedPercent="2.5"'),
        ("-auth.httpHeader=A\nB", '-auth.httpHeader="A\\nB"'),
        ("-read.url=http://user:pass@host:1/path", '-read.url="http://host:1/path"'),
        ("-read.url=http://[::1]:1", '-read.url="http://[::1]:1"'),
        ("-read.url=pass", '-read.url="secret"'),
        ("-read.url=http://[broken", '-read.url="secret"'),
        ("-auth.jwksEndpoints=https://u:pass@a/k?key=pass#pass,b", '-auth.jwksEndpoints="https://a/k,b"'),
        ("-pushmetrics.url=http://u:pass@a/b,http://c", '-pushmetrics.url="http://a/b,http://c"'),
        ("-pushmetrics.header=Authorization: pass", '-pushmetrics.header="secret"'),
        ("-ratelimit.config=/etc/limits.yaml", '-ratelimit.config="/etc/limits.yaml"'),
        ("-ratelimit.config=http://u:pass@a/b?c=pass", '-ratelimit.config="http://a/b"'),
        ("-metricsAuthKey=file:///pass", '-metricsAuthKey="secret"'),
        ("-metricsAuthKey=pass", '-metricsAuthKey="secret"'),
        ("-datasource.bearerToken=", '-datasource.bearerToken=""'),
    ],
)
def test_a_line(argument: str, line: str) -> None:
    page = flags_page(parse([argument], {}).settings)
    assert f"\n{line}\n" in f"\n{page}"
    assert "pass" not in re.sub(r"-[\w.]*[pP]ass\w*=", "", page)  # names of flags aside


def test_every_flag_is_there_in_the_order_of_names() -> None:
    lines = flags_page(parse([], {}).settings).splitlines()
    assert [line.partition("=")[0] for line in lines] == sorted(f"-{flag.name}" for flag in FLAGS)


def test_passwords_and_keys_are_secret_flags() -> None:
    """A name that speaks of a secret, and is not of a file or a public key, is one."""
    names = {flag.name for flag in FLAGS if re.search(r"password$|AuthKey|[Tt]oken$|[Ss]ecret$|license$", flag.name)}
    assert names >= {"httpAuth.password", "metricsAuthKey", "flagsAuthKey", "pprofAuthKey", "license"}
    assert {name for name in names if not BY_NAME[name].secret} == set()


@each("flag", [flag for flag in FLAGS if not flag.secret], ids=lambda flag: flag.name)
def test_what_is_shown_means_the_same(flag: Flag) -> None:
    assert flag.parse(shown(flag, flag.default)) == flag.default


@given(st.floats(min_value=0, max_value=1e9))
def test_a_duration_is_read_as_it_was(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "0.25s"),
        (60, "1m"),
        (3600, "1h"),
        (86400, "1d"),
        (90061.5, "1d1h1m1.5s"),
        (1e-9, "0.000000001s"),
    ],
)
def test_a_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_url_in_any_other_flag_loses_its_credentials_too() -> None:
    flag = Flag("x.config", Kind.STRING, "", "Help.")
    assert shown(flag, "http://user:pass@host/limits.yaml") == "http://host/limits.yaml"
    assert shown(flag, "/etc/limits.yaml") == "/etc/limits.yaml"
