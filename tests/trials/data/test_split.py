"""One list divided into train and val."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from search_spaces.errors import DataError
from search_spaces.spec import DataSource
from trials.data.annotations import read_annotations
from trials.data.sample import SampleSet
from trials.data.split import write_split


def source(file: Path) -> DataSource:
    return DataSource(data_file=str(file), dataset_name="Middlebury")


def numbered(folder: Path, lines: list[str]) -> DataSource:
    for name in {name for line in lines for name in line.split()}:
        (folder / name).write_bytes(b"x")
    (folder / "list.txt").write_text("\n".join(lines))
    return source(folder / "list.txt")


def images(file: Path) -> set[str]:
    return {row.image.name for row in read_annotations(source(file), family="stereo", action="train")}


def test_every_sample_is_in_exactly_one_list(tmp_path: Path) -> None:
    whole = numbered(tmp_path, [f"l{n} r{n} d{n}" for n in range(10)])
    train, val = write_split(whole, 0.2, 0, tmp_path / "out")
    assert len(images(val)) == 2
    assert images(train) | images(val) == {f"l{n}" for n in range(10)}
    assert not images(train) & images(val)


def test_lines_that_share_a_file_stay_together(tmp_path: Path) -> None:
    whole = numbered(tmp_path, [f"l{n} r{n // 2} d{n}" for n in range(12)])
    for seed in range(5):
        train, val = write_split(whole, 0.3, seed, tmp_path / "out")
        assert not {row.right for row in read_annotations(source(train), family="stereo", action="train")} & {
            row.right for row in read_annotations(source(val), family="stereo", action="train")
        }


def test_the_seed_fixes_the_choice(tmp_path: Path) -> None:
    whole = numbered(tmp_path, [f"l{n} r{n} d{n}" for n in range(20)])
    first, again, other = (images(write_split(whole, 0.3, seed, tmp_path / f"out{n}")[1]) for n, seed in enumerate((1, 1, 2)))
    assert first == again != other


def test_the_lists_are_read_from_anywhere(scenes: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, val = write_split(source(scenes.list_file("stereo", "train")), 0.4, 0, Path("out"))
    assert [len(read_annotations(source(file), family="stereo", action="train")) for file in (train, val)] == [2, 1]


def test_paths_with_blanks_survive(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    train, _ = write_split(numbered(folder, [f"l{n} r{n} d{n}" for n in range(4)]), 0.5, 0, folder)
    assert len(images(train)) == 2


def test_lists_of_one_name_do_not_collide(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files += write_split(numbered(tmp_path / name, [f"l{n} r{n} d{n}" for n in range(4)]), 0.5, 0, tmp_path / "out")
    assert len(set(files)) == 4


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_fraction_outside_is_refused(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(DataError, match="0 < fraction < 1"):
        write_split(numbered(tmp_path, ["l r d", "m s e"]), fraction, 0, tmp_path)


def test_one_sample_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 1 independent sample") as error:
        write_split(numbered(tmp_path, ["l r d"]), 0.2, 0, tmp_path)
    assert "val_dataset" in str(error.value.hint)


def test_data_root_is_honoured(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    numbered(tmp_path / "root", [f"l{n} r{n} d{n}" for n in range(4)])
    (tmp_path / "list.txt").write_text("\n".join(f"l{n} r{n} d{n}" for n in range(4)))
    rooted = dataclasses.replace(source(tmp_path / "list.txt"), data_root=str(tmp_path / "root"))
    assert len(images(write_split(rooted, 0.5, 0, tmp_path)[0])) == 2
