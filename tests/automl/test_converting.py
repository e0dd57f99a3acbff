"""`depth_net convert` as it is typed: what it prints, what it records, how it ends."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from automl import depth_net
from automl.converting import _Pace
from automl.entry import DONE, INTERRUPTED, MISUSED, run_app
from search_spaces.spec.load import load_spec
from tests.trials.data.test_tree import make

SPEC = """
data_root: data
results_dir: my lists
image_dir_pattern: [im0]
right_dir_pattern: [im1]
depth_dir_pattern: [disp0]
image_extension: .png
depth_extension: .pfm
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: two scenes, one of them without its ground truth, and a convert spec of any name."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "data", "a/im0.png", "a/im1.png", "a/disp0.pfm", "b/im0.png", "b/im1.png", "b/disp0.pfm")
    (tmp_path / "scenes.yml").write_text(SPEC)
    return tmp_path


def convert(*overrides: str) -> int:
    return run_app(depth_net.app, "depth_net", ["convert", "--experiment_spec_file", "scenes.yml", *overrides])


def statuses(place: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (place / "my lists" / "status.json").read_text().splitlines()]
    return [(line["status"], line["message"]) for line in lines]


def test_it_says_what_it_wrote_and_what_to_type_next(place: Path, capsys: pytest.CaptureFixture[str]):
    assert convert("split_ratio=0.5") == DONE
    out = capsys.readouterr().out
    assert "found    6 files, 2 left images\n" in out
    assert "wrote    my lists/train.txt  1 row: left right disparity\n         my lists/val.txt    1 row\n" in out
    assert f"example  {place}/data/" in out
    assert statuses(place) == [
        ("STARTED", "Starting DepthNet dataset convert."),
        ("SUCCESS", "Dataset convert finished successfully."),
    ]


def test_the_command_it_suggests_reads_the_lists(place: Path, capsys: pytest.CaptureFixture[str]):
    convert("split_ratio=0.5")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next"))
    spec = load_spec(None, shlex.split(line)[5:], template={"model": {"model_type": "FoundationStereo"}})
    (source,) = spec.dataset.val_dataset.data_sources
    assert (source.data_file, source.dataset_name) == ("my lists/val.txt", "GenericDataset")


def test_lists_without_ground_truth_serve_inference(place: Path, capsys: pytest.CaptureFixture[str]):
    assert convert("depth_dir_pattern=[]") == DONE
    out = capsys.readouterr().out
    assert "they serve inference alone" in out
    assert "depth_net inference -e specs/inference.yaml" in out


def test_a_list_left_over_is_a_note(place: Path, capsys: pytest.CaptureFixture[str]):
    convert("split_ratio=0.5")
    convert()
    assert "note     older lists are left in my lists: train.txt, val.txt\n" in capsys.readouterr().out


def test_a_failure_stands_in_status_json(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "data" / "b" / "disp0.pfm").unlink()
    assert convert() == MISUSED
    assert "b/im0.png: no b/disp0.pfm" in capsys.readouterr().err
    assert not (place / "my lists" / "test.txt").exists()
    status, message = statuses(place)[-1]
    assert status == "FAILURE"
    assert message.startswith("Data error: 1 of 2 images below")


def test_left_out_rows_are_counted(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "data" / "b" / "disp0.pfm").unlink()
    assert convert("allow_missing=true") == DONE
    assert "found    5 files, 2 left images; 1 row left out for want of a file\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-e", "scenes.yml", "data_root=gone"], "there is no folder"),
        (["-e", "scenes.yml", "split_ratoi=1"], "unknown key split_ratoi"),
        (["-e", "scenes.yml", "results_dir=scenes.yml"], "scenes.yml is not a folder"),
        (["-e", "gone.yaml"], "the spec gone.yaml cannot be read"),
        (["split_ratio=1"], "needs a spec"),
    ],
)
def test_a_refused_convert_writes_nothing(arguments: list[str], message: str, place: Path, refused: Callable[..., str]):
    assert message in refused("depth_net", "convert", *arguments)


def test_ctrl_c_leaves_the_older_lists(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def pressed(*_: object) -> str:
        raise KeyboardInterrupt

    make(place / "data", *(f"{i}.png" for i in range(1000)))
    (place / "my lists").mkdir()
    (place / "my lists" / "test.txt").write_text("older\n")
    monkeypatch.setattr("automl.converting._Pace.text", pressed)
    assert convert() == INTERRUPTED
    assert capsys.readouterr().err.startswith("error: interrupted\n\nhint: lists in my lists are as they were")
    assert (place / "my lists" / "test.txt").read_text() == "older\n"
    assert statuses(place)[-1] == ("FAILURE", "User/System interruption: convert was interrupted.")


def test_counts_come_with_their_rate(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 2.0, 3.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    pace = _Pace()
    assert pace.text("files seen", 3000, None) == "3,000 files seen, 1,500 a second"
    assert pace.text("rows checked", 1000, 4000) == "1,000 of 4,000 rows checked, 1,000 a second"


def test_the_example_of_the_docs_runs(place: Path, capsys: pytest.CaptureFixture[str]):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    example = page.partition("`convert.yaml`:")[2].partition("```yaml\n")[2].partition("```")[0]
    (place / "scenes.yml").write_text(example)
    names = ("left.png", "right.png", "disparity.pfm", "mask.png", "depth.pfm")
    make(place / "samples", *(f"scene_{i:04}/{name}" for i in range(4) for name in names))
    assert convert() == DONE
    assert "lists/train.txt  3 rows: left right disparity mask\n" in capsys.readouterr().out
