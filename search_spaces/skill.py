"""Skills: folders that say what can be trained, how, and what may be searched (TAO's skill package layout, Apache-2.0).

A skill is data: `references/skill_info.yaml`, `references/spec_template_<action>.yaml`, `schemas/train.schema.json`, and ours
alone `space.yaml`.  A folder from elsewhere is read as it is; `why_not_runnable` says what keeps it from training here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import SkillError, nearest
from search_spaces.spec.tree import Family

if TYPE_CHECKING:
    from search_spaces.schema import TrainSchema
    from search_spaces.space_request import SpaceRequest
    from search_spaces.space_review import SpaceReview
    from search_spaces.spec import Spec

SKILLS = Path(__file__).parent / "skills"
INFO_FILE = Path("references") / "skill_info.yaml"
TASKS: dict[str, Family] = {"depth_net_stereo": "stereo", "depth_net_mono": "mono"}
# TAO's folder names of the same two skills, and what people call the networks; case, blanks and dashes do not matter
ALIASES = {
    "tao_train_foundation_stereo": "depth_net_stereo",
    "foundation_stereo": "depth_net_stereo",
    "foundationstereo": "depth_net_stereo",
    "tao_train_depth_anything_v2": "depth_net_mono",
    "depth_anything_v2": "depth_net_mono",
    "depthanythingv2": "depth_net_mono",
}


@dataclass(frozen=True, kw_only=True)
class Action:
    """One action of a skill: the command with `{config_path}`, and the spec keys it reads and writes files through."""

    command: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Skill:
    """A skill package in `root`.  `task` is `stereo`, `mono`, or the network's own name when it is none of ours.

    `shorthands` are its short names of spec keys (`learning_rate`).
    """

    name: str
    network_arch: str
    task: str
    root: Path
    automl_enabled: bool
    description: str
    actions: Mapping[str, Action]
    shorthands: Mapping[str, str] = field(default_factory=dict)

    def template(self, action: str = "train") -> dict[str, Any]:
        """The spec template of an action; SkillError when it is missing or not YAML."""
        return read_yaml(self.root / "references" / f"spec_template_{action}.yaml")

    def templates(self) -> dict[str, Path]:
        """The template file of every action that has one."""
        files = sorted((self.root / "references").glob("spec_template_*.yaml"))
        return {file.stem.removeprefix("spec_template_"): file for file in files}

    def schema(self) -> TrainSchema:
        """The train schema; SkillError when it is missing or broken."""
        from search_spaces.schema import SCHEMA_FILE, read_train_schema

        return read_train_schema(self.root / SCHEMA_FILE)

    def review(self, spec: Spec, *, total_steps: int | None = None, request: SpaceRequest | None = None) -> SpaceReview:
        """The search space for `spec` and everything that was left out; see `space_review.review_space`."""
        from search_spaces.space_review import ANYTHING, review_space

        return review_space(self, spec, total_steps=total_steps, request=request or ANYTHING)

    @property
    def shown(self) -> str:
        """The name for people, with the folder of a skill from elsewhere."""
        return self.name if self.root.parent == SKILLS else f"{self.name} ({self.root})"

    @property
    def unknown_network(self) -> str | None:
        """Why its network cannot be trained here, or None."""
        return None if self.network_arch in TASKS else f"network {self.network_arch} is not built in; {' and '.join(TASKS)} are"

    def why_not_runnable(self) -> str | None:
        """What keeps this skill from training here, or None."""
        if self.unknown_network is not None:
            return self.unknown_network
        try:
            self.template("train")
        except SkillError as error:
            return error.message
        return None


def list_skills() -> list[Skill]:
    """The skills that come with this project, by name."""
    return [read_skill(folder) for folder in sorted(SKILLS.iterdir()) if (folder / INFO_FILE).is_file()]


def find_skill(name_or_folder: str | Path) -> Skill:
    """The skill of that name, alias, network or folder; SkillError suggests the nearest name and lists all."""
    folder = Path(name_or_folder)
    if (folder / INFO_FILE).is_file():
        return read_skill(folder.resolve())
    name = str(name_or_folder)
    skills = list_skills()
    known = {alias: skill for skill in skills for alias in (skill.root.name, skill.name, skill.network_arch)}
    known |= {alias: known[target] for alias, target in ALIASES.items() if target in known}
    found = known.get(name) or known.get(re.sub(r"[\s-]", "_", name.lower()))
    if found is not None:
        return found
    listed = f"skills are {', '.join(skill.name for skill in skills)}"
    if folder.is_dir():
        raise SkillError(f"{folder} is a folder without {INFO_FILE}", hint=f"give a skill folder or a name; {listed}")
    if "/" in name:
        raise SkillError(f"there is no skill folder {name}", hint=listed)
    guess = nearest(name, known)
    raise SkillError(f"there is no skill {name}", hint=f"did you mean {guess}? {listed}" if guess else listed)


def read_skill(root: Path) -> Skill:
    """The skill in a folder; SkillError when its skill_info.yaml is missing, broken or incomplete."""
    info = read_yaml(root / INFO_FILE)
    for name in ("name", "network_arch"):
        if not isinstance(info.get(name), str):
            raise SkillError(f"{root / INFO_FILE} has no {name}", hint="a skill names itself and its network_arch")
    listed, short = info.get("actions"), info.get("spec_shorthand_keys")
    actions = listed if isinstance(listed, dict) else {}
    return Skill(
        name=info["name"],
        network_arch=info["network_arch"],
        task=TASKS.get(info["network_arch"], info["network_arch"]),
        root=root,
        automl_enabled=str(info.get("automl_enabled")).lower() == "true",
        description=" ".join(str(info.get("description", "")).split()),
        actions={str(name): _action(entry) for name, entry in actions.items() if isinstance(entry, dict)},
        shorthands={str(name): key for name, key in short.items() if isinstance(key, str)} if isinstance(short, dict) else {},
    )


def _action(entry: Mapping[str, Any]) -> Action:
    return Action(command=str(entry.get("command", "")), inputs=entry.get("inputs") or {}, outputs=entry.get("outputs") or {})


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping in which 1e-4 is a number, as OmegaConf reads it."""
    from omegaconf import DictConfig, OmegaConf
    from yaml import YAMLError

    try:
        data = OmegaConf.load(path)
    except OSError as error:
        raise SkillError(f"{path} cannot be read: {error.strerror}", hint="the skill folder is incomplete") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise SkillError(f"{path} is not YAML: {' '.join(str(error).split())}", hint="mend the file") from error
    if not isinstance(data, DictConfig):
        raise SkillError(f"{path} holds no mapping", hint="mend the file")
    plain = OmegaConf.to_container(data)
    return {str(name): value for name, value in plain.items()} if isinstance(plain, dict) else {}
