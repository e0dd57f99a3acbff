"""Lists of a folder tree: which files make a row, which list it goes to, and that a failed run leaves the older lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from search_spaces.errors import DataError
from search_spaces.spec import DataSource
from search_spaces.spec.convert import Convert
from tests.trials.data.test_tree import make
from trials.data.annotations import read_annotations, read_lines
from trials.data.convert import Converted, convert, divided, write_all

STEREO = {"image_dir_pattern": ("im0",), "right_dir_pattern": ("im1",), "image_extension": ".png"}
WITH_TRUTH = {**STEREO, "depth_dir_pattern": ("disp0",), "depth_extension": ".pfm"}


def run(root: Path, **keys: object) -> Converted:
    spec = Convert(data_root=str(root), results_dir=str(root.parent / "lists"), **keys)  # type: ignore[arg-type]
    return convert(spec, report=lambda *_: None)


def rows(root: Path, **keys: object) -> list[tuple[str, ...]]:
    """The rows of all lists, with paths below `root`."""
    return sorted(
        tuple(Path(field).relative_to(root).as_posix() for field in line.fields)
        for path, _ in run(root, **keys).lists
        for line in read_lines(path)
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_a_row_has_every_column_in_its_order(root: Path):
    make(root, "a/im0.png", "a/im1.png", "a/disp0.pfm", "a/mask0.png")
    keys = {**WITH_TRUTH, "nocc_dir_pattern": ("mask0",), "nocc_extension": ".png"}
    assert rows(root, **keys) == [("a/im0.png", "a/im1.png", "a/disp0.pfm", "a/mask0.png")]


def test_all_patterns_must_stand_in_the_path_and_only_the_first_is_replaced(root: Path):
    make(root, "day/im0/1.png", "day/im1/1.png", "night/im0/1.png", "night/im1/1.png")
    keys = {**STEREO, "image_dir_pattern": ("im0", "day")}
    assert rows(root, **keys) == [("day/im0/1.png", "day/im1/1.png")]


def test_files_of_the_root_itself_count(root: Path):
    make(root, "rgb_1.png", "depth_1.png")
    keys = {"image_dir_pattern": ("rgb",), "depth_dir_pattern": ("depth",), "image_extension": ".png"}
    assert rows(root, **keys) == [("rgb_1.png", "depth_1.png")]


def test_a_slash_marks_a_folder_even_at_the_root(root: Path):
    make(root, "image/image_1.png", "gt/image_1.png")
    keys = {"image_dir_pattern": ("/image/",), "depth_dir_pattern": ("/gt/",), "image_extension": ".png"}
    assert rows(root, **keys) == [("image/image_1.png", "gt/image_1.png")]


def test_patterns_do_not_see_the_path_above_data_root(tmp_path: Path):
    make(tmp_path / "rgb", "rgb_1.png", "depth_1.png", "notes_1.png")
    keys = {"image_dir_pattern": ("rgb",), "depth_dir_pattern": ("depth",), "image_extension": ".png"}
    assert rows(tmp_path / "rgb", **keys) == [("rgb_1.png", "depth_1.png")]


@pytest.mark.parametrize(
    ("image", "image_ending", "depth_ending", "depth"),
    [
        ("jpg/c_1.jpg", ".jpg", ".png", "jpg/d_1.png"),  # a folder called like the ending stays
        ("c.jpg_1.jpg", ".jpg", ".png", "d.jpg_1.png"),
        ("c_1.JPG", ".jpg", ".png", "d_1.png"),
        ("c_1.png", None, ".pfm", "d_1.pfm"),  # '' would put .pfm between all letters in TAO
        ("c_1.png", ".png", None, "d_1.png"),  # '' would cut the ending off in TAO
        ("c_1.rgb.png", ".rgb.png", ".depth.png", "d_1.depth.png"),
    ],
)
def test_the_ending_alone_is_swapped(image: str, image_ending: str | None, depth_ending: str | None, depth: str, root: Path):
    make(root, image, depth)
    keys = {"image_dir_pattern": ("c",), "depth_dir_pattern": ("d",), "image_extension": image_ending, "depth_extension": depth_ending}
    assert rows(root, **keys) == [(image, depth)]


def test_without_an_ending_every_image_file_is_taken(root: Path):
    make(root, "a.png", "b.jpeg", "notes.txt", ".DS_Store")
    assert rows(root, image_extension=None) == [("a.png",), ("b.jpeg",)]


def test_every_occurrence_is_replaced_and_that_is_said(root: Path):
    make(root, "im0/im0.png", "im1/im1.png")
    done = run(root, **STEREO)
    assert done.notes == ("image_dir_pattern[0] stands more than once in 1 of 1 paths; all were replaced: im0/im0.png -> im1/im1.png",)


def test_paths_with_blanks_and_quotes_are_read_back(root: Path):
    make(root, "my scene/im0 it's.png", "my scene/im1 it's.png", "my scene/disp0 it's.pfm")
    path = run(root, **WITH_TRUTH).lists[0][0]
    (row,) = read_annotations(DataSource(data_file=str(path), dataset_name="GenericDataset"), family="stereo", action="test")
    assert row.right == root / "my scene/im1 it's.png"


def test_missing_files_are_counted_and_the_first_ten_named(root: Path):
    make(root, *(f"{i:02}/{name}" for i in range(12) for name in ("im0.png", "disp0.pfm")), "12/im0.png", "12/im1.png", "12/disp0.pfm")
    with pytest.raises(DataError, match="12 of 13 images below") as caught:
        run(root, **WITH_TRUTH)
    assert caught.value.message.count(": no ") == 10
    assert caught.value.message.endswith("09/im0.png: no 09/im1.png\n  ... and 2 more")
    assert "allow_missing=true" in str(caught.value.hint)


def test_rows_with_missing_files_may_be_left_out(root: Path):
    make(root, "a/im0.png", "a/im1.png", "b/im0.png")
    done = run(root, **STEREO, allow_missing=True)
    assert (done.lists[0][1], done.left_out) == (1, 1)


def test_all_rows_left_out_is_an_error(root: Path):
    make(root, "a/im0.png")
    with pytest.raises(DataError, match="1 of 1 images"):
        run(root, **STEREO, allow_missing=True)


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ("a/disp0.png", "a/disp0.png is there: set depth_extension=.png"),
        ("a/disp1.pfm", "a/disp1.pfm is there; check depth_dir_pattern"),
        ("a/notes.txt", "check depth_dir_pattern"),
    ],
)
def test_the_hint_names_what_is_there_instead(there: str, hint: str, root: Path):
    make(root, "a/im0.png", "a/im1.png", there)
    with pytest.raises(DataError) as caught:
        run(root, **WITH_TRUTH)
    assert caught.value.hint == hint


def test_a_missing_folder_gets_the_nearest_one(root: Path):
    make(root, "left/1.png", "rihgt/1.png")
    with pytest.raises(DataError) as caught:
        run(root, image_dir_pattern=("left",), right_dir_pattern=("right",), image_extension=".png")
    assert caught.value.hint == f"there is no folder right in {root}; did you mean rihgt?"


def test_a_pattern_that_is_too_short_gets_a_longer_one(root: Path):
    make(root, "rgbd_room/rgb/1.png", "rgbd_room/depth/1.png")
    with pytest.raises(DataError) as caught:
        run(root, image_dir_pattern=("rgb",), depth_dir_pattern=("depth",), image_extension=".png")
    assert "give more of the path, /rgb/ say" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ({"image_dir_pattern": ("im_0",)}, "no path holds 'im_0'; did you mean 'im0'?"),
        ({"image_dir_pattern": ("IM0",)}, "'IM0' and 'im0' differ in upper and lower case, which counts"),
        ({"image_dir_pattern": ("data",)}, "'data' is part of data_root itself"),
        ({"image_dir_pattern": ("im0", "im1")}, "each text of image_dir_pattern stands in some path, but none holds all"),
        ({"image_dir_pattern": ("*im0*",)}, "patterns are plain texts without wildcards: write 'im0'"),
        ({"image_dir_pattern": ("a/in0",)}, "no path holds 'a/in0'; give a text"),
        ({"image_dir_pattern": ("notes",)}, "the files that hold every text of image_dir_pattern are no images"),
        ({"image_extension": ".jpg"}, "1 paths hold every text of image_dir_pattern, but end in .png: set image_extension=.png"),
    ],
)
def test_nothing_found_says_what_is_there_and_what_would_find_it(keys: Mapping[str, object], hint: str, root: Path):
    make(root, "a/im0.png", "a/im1.png", "notes.txt")
    with pytest.raises(DataError, match=r"2 \.png, 1 \.txt") as caught:
        run(root, **{**STEREO, **keys})
    assert str(caught.value.hint).startswith(hint)


def test_an_empty_tree(root: Path):
    with pytest.raises(DataError, match="it holds no file"):
        run(root, **STEREO)


def test_train_is_the_first_part_of_a_shuffled_order():
    names = [f"{i}.png" for i in range(10)]
    parts = divided(names, 0.75, 1)
    assert (len(parts["train"]), len(parts["val"])) == (7, 3)  # int(10 * 0.75)
    assert sorted(parts["train"] + parts["val"]) == names
    assert parts == divided(names, 0.75, 1)
    assert parts != divided(names, 0.75, 3)


def test_a_row_that_joins_moves_at_most_one_other():
    names = [f"{i}.png" for i in range(20)]
    before, after = set(divided(names, 0.5, 1)["train"]), set(divided([*names, "x.png"], 0.5, 1)["train"])
    assert len(before - after) <= 1


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_no_division_is_one_test_list(ratio: float):
    assert divided(["a", "b"], ratio, 1) == {"test": ["a", "b"]}


@pytest.mark.parametrize(("number", "hint"), [(1, "there is nothing to divide"), (4, "at least 0.251 gives both lists a row")])
def test_an_empty_list_is_refused(number: int, hint: str):
    with pytest.raises(DataError, match=r"leaves train.txt empty") as caught:
        divided(["x"] * number, 0.2, 1)
    assert str(caught.value.hint).startswith(hint)


def test_a_run_again_writes_the_same_bytes(root: Path):
    make(root, *(f"{i}/{name}.png" for i in range(5) for name in ("im0", "im1")))
    first = [path.read_bytes() for path, _ in run(root, **STEREO, split_ratio=0.6).lists]
    assert [path.read_bytes() for path, _ in run(root, **STEREO, split_ratio=0.6).lists] == first


def test_lists_of_another_division_are_pointed_out(root: Path):
    make(root, *(f"{i}/{name}.png" for i in range(2) for name in ("im0", "im1")))
    run(root, **STEREO, split_ratio=0.5)
    assert run(root, **STEREO).notes == (f"older lists are left in {root.parent / 'lists'}: train.txt, val.txt",)


def test_folders_that_were_left_out_are_notes(root: Path):
    make(root, "a/im0.png", "a/im1.png")
    (root / "again").symlink_to(root / "a")
    assert run(root, **STEREO).notes == (f"1 folder passed over, a link leads to what was seen already: {root / 'again'}",)


def broken() -> Iterator[str]:
    yield "half a list\n"
    raise KeyboardInterrupt


def test_an_interrupted_run_leaves_the_older_lists(tmp_path: Path):
    train, val = tmp_path / "train.txt", tmp_path / "val.txt"
    train.write_text("old\n")
    with pytest.raises(KeyboardInterrupt):
        write_all({train: iter(["new\n"]), val: broken()})
    assert (train.read_text(), [path.name for path in tmp_path.iterdir()]) == ("old\n", ["train.txt"])


def test_a_list_that_cannot_be_put_in_its_place_takes_none(tmp_path: Path):
    train, val = tmp_path / "train.txt", tmp_path / "val.txt"
    train.write_text("old\n")

    def lines() -> Iterator[str]:
        yield "new\n"
        val.mkdir()  # after the check, so that putting it in its place fails

    with pytest.raises(OSError, match=r"val\.txt"):
        write_all({train: iter(["new\n"]), val: lines()})
    assert train.read_text() == "old\n"


def test_a_folder_called_like_a_list_is_refused_first(tmp_path: Path):
    (tmp_path / "val.txt").mkdir()
    with pytest.raises(DataError, match=r"val\.txt is a folder"):
        write_all({tmp_path / "train.txt": iter(["new\n"]), tmp_path / "val.txt": iter([])})
    assert not (tmp_path / "train.txt").exists()


def test_counts_are_reported_on_the_way(root: Path):
    make(root, *(f"{i}.png" for i in range(1000)))
    heard: list[tuple[str, int, int | None]] = []
    spec = Convert(data_root=str(root), results_dir=str(root.parent), image_extension=".png")
    convert(spec, report=lambda *counts: heard.append(counts))
    assert heard == [("files seen", 1000, None), ("rows checked", 1000, 1000), ("rows of test.txt written", 1000, 1000)]
