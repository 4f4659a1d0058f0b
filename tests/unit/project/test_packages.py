"""The packages: setup.cfg lists each of them, and the core is a library that needs none of the servers' packages."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text()

WITHOUT_SERVERS = """
import sys

REFUSED = {"mitmproxy", "redis", "uvloop", "prometheus_client", "httptools", "requests"}


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(name)


sys.meta_path.insert(0, Refuse())
import vmgw_core
from importlib import import_module
from pkgutil import walk_packages

names = [module.name for module in walk_packages(vmgw_core.__path__, "vmgw_core.")]
for name in names:
    import_module(name)
missing = [name for name in vmgw_core.__all__ if not hasattr(vmgw_core, name)]
print(len(names), missing)
"""


def test_each_package_is_installed() -> None:
    configuration = configparser.ConfigParser()
    configuration.read(REPOSITORY / "setup.cfg")
    listed = set(configuration["options"]["packages"].split())
    found = set()
    for name, folder in (("vmgw_core", "vmgw_core"), ("vmgw_addons", "addons")):
        for path in (REPOSITORY / folder).rglob("__init__.py"):
            found.add(".".join([name, *path.parent.relative_to(REPOSITORY / folder).parts]))
    assert len(found) > 20
    assert listed == found


def test_a_package_has_a_dozen_modules_at_most() -> None:
    for folder in ("vmgw_core", "addons"):
        for package in (REPOSITORY / folder).rglob("__init__.py"):
            modules = [path.name for path in package.parent.glob("*.py") if path.name != "__init__.py"]
            assert len(modules) <= 12, package


def test_the_page_names_each_package_once() -> None:
    text = ARCHITECTURE.partition("## The packages")[2].partition("\n## ")[0]
    tables = text.split("| package of ")[1:]
    for folder, table in zip(("vmgw_core", "addons"), tables, strict=True):
        named = re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE)
        on_disk = [path.parent.name for path in (REPOSITORY / folder).glob("*/__init__.py")]
        assert sorted(named) == sorted(on_disk)


def test_the_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:vmgw_core|addons|tests|docs|scripts|deployment)(?:/[\w.-]+)*)`", ARCHITECTURE))
    assert len(named) > 20
    assert {name for name in named if not (REPOSITORY / name).exists()} == set()


def test_the_core_is_imported_without_the_packages_of_the_servers() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_SERVERS], capture_output=True, text=True, check=True)
    count, _, missing = ran.stdout.strip().partition(" ")
    assert int(count) > 60
    assert missing == "[]"
