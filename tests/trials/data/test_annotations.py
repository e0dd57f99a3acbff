"""Annotation lists: columns, roots, missing files."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import DataError
from search_spaces.spec import DataSource
from trials.data.annotations import list_line, read_annotations, read_lines, read_list


def source(file: Path, name: str = "Middlebury", root: Path | None = None) -> DataSource:
    return DataSource(data_file=str(file), dataset_name=name, data_root=None if root is None else str(root))


def write(folder: Path, text: str, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "list.txt").write_text(text)
    return folder / "list.txt"


def test_blank_lines_comments_and_tabs_are_read_over(tmp_path: Path) -> None:
    file = write(tmp_path, "# left right disparity\n\n  l.png\tr.png   d.pfm  \n", "l.png", "r.png", "d.pfm")
    (row,) = read_annotations(source(file), family="stereo", action="train")
    assert (row.image, row.right, row.target, row.mask) == (tmp_path / "l.png", tmp_path / "r.png", tmp_path / "d.pfm", None)
    assert row.place == f"{file}:3"


@pytest.mark.parametrize("end", ["\r\n", "\r", "   \t\n"], ids=["CRLF", "CR", "trailing blanks"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_line_ends_of_every_editor(tmp_path: Path, end: str, mark: str) -> None:
    write(tmp_path, "", "l.png", "r.png", "d.pfm")
    (tmp_path / "list.txt").write_bytes(f"{mark}l.png r.png d.pfm{end}{end}# comment{end}r.png l.png d.pfm".encode())
    rows = read_annotations(source(tmp_path / "list.txt"), family="stereo", action="train")
    assert [(row.image.name, row.line) for row in rows] == [("l.png", 1), ("r.png", 4)]
    assert rows[0].target == tmp_path / "d.pfm"


def test_quoted_paths_may_hold_blanks(tmp_path: Path) -> None:
    file = write(tmp_path, "\"my left.png\" 'my right.png' d.pfm\n", "my left.png", "my right.png", "d.pfm")
    (row,) = read_annotations(source(file), family="stereo", action="train")
    assert row.right == tmp_path / "my right.png"


@pytest.mark.parametrize(
    ("line", "target"),
    [("i.png", None), ("i.png d.png", "d.png"), ("i.png r.png d.png", "d.png"), ("i.png r.png d.png m.png", "d.png")],
)
def test_mono_takes_the_second_or_third_column(tmp_path: Path, line: str, target: str | None) -> None:
    file = write(tmp_path, line + "\n", "i.png", "d.png")
    (row,) = read_annotations(source(file, "MetricMonoDataset"), family="mono", action="infer")
    assert row.target == (None if target is None else tmp_path / target)


@pytest.mark.parametrize(
    ("name", "family", "action", "columns", "hint"),
    [
        ("Kitti", "stereo", "infer", 2, "GenericDataset"),
        ("GenericDataset", "stereo", "train", 2, "needs ground truth"),
        ("GenericDataset", "stereo", "val", 4, "Middlebury and Eth3d"),
        ("Middlebury", "stereo", "train", 5, "left right disparity"),
        ("NYUDV2", "mono", "train", 1, "image ground-truth"),
    ],
)
def test_a_wrong_column_count_names_the_line(tmp_path: Path, name: str, family: str, action: str, columns: int, hint: str) -> None:
    file = write(tmp_path, "# head\n" + " ".join(["a.png"] * columns) + "\n", "a.png")
    with pytest.raises(DataError, match=rf"list.txt:2: {name} takes .* but the line has {columns}") as error:
        read_annotations(source(file, name), family=family, action=action)
    assert hint in str(error.value.hint)


def test_generic_data_may_lack_ground_truth_in_inference(tmp_path: Path) -> None:
    file = write(tmp_path, "l.png r.png\n", "l.png", "r.png")
    (row,) = read_annotations(source(file, "genericdataset"), family="stereo", action="infer")
    assert row.target is None


@pytest.mark.parametrize("name", ["FSD", "IsaacRealDataset", "Crestereo", "Middlebury", "Eth3d", "Kitti"])
def test_a_named_class_without_ground_truth_names_the_generic_one(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, "l.png r.png\n", "l.png", "r.png")
    with pytest.raises(DataError, match=rf"list.txt:1: {name} takes 3( or 4)? columns for infer, but the line has 2") as error:
        read_annotations(source(file, name), family="stereo", action="infer")
    assert error.value.hint == "dataset_name GenericDataset takes left and right alone for inference"


@pytest.mark.parametrize("line", ['"l.png r.png d.pfm', '"l.png"r.png d.pfm', '"" r.png d.pfm'], ids=["open", "no blank", "empty"])
def test_a_wrong_quote_is_an_error(tmp_path: Path, line: str) -> None:
    file = write(tmp_path, line + "\n")
    with pytest.raises(DataError, match=r"list.txt:1: a quote is not closed"):
        read_annotations(source(file), family="stereo", action="train")


def test_data_root_comes_first(tmp_path: Path) -> None:
    file = write(tmp_path, "i.png d.png\n", "i.png", "d.png", "other/i.png", "other/d.png")
    listing = read_list(source(file, "NYUDV2", tmp_path / "other"), family="mono", action="train")
    assert (listing.root, listing.root_choice) == (tmp_path / "other", "data_root")
    assert listing.rows[0].image == tmp_path / "other" / "i.png"


def test_the_lists_own_folder_comes_before_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "i.png d.png\n", "i.png", "d.png", "here/i.png", "here/d.png")
    monkeypatch.chdir(tmp_path / "here")
    assert read_list(source(file, "NYUDV2"), family="mono", action="train").root == tmp_path


def test_the_current_folder_is_used_when_the_files_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "", "i.png", "d.png")
    file = write(tmp_path / "lists", "i.png d.png\n", "x")
    monkeypatch.chdir(tmp_path)
    listing = read_list(source(file, "NYUDV2"), family="mono", action="train")
    assert listing.root_choice == "the current folder"


def test_absolute_paths_need_no_root(tmp_path: Path) -> None:
    file = write(tmp_path, f"{tmp_path / 'i.png'} {tmp_path / 'd.png'}\n", "i.png", "d.png")
    listing = read_list(source(file, "NYUDV2"), family="mono", action="train")
    assert (listing.root, listing.root_choice) == (None, "absolute paths")


def test_missing_files_are_counted_and_the_first_ten_named(tmp_path: Path) -> None:
    file = write(tmp_path, "i.png d.png\n" + "".join(f"i.png gone{n}.png\n" for n in range(12)), "i.png", "d.png")
    with pytest.raises(DataError, match=r"12 of 26 files") as error:
        read_annotations(source(file, "NYUDV2"), family="mono", action="train")
    assert f"{file}:2: {tmp_path / 'gone0.png'}" in error.value.message
    assert "gone9.png" in error.value.message
    assert "gone10.png" not in error.value.message
    assert "and 2 more" in error.value.message


def test_a_root_that_nobody_can_guess_asks_for_data_root(tmp_path: Path) -> None:
    file = write(tmp_path, "i.png d.png\n")
    with pytest.raises(DataError, match=r"i.png is neither in") as error:
        read_annotations(source(file, "NYUDV2"), family="mono", action="train")
    assert "data_root" in str(error.value.hint)


def test_an_empty_list_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, "# nothing\n\n")
    with pytest.raises(DataError, match="holds no samples"):
        read_annotations(source(file), family="stereo", action="train")


def test_a_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as error:
        read_annotations(source(tmp_path / "no.txt"), family="stereo", action="train")
    assert "data_file" in str(error.value.hint)


def test_a_picture_as_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match="is not text"):
        read_annotations(source(tmp_path / "list.txt"), family="stereo", action="train")


@pytest.mark.parametrize("path", ["a b.png", "it's.png", 'my "best" shot.png', "'quoted'.png", "#1.png", "no\u3000blank.png", " x.png"])
def test_a_written_line_is_read_back(tmp_path: Path, path: str) -> None:
    (tmp_path / "list.txt").write_text(list_line([path, "plain.png", path]), encoding="utf-8")
    (line,) = read_lines(tmp_path / "list.txt")
    assert line.fields == (path, "plain.png", path)


@pytest.mark.parametrize("path", ["a\nb.png", "a\u2028b.png", "caf\udce9.png", 'it\'s "both".png'])
def test_a_path_that_no_line_can_hold_is_refused(path: str) -> None:
    with pytest.raises(DataError, match="cannot hold the path"):
        list_line([path])
