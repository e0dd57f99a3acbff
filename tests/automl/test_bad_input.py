"""Bad data, bad specs, bad weights and bad command lines: each is one clear error before anything is trained or written."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from automl import cli
from automl.entry import MISUSED, run_app
from automl.folders import check_writable
from search_spaces.errors import StudyError
from tests.automl.samples import not_root, untrained
from trials.data.decoders import write_png

Refused = Callable[..., str]
ACTIONS = ("evaluate", "inference", "export")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample scenes with a stereo and a mono spec, and a checkpoint of each that was never trained."""
    return untrained(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(tmp_path: Path, made: Path) -> Path:
    """A fresh folder in which the spec reads the sample scenes."""
    for name in ("stereo.yaml", "mono.yaml"):
        shutil.copy(made / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def train(refused: Refused, place: Path) -> Refused:
    return functools.partial(refused, "depth_net", "train", "-e", "stereo.yaml", "results_dir=new")


@pytest.fixture
def run(refused: Refused, place: Path) -> Refused:
    return functools.partial(refused, "automl", "run", "--skill", "depth_net_stereo", "-e", "stereo.yaml", "--results", "new", "--yes")


def listed(place: Path, made: Path, *, line: str | None = None, data_class: str = "GenericDataset", **replaced: str) -> str:
    """An override that trains on one good line and, after it, `line` or the good one with some file replaced."""
    scene = made / "scenes" / "scene_0000"
    good = {"left": f"{scene}/left.png", "right": f"{scene}/right.png", "disparity": f"{scene}/disparity.pfm"}
    bad = " ".join({**good, **replaced}.values()) if line is None else line
    (place / "list.txt").write_text(f"{' '.join(good.values())}\n{bad}\n")
    return f"dataset.train_dataset.data_sources=[{{data_file:list.txt,dataset_name:{data_class}}}]"


def both(train: Refused, run: Refused, override: str) -> str:
    """The error of `depth_net train`, which `automl run` must give as well."""
    error = train(override)
    assert run(override) == error
    return error


def test_a_missing_image_is_named_with_its_line_and_a_near_name(train: Refused, run: Refused, place: Path, made: Path):
    error = both(train, run, listed(place, made, left=f"{made}/scenes/scene_0000/lfet.png"))
    assert "list.txt:2" in error
    assert "did you mean left.png?" in error


def test_a_wrong_number_of_columns(train: Refused, run: Refused, place: Path, made: Path):
    assert "list.txt:2: GenericDataset takes 3 columns for train, but the line has 2" in both(
        train, run, listed(place, made, line="a.png b.png")
    )


def test_an_empty_list(train: Refused, run: Refused, place: Path):
    (place / "list.txt").write_text("# nothing\n\n")
    override = "dataset.train_dataset.data_sources=[{data_file:list.txt,dataset_name:GenericDataset}]"
    assert "list.txt holds no samples" in both(train, run, override)


@pytest.mark.parametrize("content", [b"", b"a text\n", None])
def test_an_unreadable_image(train: Refused, run: Refused, place: Path, made: Path, content: bytes | None):
    whole = (made / "scenes" / "scene_0000" / "left.png").read_bytes()
    (place / "bad.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert "(named at list.txt:2)" in both(train, run, listed(place, made, left="bad.png"))


@pytest.mark.parametrize("name", ["image.png", "."])
def test_a_list_that_is_no_list(train: Refused, place: Path, made: Path, name: str):
    shutil.copy(made / "scenes" / "scene_0000" / "left.png", place / "image.png")
    error = train(f"dataset.train_dataset.data_sources=[{{data_file:{name},dataset_name:GenericDataset}}]")
    assert "one sample a line" in error


def test_an_8_bit_png_is_no_disparity(train: Refused, run: Refused, place: Path, made: Path):
    write_png(place / "grey.png", np.full((64, 96), 60, np.uint8))
    error = both(train, run, listed(place, made, data_class="Middlebury", disparity="grey.png"))
    assert "8-bit grey PNG with values 60 to 60" in error


def test_raw_millimetres_name_the_scale(refused: Refused, place: Path, made: Path):
    write_png(place / "mm.png", np.full((64, 96), 2500, np.uint16))
    (place / "list.txt").write_text(f"{made}/scenes/scene_0000/left.png mm.png\n" * 2)
    source = "dataset.train_dataset.data_sources=[{data_file:list.txt,dataset_name:MetricMonoDataset}]"
    error = refused("depth_net", "train", "-e", "mono.yaml", "results_dir=new", source)
    assert "depth_scale=1000 (millimetres" in error


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.train_dataset.augmentation.crop_size=[64,100]", "the nearest width is 96 or 128"),
        ("model.max_disparity=100", "the nearest values are 96 or 128"),
        ("train.num_epoch=3", "did you mean train.num_epochs?"),
        ("train.num_epochs=many", "must be a whole number, but is 'many' (command line: train.num_epochs=many)"),
        ("train.num_gpus=2", "train.num_gpus is 2 (command line: train.num_gpus=2), but no GPU is visible"),
        ("train.resume=must", "train.resume=auto starts anew"),
        ("dataset.train_dataset.data_sources=[]", "needs dataset.train_dataset.data_sources"),
        (
            "dataset.train_dataset.data_sources=[]",
            "add 'dataset.train_dataset.data_sources=[{data_file:train.txt,dataset_name:GenericDataset}]'",
        ),
    ],
)
def test_a_spec_that_cannot_be_trained(train: Refused, override: str, words: str):
    assert words in train(override)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n  num_epoch: 3\n", "unknown key train.num_epoch (stereo.yaml:2)"),
        ("train:\n  num_epochs: [1\n", "is not valid YAML"),
        ("- a\n", "but holds a list"),
        ("", "needs dataset.train_dataset.data_sources"),
    ],
)
def test_a_spec_file_that_cannot_be_used(train: Refused, place: Path, text: str, words: str):
    (place / "stereo.yaml").write_text(text)
    assert words in train()


def test_weights_of_another_encoder_name_both(train: Refused, run: Refused, made: Path):
    key = "model.stereo_backbone.depth_anything_v2_pretrained_path"
    for program in (train, run):
        assert f"{key}: {made}/mono.pth does not fit: it was trained with model.encoder vitt, the spec says vits" in program(
            f"{key}={made}/mono.pth", "model.encoder=vits"
        )


def test_a_run_is_not_written_over(train: Refused, place: Path):
    (place / "new" / "train").mkdir(parents=True)
    (place / "new" / "train" / "dn_model_latest.pth").write_bytes(b"mine")
    assert "continue it with train.resume=auto" in train()


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (None, "needs {action}.checkpoint"),
        ("stereo.pht", "did you mean {made}/stereo.pth?"),
        (".", "is a folder"),
        ("short.pth", "is damaged or cut short"),
        ("text.pth", "is not a PyTorch weight file"),
        ("mono.pth", "mono"),
        ("short.onnx", "onnx"),
    ],
)
def test_a_model_that_cannot_be_used(refused: Refused, place: Path, made: Path, action: str, name: str | None, words: str):
    (made / "short.pth").write_bytes((made / "stereo.pth").read_bytes()[:5000])
    (made / "text.pth").write_text("hello")
    (made / "short.onnx").write_bytes(b"hello")
    model = [] if name is None else [f"{action}.checkpoint={made / name}"]
    error = refused("depth_net", action, "-e", "stereo.yaml", "results_dir=new", *model)
    assert words.format(action=action, made=made) in error


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("export.input_height=70", "export.input_height=64"),
        ("export.opset_version=9", "at least 16 and at most 23"),
        ("export.onnx_file=taken.onnx", "not overwritten"),
        ("model.encoder=vits", "add model.encoder=vitt"),
    ],
)
def test_an_export_that_cannot_be_made(refused: Refused, place: Path, made: Path, override: str, words: str):
    (place / "taken.onnx").write_bytes(b"mine")
    arguments = (f"export.checkpoint={made}/stereo.pth", "export.onnx_file=new/model.onnx", override)
    assert words in refused("depth_net", "export", "-e", "stereo.yaml", "results_dir=new", *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trials", "0"), "--trials must be at least 1, but is 0"),
        (("--trials", "x"), "--trials must be a whole number, but is x"),
        (("--engine", "rya"), "--engine must be one of ray, inline, but is rya"),
        (("--trial", "3"), "did you mean --trials?"),
        (("--train.num_epochs=3",), "without dashes: train.num_epochs=..."),
        (("--searcher", "foo"), "known are mfgp"),
        (("--fidelity", "foo"), "known are asha"),
        (("--metric", "val/foo"), "known are val/loss"),
    ],
)
def test_an_option_that_cannot_be_meant(run: Refused, arguments: tuple[str, ...], words: str):
    assert words in run(*arguments)


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        ("depth_net", ("trian", "-e", "x.yaml"), "did you mean train?"),
        ("depth_net", ("train",), "depth_net train -e spec.yaml"),
        ("depth_net", ("train", "-e", "x.yaml", "--epochs", "3"), "values of the spec are written without dashes"),
        ("depth_net", ("sample", "--out", "x", "--scenes", "1"), "--scenes must be at least 3, but is 1"),
        ("automl", ("logs", "x", "y"), "N must be a whole number, but is y"),
    ],
)
def test_a_command_line_that_cannot_be_read(refused: Refused, program: str, arguments: tuple[str, ...], words: str):
    assert words in refused(program, *arguments)


def test_lists_are_divided_only_for_a_run_that_starts(refused: Refused, place: Path, made: Path):
    scenes = [made / "scenes" / f"scene_{number:04d}" for number in range(3)]
    (place / "list.txt").write_text("".join(f"{scene}/left.png {scene}/right.png {scene}/gone.pfm\n" for scene in scenes))
    sources = (
        "dataset.train_dataset.data_sources=[{data_file:list.txt,dataset_name:GenericDataset}]",
        "dataset.val_dataset.data_sources=[]",
    )
    options = ("--skill", "depth_net_stereo", "-e", "stereo.yaml", "--results", "new", "--val-fraction", "0.5", "--yes")
    for command in ("run", "off"):
        assert f"  list.txt:2: {scenes[1]}/gone.pfm" in refused("automl", command, *options, *sources)


def test_no_permission_is_an_error_that_names_the_folder(closed: Path):
    with not_root(), pytest.raises(StudyError, match=f"no permission to write in {closed}, where {closed}/x would be made"):
        check_writable(closed / "x", hint="another")


def test_a_search_asks_for_permission_first(closed: Path, capsys: pytest.CaptureFixture[str]):
    lists = [f"dataset.{split}_dataset.data_sources=[{{data_file:list.txt,dataset_name:GenericDataset}}]" for split in ("train", "val")]
    command = ["run", "--skill", "depth_net_stereo", "--results", f"{closed}/x", *lists]
    run_app(cli.app, "automl", command)  # nobody may be unable to read the packages: they are imported before
    capsys.readouterr()
    with not_root():
        assert run_app(cli.app, "automl", command) == MISUSED
    assert f"no permission to write in {closed}" in capsys.readouterr().err


def test_the_console_script_exits_with_2_and_keeps_stdout_clean(place: Path):
    script = Path(sys.executable).with_name("depth_net")
    arguments = ["train", "-e", "stereo.yaml", "results_dir=new", "train.num_epoch=3"]
    done = subprocess.run([script, *arguments], cwd=place, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (MISUSED, "")
    assert done.stderr == "error: unknown key train.num_epoch (command line: train.num_epoch=3)\n\nhint: did you mean train.num_epochs?\n"
