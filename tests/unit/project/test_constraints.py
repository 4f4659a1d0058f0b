"""constraints.txt is what setup.cfg asks for, in one version each, and with hashes."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[3]
TEXT = (REPOSITORY / "constraints.txt").read_text()
LOCKED = [
    (Requirement(entry.partition(" \\")[0]), entry)
    for entry in re.split(r"\n(?=[A-Za-z])", re.sub(r"(?m)^#.*\n", "", TEXT).strip())
]


def required() -> list[Requirement]:
    configuration = configparser.ConfigParser()
    configuration.read(REPOSITORY / "setup.cfg")
    lines = configuration["options"]["install_requires"] + configuration["options.extras_require"]["traces"]
    return [Requirement(line) for line in lines.split("\n") if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_requirement_is_met(python: str) -> None:
    where = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}
    versions = {
        canonicalize_name(entry.name): next(iter(entry.specifier)).version
        for entry, _ in LOCKED
        if entry.marker is None or entry.marker.evaluate(where)
    }
    for requirement in required():
        if requirement.marker is None or requirement.marker.evaluate(where):
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement.name


def test_each_entry_is_one_version_with_hashes() -> None:
    for entry, text in LOCKED:
        assert [specifier.operator for specifier in entry.specifier] == ["=="], entry.name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", text), entry.name


def test_no_place_to_install_from_is_named() -> None:
    assert "://" not in TEXT
    assert "index" not in TEXT
