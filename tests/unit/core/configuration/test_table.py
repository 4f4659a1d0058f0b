"""The table of flags: what every row must satisfy, and what is generated from it."""

from __future__ import annotations

import pytest

from tests.support.each import each
from vmgw_core.configuration.flag import Flag, Kind
from vmgw_core.configuration.table import BY_NAME, FLAGS, description, markdown_table, option_name, variable_name


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(FLAGS)
    assert len({option_name(flag) for flag in FLAGS}) == len(FLAGS)
    assert len({variable_name(flag) for flag in FLAGS}) == len(FLAGS)


@each("flag", FLAGS, ids=lambda flag: flag.name)
def test_every_row(flag: Flag) -> None:
    assert flag.group
    assert flag.help.isprintable()
    assert flag.help.endswith(".")
    assert flag.default == flag.parse(flag.default_text)
    assert not flag.effect.endswith(".")
    assert not (flag.secret and flag.default), "the default of a secret would be shown"
    assert option_name(flag).removeprefix("vmgw_").replace("_", "").isalnum()
    assert option_name(flag).islower()


def test_groups_are_contiguous() -> None:
    """Headings of the help text come from neighbouring rows."""
    groups = [flag.group for flag in FLAGS]
    assert groups == sorted(groups, key=groups.index)


# The specification, heading "Configuration", and the additions of this program.
@each(
    ("name", "kind", "default"),
    [
        ("auth.httpHeader", Kind.ARRAY, ("Authorization",)),
        ("auth.httpHeaderAllowWithoutPrefix", Kind.BOOL, False),
        ("auth.jwksEndpoints", Kind.ARRAY, ()),
        ("auth.oidcDiscoveryEndpoints", Kind.ARRAY, ()),
        ("auth.publicKeyFiles", Kind.ARRAY, ()),
        ("auth.publicKeys", Kind.ARRAY, ()),
        ("auth.keysRefreshInterval", Kind.DURATION, 300.0),
        ("logInvalidAuthTokens", Kind.BOOL, False),
        ("clusterMode", Kind.BOOL, False),
        ("enable.auth", Kind.BOOL, False),
        ("eula", Kind.BOOL, False),
        ("httpListenAddr", Kind.STRING, ":8431"),
        ("enableTCP6", Kind.BOOL, False),
        ("http.maxHeadSize", Kind.SIZE, 65536),
        ("http.maxGracefulShutdownDuration", Kind.DURATION, 7.0),
        ("http.shutdownDelay", Kind.DURATION, 0.0),
        ("maxFormSize", Kind.SIZE, 16777216),
        ("backend.connectTimeout", Kind.DURATION, 5.0),
        ("backend.responseTimeout", Kind.DURATION, 300.0),
        ("failTimeout", Kind.DURATION, 3.0),
        ("metrics.maxTenants", Kind.INT, 1000),
        ("dryRun", Kind.BOOL, False),
        ("version", Kind.BOOL, False),
        ("envflag.enable", Kind.BOOL, False),
        ("envflag.prefix", Kind.STRING, ""),
        ("read.url", Kind.ARRAY, ()),
        ("write.url", Kind.ARRAY, ()),
        *((f"{side}.{name}", Kind.STRING, "") for side in ("read", "write") for name in (
            "tlsCAFile", "tlsCertFile", "tlsKeyFile", "tlsServerName")),
        ("read.tlsInsecureSkipVerify", Kind.BOOL, False),
        ("write.tlsInsecureSkipVerify", Kind.BOOL, False),
    ],
)  # fmt: skip
def test_documented_defaults(name: str, kind: Kind, default: object) -> None:
    flag = BY_NAME[name]
    assert flag.kind is kind
    assert flag.default == default
    assert type(flag.default) is type(default)


def test_urls_are_secret() -> None:
    assert {flag.name for flag in FLAGS if flag.secret} >= {"read.url", "write.url"}


@each(
    ("name", "option"),
    [
        ("auth.publicKeyFiles", "vmgw_auth_public_key_files"),
        ("enable.auth", "vmgw_enable_auth"),
        ("httpListenAddr", "vmgw_http_listen_addr"),
        ("read.tlsCAFile", "vmgw_read_tls_ca_file"),
        ("auth.jwksEndpoints", "vmgw_auth_jwks_endpoints"),
        ("auth.oidcDiscoveryEndpoints", "vmgw_auth_oidc_discovery_endpoints"),
        ("enableTCP6", "vmgw_enable_tcp6"),
        ("mtls", "vmgw_mtls"),
        ("loggerJSONFields", "vmgw_logger_json_fields"),
        ("datasource.oauth2.clientID", "vmgw_datasource_oauth2_client_id"),
        ("datasource.showURL", "vmgw_datasource_show_url"),
        ("http.disableCORS", "vmgw_http_disable_cors"),
    ],
)
def test_option_name(name: str, option: str) -> None:
    assert option_name(Flag(name, Kind.STRING, "", "Help.")) == option


def test_variable_name_changes_only_the_dots() -> None:
    assert variable_name(BY_NAME["auth.publicKeys"]) == "auth_publicKeys"
    assert variable_name(BY_NAME["auth.publicKeys"], "VM_") == "VM_auth_publicKeys"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.BOOL, "t", True),
        (Kind.INT, "-3", -3),
        (Kind.FLOAT, "0.25", 0.25),
        (Kind.STRING, "a,b", "a,b"),
        (Kind.DURATION, "1m", 60.0),
        (Kind.SIZE, "1KB", 1000),
        (Kind.ARRAY, "a,b", ("a", "b")),
    ],
)
def test_every_kind_has_its_parser(kind: Kind, text: str, value: object) -> None:
    flag = Flag("name", kind, text, "Help.")
    assert flag.default == value
    assert kind.expected


@pytest.mark.parametrize(
    ("name", "least", "below"),
    [
        ("auth.keysRefreshInterval", "1s", "999ms"),
        ("backend.connectTimeout", "1ms", "0"),
        ("backend.responseTimeout", "1ms", "0s"),
        ("failTimeout", "100ms", "99ms"),
        ("http.maxHeadSize", "1KiB", "1023"),
        ("metrics.maxTenants", "0", "-1"),
    ],
)
def test_least_value(name: str, least: str, below: str) -> None:
    flag = BY_NAME[name]
    flag.parse(least)
    with pytest.raises(ValueError, match=f'^expected at least {least}, got "{below}"$'):
        flag.parse(below)


@pytest.mark.parametrize("kind", [Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.DURATION, Kind.SIZE])
def test_secret_is_not_in_the_error(kind: Kind) -> None:
    default = "false" if kind is Kind.BOOL else "0"
    flag = Flag("name", kind, default, "Help.", secret=True)
    with pytest.raises(ValueError) as refusal:
        flag.parse("s3cret-value")
    assert str(refusal.value) == f"expected {kind.expected}"
    assert refusal.value.__context__ is None, "a traceback would show the text"


def test_hidden_value_is_not_in_the_error() -> None:
    with pytest.raises(ValueError, match=r"^expected an integer such as 10, at least 0$"):
        BY_NAME["metrics.maxTenants"].parse("-77", hidden=True)


def test_bad_default_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match='got "soon"'):
        Flag("name", Kind.DURATION, "soon", "Help.")


def test_flag_without_effect_says_why() -> None:
    assert description(BY_NAME["eula"]).endswith(
        "Accepted without effect: this is open software, there is nothing to accept."
    )
    assert "without effect" not in description(BY_NAME["enable.auth"])


def test_markdown_table() -> None:
    table = markdown_table()
    lines = table.splitlines()
    assert lines[:2] == ["| Flag | Type | Default | What it does |", "|---|---|---|---|"]
    assert "| `-enable.auth` | bool | `false` | Demand a valid JSON Web Token with every request. |" in lines
    assert f"| `-read.tlsCertFile` | string |  | {BY_NAME['read.tlsCertFile'].help} |" in lines
    assert [line.split("`")[1] for line in lines[2:]] == [f"-{flag.name}" for flag in FLAGS]
    assert {line.count("|") - line.count("\\|") for line in lines} == {5}
    assert table.endswith("|\n")
    assert table == markdown_table()
