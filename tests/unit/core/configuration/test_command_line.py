"""The command line and the environment: what is read, what is refused, and that no secret is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.configuration.command_line import CommandLine, parse
from vmgw_core.configuration.flags_file import FlagsFile, read_flags_file
from vmgw_core.configuration.settings import Settings
from vmgw_core.configuration.table import FLAGS, value_of
from vmgw_core.errors import ConfigurationError

DEFAULTS: Mapping[str, object] = {flag.name: flag.default for flag in FLAGS}
URL = "http://localhost:8428"
# The sample of the specification, heading "JWT signature verification".
PEM = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo
4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u
+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyeh
kd3qqGElvW/VDL5AaWTg0nLVkjRo9z+40RQzuVaE8AkAFmxZzow3x+VJYKdjykkJ
0iT9wCS0DRTXu269V264Vf/3jvredZiKRkgwlL9xNAwxXFg0x/XFw005UWVRIkdg
cKWTjpBP2dPwVZ4WWC+9aGVd+Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbc
mwIDAQAB
-----END PUBLIC KEY-----
"""


def changed(parsed: CommandLine) -> dict[str, object]:
    """The values that differ from their defaults, by the names of flags."""
    values = {flag.name: value_of(flag, parsed.settings) for flag in FLAGS}
    return {name: value for name, value in values.items() if value != DEFAULTS[name]}


# --- the command line ----------------------------------------------------------------------------------------------


@each(
    ("argv", "values"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param(
            ["-eula", "-enable.auth", "-read.url", URL, "--write.url", URL],
            {"eula": True, "enable.auth": True, "read.url": (URL,), "write.url": (URL,)},
            id="the specification's quick start",
        ),
        pytest.param(
            ["-eula", "-enable.auth", "-clusterMode", "-write.url=http://localhost:8480",
             "--read.url=http://localhost:8481"],
            {
                "eula": True,
                "enable.auth": True,
                "clusterMode": True,
                "write.url": ("http://localhost:8480",),
                "read.url": ("http://localhost:8481",),
            },
            id="the specification's cluster",
        ),
        pytest.param(
            ["-eula", "-enable.auth", "-write.url=http://localhost:8480", "-read.url=http://localhost:8481",
             "-auth.oidcDiscoveryEndpoints=https://accounts.google.com/.well-known/openid-configuration"],
            {
                "eula": True,
                "enable.auth": True,
                "write.url": ("http://localhost:8480",),
                "read.url": ("http://localhost:8481",),
                "auth.oidcDiscoveryEndpoints": ("https://accounts.google.com/.well-known/openid-configuration",),
            },
            id="the specification's OpenID discovery",
        ),
        pytest.param(["-dryRun=false"], {}, id="bool set to its default"),
        pytest.param(["--dryRun=T"], {"dryRun": True}, id="bool in Go's spelling"),
        pytest.param(["-httpListenAddr", "-version"], {"httpListenAddr": "-version"}, id="value like a flag"),
        pytest.param(["-httpListenAddr", "--"], {"httpListenAddr": "--"}, id="value that is two dashes"),
        pytest.param(["-loggerJSONFields", ""], {}, id="empty value as an argument of its own"),
        pytest.param(["-read.url=http://a/?b=c"], {"read.url": ("http://a/?b=c",)}, id="equals sign in a value"),
        pytest.param(["-auth.httpHeader=a\nb"], {"auth.httpHeader": ("a\nb",)}, id="newline in a value"),
        pytest.param(["-metrics.maxTenants", "5"], {"metrics.maxTenants": 5}, id="int"),
        pytest.param(["-maxFormSize", "1MiB"], {"maxFormSize": 1048576}, id="size"),
        pytest.param(["-http.shutdownDelay=1m"], {"http.shutdownDelay": 60.0}, id="duration"),
        pytest.param(["-loggerLevel=a", "-loggerLevel=b"], {"loggerLevel": "b"}, id="of a scalar the last wins"),
        pytest.param(["-dryRun", "-dryRun=0"], {}, id="of a bool given twice the last wins"),
        pytest.param(
            ["-auth.publicKeyFiles=a,b", "--auth.publicKeyFiles", "c", "-auth.publicKeyFiles="],
            {"auth.publicKeyFiles": ("a", "b", "c")},
            id="an array collects",
        ),
        pytest.param(["", "-dryRun", ""], {"dryRun": True}, id="empty arguments"),
        pytest.param(["-dryRun", "--"], {"dryRun": True}, id="end of flags"),
    ],
)  # fmt: skip
def test_command_line_accepts(argv: list[str], values: dict[str, object]) -> None:
    assert changed(parse(argv, {})) == values


@pytest.mark.parametrize("key", [PEM, f"`{PEM}`", f'"{PEM}"'], ids=["plain", "backquotes", "double quotes"])
def test_three_keys_of_the_specification(key: str) -> None:
    argv = ["-eula", "-enable.auth", "-write.url=http://localhost:8480", "-read.url=http://localhost:8481"]
    argv += ["-auth.publicKeyFiles=public_key.pem", "-auth.publicKeyFiles=public_key2.pem", f"-auth.publicKeys={key}"]
    parsed = parse(argv, {})
    assert parsed.settings.auth_public_key_files == ("public_key.pem", "public_key2.pem")
    assert parsed.settings.auth_public_keys == (PEM,)


@each(
    ("argv", "message"),
    [
        (["-enable.auht"], "unknown flag -enable.auht: did you mean -enable.auth?"),
        (["--READ.URL=x"], "unknown flag -READ.URL: did you mean -read.url?"),
        (["-zzzzzz"], "unknown flag -zzzzzz: -help lists all flags"),
        (["-q\nq"], r"unknown flag -q\nq: -help lists all flags"),
        (["-" + "q" * 1000], f"unknown flag -{'q' * 60}…: -help lists all flags"),
        (["-httpListenAddr"], "flag -httpListenAddr: the value (string) is missing"),
        (["-eula", "-auth.publicKeys"], "flag -auth.publicKeys: the value (array) is missing"),
        (["-dryRun=maybe"], "flag -dryRun: expected true or false, got \"maybe\""),
        (["-dryRun="], "flag -dryRun: expected true or false, got \"\""),
        (["-http.shutdownDelay", "abc"],
         "flag -http.shutdownDelay: expected a duration such as 5s or 1m30s, got \"abc\""),
        (["-http.maxHeadSize=1"], "flag -http.maxHeadSize: expected at least 1KiB, got \"1\""),
        (["-maxFormSize=x", "-maxFormSize=1"],
         "flag -maxFormSize: expected a size such as 65536 or 16MiB, got \"x\""),
        (["run"], "unexpected argument 1: write flags as -name or -name=value"),
        (["-"], "unexpected argument 1: write flags as -name or -name=value"),
        (["---eula"], "unexpected argument 1: write flags as -name or -name=value"),
        (["-=x"], "unexpected argument 1: write flags as -name or -name=value"),
        (["-eula", "true"], "unexpected argument 2 after -eula: write -eula=true or -eula=false"),
        (["-read.url", "a", "b"], "unexpected argument 3 after -read.url: flags start with a dash"),
        (["-eula", "--", "x"], "unexpected argument 3 after --: vmgateway takes only flags"),
        (["--", "-eula"], "unexpected argument 2 after --: vmgateway takes only flags"),
        (["-read.url=http://a/%{HOST}/%{NO}"], "flag -read.url: the environment variable of a placeholder is not set"),
        (["-httpListenAddr=%{NO}"], "flag -httpListenAddr: the environment variable NO is not set"),
        (["-httpListenAddr=%{}"], "flag -httpListenAddr: the environment variable  is not set"),
    ],
    ids=lambda value: "_".join(value)[:30] if isinstance(value, list) else "",
)  # fmt: skip
def test_command_line_rejects(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        parse(argv, {"HOST": "h"})


def test_given_names_what_was_set_even_to_its_default() -> None:
    assert parse(["-eula=false", "-http.shutdownDelay=0s"], {}).given == {"eula", "http.shutdownDelay"}


@pytest.mark.parametrize("spelling", ["-h", "-help", "--help", "--h", "-help=1"])
def test_help_ends_the_reading(spelling: str) -> None:
    parsed = parse(["-eula", "-envflag.enable", spelling, "-nonsense"], {"version": "nonsense"})
    assert parsed.help_wanted
    assert parsed.given == {"eula", "envflag.enable"}
    assert not parse(["-eula"], {}).help_wanted


def test_help_as_a_value_is_a_value() -> None:
    parsed = parse(["-auth.httpHeader", "-help"], {})
    assert not parsed.help_wanted
    assert parsed.settings.auth_http_header == ("-help",)


def test_settings_cannot_be_changed_and_do_not_show_values() -> None:
    parsed = parse(["-read.url=http://user:s3cret@host"], {})
    with pytest.raises(FrozenInstanceError):
        parsed.settings.eula = True  # type: ignore[misc]
    assert "s3cret" not in repr(parsed)
    assert "s3cret" not in repr(parsed.settings)


# --- placeholders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("http://u:%{PASSWORD}@h", "http://u:s3cret@h"),
        ("%{PASSWORD}%{EMPTY}%{PASSWORD}", "s3crets3cret"),
        ("%{NESTED}", "%{PASSWORD}"),
        ("%PASSWORD", "%PASSWORD"),
        ("%{PASSWORD", "%{PASSWORD"),
        ("{PASSWORD}", "{PASSWORD}"),
    ],
)
def test_placeholders(text: str, value: str) -> None:
    environ = {"PASSWORD": "s3cret", "EMPTY": "", "NESTED": "%{PASSWORD}"}
    assert parse([f"-ratelimit.storage={text}"], environ).settings.ratelimit_storage == value
    assert parse(["-ratelimit.storage", text], environ).settings.ratelimit_storage == value


def test_placeholder_may_hold_a_list() -> None:
    environ = {"FILES": "a.pem,b.pem"}
    assert parse(["-auth.publicKeyFiles=%{FILES}"], environ).settings.auth_public_key_files == ("a.pem", "b.pem")


def test_value_of_a_placeholder_is_not_in_the_error() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse(["-metrics.maxTenants=%{PASSWORD}"], {"PASSWORD": "s3cret"})
    assert str(refusal.value) == "flag -metrics.maxTenants: expected an integer such as 10, at least 0"
    assert refusal.value.__context__ is None, "a traceback would show the text"


@pytest.mark.parametrize(
    "argv",
    [
        ["-read.url", "http://user:", "s3cret@host"],
        ["-read.url", "=", "http://user:s3cret@host"],
        ["-read.ulr=http://user:s3cret@host"],
        ["---read.url=http://user:s3cret@host"],
        ["-read.url=http://user:%{s3cret}@host"],
        ["http://user:s3cret@host"],
    ],
)
def test_secret_is_not_in_the_error(argv: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse(argv, {})
    assert "s3cret" not in str(refusal.value)


# --- the environment -----------------------------------------------------------------------------------------------


def test_environment_is_read_only_when_asked() -> None:
    environ = {"enable_auth": "true", "auth_publicKeyFiles": "a,b"}
    assert parse([], environ).settings == Settings()
    assert parse(["-envflag.enable=false"], environ).given == {"envflag.enable"}
    parsed = parse(["-envflag.enable"], environ)
    expected = {"envflag.enable": True, "enable.auth": True, "auth.publicKeyFiles": ("a", "b")}
    assert changed(parsed) == expected
    assert parsed.given == expected.keys()


def test_environment_has_a_prefix() -> None:
    environ = {"VM_httpListenAddr": ":1", "httpListenAddr": ":2", "vm_httpListenAddr": ":3"}
    parsed = parse(["-envflag.enable", "-envflag.prefix=VM_"], environ)
    assert parsed.settings.http_listen_addr == ":1"


def test_command_line_wins_over_the_environment() -> None:
    environ = {"httpListenAddr": ":1", "auth_publicKeyFiles": "a", "dryRun": "not even read", "read_url": URL}
    argv = ["-envflag.enable", "-httpListenAddr=:2", "-auth.publicKeyFiles=b", "-dryRun=false"]
    parsed = parse(argv, environ)
    assert parsed.settings.http_listen_addr == ":2"
    assert parsed.settings.auth_public_key_files == ("b",)
    assert parsed.settings.dry_run is False
    assert parsed.settings.read_url == (URL,)


def test_environment_cannot_switch_itself_on_or_move() -> None:
    environ = {"envflag_enable": "true", "envflag_prefix": "VM_", "VM_dryRun": "true"}
    assert parse([], environ).given == frozenset()
    assert parse(["-envflag.enable"], environ).given == {"envflag.enable"}


def test_environment_values_have_placeholders() -> None:
    environ = {"read_url": "http://u:%{PASSWORD}@h", "PASSWORD": "s3cret"}
    assert parse(["-envflag.enable"], environ).settings.read_url == ("http://u:s3cret@h",)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"P_dryRun": "no"}, "flag -dryRun (environment variable 'P_dryRun'): expected true or false, got \"no\""),
        ({"P_dryRun": "%{no}"},
         "flag -dryRun (environment variable 'P_dryRun'): the environment variable no is not set"),
    ],
)  # fmt: skip
def test_environment_rejects(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        parse(["-envflag.enable", "-envflag.prefix=P_"], environ)


@pytest.mark.parametrize(
    ("prefix", "variable", "meant"),
    [
        ("P_", "P_auth_publicKeyFile", "P_auth_publicKeyFiles"),
        ("P_", "P_auth.publicKeyFiles", "P_auth_publicKeyFiles"),
        ("P_", "P_ENABLE_AUTH", "P_enable_auth"),
        ("P_", "P_AUTH_PUBLIC_KEY_FILES", "P_auth_publicKeyFiles"),
        ("P_", "P_auth_public_key_files", "P_auth_publicKeyFiles"),
        ("", "auth_publicKeyFile", "auth_publicKeyFiles"),
        ("", "ENABLE_AUTH", "enable_auth"),
        ("", "enable_Auth", "enable_auth"),
    ],
)
def test_a_misspelt_variable_is_not_ignored(prefix: str, variable: str, meant: str) -> None:
    message = f"no flag has the environment variable {variable}: did you mean {meant}?"
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        parse(["-envflag.enable", f"-envflag.prefix={prefix}"], {variable: "a"})
    assert parse([], {variable: "a"}).given == frozenset()


def test_an_unknown_variable_with_the_prefix_is_not_ignored() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^no flag has the environment variable P_q\\n: -help lists all flags$"
    ):
        parse(["-envflag.enable", "-envflag.prefix=P_"], {"P_q\n": "a"})


@pytest.mark.parametrize(
    ("prefix", "variables"),
    [
        ("", ["PATH", "HOME", "http_proxy", "HTTPS_PROXY", "no_proxy", "LC_ALL", "VERSION", "TLS", "WORKERS", "_"]),
        ("VMGATEWAY_", ["VMGATEWAY_SERVICE_HOST", "VMGATEWAY_PORT_8431_TCP", "VMGATEWAY_PORT", "VMGATEWAY_TOKEN"]),
        ("P_", ["enable_Auth", "P_", "Penable_Auth", "P_envflag_enable"]),
    ],
)
def test_variables_of_others_are_theirs(prefix: str, variables: list[str]) -> None:
    """Those of the system, and those that Kubernetes sets in every pod for a Service of that name."""
    given = parse(["-envflag.enable", f"-envflag.prefix={prefix}"], dict.fromkeys(variables, "a")).given
    assert given == {"envflag.enable", "envflag.prefix"}


# --- the law -------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([flag.name for flag in FLAGS] + ["help", "h", "nonsense"])
TEXTS = st.text() | st.sampled_from(["true", "5s", "64KiB", "7", "a,'b", "%{A}", "%{NO}", "`", "--", "-"])
FLAG_ARGUMENTS = st.builds(
    lambda dashes, name, text: f"{dashes}{name}{text}",
    st.sampled_from(["-", "--"]),
    NAMES,
    st.just("") | TEXTS.map(lambda text: f"={text}"),
)


@given(argv=st.lists(FLAG_ARGUMENTS | TEXTS), environ=st.dictionaries(NAMES | st.just("A"), TEXTS))
def test_any_command_line_gives_settings_or_one_readable_line(argv: list[str], environ: dict[str, str]) -> None:
    try:
        parsed = parse(argv, environ)
    except ConfigurationError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert all(type(value_of(flag, parsed.settings)) is type(flag.default) for flag in FLAGS)
    assert refusal.isprintable()


# --- files of flags ------------------------------------------------------------------------------------------------


def _file(text: str, folder: str = "") -> FlagsFile:
    return read_flags_file(text, "ci.flags", folder)


def test_a_file_of_flags() -> None:
    text = "# of CI\n-auth.httpHeader='X-A' --clusterMode # two\n\n-read.url\nhttp://x:1\n"
    assert list(_file(text)) == ["-auth.httpHeader=X-A", "--clusterMode", "-read.url", "http://x:1"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-clusterMode\n-tokken=secret", "ci.flags, line 2: unknown flag -tokken: -help lists all flags"),
        ("\n-http.maxConnections=x\n-clusterMode", "ci.flags, line 2: flag -http.maxConnections: "),
        ("-clusterMode\nsecret", "ci.flags, line 2: unexpected argument 2 after -clusterMode: "),
        ("-clusterMode\n\n-read.url", "ci.flags, line 3: flag -read.url: the value"),
        ("-clusterMode\n'a", "ci.flags, line 2: no closing quotation"),
        ("-auth.leeway=%{NOWHERE}", "ci.flags, line 1: flag -auth.leeway: the environment variable NOWHERE is not"),
    ],
)
def test_errors_name_the_file_and_the_line(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse([], {}, file=_file(text))
    assert str(raised.value).startswith(reason)


def test_later_errors_name_the_line_of_their_flag() -> None:
    file = _file("-clusterMode\n--auth.publicKeyFiles=a\n-read.url=http://x")
    parse(["-read.url=http://y"], {}, file=file)
    assert str(file.error(ConfigurationError("-auth.publicKeyFiles: cannot read a"))) == (
        "ci.flags, line 2: -auth.publicKeyFiles: cannot read a"
    )
    for reason in ("-read.url: of the command line", "-write.url: not set", "something else"):
        assert str(file.error(ConfigurationError(reason))) == reason


def test_a_flag_of_the_command_line_replaces_all_values_of_the_file() -> None:
    file = _file("-auth.publicKeyFiles=a,b\n-auth.publicKeyFiles=c -clusterMode")
    assert parse([], {}, file=file).settings.auth_public_key_files == ("a", "b", "c")
    parsed = parse(["-auth.publicKeyFiles=new"], {}, file=file)
    assert parsed.settings.auth_public_key_files == ("new",)
    assert parsed.given == {"auth.publicKeyFiles", "clusterMode"}


def test_a_file_may_ask_for_the_environment() -> None:
    parsed = parse([], {"clusterMode": "true", "enable_auth": "true"}, file=_file("-envflag.enable -enable.auth=false"))
    assert (parsed.settings.cluster_mode, parsed.settings.enable_auth) == (True, False)


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("auth.publicKeyFiles", "a.pem,/b.pem", "x/a.pem,/b.pem"),
        ("ratelimit.config", "limits.yaml", "x/limits.yaml"),
        ("ratelimit.config", "http://h/limits.yaml", "http://h/limits.yaml"),
        ("tlsCertFile", "../c", "x/../c"),
        ("capture.file", "c", "x/c"),
        ("auth.httpHeader", "X-File", "X-File"),
    ],
)
def test_relative_paths_of_a_file_start_at_its_folder(flag: str, value: str, expected: str) -> None:
    wanted = parse([f"-{flag}={expected}"], {}).settings
    assert parse([], {}, file=_file(f"-{flag}={value}", "x")).settings == wanted
