"""Does a train request become a search?  The rules of TAO's skill packages (automl_policy), each answer with its reason.

| policy | skill enables AutoML and its schema and template can be read | answer |
|---|---|---|
| off  | -                                   | plain training |
| auto | yes                                 | search |
| auto | the skill does not enable it        | plain training, said aloud |
| on   | the skill does not enable it        | error |
| auto, on | enabled, but a file is missing or unreadable, or no parameter is left | error: never an improvised space, never a silent plain run |

A run's policy never changes the skill.  Actions other than train are not routed at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import yaml

from search_spaces.errors import SkillError
from search_spaces.skill import Skill

SCHEMA = Path("schemas") / "train.schema.json"
TEMPLATE = Path("references") / "spec_template_train.yaml"


class Policy(str, Enum):
    """What the user asked for: `on` is `auto` that refuses to become plain training."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where a train request goes, and `why` in words for the review."""

    search: bool
    why: str


def decide(policy: Policy, skill: Skill) -> Route:
    """The route of a train request to `skill`; SkillError when AutoML is asked for and cannot run."""
    if policy is Policy.OFF:
        return Route(search=False, why="policy off: plain training for this run")
    if not skill.automl_enabled:
        if policy is Policy.ON:
            raise SkillError(
                f"policy on, but skill {skill.name} does not enable AutoML (automl_enabled in {skill.root / 'references' / 'skill_info.yaml'})",
                hint="use --policy off for plain training, or a skill that enables it: `automl skills` lists them",
            )
        return Route(search=False, why=f"policy auto: skill {skill.name} does not enable AutoML, so this is plain training")
    fault = _fault(skill)
    if fault is not None:
        raise SkillError(
            f"AutoML is enabled for skill {skill.name} but cannot run: {fault}",
            hint="generate the schemas (`make schemas` does it for the skills that come with this project), or train without search: --policy off",
        )
    return Route(search=True, why=f"policy {policy.value}: skill {skill.name} enables AutoML and its schema and template are packaged")


def _fault(skill: Skill) -> str | None:
    """What keeps an enabled skill from being searched, or None."""
    for relative, parse in ((SCHEMA, _parse_json), (TEMPLATE, _parse_yaml)):
        path = skill.root / relative
        if not path.is_file():
            return f"{path} is missing"
        fault = parse(path)
        if fault is not None:
            return f"{path} {fault}"
    return None


def _parse_json(path: Path) -> str | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"is not JSON: {error}"
    if not isinstance(data, dict) or not data.get("automl_default_parameters"):
        return "names no parameter to search (automl_default_parameters is empty)"
    return None


def _parse_yaml(path: Path) -> str | None:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        return f"is not YAML: {' '.join(str(error).split())}"
    return None if isinstance(data, dict) else "holds no mapping"
