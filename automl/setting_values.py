"""Values of settings that are more than a number: names and ranges of parameters, objectives, priors, as TAO writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.errors import StudyError, nearest
from search_spaces.space import Value, choice_of
from search_spaces.space_request import RangeChange
from search_spaces.spec.overrides import parse_value

LONGEST = 5000  # characters of a list of names, as in TAO
RANGE_KEYS = ("parameter", "valid_min", "valid_max", "valid_options", "option_weights", "disable_list")
SCHEMA_KEYS = ("math_cond", "depends_on", "parent_param")
OBJECTIVE_KEYS = ("metric", "direction", "weight", "scale")
DIRECTIONS = ("minimize", "maximize")
WORDS = {"metric": "val/epe", "algorithm": "bohb", "searcher": "tpe", "fidelity": "asha"}


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """What `custom_param_ranges` says: changed parameters, those left out, and lines for the user."""

    changes: Mapping[str, RangeChange] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def word_of(name: str, value: object) -> str | None:
    """A setting that is one word; StudyError for anything else."""
    if value is None or isinstance(value, str):
        return value
    raise StudyError(f"{name} must be a word, but is {value!r}", hint=f"for example {name}: {WORDS[name]}")


def names_of(value: Any) -> tuple[str, ...]:
    """`automl_hyperparameters`: a list, or a text that holds one; empty means the skill's own choice."""
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise StudyError(f"automl_hyperparameters must have at most {LONGEST} characters, but has {len(value)}", hint="name fewer")
        value = parse_value(value) if value.strip().startswith("[") else [part.strip() for part in value.split(",") if part.strip()]
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise StudyError(f"automl_hyperparameters must be a list of names, but is {value!r}", hint="for example [train.optim.lr]")
    return tuple(value)


def ranges_of(value: Any) -> Ranges:
    """`custom_param_ranges`: `{key: {valid_min: ...}}`, or a list of entries that name their `parameter`."""
    if isinstance(value, list):
        nameless = [entry for entry in value if not isinstance(entry, Mapping) or not isinstance(entry.get("parameter"), str)]
        if nameless:
            raise StudyError(f"an entry of custom_param_ranges names no parameter: {nameless[0]!r}", hint="add parameter: train.optim.lr")
        value = {entry["parameter"]: entry for entry in value}
    if value is None:
        return Ranges()
    if not isinstance(value, Mapping):
        raise StudyError(f"custom_param_ranges must be a group of parameters, but is {value!r}", hint="for example {train.optim.lr: {...}}")
    changes, without, notes = {}, [], []
    for key, entry in value.items():
        if not isinstance(entry, Mapping):
            raise StudyError(f"the range of {key} must be a group, but is {entry!r}", hint="for example {valid_min: 1e-5, valid_max: 1e-3}")
        for name in entry:
            if name not in (*RANGE_KEYS, *SCHEMA_KEYS):
                near = nearest(str(name), RANGE_KEYS)
                raise StudyError(
                    f"the range of {key} has an unknown {name}",
                    hint=f"did you mean {near}?" if near else f"known are {', '.join(RANGE_KEYS)}",
                )
        notes += [f"{name} of {key} has no effect: the skill's schema says it" for name in SCHEMA_KEYS if name in entry]
        if entry.get("disable_list") is True:
            without.append(str(key))
        else:
            changes[str(key)] = _change(str(key), entry)
    return Ranges(changes=changes, without=tuple(without), notes=tuple(notes))


def _change(key: str, entry: Mapping[str, Any]) -> RangeChange:
    low, high = _bound(key, "valid_min", entry), _bound(key, "valid_max", entry)
    options, weights = entry.get("valid_options") or (), entry.get("option_weights") or ()
    if not isinstance(options, list | tuple) or not isinstance(weights, list | tuple):
        raise StudyError(f"valid_options and option_weights of {key} must be lists", hint="for example valid_options: [AdamW, SGD]")
    if not all(isinstance(weight, int | float) and not isinstance(weight, bool) for weight in weights):
        raise StudyError(
            f"option_weights of {key} must be numbers, but are {list(weights)}", hint="give one positive number for each option"
        )
    if low is not None and high is not None and low >= high:
        raise StudyError(f"valid_min < valid_max must hold for {key}, but {low:g} >= {high:g}", hint="swap the two")
    if options and (low is not None or high is not None):
        raise StudyError(f"{key} has both bounds and valid_options", hint="give one of the two")
    return RangeChange(low=low, high=high, choices=tuple(map(choice_of, options)), weights=tuple(map(float, weights)))


def _bound(key: str, name: str, entry: Mapping[str, Any]) -> float | None:
    value = entry.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    raise StudyError(f"{name} of {key} must be a number, but is {value!r}", hint="leave it out for the bound of the schema")


def priors_of(value: Any) -> dict[str, Value]:
    """`priors` (ours): a good value by parameter."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise StudyError(f"priors must be a group of values, but is {value!r}", hint="for example {train.optim.lr: 3.0e-4}")
    return {str(key): choice_of(guess) for key, guess in value.items()}


def metrics_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of `objectives`, else that of `metric`; StudyError when both say something else."""
    single = word_of("metric", values.get("metric"))
    if values.get("objectives") is None:
        return () if single is None else (single,)
    metrics = tuple(str(item["metric"]) for item in _objectives(values))
    if single is not None and single not in metrics:
        raise StudyError(f"metric {single} is none of the objectives {', '.join(metrics)}", hint="leave metric out")
    return metrics


def direction_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Each direction that somebody wrote down, by metric; `""` stands for the one objective."""
    found = {str(item["metric"]): item["direction"] for item in _objectives(values) if item.get("direction") is not None}
    if values.get("direction") is not None:
        found[""] = values["direction"]
    for direction in found.values():
        if direction not in DIRECTIONS:
            raise StudyError(f"direction must be minimize or maximize, but is {direction!r}", hint="leave it out: the metric decides it")
    return found


def _objectives(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = values.get("objectives") or []
    if not isinstance(listed, list) or any(not isinstance(item, Mapping) or "metric" not in item for item in listed):
        raise StudyError(f"objectives must be a list of entries with a metric, but is {listed!r}", hint="for example [{metric: val/epe}]")
    for item in listed:
        for name in item:
            if name not in OBJECTIVE_KEYS:
                near = nearest(str(name), OBJECTIVE_KEYS)
                raise StudyError(
                    f"an objective has an unknown {name}", hint=f"did you mean {near}?" if near else "known are metric, direction"
                )
    return listed


def count_of(name: str, value: object) -> int:
    """A whole number, 0 or more; StudyError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise StudyError(f"{name} must be a whole number >= 0, but got {value!r}", hint=f"for instance {name}: 2")
    return value
