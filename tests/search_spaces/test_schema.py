"""train.schema.json: reading TAO's dialect, writing ours."""

from __future__ import annotations

import json
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import SkillError, SpecError
from search_spaces.ranges import parameter_of
from search_spaces.schema import Leaf, read_train_schema
from search_spaces.schema_writer import ACTIONS, action_schema, schema_files
from search_spaces.skill import SKILLS, Skill, find_skill, list_skills

# the oddities of the published files: Infinity, a list among the properties, a default outside its own enum
FOREIGN = """
{"type": "object", "required": ["quantize"],
 "properties": {
  "automl_disabled_parameters": ["train"],
  "train": {"type": "collection", "automl_enabled": false, "properties": {
    "num_epochs": {"type": "int", "default": 10, "minimum": 1, "maximum": Infinity},
    "optim": {"type": "collection", "properties": {
      "lr": {"type": "float", "default": 0.0001, "minimum": 1e-6, "maximum": 0.01, "math_cond": "> 0.0", "automl_enabled": true},
      "lr_scheduler": {"type": "categorical", "default": "MultiStepLR", "enum": ["MultiStep", "StepLR"]},
      "betas": {"type": "list_2", "default": [0.9, 0.99], "minimum": [0, 0], "maximum": [1, 1]}
    }}}}}}
"""


def leaf(**facts: Any) -> Leaf:
    return Leaf(key="x", **facts)


def test_foreign_schema_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "train.schema.json"
    path.write_text(FOREIGN, encoding="utf-8")
    schema = read_train_schema(path)
    assert list(schema.leaves) == ["train.num_epochs", "train.optim.lr", "train.optim.lr_scheduler", "train.optim.betas"]
    assert schema.automl_default_parameters == ("train.optim.lr",)
    assert schema.leaves["train.num_epochs"].high is None
    assert not schema.has_overlay
    lr = parameter_of(schema.leaves["train.optim.lr"])
    assert (lr.low, lr.high, lr.log) == (1e-6, 1e-2, True)


@pytest.mark.parametrize("text", ["{", "[]", '{"properties": []}'])
def test_broken_schema_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.schema.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SkillError):
        read_train_schema(path)


def test_math_cond_shuts_the_lower_end_and_sets_steps() -> None:
    assert parameter_of(leaf(type="int", low=0, high=10, math_cond=">0")).low == 1
    assert parameter_of(leaf(type="float", low=0.0, high=1.0, math_cond="> 0.0")).low == pytest.approx(1e-3)
    stepped = parameter_of(leaf(type="int", low=10, high=64, math_cond="/ 8"))
    assert (stepped.low, stepped.step) == (16, 8)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"type": "list"}, "only numbers, switches and choices"),
        ({"type": "float", "low": 0.0}, "open range"),
        ({"type": "int", "low": 1, "high": 2, "math_cond": "about 1"}, "not understood"),
    ],
)
def test_leaves_that_cannot_be_searched(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parameter_of(leaf(**facts))


@pytest.mark.parametrize("skill", list_skills(), ids=lambda skill: skill.name)
def test_generated_files_are_up_to_date(skill: Skill) -> None:
    files = schema_files(skill)
    assert sorted(files) == sorted(f"schemas/{path.name}" for path in (skill.root / "schemas").iterdir())
    for name, text in files.items():
        assert (skill.root / name).read_text(encoding="utf-8") == text, f"{name}: run `make schemas`"


@pytest.mark.parametrize("skill", list_skills(), ids=lambda skill: skill.name)
def test_manifest_lists_every_action_with_files_that_are_there(skill: Skill) -> None:
    actions = json.loads((skill.root / "schemas" / "manifest.json").read_text())["actions"]
    assert tuple(actions) == ACTIONS == ("convert", "train", "evaluate", "inference", "export", "gen_trt_engine", "quantize")
    assert [
        entry[name] for entry in actions.values() for name in ("path", "spec_template") if not (skill.root / entry[name]).is_file()
    ] == []


@pytest.mark.parametrize("action", ["evaluate", "inference", "export", "gen_trt_engine", "quantize"])
def test_an_action_has_the_common_sections_its_own_block_and_nothing_to_search(action: str) -> None:
    schema = action_schema(find_skill("depth_net_stereo"), action)
    common = {"model_name", "encryption_key", "results_dir", "dataset", "model", "train", "quantize", "wandb"}
    assert set(schema["properties"]) == set(schema["default"]) == common | {action}
    assert schema["automl_default_parameters"] == []
    assert "x_automl" not in json.dumps(schema)


def test_convert_has_its_own_flat_keys() -> None:
    schema = action_schema(find_skill("depth_net_mono"), "convert")
    assert {"data_root", "image_dir_pattern", "split_ratio"} <= set(schema["properties"])
    assert (schema["properties"]["split_ratio"]["minimum"], schema["properties"]["split_ratio"]["maximum"]) == (0.0, 1.0)


def test_what_an_installation_carries_of_the_skills_is_all_of_them() -> None:
    setup = ConfigParser()
    setup.read(SKILLS.parents[1] / "setup.cfg")
    patterns = [pattern.strip() for pattern in setup["options.package_data"]["search_spaces"].split(",")]
    carried = {path for pattern in patterns for path in SKILLS.parent.glob(pattern)}
    assert {path for path in SKILLS.rglob("*") if path.is_file()} == carried


@pytest.mark.parametrize("skill", list_skills(), ids=lambda skill: skill.name)
def test_own_schema_is_strict_json_in_the_format_of_tao(skill: Skill) -> None:
    def refuse(literal: str) -> None:
        raise AssertionError(literal)

    data = json.loads((skill.root / "schemas" / "train.schema.json").read_text(), parse_constant=refuse)
    assert len(data["automl_default_parameters"]) == 45
    lr = data["properties"]["train"]["properties"]["optim"]["properties"]["lr"]
    assert (lr["type"], lr["minimum"], lr["maximum"], lr["math_cond"], lr["automl_enabled"]) == ("float", 1e-6, 1e-2, "> 0.0", True)
    assert lr["x_automl"]["log"] is True
    assert "evaluate" not in data["properties"]
    assert data["default"]["model"]["model_type"] == skill.template()["model"]["model_type"]
