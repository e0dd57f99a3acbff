"""Finding and reading skills."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces.errors import SkillError
from search_spaces.skill import Skill, find_skill, list_skills
from search_spaces.spec import load_spec

INFO = "name: tao-train-other\nnetwork_arch: other_net\nautoml_enabled: true\nactions: {train: {command: other train -e x}}\n"


def test_the_two_skills() -> None:
    assert [(skill.name, skill.task, skill.automl_enabled) for skill in list_skills()] == [
        ("depth_net_mono", "mono", True),
        ("depth_net_stereo", "stereo", True),
    ]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("tao-train-foundation-stereo", "depth_net_stereo"),
        ("tao-train-depth-anything-v2", "depth_net_mono"),
        ("FoundationStereo", "depth_net_stereo"),
        ("Depth Anything V2", "depth_net_mono"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert find_skill(alias).name == find_skill(name).name == name


def test_a_folder_is_a_skill() -> None:
    root = find_skill("depth_net_mono").root
    assert find_skill(root) == find_skill("depth_net_mono")


def test_unknown_skill_suggests_and_lists() -> None:
    with pytest.raises(SkillError, match="there is no skill depth_net_sterio") as caught:
        find_skill("depth_net_sterio")
    assert caught.value.hint == "did you mean depth_net_stereo? skills are depth_net_mono, depth_net_stereo"


def test_a_folder_that_is_not_there_is_called_one() -> None:
    with pytest.raises(SkillError, match=r"there is no skill folder ~/skills/mono"):
        find_skill("~/skills/mono")


def test_foreign_folder_is_read_and_says_why_it_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "skill_info.yaml").write_text(INFO, encoding="utf-8")
    skill = find_skill(tmp_path)
    assert (skill.name, skill.automl_enabled, list(skill.actions)) == ("tao-train-other", True, ["train"])
    assert skill.why_not_runnable() == "network other_net is not built in; depth_net_stereo and depth_net_mono are"


def test_incomplete_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SkillError, match=r"without references/skill_info\.yaml"):
        find_skill(tmp_path)
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "skill_info.yaml").write_text("name: x\n", encoding="utf-8")
    with pytest.raises(SkillError, match="has no network_arch"):
        find_skill(tmp_path)


@pytest.mark.parametrize("skill", list_skills(), ids=lambda skill: skill.name)
def test_every_template_of_a_skill_is_a_legal_spec_of_its_family(skill: Skill) -> None:
    assert skill.why_not_runnable() is None
    for action in skill.actions:
        assert load_spec(None, template=skill.template(action)).family == skill.task


def test_template_values() -> None:
    stereo = load_spec(None, template=find_skill("depth_net_stereo").template())
    assert (stereo.model.encoder, stereo.model.max_disparity, stereo.dataset.max_disparity) == ("vits", 128, 128)
    mono = load_spec(None, template=find_skill("depth_net_mono").template())
    assert (mono.model.model_type, mono.model.encoder) == ("RelativeDepthAnything", "vitl")


def test_importing_is_light() -> None:
    code = (
        "import sys; import search_spaces.skill, search_spaces.relevance, search_spaces.objective;"
        "print([name for name in ('torch', 'numpy', 'omegaconf', 'yaml', 'optuna', 'ray') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
