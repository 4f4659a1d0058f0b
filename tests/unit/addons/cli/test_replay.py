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
    assert (suites.attrib["tests"], suites.attrib["failures"]) == ("6", "4")


def test_without_keys_a_forged_token_is_newly_admitted(run: Run) -> None:
    done = run(FILE, "-enable.auth", *BACKENDS)
    assert done.returncode == 1
    kind = (
        "1 newly admitted: /api/v1/query, tenant 0:0\n  401 bad_signature -> admitted: no key verifies the signature\n"
    )
    assert kind + f"  such as {FILE}#8 GET /api/v1/query\n" in done.stdout
    listed = run(FILE, "-enable.auth", *BACKENDS, "--list", 20)
    assert f"{FILE}#8 GET /api/v1/query: newly admitted: 401 bad_signature -> admitted" in listed.stdout


def test_limits_of_the_policy(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "limits.yaml"
    config.write_text("limits:\n- {type: queries, value: 1}\n")
    done = run(FILE, *SAME, "-enable.rateLimit", f"-ratelimit.config={config}")
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("1 newly refused: /api/v1/query, tenant 0:0\n  admitted -> 429 rate_limited: ") == 1
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


def test_expectations_and_approved_changes_in_one_run(run: Run, tmp_path: Path, other_key: str) -> None:
    expect, approved, summary = tmp_path / "expect.yaml", tmp_path / "approved.txt", tmp_path / "summary.md"
    expect.write_text("expect:\n- {match: {path: /nowhere}, verdict: refused}\n")
    approved.write_text("")
    summary.write_text("before\n")
    arguments = [FILE, "-enable.auth", other_key, *BACKENDS, "--expect", expect]
    assert run(*arguments).returncode == 0, "without anything to compare with, only the expectations count"
    arguments += ["--approved", approved, "--summary", summary]
    assert run(*arguments).returncode == 1
    done = run(*arguments, "--update")
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 of the changes are approved\n" in done.stdout
    lines = approved.read_text().splitlines()[2:]
    assert lines == sorted(lines)
    assert (
        "newly refused: /api/v1/labels: tenant 1:5: admitted -> 401 bad_signature: 1 requests" in approved.read_text()
    )
    assert run(*arguments).returncode == 0
    assert summary.read_text().startswith("before\n### vmgateway replay\n")
    expect.write_text("expect:\n- {match: {path: /nowhere}, verdict: admitted}\n")
    assert run(*arguments).returncode == 1


def test_a_flag_of_the_command_line_replaces_that_of_the_file(run: Run, tmp_path: Path, other_key: str) -> None:
    (tmp_path / "policy.flags").write_text("\n".join(SAME))
    assert run(FILE, "--flags", tmp_path / "policy.flags").returncode == 0
    done = run(FILE, "--flags", tmp_path / "policy.flags", other_key)
    assert done.returncode == 1
    assert "4 newly refused" in done.stdout


def test_each_policy_reads_the_files_beside_its_flags(run: Run, tmp_path: Path) -> None:
    """The flags are equal, the keys and limits are not."""
    key = KEY.read_text()
    for name, pem, value in (
        ("old", key, 1000),
        ("key", SigningKey.generate("ES256").public_pem, 1000),
        ("limit", key, 1),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "keys.pem").write_text(pem)
        (folder / "limits.yaml").write_text(f"limits:\n- {{type: queries, value: {value}}}\n")
        flags = ("-enable.auth", "-auth.publicKeyFiles=keys.pem", "-enable.rateLimit", "-ratelimit.config=limits.yaml")
        (folder / "policy.flags").write_text("\n".join([*flags, *BACKENDS]))
    baseline = ("--baseline-flags", tmp_path / "old" / "policy.flags")
    assert run(FILE, "--flags", tmp_path / "old" / "policy.flags", *baseline).returncode == 0
    assert "4 newly refused" in run(FILE, "--flags", tmp_path / "key" / "policy.flags", *baseline).stdout
    assert "429 rate_limited" in run(FILE, "--flags", tmp_path / "limit" / "policy.flags", *baseline).stdout


def har(tmp_path: Path, *urls: str, token: str = "") -> Path:
    headers = [{"name": "Authorization", "value": f"Bearer {token}"}] if token else []
    entries = [
        {"startedDateTime": "2026-01-02T03:04:05Z", "request": {"method": "GET", "url": url, "headers": headers}}
        for url in urls
    ]
    file = tmp_path / "flows.har"
    file.write_text(json.dumps({"log": {"entries": entries}}))
    return file


PAGE: Final = (
    "http://g:8431/api/v1/query?query=up",
    "http://G/api/v1/labels",
    "https://cdn/x.js",
    "data:,x",
    "blob:http://g/1",
)


def test_a_browsers_requests_are_chosen_by_host_and_filter(run: Run, tmp_path: Path) -> None:
    file = har(tmp_path, *PAGE, token="a.b.c")  # noqa: S106
    done = run(file, *SAME, "--host", "g", "--list", 9)
    assert done.returncode == 0, done.stderr
    assert "2 flows were skipped" in done.stdout
    assert "1 requests were left out by --host and --filter" in done.stdout
    assert f"{file}#2 GET /api/v1/labels: 401 malformed_token: " in done.stdout
    assert "2 requests judged, 2 of them refused" in done.stdout
    for choice in (("--host=g:8431",), ("--filter", "~u labels"), ("--filter=~m GET & ~d ^g$", "--filter=!~u labels")):
        assert "1 requests judged, 1 of them refused" in run(file, *SAME, *choice).stdout
    assert "2 requests judged" in run(file, *SAME, "--host=g:8431", "--host=cdn").stdout
    assert run(FILE, *SAME, "--filter", "~c 404").stdout.endswith("\n1 requests judged: nothing would change\n")


def test_a_har_file_without_tokens_is_told(run: Run, tmp_path: Path) -> None:
    done = run(har(tmp_path, *PAGE), *SAME)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "vmgateway replay: no request has a token (-auth.httpHeader: authorization), so all would be"
    )


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
        ([FILE, *SAME, "--summary", "/nowhere/x"], "--summary: cannot write /nowhere/x: No such file or directory"),
        ([FILE, *SAME, "--approved", "/nowhere"], "--approved: cannot read /nowhere: No such file or directory"),
        ([FILE, *SAME, "--update"], "--update: name the file with --approved"),
        ([FILE, *SAME, "--filter", "~"], "--filter: expected a mitmproxy filter expression"),
        ([FILE, *SAME, "--host", "nowhere"], f"no requests in {FILE}"),
        (["/dev/null", *SAME], "no requests in /dev/null"),
        (
            [DATA / "public.pem", *SAME],
            f"{DATA / 'public.pem'}: flow 1 (at byte 0) cannot be read: a length is missing",
        ),
    ],
    ids=range(17),
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
    assert capsys.readouterr().err == f"vmgateway replay: {file}, line 2: no closing quotation\n"
    file.write_text("-enable.auth\n# keys\n-auth.publicKeyFiles=/nowhere\n")
    assert main(["replay", str(FILE), "--flags", str(file)], {}) == 2
    reason = "-auth.publicKeyFiles: cannot read /nowhere: No such file or directory"
    assert capsys.readouterr().err == f"vmgateway replay: {file}, line 3: {reason}\n"
    file.write_bytes(b"\xff")
    assert main(["replay", str(FILE), "--flags", str(file)], {}) == 2
    assert capsys.readouterr().err == f"vmgateway replay: --flags: {file} is not UTF-8 text\n"


def test_files_options_and_flags_in_any_order() -> None:
    arguments = ["a", "-read.url", "b", "--json", "c", "-enable.auth", "-", "--list=5", "--flags", "f", "-x=y"]
    found = read_arguments(arguments, values=("list", "flags"), switches=("json",))
    assert found.positional == ["a", "c", "-"]
    assert found.flags == ["-read.url", "b", "-enable.auth", "-x=y"]
    assert found.options == {"json": [], "list": ["5"], "flags": ["f"]}
