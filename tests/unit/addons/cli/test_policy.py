"""``vmgateway policy test``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.wire.processes import run_command

POLICY = 'match: [{name: devs, when: {groups: dev}, grant: {tenant: "1:5", labels: {team: dev}, mode: read}}]'
ACCESS = {"tenant": "1:5", "mode": "read", "labels": [["team", "dev"]], "filters": [], "entries": ["devs"]}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, Path]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    return str(policy), tmp_path / "claims.json"


def test_what_is_granted(files: tuple[str, Path]) -> None:
    policy, claims = files
    claims.write_text('{"groups": ["dev"]}')
    shown = run_command("policy", "test", policy, f"--claims={claims}")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "GRANTED\n  by -auth.policy: devs\n  tenant 1:5, mode read\n  label  team=dev\n"
    document = json.loads(run_command("policy", "test", policy, f"--claims={claims}", "--json").stdout)
    assert document == {"verdict": "granted", "refusal": None, "access": ACCESS}


def test_the_class_of_limits_is_shown(files: tuple[str, Path]) -> None:
    policy, claims = files
    claims.write_text("{}")
    Path(policy).write_text("default: {tenant: 7, limits: bronze}")
    shown = run_command("policy", "test", policy, f"--claims={claims}").stdout
    assert shown.endswith("  tenant 7:0, mode full\n  limits of class bronze\n")
    document = json.loads(run_command("policy", "test", policy, f"--claims={claims}", "--json").stdout)
    assert document["access"]["limits"] == "bronze"


def test_what_is_refused(files: tuple[str, Path]) -> None:
    policy, claims = files
    claims.write_text("{}")
    shown = run_command("policy", "test", policy, f"--claims={claims}")
    assert shown.returncode == 1
    assert shown.stdout.startswith("REFUSED  no_matching_entry: no entry of -auth.policy matches the token")


def test_what_is_expected(files: tuple[str, Path], tmp_path: Path) -> None:
    policy, claims = files
    expected = tmp_path / "expected.json"
    claims.write_text('{"groups": "dev"}')
    expected.write_text(json.dumps({"verdict": "granted", "refusal": None, "access": ACCESS}))
    arguments = ("policy", "test", policy, f"--claims={claims}", f"--expect={expected}")
    shown = run_command(*arguments)
    assert (shown.returncode, shown.stdout) == (0, "as expected\n")
    claims.write_text('{"groups": "ops"}')
    shown = run_command(*arguments)
    assert shown.returncode == 1
    assert '-  "verdict": "granted"\n+  "verdict": "refused"' in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "expected test POLICY --claims=FILE"),
        (["test", "nowhere.yaml"], "expected test POLICY --claims=FILE"),
        (["test", "nowhere.yaml", "--claims=-"], "-auth.policy nowhere.yaml: cannot read it: No such file"),
        (["test", "{policy}", "--claims=nowhere.json"], "--claims: cannot read nowhere.json"),
        (["test", "{policy}", "--claims={policy}"], "--claims: not valid JSON"),
    ],
)
def test_what_cannot_be_read(files: tuple[str, Path], arguments: list[str], reason: str) -> None:
    done = run_command("policy", *(argument.format(policy=files[0]) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"vmgateway policy: {reason}")


def test_help() -> None:
    done = run_command("policy", "--help")
    assert (done.returncode, done.stdout.partition("\n")[0]) == (
        0,
        "Usage: vmgateway policy test POLICY --claims=FILE [--expect=FILE] [--json]",
    )
