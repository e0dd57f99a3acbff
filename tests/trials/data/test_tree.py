"""Walking a folder tree: every file once, links and locked folders included."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import DataError
from trials.data.tree import Unread, files_below


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_files_of_the_root_come_first_then_folders_by_name(tmp_path: Path):
    make(tmp_path, "b/x.png", "a/b/y.png", "a/z.png", "root.png")
    assert list(files_below(tmp_path, Unread())) == ["root.png", "a/z.png", "a/b/y.png", "b/x.png"]


def test_a_loop_of_links_ends_and_is_said(tmp_path: Path):
    make(tmp_path, "a/x.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    unread = Unread()
    assert list(files_below(tmp_path, unread)) == ["a/x.png"]
    assert unread.repeated == ["a/again"]


def test_a_link_never_hides_the_folder_it_points_to(tmp_path: Path):
    make(tmp_path, "z/x.png")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert list(files_below(tmp_path, Unread())) == ["z/x.png"]


def test_a_linked_folder_from_elsewhere_is_read(tmp_path: Path):
    make(tmp_path / "elsewhere", "deep/x.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "data").symlink_to(tmp_path / "elsewhere")
    assert list(files_below(tmp_path / "root", Unread())) == ["data/deep/x.png"]


def test_broken_links_and_resource_forks_are_no_files(tmp_path: Path):
    make(tmp_path, "x.png", "._x.png", "__MACOSX/x.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert list(files_below(tmp_path, Unread())) == ["x.png"]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path):
    make(tmp_path, "a.png", "gone/x.png")
    unread = Unread()
    walk = files_below(tmp_path, unread)
    assert next(walk) == "a.png"
    (tmp_path / "gone" / "x.png").unlink()
    (tmp_path / "gone").rmdir()
    assert (list(walk), unread.folders) == ([], ["gone"])


def test_no_such_folder(tmp_path: Path):
    with pytest.raises(DataError, match="there is no folder"):
        list(files_below(tmp_path / "gone", Unread()))


def test_a_file_is_no_folder(tmp_path: Path):
    make(tmp_path, "x.png")
    with pytest.raises(DataError, match="is a file, not a folder"):
        list(files_below(tmp_path / "x.png", Unread()))
