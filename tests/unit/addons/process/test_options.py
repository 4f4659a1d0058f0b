"""The gateway's options as mitmproxy gives them: converted before mitmproxy does it, and never ignored."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy.options import Options

from tests.support.each import each
from vmgw_addons.process.options import OPTION_TYPES, check_unknown, convert_deferred, default_of
from vmgw_core.configuration import FLAGS, option_name
from vmgw_core.errors import ConfigurationError


def given(*texts: str, **from_file: object) -> Options:
    """Options as mitmproxy has them before it loads a script: of ``--set``, then of a file."""
    options = Options()
    options.set(*texts, defer=True)
    options.update_defer(**from_file)
    return options


def converted(options: Options) -> dict[str, Any]:
    convert_deferred(options)
    for flag in FLAGS:
        options.add_option(option_name(flag), OPTION_TYPES.get(flag.kind, str), default_of(flag), flag.help)
    options.process_deferred()  # mitmproxy takes every value
    return {name: option.current() for name, option in options.items() if option.has_changed()}


@each(
    ("options", "name", "value"),
    [
        (given("vmgw_tls=true"), "vmgw_tls", True),
        (given("vmgw_tls"), "vmgw_tls", True),
        (given("vmgw_tls="), "vmgw_tls", True),
        (given("vmgw_tls=T"), "vmgw_tls", True),
        (given(vmgw_tls=True), "vmgw_tls", True),
        (given(vmgw_tls="true"), "vmgw_tls", True),
        (given("vmgw_workers=0x2"), "vmgw_workers", 2),
        (given(vmgw_workers=2), "vmgw_workers", 2),
        (given(vmgw_workers="2"), "vmgw_workers", 2),
        (given("vmgw_read_url=a,b", "vmgw_read_url=c"), "vmgw_read_url", ["a,b", "c"]),
        (given(vmgw_read_url="a"), "vmgw_read_url", ["a"]),
        (given(vmgw_read_url=["a", "b"]), "vmgw_read_url", ["a", "b"]),
        (given("vmgw_fail_timeout=4s"), "vmgw_fail_timeout", "4s"),
        (given(vmgw_fail_timeout=4), "vmgw_fail_timeout", "4"),
        (given(vmgw_fail_timeout=0.5), "vmgw_fail_timeout", "0.5"),
        (given(vmgw_max_form_size=100), "vmgw_max_form_size", "100"),
        (given("vmgw_lane=flow"), "vmgw_lane", "flow"),
        (given("vmgw_lane=a", vmgw_lane="b"), "vmgw_lane", "b"),
    ],
)
def test_accepts(options: Options, name: str, value: object) -> None:
    assert converted(options) == {name: value}


@each(
    ("options", "message"),
    [
        (given("vmgw_tls=maybe"), 'flag -tls (option vmgw_tls): expected true or false, got "maybe"'),
        (given("vmgw_tls=toggle"), "expected true or false"),
        (given("vmgw_tls=true", "vmgw_tls=false"), "it is given more than once"),
        (given("vmgw_workers"), "the value (int) is missing"),
        (given("vmgw_workers=0"), "expected at least 1"),
        (given(vmgw_workers=True), "expected an integer such as 10, got a value of type bool"),
        (given(vmgw_workers=1.5), "expected an integer"),
        (given(vmgw_workers=None), "got a value of type NoneType"),
        (given(vmgw_read_url=["http://a", 1]), "expected a list of strings, one is of type int"),
        (given(vmgw_read_url={"a": 1}), "expected a list of strings, got a value of type dict"),
        (given(vmgw_read_url=[1]), "expected a list of strings"),
        (given(vmgw_lane=1), "expected a string, got a value of type int"),
        (given(vmgw_fail_timeout=-1), "expected a duration"),
        (given("vmgw_tsl=true"), "unknown option vmgw_tsl: did you mean vmgw_tls?"),
        (given("vmgw-tls=true"), "unknown option vmgw-tls: did you mean vmgw_tls?"),
        (given("Vmgw_tls=true"), "unknown option Vmgw_tls: did you mean vmgw_tls?"),
        (given("vmgwx=\n"), "unknown option vmgwx: "),
        (given(vmgw_=1), "unknown option vmgw_: "),
    ],
)
def test_rejects(options: Options, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        convert_deferred(options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_it_says_which_flags_were_given_even_with_their_default() -> None:
    assert convert_deferred(given("vmgw_http_listen_addr=:8431", "own=1")) == {"httpListenAddr"}


def test_a_secret_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as raised:
        convert_deferred(given(vmgw_datasource_bearer_token=["tellnobody"]))
    assert "tellnobody" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["vmwg_enable_auth", "enable_auth", "enable.auth", "auth.publicKeyFiles", "httpAuth.password"]
)
def test_what_resembles_an_option_is_not_ignored(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown option {name}: did you mean vmgw_"):
        check_unknown(given(f"{name}=a"))


@pytest.mark.parametrize("name", ["own", "own_option", "auth", "log"])
def test_options_of_others_are_theirs(name: str) -> None:
    check_unknown(given(f"{name}=a"))
