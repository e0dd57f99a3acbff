"""The recipes of examples/: each command of their pages runs, and the small spec is the large one in everything that makes the recipe."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from automl import depth_net
from automl.entry import DONE, MISUSED, run_app
from search_spaces.spec import Spec, get_value, load_spec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECIPES = ("relative_finetune", "metric_from_relative")
CROP = "augmentation.crop_size=[56,70]"
# what makes each of them the recipe it is
KEPT = (
    "model.model_type",
    "model.mono_backbone.use_clstoken",
    "dataset.normalize_depth",
    "dataset.min_depth",
    "dataset.max_depth",
    "train.precision",
    "train.clip_grad_norm",
    "train.optim.optimizer",
    "train.optim.weight_decay",
    "train.optim.lr_scheduler",
)


def commands(example: str) -> list[list[str]]:
    """The arguments of every `depth_net` line in the page of an example."""
    blocks = (EXAMPLES / example / "README.md").read_text(encoding="utf-8").split("```")[1::2]
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("depth_net ")]


def run(*arguments: str) -> int:
    small = ("train.num_epochs=1", f"dataset.train_dataset.{CROP}") if arguments[0] == "train" else ()
    return run_app(depth_net.app, "depth_net", [*arguments, *small])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's root after the commands of both pages, one epoch a training."""
    place = tmp_path_factory.mktemp("root")
    (place / "examples").symlink_to(EXAMPLES)
    done: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for command in (line for example in RECIPES for line in commands(example)):
            if command not in done:
                assert run(*command) == DONE, command
                done.append(command)
    return place


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def result(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path("results") / folder / "train" / "result.json").read_text(encoding="utf-8"))
    return found


def recipe(example: str, *overrides: str) -> Spec:
    return load_spec(EXAMPLES / example / "recipe.yaml", overrides)


def test_each_page_trains_and_measures() -> None:
    assert [command[0] for command in commands(RECIPES[0])] == ["sample", "train", "train", "evaluate"]
    assert [command[0] for command in commands(RECIPES[1])] == ["sample", "train", "train", "evaluate", "export"]


def test_the_finetuned_network_starts_from_all_weights_the_metric_one_from_the_encoder() -> None:
    assert "random" not in result("relative_finetune")["first_weights"]
    assert "random: the head" in result("metric_from_relative")["first_weights"]


def test_the_metric_range_travels_with_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(Path("results/metric_from_relative/model.json").read_text(encoding="utf-8"))["max_depth"] == 10.0
    checkpoint = "evaluate.checkpoint=results/metric_from_relative/train/best.pth"
    assert run("evaluate", "-e", "examples/metric_from_relative/test.yaml", checkpoint, "dataset.max_depth=80") == MISUSED
    told = capsys.readouterr().err
    assert "dataset.max_depth is 10.0 in the checkpoint, 80.0 in the spec" in told


@pytest.mark.parametrize("example", RECIPES)
def test_the_small_spec_follows_the_recipe(example: str) -> None:
    small, large = load_spec(EXAMPLES / example / "try.yaml"), recipe(example)
    assert {key: get_value(small, key) for key in KEPT} == {key: get_value(large, key) for key in KEPT}
    assert (large.train.optim.lr, large.train.optim.lr_scheduler, large.model.encoder) == (5e-6, "LambdaLR", "vitl")


@pytest.mark.parametrize(
    ("example", "kind", "name"), [(RECIPES[0], "relative", "RelativeMonoDataset"), (RECIPES[1], "mono", "MetricMonoDataset")]
)
def test_the_recipe_itself_runs_on_a_small_network(example: str, kind: str, name: str) -> None:
    base = "results/relative_base/train/best.pth"
    weights = f"train.pretrained_model_path={base}" if kind == "relative" else f"model.mono_backbone.pretrained_path={base}"
    lists = [
        f"dataset.{split}_dataset.data_sources=[{{data_file:results/sample/{kind}_{split}.txt,dataset_name:{name}}}]"
        for split in ("train", "val")
    ]
    sizes = ["model.encoder=vitt", f"dataset.val_dataset.{CROP}", f"results_dir=results/{example}_recipe"]
    assert run("train", "-e", str(EXAMPLES / example / "recipe.yaml"), weights, *lists, *sizes) == DONE
