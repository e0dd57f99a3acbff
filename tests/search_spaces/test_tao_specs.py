"""Specs as TAO's users have them: each loads, and says what nothing here reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from search_spaces.errors import SpecError
from search_spaces.spec import LoadedSpec, read_spec
from search_spaces.spec.convert import load_convert
from tests.search_spaces.tao_keys import all_facts

SPECS = Path(__file__).parent / "tao_specs"
NETWORK = ("train", "evaluate", "inference", "export", "gen_trt_engine", "quantize")
MIXTURE = ["results_dir=out"]


def loaded(name: str, *overrides: str, action: str = "train") -> LoadedSpec:
    return read_spec(SPECS / f"{name}.yaml", overrides, action=action)


@pytest.mark.parametrize("action", NETWORK)
@pytest.mark.parametrize("name", ["stereo_smoke", "metric_finetune", "relative_finetune"])
def test_the_minimal_specs_load_without_a_word(name: str, action: str) -> None:
    found = loaded(name, action=action)
    assert (found.assumed, found.warnings) == ((), ())
    assert found.spec.family == ("stereo" if name == "stereo_smoke" else "mono")


def test_values_of_the_minimal_specs() -> None:
    stereo, metric = loaded("stereo_smoke").spec, loaded("metric_finetune").spec
    assert (stereo.model.train_iters, stereo.dataset.val_dataset.augmentation.crop_size) == (4, (128, 128))
    assert (metric.train.optim.lr, metric.train.pretrained_model_path, metric.dataset.max_depth) == (5e-6, None, 10.0)
    relative = loaded("relative_finetune").spec
    assert (relative.is_relative, relative.dataset.max_depth, relative.train.optim.lr) == (True, None, 5e-6)


def test_a_deploy_spec_loads_and_its_marks_are_unset() -> None:
    spec = loaded("deploy", action="gen_trt_engine").spec
    assert (spec.gen_trt_engine.tensorrt.data_type, spec.gen_trt_engine.trt_engine, spec.evaluate.checkpoint) == ("FP32", "m.engine", None)
    shape = "the shape is read from the model file"
    assert loaded("deploy", action="evaluate").warnings == (
        f"evaluate.input_width has no effect: {shape}",
        f"evaluate.input_height has no effect: {shape}",
    )


def test_a_convert_spec_loads() -> None:
    spec = load_convert(SPECS / "convert_stereo.yaml").spec
    assert spec.columns == ("left", "right", "disparity", "mask")


def test_a_mixture_with_references_anchors_and_a_mark() -> None:
    found = loaded("stereo_mixture", *MIXTURE)
    spec = found.spec
    assert (spec.train.results_dir, spec.export.onnx_file) == ("out/train", "out/export/model.onnx")
    assert (spec.dataset.val_dataset.augmentation.crop_size, spec.train.gpu_ids, len(spec.dataset.train_dataset.data_sources)) == (
        (320, 672),
        (0, 1),
        4,
    )
    assert [line.partition(" ")[0] for line in found.warnings] == [
        "model_name",
        "encryption_key",
        "wandb.enable",
        "wandb.project",
        "wandb.tags",
    ]


def test_a_mark_that_nobody_filled_is_told_where_it_is_needed() -> None:
    with pytest.raises(SpecError, match=r"train\.results_dir is made of results_dir, which is not set \(.*stereo_mixture\.yaml:\d+\)"):
        loaded("stereo_mixture")


def test_lines_on_the_blocks_of_other_actions_are_left_out() -> None:
    assert [line.partition(" ")[0] for line in loaded("mono_metric_full").warnings] == [
        "train.dataloader_visualize",
        "train.vis_step_interval",
        "train.optim.lr_steps",
    ]
    assert loaded("mono_metric_full", action="evaluate").warnings == ()
    said = [line.partition(" ")[0] for line in loaded("stereo_mixture", *MIXTURE, action="export").warnings]
    assert {"export.on_cpu", "export.gpu_id"} <= set(said)


@pytest.mark.parametrize("model_type", ["FoundationStereo", "MetricDepthAnything", "RelativeDepthAnything"])
def test_a_dump_of_all_of_tao_s_defaults_loads(tmp_path: Path, model_type: str) -> None:
    stereo = model_type == "FoundationStereo"
    own: dict[str, object] = {"model.model_type": model_type, "dataset.dataset_name": "StereoDataset" if stereo else "MonoDataset"}
    own |= {f"dataset.{split}_dataset.augmentation.crop_size": [320, 736] for split in ("train", "val")} if stereo else {}
    own |= {"dataset.min_depth": 0.001, "dataset.max_depth": 10.0} if model_type == "MetricDepthAnything" else {}  # TAO's null is refused
    tree: dict[str, object] = {}
    for fact in all_facts():
        *groups, name = fact.key.split(".")
        group = tree
        for part in groups:
            group = group.setdefault(part, {})  # type: ignore[assignment]
        unset = "???" if fact.key.endswith(("checkpoint", "onnx_file")) else ""
        nothing = None if fact.type in ("int", "float") else unset
        group[name] = own.get(fact.key, nothing if fact.default is None else fact.default)
    path = tmp_path / "dump.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    told = {line.partition(" ")[0] for line in read_spec(path, action="train").warnings}
    assert told == {"wandb.enable"} | (set() if stereo else {"dataset.baseline"})
