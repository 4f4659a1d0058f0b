from __future__ import annotations

from pathlib import Path

from vmgw_addons.support import file_version


def test_the_version_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert file_version(file) is None
    file.write_text("a")
    first = file_version(file)
    assert first is not None
    assert file_version(str(file)) == first
    file.write_text("bc")
    assert file_version(file) != first
    replaced = file_version(file)
    (tmp_path / "new").write_text("de")
    (tmp_path / "new").replace(file)
    assert file_version(file) != replaced, "a file of the same size took its place"
