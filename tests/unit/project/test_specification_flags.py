"""The table of flags against the specification's own list: no flag of it is missing, or means another type or default.

The list is data: tests/data/specification-flags.tsv, from the specification's heading "Configuration".
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final

from tests.support.each import each
from vmgw_core.configuration.flag import Flag, Kind
from vmgw_core.configuration.table import BY_NAME, FLAGS

TESTS: Final = Path(__file__).parents[2]

SEVERAL: Final = frozenset({"read.url", "write.url", "auth.httpHeader"})
"""Where the specification has one value, and a list of values stands here."""


def specified() -> list[tuple[str, str, str]]:
    """Name, type and default of each flag."""
    with (TESTS / "data" / "specification-flags.tsv").open() as file:
        rows = [(row["name"], row["type"], row["default"]) for row in csv.DictReader(file, delimiter="\t")]
    assert len(rows) == len({name for name, _, _ in rows}) == 85
    return rows


@each("row", specified(), ids=lambda row: row[0])
def test_a_flag_of_the_specification_is_there_with_its_type_and_default(row: tuple[str, str, str]) -> None:
    name, kind, default = row
    flag = BY_NAME[name]
    assert flag.kind is Kind.ARRAY if name in SEVERAL else flag.kind.value == kind
    assert flag.default == flag.parse(default)


def named_in_tests() -> frozenset[str]:
    """Every flag that a test of the addons, or one with real servers, sets."""
    files = (path for place in ("unit/addons", "wire") for path in (TESTS / place).rglob("*.py"))
    names = {name for path in files for name in re.findall(r"[\"']-([A-Za-z0-9.]+)", path.read_text())}
    for path in TESTS.rglob("test_datasource*.py"):  # there they stand without the prefix they share
        names |= {f"datasource.{name}" for name in re.findall(r"[\"']([A-Za-z0-9.]+)[=\"']", path.read_text())}
    for path in (TESTS / "unit" / "addons" / "lanes" / "fast").glob("test_*.py"):  # there they are arguments of a lane
        names |= set(re.findall(r"Lane\(\*\*\{\"([A-Za-z0-9.]+)\"", path.read_text()))
    return frozenset(names)


SET: Final = named_in_tests()


@each("flag", [flag for flag in FLAGS if not flag.effect], ids=lambda flag: flag.name)
def test_a_flag_that_takes_effect_is_set_by_some_test(flag: Flag) -> None:
    assert flag.name in SET
