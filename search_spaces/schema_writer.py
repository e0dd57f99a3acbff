"""Writes `train.schema.json` and `manifest.json` of our skills from the typed spec, in TAO's format (Apache-2.0).

Deterministic: the same spec, template and space.yaml give the same bytes.  Defaults are those of the skill's template; bounds
that do not exist are left out (TAO writes `Infinity`, which is no JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import SkillError, SpecError
from search_spaces.schema import SCHEMA_FILE
from search_spaces.skill import Skill, read_skill, read_yaml
from search_spaces.spec import Acts, FieldInfo, all_fields, load_spec, spec_to_dict
from search_spaces.spec.tree import unknown_key

OWN_SECTIONS = ("evaluate", "inference", "export", "gen_trt_engine")  # other actions' blocks are not part of a train schema
OVERLAY_KEYS = {"low", "high", "log", "choices", "why"}


def write_train_schema(root: Path) -> tuple[Path, Path]:
    """Write schema and manifest of the skill in `root`; gives back both paths."""
    skill = read_skill(root)
    schema = train_schema(skill)
    paths = (root / SCHEMA_FILE, root / "schemas" / "manifest.json")
    for path, data in zip(paths, (schema, manifest(skill, schema)), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return paths


def train_schema(skill: Skill) -> dict[str, Any]:
    """The content of a skill's train schema."""
    template = spec_to_dict(load_spec(None, template=skill.template("train")))
    overlay = read_overlay(skill.root / "space.yaml")
    infos = [info for info in all_fields().values() if info.key.split(".")[0] not in OWN_SECTIONS]
    properties: dict[str, Any] = {}
    for info in infos:
        _place(properties, info.key, _leaf(info, skill, _at(template, info.key), overlay))
    return {
        "type": "object",
        "properties": properties,
        "default": {name: value for name, value in template.items() if name not in OWN_SECTIONS},
        "automl_default_parameters": sorted(info.key for info in infos if info.automl),
        "automl_disabled_parameters": sorted(info.key for info in infos if _disabled(info)),
        "popular": _popular(infos),
        "x_tao_schema": {
            "action": "train",
            "model": skill.name,
            "network_arch": skill.network_arch,
            "schema_action": "train",
            "schema_version": 1,
            "source": "search_spaces.spec",
        },
    }


def manifest(skill: Skill, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The index of a skill's schemas."""
    return {
        "schema_version": 1,
        "model": skill.name,
        "network_arch": skill.network_arch,
        "automl_enabled": skill.automl_enabled,
        "failures": {},
        "actions": {
            "train": {
                "automl_default_parameters": schema["automl_default_parameters"],
                "automl_disabled_parameters": schema["automl_disabled_parameters"],
                "core_module": "search_spaces.spec",
                "path": SCHEMA_FILE.as_posix(),
                "popular": schema["popular"],
                "schema_action": "train",
                "spec_template": "references/spec_template_train.yaml",
            }
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


def _leaf(info: FieldInfo, skill: Skill, default: Any, overlay: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
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
    if info.automl or _disabled(info):
        leaf["automl_enabled"] = bool(info.automl)
    if rule.popular and info.key.startswith("train."):
        leaf["popular"] = "yes"
    if rule.unit:
        leaf["x_unit"] = rule.unit
    leaf["x_automl"] = _x_automl(info, skill, overlay.get(info.key, {}))
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


def _popular(infos: list[FieldInfo]) -> dict[str, Any]:
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
