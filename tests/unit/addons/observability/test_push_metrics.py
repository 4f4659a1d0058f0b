from __future__ import annotations

import pytest

from vmgw_addons.observability.push_metrics import with_labels


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a 1", 'a{x="y"} 1'),
        ('a{b="c"} 1', 'a{x="y",b="c"} 1'),
        ("a{} 1", 'a{x="y"} 1'),
        ('a{b="{ }"} 1 123', 'a{x="y",b="{ }"} 1 123'),
        ("# HELP a {", "# HELP a {"),
        ("", ""),
    ],
)
def test_labels_are_added_to_each_sample(line: str, expected: str) -> None:
    assert with_labels(line, 'x="y"') == expected
    assert with_labels(f"{line}\n{line}\n", 'x="y"') == f"{expected}\n{expected}\n"
    assert with_labels(line, "") == line
