"""What must be as it was when a study began, looked at when it goes on: its settings, its skill, its schema, its data.

Settings that decide something about trials stay as they were, else earlier and later trials could not be compared; what only says how
and how long (parallel, trials, limits, finalists) may change.  The hashes of the settings stand in the journal and those of the files in
`study.yaml`, so that neither file vouches for itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from automl.config import CONFIG_FILE, StudyConfig, at_home, config_to_data
from search_spaces.errors import StudyError, UserError
from search_spaces.skill import Skill
from search_spaces.spec import Spec, spec_from_dict

FREE = frozenset(
    {
        *("trials", "finalists", "finalist_seeds", "limits", "working_folder", "notes"),
        *("parallel", "gpus_per_trial", "cpus_per_trial", "engine", "address", "storage"),
    }
)
_KEY = "settings"


def check_settings_kept(study: optuna.Study, config: StudyConfig) -> None:
    """Remembers the settings of a new study; StudyError when those of an old one were edited in the meantime."""
    data = config_to_data(config)
    now = {name: _hash(value) for name, value in data.items() if name not in FREE}
    known = study.user_attrs.get(_KEY)
    if known is None:
        study.set_user_attr(_KEY, now)
        return
    changed = [name for name, value in now.items() if name in known and known[name] != value]
    if changed:
        raise StudyError(
            f"{', '.join(changed)} in {CONFIG_FILE} {'was' if len(changed) == 1 else 'were'} changed since the study began",
            hint="put the old value back; for other settings start a new study with --warm-start and this folder",
        )


def data_facts(spec: Spec) -> dict[str, str]:
    """Hashes of the training list and of how the validation list is measured; UserError or OSError where they cannot be read."""
    from trials.data import data_hash, evaluation_hash

    facts = {"train": data_hash(spec, "train")}
    if spec.dataset.val_dataset.data_sources:
        facts["val"] = evaluation_hash(spec, "val")
    return facts


def skill_facts(skill: Skill) -> dict[str, str]:
    """The folder of a skill, and hashes of its schema and of its other files."""
    schemas: dict[str, str] = {}
    others: dict[str, str] = {}
    for path in sorted(skill.root.rglob("*")):
        if path.is_file() and path.suffix in {".yaml", ".yml", ".json"}:
            name = str(path.relative_to(skill.root))
            (schemas if "schemas" in path.parts else others)[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"folder": str(skill.root), "schema": _hash(schemas), "skill": _hash(others)}


def check_surroundings(config: StudyConfig) -> list[str]:
    """Lines on what changed around a study without harm to it; StudyError when its data changed, so that metrics cannot be compared."""
    _check_data(config)
    known = config.notes.get("skill")
    if not isinstance(known, Mapping):
        return []
    from search_spaces.skill import read_skill

    try:
        now = skill_facts(read_skill(Path(known["folder"])))
    except (UserError, OSError):
        return [f"the skill folder {known['folder']} is gone; the study has its own copy of spec and space"]
    changed = [name for name in ("skill", "schema") if known[name] != now[name]]
    return [
        f"the {name} of {config.skill} was changed since the study began; the study keeps the spec and space it has" for name in changed
    ]


def _check_data(config: StudyConfig) -> None:
    known = config.notes.get("data")
    if not isinstance(known, Mapping):
        return
    with at_home(config):
        now = data_facts(spec_from_dict(config.spec))
    changed = [name for name in now if known.get(name) != now[name]]
    if changed:
        what = " and ".join({"train": "the training data", "val": "the validation data or how it is measured"}[name] for name in changed)
        raise StudyError(
            f"{what} changed since the study began, so its trials cannot be compared with new ones",
            hint="put the old lists and files back, or start a new study with --warm-start and this folder",
        )


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
