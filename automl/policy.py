"""Does a train request become a search?  The rules of TAO's skill packages (automl_policy), each answer with its reason.

What is asked for: `--policy`, else `automl_policy` of the settings, else a phrase of the free text ("no HPO"), else auto.

| policy   | the skill                                              | answer |
|----------|--------------------------------------------------------|--------|
| off      | any                                                    | plain training |
| auto, on | enables AutoML; its schema and template can be read    | search |
| auto     | does not enable it                                     | plain training, said aloud |
| on       | does not enable it                                     | error |
| auto, on | enables it, but a file is missing, broken or empty     | error: no improvised space, no silent plain run |
| auto     | the same, and plain training is allowed as a fallback  | plain training, said aloud |

A run's policy never changes the skill.  Actions other than train are not routed at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from automl.phrases import asks_for_plain_training
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


NOT_RUNNABLE = "AutoML is enabled but not runnable for this model until schemas are generated"
ON, OFF = ("on", "true", "yes"), ("off", "false", "no")  # YAML reads on and off as true and false


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The policy of one request, and `source`: who said so."""

    policy: Policy
    source: str


def asked_policy(explicit: str | None, setting: object, text: str | None) -> Asked:
    """What the command line (`explicit`), the settings and a free text say together; an explicit value wins over a phrase."""
    if explicit is not None:
        return Asked(policy=Policy(explicit), source=f"policy {explicit}")
    if setting is not None:
        word = str(setting).lower()
        word = "on" if word in ON else "off" if word in OFF else word
        if word not in tuple(Policy):
            raise SpecError(f"automl_policy must be one of {', '.join(Policy)}, but is {setting!r}", hint="leave it out for auto")
        return Asked(policy=Policy(word), source=f"policy {word} of the settings")
    phrase = None if text is None else asks_for_plain_training(text)
    if phrase is not None:
        return Asked(policy=Policy.OFF, source=f'policy off, because the request says "{phrase}"')
    return Asked(policy=Policy.AUTO, source="policy auto")


def decide(policy: Policy, skill: Skill, *, source: str | None = None, fallback: bool = False) -> Route:
    """The route of a train request to `skill`; SkillError when AutoML is asked for and cannot run.

    `source` begins the reason, `fallback` allows plain training where an enabled skill cannot be searched.
    """
    said = source or f"policy {policy.value}"
    if policy is Policy.OFF:
        return Route(search=False, why=f"{said}: plain training for this run")
    if not skill.automl_enabled:
        if policy is Policy.ON:
            raise SkillError(
                f"policy on, but skill {skill.name} does not enable AutoML (automl_enabled in {skill.root / INFO_FILE})",
                hint="use --policy off for plain training, or a skill that enables it: `automl skills` lists them",
            )
        return Route(search=False, why=f"{said}: skill {skill.shown} does not enable AutoML, so this is plain training")
    if skill.unknown_network is not None:
        raise SkillError(f"skill {skill.name} cannot run here: {skill.unknown_network}", hint="`automl skills` lists those that can")
    fault = _fault(skill)
    if fault is None:
        return Route(search=True, why=f"{said}: skill {skill.shown} enables AutoML and its schema and template are packaged")
    if fallback and policy is Policy.AUTO:
        return Route(search=False, why=f"{NOT_RUNNABLE} ({fault}), so this is plain training, as --allow-direct-fallback allows")
    others = (
        "train without search: --policy off" if policy is Policy.ON else "train without search: --policy off or --allow-direct-fallback"
    )
    raise SkillError(
        f"{NOT_RUNNABLE}: {fault}",
        hint=f"put {SCHEMA_FILE} and its template into {skill.root} (`make schemas` writes those of this project's skills), or {others}",
    )


def _fault(skill: Skill) -> str | None:
    """What keeps an enabled skill from being searched, or None."""
    try:
        schema = skill.schema()
    except (SkillError, SpecError) as error:
        return error.message
    if not schema.automl_default_parameters:
        return f"{skill.root / SCHEMA_FILE} names no parameter to search (automl_default_parameters is empty)"
    return skill.why_not_runnable()
