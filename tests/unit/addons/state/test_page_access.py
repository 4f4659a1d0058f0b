"""Who may see the gateway's own pages, and the secrets behind that."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest

from tests.support.each import each
from vmgw_addons.state.page_access import PageAccess, header_edit
from vmgw_addons.support.secrets import Secret
from vmgw_core.configuration.command_line import parse
from vmgw_core.errors import ConfigurationError
from vmgw_core.http import Headers


def access(*flags: str) -> PageAccess:
    return PageAccess.from_settings(parse(flags, {}).settings)


def status(guard: PageAccess, query: str = "", headers: Headers = ()) -> int:
    answer = guard.refuse("flagsAuthKey", query, headers)
    return 200 if answer is None else answer.status


def basic(text: str, scheme: str = "Basic") -> Headers:
    return ((b"Authorization", f"{scheme} {base64.b64encode(text.encode()).decode()}".encode()),)


BASIC = ("-httpAuth.username=user", "-httpAuth.password=päss:word")


@each(
    ("flags", "query", "headers", "expected"),
    [
        pytest.param((), "", (), 200, id="nothing is asked for"),
        pytest.param(BASIC, "", basic("user:päss:word"), 200, id="name and password"),
        pytest.param(BASIC, "", basic("user:päss:word", "bAsIc"), 200, id="scheme in any case"),
        pytest.param(BASIC, "", (), 401, id="no password"),
        pytest.param(BASIC, "", basic("user:wrong"), 401, id="wrong password"),
        pytest.param(BASIC, "", basic("other:päss:word"), 401, id="wrong name"),
        pytest.param(BASIC, "", basic("user"), 401, id="name alone"),
        pytest.param(BASIC, "", basic("user:päss:word", "Bearer"), 401, id="other scheme"),
        pytest.param(BASIC, "", basic("user:päss:word") * 2, 401, id="twice"),
        pytest.param(BASIC, "", ((b"authorization", b"Basic %%%"),), 401, id="no base64"),
        pytest.param(BASIC, "authKey=x", (), 401, id="a key where none is configured"),
        pytest.param(BASIC, "", basic("user:"), 401, id="empty password"),
        pytest.param(("-flagsAuthKey=k&y",), "authKey=k%26y", (), 200, id="key"),
        pytest.param(("-flagsAuthKey=k&y",), "a=b&authKey=k%26y", (), 200, id="key among others"),
        pytest.param(("-flagsAuthKey=key",), "", (), 401, id="no key"),
        pytest.param(("-flagsAuthKey=key",), "authKey=", (), 401, id="empty key"),
        pytest.param(("-flagsAuthKey=key",), "authKey=other", (), 401, id="wrong key"),
        pytest.param(("-flagsAuthKey=key",), "authKey=key&authKey=key", (), 401, id="key twice"),
        pytest.param(("-flagsAuthKey=key",), "authkey=key", (), 401, id="name of the key in lower case"),
        pytest.param(("-flagsAuthKey=key",), "&".join(["a"] * 200), (), 401, id="hostile query"),
        pytest.param(("-metricsAuthKey=key",), "", (), 200, id="key of another page"),
        pytest.param(("-flagsAuthKey=key", *BASIC), "authKey=key", (), 200, id="the key overrides"),
        pytest.param(("-flagsAuthKey=key", *BASIC), "", basic("user:päss:word"), 401, id="the key is not replaced"),
    ],
)
def test_who_may_see_a_page(flags: tuple[str, ...], query: str, headers: Headers, expected: int) -> None:
    assert status(access(*flags), query, headers) == expected


def test_basic_auth_is_asked_for_so_that_browsers_do_it() -> None:
    answer = access(*BASIC).refuse("flagsAuthKey", "", ())
    assert answer is not None
    assert dict(answer.headers)[b"WWW-Authenticate"].startswith(b"Basic ")


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("", ""), ("/", ""), ("/a", "/a"), ("a/b", "/a/b"), ("/a/b/", "/a/b"), ("/a-b_c.d", "/a-b_c.d")],
)
def test_path_prefix(text: str, prefix: str) -> None:
    assert access(f"-http.pathPrefix={text}").prefix == prefix


@each(
    "flags",
    [
        ("-http.pathPrefix=/a//b",),
        ("-http.pathPrefix=/a/../b",),
        ("-http.pathPrefix=/a?b",),
        ("-http.pathPrefix=/a b",),
        ("-http.pathPrefix=/%61",),
        ("-http.pathPrefix=/ü",),
        ("-httpAuth.password=p4ss",),
        ("-httpAuth.username=user",),  # its password would be empty
        ("-metricsAuthKey=file:///does/not/exist",),
    ],
)
def test_what_cannot_be_used_is_named(flags: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        access(*flags)
    assert flags[0].partition("=")[0] in str(refusal.value)
    assert "p4ss" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@each("value", ["a\r\nX-Other: b", "a\nb", "ü", "a\x00"])
@each("name", ["hsts", "csp", "frameOptions"])
def test_a_value_that_is_no_header_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"http.header.{name}"):
        header_edit(parse([f"-http.header.{name}={value}"], {}).settings)


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_is_not_shown() -> None:
    assert "p4ss" not in repr(Secret("x", "p4ss"))


def test_a_secret_from_a_file_follows_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "key"
    file.write_text("first \n")
    secret = Secret("metricsAuthKey", f"file://{file}")
    assert secret.matches(b"first")
    assert not secret.matches(b"first \n")
    replaced(file, "second")
    secret.refresh()
    assert secret.matches(b"second")
    assert not secret.matches(b"first")
    for content in (None, " \n"):
        caplog.clear()
        if content is None:
            file.unlink()
        else:
            replaced(file, content)
        for _ in range(3):
            secret.refresh()
            assert secret.matches(b"second"), "the last good one stays in force"
        (said,) = caplog.records
        assert said.levelno == logging.WARNING
        assert "metricsAuthKey" in said.getMessage()
        assert "second" not in said.getMessage()
    replaced(file, "third")
    secret.refresh()
    assert secret.matches(b"third")


def replaced(file: Path, text: str) -> None:
    """As secrets are replaced in practice: another file takes its place."""
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


@pytest.mark.parametrize("content", ["", "\n", None])
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"-pprofAuthKey: cannot use {file}"):
        Secret("pprofAuthKey", f"file://{file}")
