"""`depth_net default_specs`: the spec templates of a skill as files to fill in, one for each action."""

from __future__ import annotations

from pathlib import Path

from automl.console import count_text, screen, tell
from automl.entry import DONE
from automl.folders import check_writable
from automl.summary import shown_path
from search_spaces.errors import SkillError, StudyError, shell_word
from search_spaces.skill import find_skill, list_skills

# in the order in which they are used; others, of a foreign skill, follow
ORDER = ("convert", "train", "evaluate", "inference", "export", "quantize", "gen_trt_engine", "deploy")


def default_specs_action(skill_name: str | None, out: Path, *, force: bool) -> int:
    """Writes `<action>.yaml` to `out`; StudyError when one is there already, unless `force`."""
    if skill_name is None:
        raise SkillError("no skill is named", hint=f"add --skill NAME; there are {', '.join(skill.name for skill in list_skills())}")
    skill = find_skill(skill_name)
    templates = skill.templates()
    if not templates:
        raise SkillError(f"the skill {skill.name} has no spec templates", hint=f"add references/spec_template_train.yaml to {skill.root}")
    actions = sorted(templates, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    check_writable(out, hint="name another folder with --out")
    taken = [f"{action}.yaml" for action in actions if (out / f"{action}.yaml").exists()]
    if taken and not force:
        raise StudyError(
            f"{shown_path(out)} already holds {', '.join(taken)}", hint="name another folder with --out, or overwrite them with --force"
        )
    out.mkdir(parents=True, exist_ok=True)
    console, width = screen(), max(len(action) for action in actions) + len(".yaml")
    tell(console, f"{count_text(len(actions), 'spec')} of {skill.name} in {shown_path(out)}:")
    for action in actions:
        text = templates[action].read_text(encoding="utf-8")
        (out / f"{action}.yaml").write_text(text, encoding="utf-8")
        tell(console, f"  {action + '.yaml':<{width}}  {_purpose(text)}")
    tell(console, "what is null or empty waits for your paths, in the file or on the command line")
    if "convert" in actions:
        tell(console, f"next  depth_net convert -e {shell_word(shown_path(out / 'convert.yaml'))} data_root=IMAGES results_dir=lists")
    return DONE


def _purpose(template: str) -> str:
    """The first sentence of a template's opening comment."""
    first = template.splitlines()[0] if template else ""
    return first.removeprefix("#").strip().partition(". ")[0].rstrip(".") if first.startswith("#") else ""
