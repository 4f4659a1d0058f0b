"""``vmgateway replay``: its reports, and what it says of files and flags that it cannot use."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from tests.support.wire.tokens import SigningKey
from vmgw_addons.cli.arguments import read_arguments
from vmgw_addons.cli.main import main

DATA: Final = Path(__file__).parents[3] / "data" / "replay"
FILE: Final = DATA / "mitmproxy-12.mitm"
KEY: Final = DATA / "public.pem"
BACKENDS: Final = ("-read.url=http://127.0.0.1:28428", "-write.url=http://127.0.0.1:28428")
"""Those of the capture; nothing listens there."""
SAME: Final = ("-enable.auth", f"-auth.publicKeyFiles={KEY}", *BACKENDS)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``vmgateway replay`` in this process."""

    def replay(*arguments: object) -> Done:
        code = main(["replay", *map(str, arguments)], {})
        shown = capsys.readouterr()
        return Done(code, shown.out, shown.err)

    return replay


@pytest.fixture(scope="module")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The flag of a key that has signed nothing."""
    path = tmp_path_factory.mktemp("other") / "key.pem"
    path.write_text(SigningKey.generate("ES256").public_pem)
    return f"-auth.publicKeyFiles={path}"


def test_another_key_refuses_what_was_admitted(run: Run, other_key: str, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = run(FILE, "-enable.auth", other_key, *BACKENDS, "--json", "--junit", report)
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["differences"]["newly refused"] == 4
    changes = [change for change in document["changes"] if change["difference"] == "newly refused"]
    assert {change["after"]["code"] for change in changes} == {"bad_signature"}
    suites = ElementTree.parse(report).getroot()  # noqa: S314
    assert (suites.attrib["tests"], suites.attrib["failures"]) == ("4", "4")


def test_without_keys_a_forged_token_is_newly_admitted(run: Run) -> None:
    done = run(FILE, "-enable.auth", *BACKENDS)
    assert done.returncode == 1
    assert "mitmproxy-12.mitm#8 GET /api/v1/query: newly admitted: 401 bad_signature -> admitted\n" in done.stdout


def test_limits_of_the_policy(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "limits.yaml"
    config.write_text("limits:\n- {type: queries, value: 1}\n")
    done = run(FILE, *SAME, "-enable.rateLimit", f"-ratelimit.config={config}")
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("newly refused: admitted -> 429 rate_limited") == 1
    config.write_text("limits:\n- {type: rows_inserted, value: 1}\n- {type: queries, value: 100}\n")
    done = run(FILE, *SAME, "-enable.rateLimit", f"-ratelimit.config={config}")
    assert done.returncode == 0, done.stdout


def test_two_policies_are_compared(run: Run, tmp_path: Path, other_key: str) -> None:
    (tmp_path / "old.flags").write_text(
        f"-enable.auth {other_key}\n# where\n-read.url='http://x' -write.url=http://y\n"
    )
    (tmp_path / "new.flags").write_text("\n".join(SAME))
    done = run(FILE, "--flags", tmp_path / "new.flags", "--baseline-flags", tmp_path / "old.flags")
    assert done.returncode == 1, done.stderr
    assert "4 newly admitted" in done.stdout
    done = run(FILE, "--flags", tmp_path / "old.flags", "--baseline-flags", tmp_path / "old.flags")
    assert done.returncode == 0, done.stderr


def test_expectations(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "expect.yaml"
    good = "expect:\n- {match: {path: /api/v1/labels}, verdict: admitted, tenant: '1:5'}\n"
    file.write_text(good)
    done = run(FILE, *SAME, "--expect", file)
    assert (done.returncode, done.stdout) == (0, "all 1 expectations hold for 9 requests\n")
    file.write_text(good + "- {match: {path: /nowhere}, verdict: admitted}\n")
    done = run(FILE, *SAME, "--expect", file, "--junit", tmp_path / "report.xml")
    assert done.returncode == 1
    where = f"{file}:3: {FILE}#6 GET /nowhere"
    assert done.stdout.startswith(f"{where}: expected admitted, got 404 unknown_route")
    assert where in (tmp_path / "report.xml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a file to replay; see vmgateway replay --help"),
        (["/nowhere", *SAME], "cannot read /nowhere: No such file or directory"),
        ([FILE, "-enable.auth"], "set -read.url or -write.url: there is no backend to send requests to"),
        ([FILE, *SAME, "-nonsense"], "unknown flag -nonsense: -help lists all flags"),
        ([FILE, *SAME, "--flags"], "--flags: the value is missing"),
        ([FILE, *SAME, "--flags", "/nowhere"], "--flags: cannot read /nowhere: No such file or directory"),
        ([FILE, *SAME, "--list=x"], "--list: expected a number from 0 to 999999"),
        ([FILE, *SAME, "--json=x"], "--json takes no value"),
        ([FILE, *SAME, "--expect", KEY], f"{KEY}, line 1: the file: expected keys and values"),
        ([FILE, *SAME, "--junit", "/nowhere/x"], "--junit: cannot write /nowhere/x: No such file or directory"),
        (["/dev/null", *SAME], "no requests in /dev/null"),
        (
            [DATA / "public.pem", *SAME],
            f"{DATA / 'public.pem'}: flow 1 (at byte 0) cannot be read: a length is missing",
        ),
    ],
    ids=range(12),
)
def test_what_cannot_be_used_is_one_line_and_2(
    arguments: Sequence[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *map(str, arguments)], {}) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"vmgateway replay: {message}")
    assert shown.err.count("\n") == 1


def test_a_flags_file_that_cannot_be_read_names_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flags"
    file.write_text("-enable.auth\n-read.url='http://x\n")
    assert main(["replay", str(FILE), "--flags", str(file)], {}) == 2
    assert capsys.readouterr().err == f"vmgateway replay: {file}:2: no closing quotation\n"
    file.write_bytes(b"\xff")
    assert main(["replay", str(FILE), "--flags", str(file)], {}) == 2
    assert capsys.readouterr().err == f"vmgateway replay: --flags: {file} is not UTF-8 text\n"


def test_files_options_and_flags_in_any_order() -> None:
    arguments = ["a", "-read.url", "b", "--json", "c", "-enable.auth", "-", "--list=5", "--flags", "f", "-x=y"]
    found = read_arguments(arguments, values=("list", "flags"), switches=("json",))
    assert found.positional == ["a", "c", "-"]
    assert found.flags == ["-read.url", "b", "-enable.auth", "-x=y"]
    assert found.options == {"json": [], "list": ["5"], "flags": ["f"]}
