"""Files that appear in one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.writing import replace_text


def test_the_text_is_there_and_nothing_else(tmp_path: Path) -> None:
    replace_text(tmp_path / "a.txt", "old")
    replace_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_old_text_and_is_told_with_the_path(tmp_path: Path) -> None:
    replace_text(tmp_path / "a.txt", "old")
    (tmp_path / ".a.txt.tmp").symlink_to("/dev/full")  # as if the disk were
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.txt'"):
        replace_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
