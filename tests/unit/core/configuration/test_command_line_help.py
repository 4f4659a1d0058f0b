"""The same flags as mitmproxy options, and the help text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest

from tests.support.each import each
from vmgw_core.configuration.command_line import help_text, parse, settings_from_options
from vmgw_core.configuration.flag import Flag, Kind
from vmgw_core.configuration.settings import Settings
from vmgw_core.configuration.table import BY_NAME, FLAGS, option_name, settings_of, value_of
from vmgw_core.configuration.values import Value
from vmgw_core.errors import ConfigurationError

DEFAULTS: Mapping[str, object] = {flag.name: flag.default for flag in FLAGS}
SUFFIXES = "Supports the following optional suffixes for size values: KB, MB, GB, TB, KiB, MiB, GiB, TiB"
URL = "http://localhost:8428"
PEM = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCg\n-----END PUBLIC KEY-----\n"

# --- mitmproxy's options -------------------------------------------------------------------------------------------


def option_default(flag: Flag) -> object:
    if flag.kind in (Kind.BOOL, Kind.INT):
        return flag.default
    return list(flag.default) if isinstance(flag.default, tuple) else flag.default_text


def from_options(**changes: object) -> Settings:
    options = {option_name(flag): option_default(flag) for flag in FLAGS} | changes
    return settings_from_options(options.__getitem__)


def test_options_at_their_defaults_are_the_defaults() -> None:
    assert from_options() == Settings()


@each(
    ("option", "value", "name", "parsed"),
    [
        ("vmgw_enable_auth", True, "enable.auth", True),
        ("vmgw_metrics_max_tenants", 0, "metrics.maxTenants", 0),
        ("vmgw_read_url", [URL, "a,b"], "read.url", (URL, "a", "b")),
        ("vmgw_datasource_url", URL, "datasource.url", URL),
        ("vmgw_max_form_size", "1KB", "maxFormSize", 1000),
        ("vmgw_http_shutdown_delay", "2m", "http.shutdownDelay", 120.0),
        ("vmgw_auth_public_key_files", ["a,b", "'c,d'"], "auth.publicKeyFiles", ("a", "b", "c,d")),
        ("vmgw_auth_public_keys", (PEM, f"`{PEM}`"), "auth.publicKeys", (PEM, PEM)),
    ],
)
def test_options_accept(option: str, value: object, name: str, parsed: Value) -> None:
    settings = from_options(**{option: value})
    assert settings == settings_of({name: parsed})
    assert type(value_of(BY_NAME[name], settings)) is type(parsed)


@each(
    ("option", "value", "name", "reason"),
    [
        (
            "vmgw_http_shutdown_delay",
            "soon",
            "http.shutdownDelay",
            'expected a duration such as 5s or 1m30s, got "soon"',
        ),
        ("vmgw_metrics_max_tenants", -1, "metrics.maxTenants", 'expected at least 0, got "-1"'),
        (
            "vmgw_metrics_max_tenants",
            True,
            "metrics.maxTenants",
            "expected an integer such as 10, got a value of type bool",
        ),
        ("vmgw_enable_auth", "true", "enable.auth", "expected true or false, got a value of type str"),
        ("vmgw_enable_auth", None, "enable.auth", "expected true or false, got a value of type NoneType"),
        ("vmgw_datasource_url", None, "datasource.url", "expected a string, got a value of type NoneType"),
        ("vmgw_auth_public_keys", "a", "auth.publicKeys", "expected a list of strings, got a value of type str"),
        ("vmgw_auth_public_keys", [1], "auth.publicKeys", "expected a list of strings, got a value of type list"),
    ],
)
def test_options_reject(option: str, value: object, name: str, reason: str) -> None:
    message = f"flag -{name} (option {option}): {reason}"
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        from_options(**{option: value})


def test_options_cannot_be_changed_afterwards() -> None:
    with pytest.raises(TypeError):
        from_options()["eula"] = True  # type: ignore[index]


# --- help ----------------------------------------------------------------------------------------------------------


def words(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())


def test_help_names_every_flag_and_option_under_its_group() -> None:
    group = ""
    text = help_text()
    for flag in FLAGS:
        word = "" if flag.kind is Kind.BOOL else f" {flag.kind.value}"
        assert f" -{flag.name}{word} ({option_name(flag)}) " in words(text)
        if flag.group != group:
            group = flag.group
            assert f"\n{group}:\n  -{flag.name}{word} (" in text


def test_help_fits_a_terminal() -> None:
    lines = help_text([("Name", "x " * 60)], [("explain", "x " * 60)]).splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_help_starts_with_usage_and_examples() -> None:
    text = help_text()
    assert text.startswith("Usage: vmgateway ")
    first, second, third = examples()
    assert first == f"vmgateway -enable.auth -auth.publicKeyFiles=public.pem -read.url={URL} -write.url={URL}"
    assert " -clusterMode -auth.jwksEndpoints=" in second
    assert third == (
        f"mitmdump -s addons/vmgateway.py --mode reverse:{URL}@8431 --set vmgw_enable_auth=true "
        "--set vmgw_auth_public_key_files=public.pem"
    )


def examples() -> list[str]:
    block = help_text().partition("Examples:\n")[2].partition("\n\n")[0]
    return [" ".join(line.split()) for line in block.replace("\\\n", "").splitlines()]


def test_examples_of_the_help_work() -> None:
    *own, mitmdump = [line.split() for line in examples()]
    assert len(own) == 2
    for _, *argv in own:
        assert parse(argv, {}).settings.enable_auth is True
    options = [argument.partition("=")[0] for argument in mitmdump if argument.startswith("vmgw_")]
    assert len(options) == 2
    assert set(options) < {option_name(flag) for flag in FLAGS}


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (
            "-httpListenAddr string (vmgw_http_listen_addr)",
            (
                "TCP address to listen on, as host:port or :port. With mitmdump, mitmproxy and mitmweb --mode, "
                '--listen-host and --listen-port may give it. (default ":8431")'
            ),
        ),
        (
            "-backend.connectTimeout duration (vmgw_backend_connect_timeout)",
            "How long a connection to a backend may take. (default 5s)",
        ),
        (
            "-auth.publicKeyFiles array (vmgw_auth_public_key_files)",
            (
                "PEM files with public keys that verify tokens. "
                "Supports an array of values separated by comma or specified via multiple flags."
            ),
        ),
        (
            "-maxFormSize size (vmgw_max_form_size)",
            f"A form on a read route that is larger is answered 413. {SUFFIXES} (default 16MiB)",
        ),
        ("-dryRun (vmgw_dry_run)", "Check flags, files and keys, then exit."),
    ],
)
def test_help_of_a_kind(head: str, text: str) -> None:
    after = help_text().partition(f"\n  {head}\n")[2]
    block = [line for line in after.partition("\n  -")[0].splitlines() if line]
    assert words(" ".join(block)) == text
    assert all(line.startswith("        ") for line in block)


@pytest.mark.parametrize(
    ("addons", "section"),
    [
        ([], ""),
        (
            [("AccessControl", "Checks the token."), ("Explain", "Says why.")],
            "\nAddons:\n  AccessControl  Checks the token.\n  Explain        Says why.\n",
        ),
    ],
)
def test_help_lists_addons(addons: Sequence[tuple[str, str]], section: str) -> None:
    assert help_text(addons) == help_text() + section
    assert ("Addons:" in help_text(addons)) is bool(addons)
    assert help_text().endswith(".\n")


def test_help_lists_sub_commands_before_the_flags() -> None:
    text = help_text((), [("explain", "Tell why."), ("token", "Make tokens.")])
    section = (
        "\nSub-commands (vmgateway NAME --help tells more):\n"
        "  vmgateway explain  Tell why.\n"
        "  vmgateway token    Make tokens.\n"
    )
    assert text.replace(section, "") == help_text()
