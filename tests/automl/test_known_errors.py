"""Errors that users of depth_net are known to meet: each is said in one sentence with its way out, and nothing is written.

One test a row, named after what happened to them.  What simply works here stands in test_known_cases, what breaks off in the middle
in test_known_failures.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from automl.entry import MISUSED
from search_spaces.spec import read_spec
from tests.automl.samples import untrained

Refused = Callable[..., str]
AUGMENTATION = "dataset.train_dataset.augmentation"
RELATIVE = ("model.model_type=RelativeDepthAnything", "dataset.min_depth=null", "dataset.max_depth=null")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, specs and checkpoints that every test reads; relative.pth is one of TAO's, without a spec in it."""
    folder = untrained(tmp_path_factory.mktemp("made"))
    content = torch.load(folder / "mono.pth", weights_only=True)
    content.pop("spec")
    torch.save(content, folder / "relative.pth")
    return folder


@pytest.fixture
def depth_net(refused: Refused, made: Path, tmp_path: Path) -> Refused:
    """`depth_net ACTION -e FAMILY.yaml results_dir=new overrides...` in a folder of its own, which must be refused; gives stderr."""
    for name in ("stereo.yaml", "mono.yaml"):
        shutil.copy(made / name, tmp_path / name)

    def run(action: str, family: str, *overrides: str) -> str:
        return refused("depth_net", action, "-e", f"{family}.yaml", "results_dir=new", *overrides)

    return run


def listed(made: Path, folder: Path, *columns: str) -> str:
    """The entry for a list in `folder` with one line of files of the first scene, up to the class."""
    (folder / "list.txt").write_text(" ".join(f"{made}/scenes/scene_0000/{name}" for name in columns) + "\n")
    return "[{data_file:list.txt,dataset_name:"


@pytest.mark.parametrize(("family", "block"), [("mono", "mono_backbone"), ("stereo", "stereo_backbone")])
def test_encoder_inside_a_backbone_block(depth_net: Refused, tmp_path: Path, family: str, block: str):
    spec = tmp_path / f"{family}.yaml"
    spec.write_text(spec.read_text().replace("model:\n", f"model:\n  {block}:\n    encoder: vits\n"))
    line = 1 + spec.read_text().splitlines().index("    encoder: vits")
    error = depth_net("train", family)
    assert error == f"error: unknown key model.{block}.encoder ({family}.yaml:{line})\n\nhint: did you mean model.encoder?\n"


def test_num_workers_in_a_split(depth_net: Refused):
    error = depth_net("train", "mono", "dataset.train_dataset.num_workers=4")
    assert "unknown key dataset.train_dataset.num_workers" in error
    assert "did you mean dataset.train_dataset.workers?" in error


@pytest.mark.parametrize(("entry", "missing"), [("{data_file:x.txt}", "dataset_name"), ("{dataset_name:FSD}", "data_file")])
def test_a_source_without_one_of_its_two_keys(depth_net: Refused, entry: str, missing: str):
    error = depth_net("train", "mono", f"dataset.train_dataset.data_sources=[{entry}]")
    assert f"dataset.train_dataset.data_sources[0] needs both data_file and dataset_name; missing: {missing}" in error


@pytest.mark.parametrize("typed", ["depth_net_stereo", "depth_net_mono"])
def test_a_command_with_the_family_in_its_name(typed: str, tmp_path: Path):
    script = Path(sys.executable).with_name(typed)
    done = subprocess.run([script, "train", "-e", "x.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == MISUSED
    assert "model.model_type of the spec says which" in done.stderr
    assert "type `depth_net train -e x.yaml`" in done.stderr


@pytest.mark.parametrize("action", ["evaluate", "inference", "export"])
def test_an_action_without_its_checkpoint(depth_net: Refused, tmp_path: Path, action: str):
    (tmp_path / "new" / "train").mkdir(parents=True)
    for name in ("best.pth", "model_epoch_000_step_00001.pth"):
        (tmp_path / "new" / "train" / name).touch()
    error = depth_net(action, "mono")
    assert f"missing mandatory value: depth_net {action} needs {action}.checkpoint" in error
    assert f"add {action}.checkpoint=new/train/best.pth to the command; also there: new/train/model_epoch_000_step_00001.pth" in error


@pytest.mark.parametrize(("action", "key"), [("train", "train.pretrained_model_path"), ("evaluate", "evaluate.checkpoint")])
def test_a_relative_checkpoint_for_a_metric_model(depth_net: Refused, made: Path, action: str, key: str):
    error = depth_net(action, "mono", f"{key}={made}/relative.pth")
    assert "relative.pth is a RelativeDepthAnything checkpoint, the spec says model.model_type=MetricDepthAnything" in error
    assert "to train from its encoder alone give it as model.mono_backbone.pretrained_path" in error


def test_a_metric_checkpoint_for_a_relative_model(depth_net: Refused, made: Path):
    source = f"dataset.test_dataset.data_sources=[{{data_file:{made}/scenes/mono_test.txt,dataset_name:RelativeMonoDataset}}]"
    error = depth_net("evaluate", "mono", f"evaluate.checkpoint={made}/mono.pth", source, *RELATIVE)
    assert "model.model_type is MetricDepthAnything in the checkpoint, RelativeDepthAnything in the spec" in error


def test_weights_of_another_encoder(depth_net: Refused, made: Path):
    error = depth_net("train", "mono", f"train.pretrained_model_path={made}/mono.pth", "model.encoder=vits")
    assert "it was trained with model.encoder vitt, the spec says vits" in error
    assert "set model.encoder=vitt" in error


def test_depth_limits_with_relative_data(depth_net: Refused):
    error = depth_net("train", "mono", RELATIVE[0])
    assert "dataset.min_depth is for metric models, but is 0.001 with RelativeDepthAnything" in error
    assert "set dataset.min_depth to null" in error


def test_a_relative_class_for_a_metric_model(depth_net: Refused):
    error = depth_net("train", "mono", "dataset.train_dataset.data_sources=[{data_file:x.txt,dataset_name:NYUDV2Relative}]")
    assert "NYUDV2Relative gives relative ground truth, MetricDepthAnything learns depth" in error
    assert "classes for MetricDepthAnything: MetricMonoDataset, NYUDV2" in error


def test_a_depth_range_that_leaves_nothing(depth_net: Refused):
    error = depth_net("train", "mono", "dataset.min_depth=9")
    assert "0.00% of the ground truth of MetricMonoDataset counts (9 < value < 10 m); observed: PFM read as 1." in error
    assert "set dataset.min_depth and dataset.max_depth (metres) to the range of the data" in error


@pytest.mark.parametrize(("named", "hint"), [("mono.pht", "did you mean"), ("gone/x.pth", "in a container: is it mounted?")])
def test_pretrained_weights_that_are_not_there(depth_net: Refused, made: Path, named: str, hint: str):
    error = depth_net("train", "mono", f"model.mono_backbone.pretrained_path={made}/{named}")
    assert f"model.mono_backbone.pretrained_path: weight file {made}/{named} does not exist" in error
    assert hint in error


@pytest.mark.parametrize("family", ["mono", "stereo"])
def test_an_onnx_file_that_exists(depth_net: Refused, made: Path, tmp_path: Path, family: str):
    (tmp_path / "model.onnx").write_bytes(b"mine")
    error = depth_net("export", family, f"export.checkpoint={made}/{family}.pth", "export.onnx_file=model.onnx")
    assert "model.onnx is there already and is not overwritten" in error
    assert "give another export.onnx_file, or export.overwrite=true" in error


def test_a_disparity_that_no_memory_holds(depth_net: Refused):
    sizes = ["model.max_disparity=416", f"{AUGMENTATION}.crop_size=[32000,32000]", f"{AUGMENTATION}.crop_min_valid_disp_ratio=0"]
    error = depth_net("train", "stereo", *sizes)
    assert "the cost volumes of a training step (2 x 32000x32000, 416 disparities) take about" in error
    height, width = error.rpartition("crop_size=[")[2].rstrip("]\n").split(",")
    assert int(height) % 32 == int(width) % 32 == 0


@pytest.mark.parametrize(("disparity", "near"), [(48, "32 or 64"), (100, "96 or 128")])
def test_a_disparity_between_two_legal_ones(depth_net: Refused, disparity: int, near: str):
    error = depth_net("train", "stereo", f"model.max_disparity={disparity}")
    assert f"model.max_disparity must be a multiple of 32, but is {disparity}" in error
    assert f"the nearest values are {near}" in error


def test_a_crop_of_112_for_stereo(depth_net: Refused):
    error = depth_net("train", "stereo", f"{AUGMENTATION}.crop_size=[112,112]")
    assert f"{AUGMENTATION}.crop_size must be multiples of 32 for FoundationStereo, but the height is 112" in error
    assert "the nearest height is 96 or 128" in error


def test_a_mono_crop_that_is_no_multiple_of_14(depth_net: Refused):
    error = depth_net("train", "mono", f"{AUGMENTATION}.crop_size=[100,56]")
    assert "must be multiples of 14 for MetricDepthAnything, but the height is 100" in error
    assert "the nearest height is 98 or 112" in error


def test_a_mono_export_that_is_no_multiple_of_14(depth_net: Refused, made: Path):
    error = depth_net("export", "mono", f"export.checkpoint={made}/mono.pth", "export.onnx_file=new/m.onnx", "export.input_height=100")
    assert "height and width must be multiples of 14 for this network, but got 100x56" in error
    assert "export.input_height=98" in error


def test_two_columns_with_a_named_class(depth_net: Refused, made: Path, tmp_path: Path):
    entry = listed(made, tmp_path, "left.png", "right.png") + "Kitti}]"
    error = depth_net("inference", "stereo", f"inference.checkpoint={made}/stereo.pth", f"dataset.infer_dataset.data_sources={entry}")
    assert "list.txt:1: Kitti takes 3 columns for infer, but the line has 2" in error
    assert "dataset_name GenericDataset takes left and right alone for inference" in error


def test_four_columns_with_the_generic_class(depth_net: Refused, made: Path, tmp_path: Path):
    entry = listed(made, tmp_path, "left.png", "right.png", "disparity.pfm", "mask.png") + "GenericDataset}]"
    error = depth_net("train", "stereo", f"dataset.train_dataset.data_sources={entry}")
    assert "list.txt:1: GenericDataset takes 3 columns for train, but the line has 4" in error
    assert "Middlebury and Eth3d take a mask of non-occluded pixels as fourth column" in error


def test_fewer_samples_than_a_batch(depth_net: Refused, made: Path):
    error = depth_net("train", "mono", "dataset.train_dataset.batch_size=9")
    assert (
        f"dataset size (2) is smaller than the total batch size (9): not enough data for training in {made}/scenes/mono_train.txt" in error
    )


def test_a_checkpoint_interval_longer_than_the_run(depth_net: Refused):
    assert "train.checkpoint_interval <= train.num_epochs must hold, but 5 > 1" in depth_net("train", "mono", "train.checkpoint_interval=5")


@pytest.mark.parametrize(("family", "precision", "way_out"), [("stereo", "bf16", "model.mixed_precision=true"), ("mono", "fp16", "bf16")])
def test_a_precision_of_the_other_family(depth_net: Refused, family: str, precision: str, way_out: str):
    error = depth_net("train", family, f"train.precision={precision}")
    assert f"train.precision {precision} is not supported for " in error
    assert way_out in error.partition("hint:")[2]


@pytest.mark.parametrize("action", ["evaluate", "inference"])
@pytest.mark.parametrize("key", ["checkpoint", "trt_engine"])
def test_an_engine_for_an_action(depth_net: Refused, tmp_path: Path, action: str, key: str):
    (tmp_path / "model.engine").touch()
    error = depth_net(action, "stereo", f"{action}.{key}=model.engine")
    assert f"depth_net {action} with model.engine needs " in error
    assert "[tensorrt]" in error.partition("hint:")[2]


def test_an_engine_that_is_not_there(depth_net: Refused):
    assert "evaluate.trt_engine: weight file gone.engine does not exist" in depth_net(
        "evaluate", "stereo", "evaluate.trt_engine=gone.engine"
    )


def test_a_model_of_an_unknown_ending(depth_net: Refused, tmp_path: Path):
    (tmp_path / "model.weights").write_bytes(b"PK")
    error = depth_net("evaluate", "mono", "evaluate.checkpoint=model.weights")
    assert "nothing here runs a file ending in .weights" in error
    assert "known endings: .pth, .pt, .ckpt, .tlt, .safetensors, .onnx" in error


def test_an_engine_profile_out_of_order(depth_net: Refused):
    error = depth_net("train", "stereo", "gen_trt_engine.tensorrt.min_batch_size=4")
    assert "min_batch_size <= opt_batch_size <= max_batch_size must hold in gen_trt_engine.tensorrt, but they are (4, 1, 1)" in error


def test_a_layer_precision_without_a_colon(depth_net: Refused):
    error = depth_net("train", "stereo", "gen_trt_engine.tensorrt.layers_precision=[fp32]")
    assert "gen_trt_engine.tensorrt.layers_precision[0] must be layer:precision, but is 'fp32'" in error


def test_a_workspace_in_mib():
    (line,) = read_spec(None, ["gen_trt_engine.tensorrt.workspace_size=1024"], action="gen_trt_engine").warnings
    assert line == "gen_trt_engine.tensorrt.workspace_size is in GiB, so that 1024 asks for 1024 GiB; for as many MiB write 1"


@pytest.mark.parametrize("action", ["quantize", "gen_trt_engine"])
def test_an_action_of_another_container(depth_net: Refused, action: str):
    error = depth_net(action, "stereo", f"{action}.results_dir=new")
    assert f"depth_net {action} " in error
    assert "invalid choice" not in error


@pytest.mark.parametrize("key", ["input_mean=[0,0,0]", "input_std=[1,1,1]"])
def test_images_prepared_otherwise_than_in_training(depth_net: Refused, made: Path, key: str):
    checkpoint = f"inference.checkpoint={made}/stereo.pth"
    error = depth_net("inference", "stereo", checkpoint, f"dataset.infer_dataset.augmentation.{key}")
    assert f"dataset.infer_dataset.augmentation.{key.partition('=')[0]} is [0." in error


def test_a_folder_without_images(depth_net: Refused, made: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    sources = ("dataset.infer_dataset.data_sources=[]", "inference.input_dir=empty")
    assert "no image below empty" in depth_net("inference", "stereo", f"inference.checkpoint={made}/stereo.pth", *sources)
