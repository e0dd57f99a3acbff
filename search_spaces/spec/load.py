"""From a YAML file and overrides to a checked Spec: default < template < YAML < key=value < a scheduler's variables.

What is read (`yaml_file`, `overrides`) is laid over the defaults, resolved (`references`), completed (`complete`), built (`values`)
and checked (`rules`).  `???` marks a key as unset, wherever it stands.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search_spaces.errors import SpecError
from search_spaces.spec.complete import METRIC_KEYS, complete
from search_spaces.spec.devices import environment_values
from search_spaces.spec.overrides import Override, parse_overrides, parse_value
from search_spaces.spec.references import resolve_references
from search_spaces.spec.rules import check_rules, spec_warnings
from search_spaces.spec.tree import Spec, all_fields, all_sections, unknown_key
from search_spaces.spec.values import Places, build, place_of, plain
from search_spaces.spec.yaml_file import read_mapping
from search_spaces.writing import replace_text

SETTINGS = "automl"  # the group in which `automl run` finds the settings of a search; no part of a run
MANDATORY = "???"  # OmegaConf's mark of a value that somebody has yet to give
TYPE_NOT_SET = "model.model_type is not set, so this is its default: for stereo set model.model_type=FoundationStereo"


@dataclass(frozen=True, kw_only=True)
class LoadedSpec:
    """A checked spec with what a user should know about it: `given` keys and their places, lines on `assumed` values and idle keys."""

    spec: Spec
    given: frozenset[str]
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]
    places: Places


def read_spec(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    template: Mapping[str, Any] | None = None,
    action: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSpec:
    """The spec of a file and overrides, with the lines a user should see; SpecError says what is wrong and where.

    `action` leaves out lines on the blocks of other actions.  `environ` holds a scheduler's variables, see `devices`.
    """
    user, places = read_mapping(path) if path is not None else ({}, {})
    user.pop(SETTINGS, None)
    given, typed = {dotted for dotted, _ in leaves(user)}, set[str]()
    tree = defaults()
    merge(tree, template or {})
    merge(tree, user, places=places)
    for override in parse_overrides(overrides):
        touched = apply_override(tree, override)
        forgotten = override.delete and (is_known(override.key) or override.key in all_sections())
        given = given - touched if forgotten else given | touched
        typed = typed - touched if forgotten else typed | touched
        places.update(dict.fromkeys(touched, override.place))
    for dotted, value, place in environment_values(environ or {}):
        apply_override(tree, Override(key=dotted, value=value))
        given.add(dotted)
        places[dotted] = place
    tree = resolve_references(tree, places)
    if action != "train":
        _leave_depths_to(tree, template or {})
    from_template = {dotted for dotted, _ in leaves(template or {})}
    return _finish(tree, given, places, from_template, typed=typed, action=action)


def text_at(path: Path, overrides: Sequence[str], key: str) -> str | None:
    """What a spec file and overrides say at `key`, where that is a text; nothing is checked but that the file and its keys can be read.

    For the name of a model, which says what the spec leaves out: only then can the whole be checked.
    """
    user, places = read_mapping(path)
    user.pop(SETTINGS, None)
    tree = defaults()
    merge(tree, user, places=places)
    for override in parse_overrides(overrides):
        apply_override(tree, override)
    value: object = resolve_references(tree, places)
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _leave_depths_to(tree: dict[str, Any], template: Mapping[str, Any]) -> None:
    """A depth that is null says nothing in the spec of an action that does not train: what `template` (the weights) says counts.

    Not for a spec of another network than the weights': loading them tells that.
    """
    if template.get("model", {}).get("model_type") not in (None, tree["model"]["model_type"]):
        return
    for name in METRIC_KEYS.values():
        if tree["dataset"][name] is None:
            tree["dataset"][name] = template.get("dataset", {}).get(name)


def load_spec(path: Path | None, overrides: Sequence[str] = (), *, template: Mapping[str, Any] | None = None) -> Spec:
    """The checked and completed spec of a file and overrides; `read_spec` also gives the lines a user should see."""
    return read_spec(path, overrides, template=template).spec


def spec_from_dict(data: Mapping[str, Any]) -> Spec:
    """The checked and completed spec of plain data; keys that are absent keep their defaults."""
    tree = defaults()
    given = {dotted for dotted, _ in leaves(data)}
    merge(tree, data)
    return _finish(tree, given, {}).spec


def spec_to_dict(spec: Spec) -> dict[str, Any]:
    """Complete JSON-able data of a spec; `spec_from_dict` gives the same spec back."""
    return plain(spec)


def save_spec(spec: Spec, path: Path) -> None:
    """Write the complete spec as YAML, with a header that says what it is; whole, or not at all."""
    import yaml

    header = "# Resolved spec: every key with the value that was used.  Run it again with -e.\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, header + yaml.safe_dump(spec_to_dict(spec), sort_keys=False, allow_unicode=True))


def with_values(spec: Spec, values: Mapping[str, Any]) -> Spec:
    """A checked copy of `spec` with the dotted keys of `values` changed; keys that follow them follow.  Lists may be texts: `[64, 64]`."""
    tree = spec_to_dict(spec)
    same_disparity = spec.dataset.max_disparity == spec.model.max_disparity
    for dotted, given_value in values.items():
        listed = isinstance(given_value, str) and is_known(dotted) and all_fields()[dotted].type == "list"
        value = parse_value(given_value) if listed else given_value
        apply_override(tree, Override(key=dotted, value=value))
    given = set(all_fields()) if not same_disparity else set(all_fields()) - {"dataset.max_disparity", "model.max_disparity"}
    if "model.model_type" in values:
        given.discard("dataset.dataset_name")
    return _finish(tree, given | set(values), {}).spec


def defaults() -> dict[str, Any]:
    """Plain data of every key's own default, not yet completed for a family."""
    return plain(Spec())


def leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested data, down to the keys of the spec (free mappings stay whole); what is unset is left out."""
    for name, value in data.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping) and dotted in all_sections():
            yield from leaves(value, f"{dotted}.")
        elif value != MANDATORY and not (value is None and dotted in all_sections()):
            yield dotted, value


def is_known(dotted: str) -> bool:
    """Whether a dotted name is a key of the spec."""
    return dotted in all_fields()


def known_part(data: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """`data` without the keys that no spec has, and the dotted names of those."""
    kept: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in data.items():
        dotted = f"{prefix}{name}"
        if dotted in all_sections() and isinstance(value, Mapping):
            kept[name], below = known_part(value, f"{dotted}.")
            unknown += below
        elif dotted in all_sections() or is_known(dotted):
            kept[name] = value
        else:
            unknown.append(dotted)
    return kept, tuple(unknown)


def merge(tree: dict[str, Any], data: Mapping[str, Any], prefix: str = "", *, places: Places | None = None) -> None:
    """Lay `data` over the complete `tree` in place; groups merge, everything else is replaced.  SpecError for an unknown key."""
    for name, value in data.items():
        dotted = f"{prefix}{name}"
        place = place_of(dotted, places or {})
        if dotted in all_sections():
            if isinstance(value, Mapping):
                merge(tree[name], value, f"{dotted}.", places=places)
            elif value is not None:
                where = f" ({place})" if place else ""
                raise SpecError(
                    f"{dotted} must be a group of keys, but is {_told(value)}{where}", hint=f"set a key in it: {_example(dotted)}"
                )
        elif not is_known(dotted):
            raise unknown_key(dotted, place=place)
        elif value != MANDATORY:
            tree[name] = copy.deepcopy(value)


def _told(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _example(section: str) -> str:
    return next(name for name in all_fields() if name.startswith(f"{section}."))


def apply_override(tree: dict[str, Any], override: Override) -> set[str]:
    """Carry out one override on the complete plain spec, in place; gives back the keys of the spec that it touched."""
    parts = override.key.split(".")
    depth = next((n for n in range(len(parts), 0, -1) if is_known(".".join(parts[:n]))), None)
    if depth is None:
        return _override_group(tree, override)
    dotted = ".".join(parts[:depth])
    group = tree
    for part in parts[: depth - 1]:
        group = group[part]
    if depth == len(parts):
        group[parts[-1]] = _default_at(dotted) if override.delete or override.value == MANDATORY else override.value
    else:
        _set_inside(group, parts[depth - 1 :], override)
    return {dotted}


def _override_group(tree: dict[str, Any], override: Override) -> set[str]:
    """An override of a whole section with a dict, or its deletion."""
    if override.key not in all_sections():
        raise unknown_key(override.key, place=override.place)
    inside = [name for name in all_fields() if name.startswith(f"{override.key}.")]
    if override.delete:
        for name in inside:
            apply_override(tree, Override(key=name, delete=True))
        return set(inside)
    if not isinstance(override.value, Mapping):
        raise SpecError(
            f"{override.key} must be a group of keys, but is {_told(override.value)} ({override.place})",
            hint=f"set a key in it: {inside[0]}=...",
        )
    touched: set[str] = set()
    for name, value in override.value.items():
        touched |= apply_override(tree, replace(override, key=f"{override.key}.{name}", value=value))
    return touched


def _set_inside(group: dict[str, Any], parts: Sequence[str], override: Override) -> None:
    """Set or delete something inside a list or a free mapping, such as data_sources.0.data_file."""
    holder: Any = group
    for part, following in itertools.pairwise(parts):
        holder = _inner(holder, part, following, override)
    last = parts[-1]
    if isinstance(holder, list):
        at = _position(holder, last, override)
        if override.delete:
            del holder[at]
        else:
            holder[at] = override.value
    elif isinstance(holder, dict):
        if override.delete:
            holder.pop(last, None)
        else:
            holder[last] = override.value
    else:
        raise unknown_key(override.key, place=override.place)


def _inner(holder: Any, part: str, following: str, override: Override) -> Any:
    """What stands at `part` of `holder`; a list or a mapping is made, as `following` needs it, where there is nothing yet."""
    if isinstance(holder, list):
        return holder[_position(holder, part, override)]
    if not isinstance(holder, dict):
        raise unknown_key(override.key, place=override.place)
    if holder.get(part) is None:
        holder[part] = [] if following.isdigit() else {}
    elif isinstance(holder[part], tuple):
        holder[part] = list(holder[part])
    inner = holder[part]
    if following.isdigit() and isinstance(inner, list) and int(following) == len(inner):
        inner.append({})
    return inner


def _position(holder: list[Any], part: str, override: Override) -> int:
    if not part.isdigit() or int(part) >= len(holder):
        raise SpecError(f"{override.key} points past the end of a list of {len(holder)} ({override.place})", hint="positions count from 0")
    return int(part)


def _default_at(dotted: str) -> Any:
    value: Any = defaults()
    for part in dotted.split("."):
        value = value[part]
    return value


def _finish(
    tree: dict[str, Any],
    given: set[str],
    places: Places,
    template: Collection[str] = (),
    *,
    typed: Collection[str] = (),
    action: str | None = None,
) -> LoadedSpec:
    """Complete, build and check.  `template` keys count as set, except those that follow what the user set."""
    known = given | (set(template) - {"dataset.max_disparity", "model.max_disparity", "dataset.dataset_name", *METRIC_KEYS})
    spoken = known if action == "train" else known - set(METRIC_KEYS)
    assumed = [line for line in complete(tree, spoken) if action in (None, "train") or not line.startswith("dataset.train_dataset.")]
    spec = build(Spec, tree, places)
    try:
        check_rules(spec, places)
    except SpecError as error:
        if "model.model_type" in known or spec.model.model_type not in error.message:
            raise
        raise SpecError(error.message, hint=f"{error.hint}; {TYPE_NOT_SET}") from None
    warnings = spec_warnings(spec, typed=typed, action=action)
    spec = replace(spec, encryption_key=None)  # a secret that nothing reads is not written into the records of a run
    return LoadedSpec(spec=spec, given=frozenset(given), assumed=tuple(assumed), warnings=tuple(warnings), places=places)
