"""What breaks off in the middle: a message, a FAILURE as the last line of status.json, and an exit code that is not 0.

The causes are real where one can be made: weights that overflow, a disk that is full, files that go away, signals, too little memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from automl import depth_net
from automl.caches import CACHES, usable_caches
from automl.entry import FAILED, INTERRUPTED, MISUSED, ActionFailed, run_app
from automl.records import failures_recorded
from search_spaces.errors import DataError
from tests.automl.samples import not_root, untrained

ACTIONS = {"train": "train_dataset", "evaluate": "test_dataset", "inference": "infer_dataset"}
SCRIPT = Path(sys.executable).with_name("depth_net")
ROWS = 40  # more than the 16 that the check before the start looks into
Failed = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, specs and checkpoints that every test reads; loud.pth has finite weights whose sums are not."""
    folder = untrained(tmp_path_factory.mktemp("made"))
    content = torch.load(folder / "mono.pth", weights_only=True)
    content["state_dict"] = {name: 1e30 * value if "patch_embed" in name else value for name, value in content["state_dict"].items()}
    torch.save(content, folder / "loud.pth")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder to work in, with specs of the sample scenes and a list of many images, rows.txt."""
    for name in ("stereo.yaml", "mono.yaml"):
        shutil.copy(made / name, tmp_path / name)
    (tmp_path / "rows").mkdir()
    for row in range(ROWS):
        shutil.copy(made / "scenes" / "scene_0000" / "left.png", tmp_path / "rows" / f"{row:02d}.png")
        shutil.copy(made / "scenes" / "scene_0000" / "depth.pfm", tmp_path / "rows" / f"{row:02d}.pfm")
    (tmp_path / "rows.txt").write_text("".join(f"rows/{row:02d}.png rows/{row:02d}.pfm\n" for row in range(ROWS)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(action: str, made: Path, *overrides: str, rows: bool = False) -> list[str]:
    """`ACTION -e mono.yaml` into out/, with mono.pth where a model is needed; `rows` reads the long list."""
    model = [] if action == "train" else [f"{action}.checkpoint={made}/mono.pth"]
    lists = [f"dataset.{ACTIONS[action]}.data_sources=[{{data_file:rows.txt,dataset_name:MetricMonoDataset}}]"] if rows else []
    return [action, "-e", "mono.yaml", "results_dir=out", *model, *lists, *overrides]


def last_line(action: str) -> str:
    """The message of the last line of an action's status.json, which must be a FAILURE."""
    last = json.loads(Path("out", action, "status.json").read_text().splitlines()[-1])
    assert last["status"] == "FAILURE"
    return str(last["message"])


@contextlib.contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file of this process grows beyond `after` bytes meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def once(path: Path, act: Callable[[], None]) -> Iterator[None]:
    """Does something as soon as a file is there, from another thread; not any more once the block is left."""
    left = threading.Event()

    def watch() -> None:
        while not path.exists():
            if left.wait(0.001):
                return
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
        left.set()
        thread.join()
    except KeyboardInterrupt:  # a signal that came too late must not end the whole test run
        pytest.fail("the action was over before the signal came")
    finally:
        left.set()
        thread.join()


def test_a_training_loss_that_is_not_finite(place: Path, made: Path, capsys: pytest.CaptureFixture[str]):
    weights = f"train.pretrained_model_path={made}/loud.pth"
    assert run_app(depth_net.app, "depth_net", arguments("train", made, weights)) == FAILED
    error = capsys.readouterr().err
    assert "error: the training loss is nan at step 0; no step before it was finite; 100.0% of the batch's pixels are valid" in error
    assert "ground truth 1.339 to 6.6" in error
    assert f"samples: {made}/scenes/scene_000" in error
    assert last_line("train").startswith("Non-finite value: the training loss is nan at step 0")


OUT_OF_MEMORY = """
import resource, sys
import psutil
from automl import depth_net
from automl.entry import run_app
import trials.run  # what is imported needs memory as well
limit = psutil.Process().memory_info().vms + 400 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(run_app(depth_net.app, "depth_net"))
"""


def test_out_of_memory(place: Path):
    sizes = ["model.max_disparity=416", "dataset.train_dataset.augmentation.crop_size=[320,736]"]
    command = [sys.executable, "-c", OUT_OF_MEMORY, "train", "-e", "stereo.yaml", "results_dir=out", *sizes]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == FAILED
    assert "error: out of memory: " in done.stderr
    assert "the cost volumes of a training step (2 x 736x320, 416 disparities) take about 12.1 GiB of " in done.stderr
    assert "batch_size=1, model.max_disparity=192, dataset.train_dataset.augmentation.crop_size=[224,512]" in done.stderr
    assert last_line("train").startswith("Out of memory: ")


@pytest.mark.parametrize(("action", "size"), [("train", 100_000), ("evaluate", 200), ("inference", 7_500), ("export", 100_000)])
def test_a_full_disk(place: Path, made: Path, capsys: pytest.CaptureFixture[str], action: str, size: int):
    with full_disk(size):
        assert run_app(depth_net.app, "depth_net", arguments(action, made)) == FAILED
    error = capsys.readouterr().err
    assert error.startswith("error: the machine failed: ")
    assert f"the whole story is in out/{action}/error.log" in error
    assert not [path for path in Path("out").rglob("*") if path.suffix in {".pth", ".png", ".onnx"}]
    if size > 200:  # too few bytes for a line
        assert last_line(action).startswith("File system error: the machine failed: ")


def test_a_full_disk_in_convert(place: Path, made: Path, capsys: pytest.CaptureFixture[str]):
    patterns = "image_dir_pattern: [left]\nright_dir_pattern: [right]\nimage_extension: .png\n"
    Path("convert.yaml").write_text(f"data_root: {made}/scenes\nresults_dir: out\n{patterns}split_ratio: 0.0\n")
    with full_disk(300):
        assert run_app(depth_net.app, "depth_net", ["convert", "-e", "convert.yaml"]) == FAILED
    assert "error: the machine failed: File too large" in capsys.readouterr().err
    assert not Path("out/test.txt").exists()
    for line in Path("out/status.json").read_text().splitlines():
        json.loads(line)  # no half lines


@pytest.mark.parametrize("action", ["train", "evaluate", "inference"])
def test_a_broken_image_far_down_the_list(place: Path, made: Path, capsys: pytest.CaptureFixture[str], action: str):
    whole = (place / "rows" / "01.png").read_bytes()
    (place / "rows" / "01.png").write_bytes(whole[: len(whole) // 2])
    assert run_app(depth_net.app, "depth_net", arguments(action, made, rows=True)) == MISUSED
    assert "bytes): broken, cut off, or not an image (named at rows.txt:2)" in capsys.readouterr().err
    assert last_line(action).startswith("Data error: cannot decode rows/01.png")


@pytest.mark.parametrize("action", ["evaluate", "inference"])
def test_an_image_that_goes_away_after_the_check(place: Path, made: Path, capsys: pytest.CaptureFixture[str], action: str):
    gone = place / "rows" / f"{ROWS - 1}.png"
    with once(place / "out" / action / "status.json", gone.unlink):
        assert run_app(depth_net.app, "depth_net", arguments(action, made, rows=True)) == MISUSED
    assert f"rows/{ROWS - 1}.png" in capsys.readouterr().err
    assert f"rows.txt:{ROWS}" in last_line(action)


def test_a_folder_in_the_place_of_a_result(place: Path, made: Path, capsys: pytest.CaptureFixture[str]):
    (place / "out" / "evaluate" / "per_image.csv").mkdir(parents=True)
    assert run_app(depth_net.app, "depth_net", arguments("evaluate", made)) == MISUSED
    assert "error: cannot write out/evaluate/per_image.csv: Is a directory" in capsys.readouterr().err
    assert last_line("evaluate").startswith("Data error: cannot write out/evaluate/per_image.csv")


@pytest.mark.parametrize("action", ["evaluate", "inference"])
def test_a_model_file_that_fails_at_run_time(place: Path, made: Path, capsys: pytest.CaptureFixture[str], action: str):
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 42, 56])
    outputs = helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["N", 42, 56])
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [1, 7, 7])
    graph = helper.make_graph([helper.make_node("Reshape", ["images", "shape"], ["outputs"])], "g", [images], [outputs], [shape])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "bad.onnx")
    assert run_app(depth_net.app, "depth_net", [*arguments(action, made), f"{action}.checkpoint=bad.onnx"]) == FAILED
    assert f"the whole story is in out/{action}/error.log" in capsys.readouterr().err
    assert last_line(action).startswith("Unexpected error: Fail: ")
    assert "Reshape" in Path("out", action, "error.log").read_text()


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), KeyError("x"), MemoryError(), AssertionError("x"), AttributeError("x"), OSError(28, "x")]
)
def test_whatever_is_raised_is_recorded(tmp_path: Path, error: Exception):
    with pytest.raises(ActionFailed), failures_recorded(tmp_path, "export"):
        raise error
    assert '"status": "FAILURE"' in (tmp_path / "status.json").read_text()
    assert type(error).__name__ in (tmp_path / "error.log").read_text()


def test_a_mistake_found_before_the_start_leaves_no_trace(tmp_path: Path):
    with pytest.raises(DataError), failures_recorded(tmp_path / "new", "export"):
        raise DataError("no list")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("action", ["evaluate", "inference", "export"])
def test_an_interrupted_action(place: Path, made: Path, capsys: pytest.CaptureFixture[str], action: str, number: signal.Signals):
    begun = place / "out" / action / "status.json"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    try:
        with once(begun, lambda: os.kill(os.getpid(), number)):
            assert run_app(depth_net.app, "depth_net", arguments(action, made, rows=action != "export")) == INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.startswith("error: interrupted")
    assert last_line(action) == f"User/System interruption: {action} was interrupted."
    assert not list(place.glob("out/*/results.json"))
    assert not list(made.glob("*.onnx"))


def test_an_interrupted_training(place: Path, made: Path):
    command = [SCRIPT, *arguments("train", made, "train.num_epochs=300", "train.resume=auto", rows=True)]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        next(line for line in process.stdout if "epoch 1/300" in line)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED
    assert re.match(r"error: interrupted; model_epoch_\d{3}_step_\d{5}\.pth is saved\n", error)
    assert last_line("train") == "User/System interruption: training was interrupted; it can be resumed."


def test_a_container_user_without_a_home(place: Path, made: Path):
    (place / "cwd").mkdir()
    command = [SCRIPT, "train", "-e", f"{made}/mono.yaml", f"results_dir={place}/out", "train.is_dry_run=true"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/dev/null/home", "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1"}
    (place / "tmp").mkdir()
    done = subprocess.run(command, cwd=place / "cwd", env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((place / "cwd").iterdir()) == list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_caches_of_a_user_who_may_not_write_at_home(closed: Path, monkeypatch: pytest.MonkeyPatch, there: bool):
    home = closed if there else closed / "gone"
    for name in CACHES:  # torch sets its own
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MPLCONFIGDIR", "/mine")
    before = dict(os.environ)
    with not_root(), usable_caches():
        assert os.environ["MPLCONFIGDIR"] == "/mine"
        scratch = Path(os.environ["XDG_CACHE_HOME"])
        assert os.access(scratch, os.W_OK)
        assert {os.environ[name] for name in CACHES} == {"/mine", str(scratch)}
        assert os.environ["HOME"] == str(home if there else scratch)
    assert dict(os.environ) == before
    assert not scratch.exists()
