"""`depth_net default_specs`: a spec for each action, complete but for the paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from automl import depth_net
from automl.default_specs import ORDER
from automl.entry import DONE, run_app
from search_spaces.skill import list_skills
from search_spaces.spec import load_spec, read_spec
from search_spaces.spec.convert import load_convert

SKILLS = [skill.name for skill in list_skills()]


def write(*arguments: str) -> int:
    return run_app(depth_net.app, "depth_net", ["default_specs", *arguments])


@pytest.mark.parametrize("skill", SKILLS)
def test_every_action_gets_a_spec_that_loads(skill: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert write("--skill", skill, "--out", str(tmp_path)) == DONE
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(ORDER)
    family = skill.removeprefix("depth_net_")
    for action in ORDER[1:]:
        assert load_spec(tmp_path / f"{action}.yaml").family == family
    assert load_convert(tmp_path / "convert.yaml", ["data_root=in", "results_dir=out"]).spec.family == family
    assert f"next  depth_net convert -e {tmp_path}/convert.yaml" in capsys.readouterr().out


@pytest.mark.parametrize("skill", SKILLS)
def test_every_line_that_waits_for_a_path_says_what_it_is(skill: str, tmp_path: Path):
    write("--skill", skill, "--out", str(tmp_path))
    for file in tmp_path.iterdir():
        waiting = [line for line in file.read_text().splitlines() if line.partition("#")[0].rstrip().endswith(("null", ": []"))]
        assert [line for line in waiting if "#" not in line] == []


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("action", ["evaluate", "inference", "export"])
def test_the_settings_of_a_network_are_left_to_its_checkpoint(skill: str, action: str, tmp_path: Path):
    write("--skill", skill, "--out", str(tmp_path))
    said = {key for key in read_spec(tmp_path / f"{action}.yaml").given if key.startswith("model.") or key.endswith("max_disparity")}
    assert said == {"model.model_type"}


def test_specs_that_are_there_are_kept(tmp_path: Path, refused: Callable[..., str]):
    (tmp_path / "train.yaml").write_text("mine\n")
    err = refused("depth_net", "default_specs", "--skill", "depth_net_mono", "--out", ".")
    assert err.startswith("error: . already holds train.yaml\n")
    assert "--force" in err


def test_force_overwrites_them(tmp_path: Path):
    (tmp_path / "train.yaml").write_text("mine\n")
    assert write("--skill", "depth_net_mono", "--out", str(tmp_path), "--force") == DONE
    assert "DepthAnything" in (tmp_path / "train.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--skill", "depth_net_sterio"], "did you mean depth_net_stereo?"),
        ([], "add --skill NAME; there are depth_net_mono, depth_net_stereo"),
    ],
)
def test_no_such_skill(arguments: list[str], said: str, refused: Callable[..., str]):
    assert said in refused("depth_net", "default_specs", "--out", "specs", *arguments)


def test_a_skill_without_templates(tmp_path: Path, refused: Callable[..., str]):
    (tmp_path / "own" / "references").mkdir(parents=True)
    (tmp_path / "own" / "references" / "skill_info.yaml").write_text("name: own\nnetwork_arch: own\n")
    assert "the skill own has no spec templates" in refused("depth_net", "default_specs", "--skill", "own", "--out", "specs")
