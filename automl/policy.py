"""Does a train request become a search?  The rules of TAO's skill packages (automl_policy), each answer with its reason.

| policy   | the skill                                              | answer |
|----------|--------------------------------------------------------|--------|
| off      | any                                                    | plain training |
| auto, on | enables AutoML; its schema and template can be read    | search |
| auto     | does not enable it                                     | plain training, said aloud |
| on       | does not enable it                                     | error |
| auto, on | enables it, but a file is missing, broken or empty     | error: no improvised space, no silent plain run |

A run's policy never changes the skill.  Actions other than train are not routed at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from search_spaces.errors import SkillError, SpecError
from search_spaces.schema import SCHEMA_FILE
from search_spaces.skill import INFO_FILE, Skill


class Policy(StrEnum):
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
                f"policy on, but skill {skill.name} does not enable AutoML (automl_enabled in {skill.root / INFO_FILE})",
                hint="use --policy off for plain training, or a skill that enables it: `automl skills` lists them",
            )
        return Route(search=False, why=f"policy auto: skill {skill.name} does not enable AutoML, so this is plain training")
    fault = _fault(skill)
    if fault is not None:
        raise SkillError(
            f"AutoML is enabled for skill {skill.name} but cannot run: {fault}",
            hint="generate the schemas (`make schemas` does it for the skills of this project), or train without search: --policy off",
        )
    return Route(search=True, why=f"policy {policy.value}: skill {skill.name} enables AutoML and its schema and template are packaged")


def _fault(skill: Skill) -> str | None:
    """What keeps an enabled skill from being searched, or None."""
    try:
        schema = skill.schema()
    except (SkillError, SpecError) as error:
        return error.message
    if not schema.automl_default_parameters:
        return f"{skill.root / SCHEMA_FILE} names no parameter to search (automl_default_parameters is empty)"
    return skill.why_not_runnable()
