"""Limits that cannot be read or held: one line on standard error, exit code 2, and no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmgw_addons.cli.main import main
from vmgw_addons.sources.limit_file import expanded
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits.config import MAX_BYTES


@pytest.mark.parametrize(
    ("flags", "content", "error"),
    [
        pytest.param(["-ratelimit.config={file}"], None, "-enable.auth is not set", id="neither of the two"),
        pytest.param(
            ["-enable.rateLimit", "-clusterMode"], None, "-enable.rateLimit needs -ratelimit.config", id="no file"
        ),
        pytest.param(
            ["-enable.rateLimit", "-ratelimit.config={file}"],
            None,
            "without -enable.auth needs -clusterMode",
            id="no auth",
        ),
        pytest.param(
            ["-enable.rateLimit", "-enable.auth", "-ratelimit.config={file}.none"],
            None,
            "-ratelimit.config {file}.none: cannot read it: No such file or directory",
            id="file not found",
        ),
        pytest.param(
            ["-enable.rateLimit", "-enable.auth", "-ratelimit.config={file}"],
            "limits:\n- type: queries\n  value: many\n",
            "-ratelimit.config {file}, line 3: limits[0].value: expected an integer",
            id="bad file",
        ),
        pytest.param(
            ["-enable.rateLimit", "-enable.auth", "-ratelimit.config=http://user:secret@127.0.0.1:1/x?key=secret"],
            None,
            "-ratelimit.config http://127.0.0.1:1/x: cannot read it: Connection refused",
            id="no server",
        ),
        pytest.param(
            ["-enable.rateLimit", "-enable.auth", "-ratelimit.config=http://[secret"],
            None,
            "-ratelimit.config secret: cannot read it: the address cannot be used",
            id="no URL",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dry_run", [False, True], ids=["start", "dry run"])
def test_what_cannot_be_enforced_is_an_error_at_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], content: str | None, error: str, dry_run: bool
) -> None:
    file = tmp_path / "limit.yaml"
    file.write_text("limits: []" if content is None else content)
    given = [flag.format(file=file) for flag in flags] + ["-dryRun"] * dry_run
    assert main(["-httpListenAddr=127.0.0.1:1", "-read.url=http://127.0.0.1:1", *given], {}) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"vmgateway: [^\n]*\n", said.err), said.err
    assert error.format(file=file) in said.err
    assert "secret" not in said.err.replace("config secret:", "")


def test_a_dry_run_reads_the_limits_and_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "limit.yaml"
    file.write_text("limits: [{type: queries, value: 1}, {type: rows_inserted, value: 1}]")
    flags = ("-enable.rateLimit", f"-ratelimit.config={file}", "-clusterMode", "-read.url=http://127.0.0.1:1")
    assert main([*flags, "-dryRun"], {}) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("the configuration is valid\n", "")


def test_the_limits_have_placeholders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("limits:\n- type: queries\n  value: %{VMGW_QUERIES}\n")
    flags = ["-enable.rateLimit", "-enable.auth", "-read.url=http://a:1", f"-ratelimit.config={file}", "-dryRun"]
    assert main(flags, {}) == 2
    expected = f"-ratelimit.config {file}, line 3: the environment variable VMGW_QUERIES is not set"
    assert expected in capsys.readouterr().err
    monkeypatch.setenv("VMGW_QUERIES", "17")
    assert main(flags, {}) == 0


def test_a_placeholder_is_replaced_once() -> None:
    environ = {"A": "%{B}", "B": "\u00e9", "": "nothing"}
    assert expanded(b"x: %{A} %{B}%{} %{B", environ, "file") == "x: %{B} \u00e9nothing %{B".encode()
    assert expanded(b"", environ, "file") == b""


def test_placeholders_cannot_blow_a_file_up() -> None:
    with pytest.raises(ConfigurationError, match="larger than"):
        expanded(b"%{A}" * 1000, {"A": "x" * 100_000}, "file")
    too_large = b"%{A}" * (MAX_BYTES // 4 + 1)
    assert expanded(too_large, {"A": "x"}, "file") == too_large
