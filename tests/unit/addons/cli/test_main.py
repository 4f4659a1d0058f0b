"""The command line says what to type: without arguments, with a wrong command, and in every help text."""

from __future__ import annotations

import pytest

from vmgw_addons.cli.main import main

HELPS = (["-help"], ["--help"], ["-h"], ["help"])
COMMANDS = ("explain", "replay", "token", "usage")


def test_without_arguments_it_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {}) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert 2 <= len(lines) <= 6
    assert max(map(len, lines)) <= 80
    example = said.err.partition("\n")[2].partition("\nvmgateway -help")[0].replace("\\\n", "").split()
    assert main([*example[1:], "-dryRun"], {}) == 2, "there is no such key file"
    assert capsys.readouterr().err == (
        "vmgateway: -auth.publicKeyFiles: cannot read public.pem: No such file or directory\n"
    )


@pytest.mark.parametrize("arguments", HELPS)
def test_help_fits_a_terminal_and_names_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, {}) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert [line for line in said.out.splitlines() if len(line) > 80] == []
    for command in COMMANDS:
        assert f"\n  vmgateway {command} " in said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_fits_a_terminal(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = set()
    for arguments in ([command, "-help"], [command, "--help"], [command, "-h"], ["help", command]):
        assert main(arguments, {}) == 0
        said = capsys.readouterr()
        assert said.err == ""
        texts.add(said.out)
    (text,) = texts
    assert text.startswith(f"Usage: vmgateway {command}")
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("explian", "did you mean vmgateway explain?"),
        ("tokens", "did you mean vmgateway token?"),
        ("start", "vmgateway -help lists flags and commands"),
        ("Password123", "vmgateway -help lists flags and commands"),
    ],
)
def test_an_unknown_command_is_one_line_that_does_not_repeat_it(
    argument: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument, "-enable.auth"], {}) == 2
    assert capsys.readouterr().err == (
        "vmgateway: argument 1 is neither a flag nor one of the commands credentials, explain, policy, replay, token, "
        f"usage: {hint}\n"
    )
