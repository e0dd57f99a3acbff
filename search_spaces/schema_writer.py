"""Writes the schemas of every action and `manifest.json` of our skills from the typed spec, in TAO's format (Apache-2.0).

Deterministic: the same spec, templates and space.yaml give the same bytes.  Defaults are those of the action's template; bounds
that do not exist are left out (TAO writes `Infinity`, which is no JSON).  As in TAO, a schema holds the common sections and the
block of its own action.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search_spaces.errors import SkillError, SpecError
from search_spaces.skill import Skill, read_skill, read_yaml
from search_spaces.spec import Acts, FieldInfo, all_fields, load_spec, spec_to_dict
from search_spaces.spec.convert import Convert
from search_spaces.spec.keys import fields_of
from search_spaces.spec.tree import unknown_key
from search_spaces.spec.values import plain

OWN_SECTIONS = ("evaluate", "inference", "export", "gen_trt_engine")  # blocks that only the schema of their own action holds
ACTIONS = ("convert", "train", *OWN_SECTIONS, "quantize")
OVERLAY_KEYS = {"low", "high", "log", "step", "choices", "why"}


def write_schemas(root: Path) -> tuple[Path, ...]:
    """Write the schemas and the manifest of the skill in `root`; gives back their paths."""
    written = []
    for name, text in schema_files(read_skill(root)).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return tuple(written)


def schema_files(skill: Skill) -> dict[str, str]:
    """What `write_schemas` writes: the text of each file by its path in the skill's folder."""
    schemas = {action: action_schema(skill, action) for action in ACTIONS}
    files: dict[str, Mapping[str, Any]] = {schema_path(action): schema for action, schema in schemas.items()}
    files["schemas/manifest.json"] = manifest(skill, schemas)
    return {name: json.dumps(data, indent=2, allow_nan=False) + "\n" for name, data in files.items()}


def schema_path(action: str) -> str:
    """Where the schema of an action lies in a skill's folder."""
    return f"schemas/{action}.schema.json"


def action_schema(skill: Skill, action: str) -> dict[str, Any]:
    """The content of the schema of one action; what a search needs to know (`x_automl`) stands in that of train alone."""
    if action == "convert":
        infos: Sequence[FieldInfo] = tuple(fields_of(Convert))
        template = {**plain(Convert()), **skill.template(action)}
    else:
        others = [section for section in OWN_SECTIONS if section != action]
        infos = [info for info in all_fields().values() if info.key.split(".")[0] not in others]
        complete = spec_to_dict(load_spec(None, template=skill.template(action)))
        template = {name: value for name, value in complete.items() if name not in others}
    trains = action == "train"
    overlay = read_overlay(skill.root / "space.yaml") if trains else {}
    properties: dict[str, Any] = {}
    for info in infos:
        leaf = _leaf(info, _at(template, info.key), searched=trains)
        if trains:
            leaf["x_automl"] = _x_automl(info, skill, overlay.get(info.key, {}))
        _place(properties, info.key, leaf)
    return {
        "type": "object",
        "properties": properties,
        "default": template,
        "automl_default_parameters": sorted(info.key for info in infos if info.automl and trains),
        "automl_disabled_parameters": sorted(info.key for info in infos if _disabled(info)),
        "popular": _popular(infos),
        "x_tao_schema": {
            "action": action,
            "model": skill.name,
            "network_arch": skill.network_arch,
            "schema_action": action,
            "schema_version": 1,
            "source": _source(action),
        },
    }


def manifest(skill: Skill, schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The index of a skill's schemas, by action."""
    return {
        "schema_version": 1,
        "model": skill.name,
        "network_arch": skill.network_arch,
        "automl_enabled": skill.automl_enabled,
        "failures": {},
        "actions": {
            action: {
                "automl_default_parameters": schema["automl_default_parameters"],
                "automl_disabled_parameters": schema["automl_disabled_parameters"],
                "core_module": _source(action),
                "path": schema_path(action),
                "popular": schema["popular"],
                "schema_action": action,
                "spec_template": f"references/spec_template_{action}.yaml",
            }
            for action, schema in schemas.items()
        },
    }


def read_overlay(path: Path) -> dict[str, dict[str, Any]]:
    """What a skill's space.yaml says, by dotted key; `searched` is `default` or `on request`.  SkillError for a wrong entry."""
    data = read_yaml(path)
    overlay: dict[str, dict[str, Any]] = {}
    for group, searched in (("default", "default"), ("on_request", "on request")):
        for key, entry in (data.get(group) or {}).items():
            if key not in all_fields():
                raise _located(unknown_key(key, place=str(path)))
            surplus = set(entry) - OVERLAY_KEYS
            if surplus or not entry.get("why"):
                wrong = f"has unknown {', '.join(sorted(surplus))}" if surplus else "gives no reason (why)"
                raise SkillError(f"{key} {wrong} in {path}", hint=f"an entry has {', '.join(sorted(OVERLAY_KEYS))}")
            overlay[key] = {"searched": searched, "order": len(overlay), **entry}
    return overlay


def _located(error: SpecError) -> SkillError:
    return SkillError(error.message, hint=error.hint)


def _source(action: str) -> str:
    return "search_spaces.spec.convert" if action == "convert" else "search_spaces.spec"


def _leaf(info: FieldInfo, default: Any, *, searched: bool) -> dict[str, Any]:
    rule = info.rule
    leaf: dict[str, Any] = {"type": info.type, "default": default, "description": rule.doc}
    bounded = info.type in ("int", "float")
    if rule.low is not None and bounded:
        leaf["minimum"] = rule.low
    if rule.high is not None and bounded:
        leaf["maximum"] = rule.high
    if rule.options:
        leaf["enum"] = list(rule.options)
    if rule.above is not None:
        leaf["math_cond"] = f"> {rule.above}"
    if _disabled(info) or (info.automl and searched):
        leaf["automl_enabled"] = not _disabled(info)
    if rule.popular and info.key.startswith("train."):
        leaf["popular"] = "yes"
    if rule.unit:
        leaf["x_unit"] = rule.unit
    return leaf


def _x_automl(info: FieldInfo, skill: Skill, entry: Mapping[str, Any]) -> dict[str, Any]:
    learned = info.acts in (Acts.TRAINING, Acts.STEREO, Acts.MONO)
    acts = "inert" if not info.read_by(skill.task) else "training" if learned else info.acts.value
    facts: dict[str, Any] = {"acts": acts}
    if info.rule.log:
        facts["log"] = True
    if info.rule.when is not None and acts != "inert":
        facts["condition"] = {"key": info.rule.when[0], "values": list(info.rule.when[1])}
    return {**facts, **entry}


def _disabled(info: FieldInfo) -> bool:
    """TAO marks every list and mapping as not searchable."""
    return info.type in ("list", "collection")


def _popular(infos: Iterable[FieldInfo]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for info in infos:
        if info.rule.popular and info.key.startswith("train."):
            chosen.setdefault("train", {})[info.key.removeprefix("train.")] = "yes"
    return chosen


def _place(properties: dict[str, Any], dotted: str, leaf: dict[str, Any]) -> None:
    *groups, name = dotted.split(".")
    for group in groups:
        properties = properties.setdefault(group, {"type": "collection", "properties": {}, "automl_enabled": False})["properties"]
    properties[name] = leaf


def _at(tree: Mapping[str, Any], dotted: str) -> Any:
    value: Any = tree
    for part in dotted.split("."):
        value = value[part]
    return value
