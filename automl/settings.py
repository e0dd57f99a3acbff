"""The settings of a search by TAO's names: from an `automl:` block of the spec, a file (`--settings`), and `automl.NAME=value`.

    automl:
      algorithm: bohb
      metric: val/epe
      automl_max_epochs: 27
      automl_hyperparameters: [train.optim.lr, train.optim.weight_decay]
      custom_param_ranges: {train.optim.lr: {valid_min: 1.0e-5, valid_max: 1.0e-3}}

A later source wins over an earlier one, and the options of the command line win over all of them.  What each algorithm reads says
`automl.algorithms`; the settings of TAO that have no effect here are accepted and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl.algorithms import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    DEFAULT_FOR_SEVERAL,
    Algorithm,
    check_settings,
    find_algorithm,
    settings_of,
    study_fields,
)
from automl.limits import Limits, limits_of
from automl.setting_values import count_of, direction_of, metrics_of, names_of, priors_of, ranges_of, word_of
from search_spaces.errors import StudyError, UserError, nearest
from search_spaces.space_request import SpaceRequest
from search_spaces.spec.overrides import parse_override
from search_spaces.spec.yaml_file import read_mapping

BLOCK = "automl"
HALVING = ("asha", "hyperband", "hyperband_es")
FEWEST_FOR_DEHB = 4
SAME = {
    "automl_algorithm": "algorithm",
    "max_trials": "automl_max_recommendations",
    "automl_range_override": "custom_param_ranges",
    "base_url": "llm_endpoint",
    "model": "llm_model",
}
LIMITS = ("max_hours", "gpu_hours", "deadline", "disk_budget", "trial_timeout")  # as the options of those names
COUNTS = ("finalists", "finalist_seeds", "cpus_per_trial")
# what this file and `automl.policy` read; the rest belongs to an algorithm, or has no effect
READ = (
    "algorithm",
    "searcher",
    "fidelity",
    "metric",
    "direction",
    "objectives",
    "automl_hyperparameters",
    "custom_param_ranges",
    "priors",
    "override_automl_disabled_params",
    "automl_policy",
    *LIMITS,
    *COUNTS,
)
_STATES = "the states of trials are removed when nothing needs them any more; best.pth and the records of every trial stay"
_STUDY = "a study is known by its folder"
_FINAL = "the best trials are always trained again and measured by one fixed evaluation"
_LLM = (
    "the algorithm llm alone asks a language model: by llm_endpoint, llm_model, temperature, max_tokens and the key in AUTOML_LLM_API_KEY"
)
_LATENCY = "latency_ms among the objectives makes it one of them; several are never added up by weights"
_OF_LLM = (
    *("llm_endpoint", "base_url", "llm_model", "model", "llm_api_key", "api_key", "temperature", "max_tokens", "llm_analysis_interval"),
    *("automl_max_experiments", "research_program", "evolvable_text_parameters", "hybrid_enable_llm_range_narrowing"),
)
NO_EFFECT: Mapping[str, str] = {
    "min_top_configs": "only asha is asked for so many trials at the full budget",
    "automl_delete_intermediate_ckpt": _STATES,
    "automl_checkpoint_retention_strategy": _STATES,
    "automl_retain_failed_artifacts": "the files of a failed trial always stay",
    "multi_objective": "the number of objectives says it",
    "run_baseline": "trial 0 is always the spec as it stands",
    "baseline_metric": "the baseline is measured by the objective",
    "train_sample_count": "the samples are counted in the lists",
    "session_id": _STUDY,
    "experiment_id": _STUDY,
    "status_interval": "`automl status` shows the study at any time",
    **dict.fromkeys(("final_eval", "final_eval_metric", "final_eval_dataset"), _FINAL),
    **dict.fromkeys(("latency_metric", "latency_weight", "latency_target", "latency_target_ms"), _LATENCY),
    **dict.fromkeys(_OF_LLM, _LLM),
}


@dataclass(frozen=True, kw_only=True)
class Given:
    """Settings as they were written, by their own names, and the place of each (`spec.yaml:12`)."""

    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    def over(self, earlier: Given) -> Given:
        """These, on top of `earlier`."""
        return Given(values={**earlier.values, **self.values}, places={**earlier.places, **self.places})

    def without(self, name: str) -> Given:
        """These, less one."""
        return Given(values={known: value for known, value in self.values.items() if known != name}, places=self.places)


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What the settings say; None and empty where they say nothing.

    `fields` are fields of StudyConfig (trials, epochs, parallel, reduction_factor, min_epochs, finalists, finalist_seeds,
    cpus_per_trial), `own` what the searcher and the rule read besides, `policy` the raw `automl_policy`.
    """

    algorithm: str | None = None
    searcher: str = ALGORITHMS[DEFAULT_ALGORITHM].searcher
    fidelity: str = ALGORITHMS[DEFAULT_ALGORITHM].fidelity
    fields: Mapping[str, int] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    directions: Mapping[str, str] = field(default_factory=dict)
    space: SpaceRequest = field(default_factory=SpaceRequest)
    policy: object = None
    limits: Limits = field(default_factory=Limits)
    notes: tuple[str, ...] = ()


def read_settings(spec_file: Path | None, settings_file: Path | None, overrides: tuple[str, ...]) -> tuple[Given, tuple[str, ...]]:
    """The settings of all sources, and the overrides that are none of them.  UserError for a name that is unknown."""
    given = Given()
    if spec_file is not None and spec_file.is_file():
        data, places = read_mapping(spec_file)
        given = _block(data.get(BLOCK), places, str(spec_file))
    if settings_file is not None:
        if not settings_file.is_file():
            raise StudyError(f"there is no settings file {settings_file}", hint="check the path given with --settings")
        data, places = read_mapping(settings_file)
        inside = set(data) == {BLOCK}
        given = _block(data[BLOCK] if inside else data, places, str(settings_file), prefix=f"{BLOCK}." if inside else "").over(given)
    rest = []
    for text in overrides:
        if not text.lstrip("+~").startswith(f"{BLOCK}."):
            rest.append(text)
            continue
        override = parse_override(text)
        name = override.key.removeprefix(f"{BLOCK}.")
        given = given.without(SAME.get(name, name))
        if not override.delete:
            given = _block({name: override.value}, {f"{BLOCK}.{name}": override.place}, "command line").over(given)
    return given, tuple(rest)


def _block(data: Any, places: Mapping[str, str], source: str, *, prefix: str = f"{BLOCK}.") -> Given:
    if data is None:
        return Given()
    if not isinstance(data, Mapping):
        raise StudyError(
            f"{BLOCK} must be a group of settings, but is {data!r} ({source})", hint=f"for example `{BLOCK}: {{algorithm: asha}}`"
        )
    values, found = {}, {}
    for name, value in data.items():
        place = places.get(f"{prefix}{name}", source)
        known = SAME.get(str(name), str(name))
        if known not in all_names():
            near = nearest(known, [*all_names(), *SAME])
            raise StudyError(
                f"unknown setting {name} ({place})", hint=f"did you mean {near}?" if near else "docs/search.md lists the settings"
            )
        if value is not None:
            values[known], found[known] = value, place
    return Given(values=values, places=found)


def all_names() -> tuple[str, ...]:
    """Every setting that is accepted, under the first of its names."""
    owned = [setting.name for algorithm in ALGORITHMS.values() for setting in algorithm.settings]
    return tuple(dict.fromkeys((*READ, *owned, *NO_EFFECT)))


def understood(
    given: Given,
    *,
    algorithm: str | None = None,
    searcher: str | None = None,
    fidelity: str | None = None,
    metrics: tuple[str, ...] = (),
) -> SearchSettings:
    """What `given` means with the names that the command line gives; UserError with the place for a value that cannot be."""
    values, places = given.values, given.places
    metrics = metrics or _at(places, "objectives" if "objectives" in values else "metric", lambda: metrics_of(values))
    default = DEFAULT_FOR_SEVERAL if len(metrics) > 1 else DEFAULT_ALGORITHM
    named = algorithm or _word(given, "algorithm")
    pair: Algorithm = _at({} if algorithm else places, "algorithm", lambda: find_algorithm(named or default))
    searcher = searcher or (None if algorithm else _word(given, "searcher")) or pair.searcher
    fidelity = fidelity or (None if algorithm else _word(given, "fidelity")) or pair.fidelity
    readable = {setting.name for setting in settings_of(searcher, fidelity)}
    idle = [name for name in values if name in NO_EFFECT and name not in readable]
    own: dict[str, Any] = {}
    for name, value in values.items():
        if name not in READ and name not in idle:
            own |= _at(places, name, lambda pair=(name, value): check_settings(dict([pair]), searcher=searcher, fidelity=fidelity))
    ranges = _at(places, "custom_param_ranges", lambda: ranges_of(values.get("custom_param_ranges")))
    space = SpaceRequest(
        names=_at(places, "automl_hyperparameters", lambda: names_of(values.get("automl_hyperparameters"))),
        changes=ranges.changes,
        without=ranges.without,
        priors=_at(places, "priors", lambda: priors_of(values.get("priors"))),
        disabled_too=_switch(given, "override_automl_disabled_params"),
    )
    notes = [f"{name} has no effect: {NO_EFFECT[name]} ({places[name]})" for name in idle]
    counts = {name: _at(places, name, lambda name=name: count_of(name, values[name])) for name in COUNTS if name in values}
    return SearchSettings(
        algorithm=pair.name if named else None,
        searcher=searcher,
        fidelity=fidelity,
        fields={**study_fields(own, searcher=searcher, fidelity=fidelity), **counts},
        limits=limits_of_settings(given),
        own={name: value for name, value in own.items() if name not in _standing_for_fields(searcher, fidelity)},
        metrics=metrics,
        directions=_at(places, "direction", lambda: direction_of(values)),
        space=space,
        policy=values.get("automl_policy"),
        notes=(*notes, *ranges.notes, *_weights_line(values)),
    )


def limits_of_settings(given: Given) -> Limits:
    """The limits among the settings; StudyError with the place for one that cannot be."""
    limits = Limits()
    for name in LIMITS:
        if name in given.values:
            value = given.values[name]
            limits = _at(given.places, name, lambda one={name: value}: limits_of(**one)).over(limits)
    return limits


def checked_budget(settings: SearchSettings, *, epochs: int) -> list[str]:
    """Lines on a budget that does not come out even; StudyError for one that the algorithm cannot divide."""
    fields, eta, unit = settings.fields, settings.fields.get("reduction_factor"), settings.fields.get("min_epochs", 1)
    if settings.searcher == "dehb" and fields.get("trials", FEWEST_FOR_DEHB) < FEWEST_FOR_DEHB:
        raise StudyError(
            f"dehb needs at least {FEWEST_FOR_DEHB} trials, but got {fields['trials']}",
            hint="the difference of two members is added to a third: raise the trials, or use another algorithm",
        )
    if unit > epochs:
        raise StudyError(f"epoch_multiplier <= epochs must hold, but {unit} > {epochs}", hint="raise automl_max_epochs or --epochs")
    if eta is None or settings.fidelity not in HALVING:
        return []
    units = epochs // unit
    if eta > units:
        raise StudyError(
            f"automl_reduction_factor <= automl_max_epochs must hold, but {eta} > {units}", hint="lower the factor or raise the epochs"
        )
    power = 1
    while power < units:
        power *= eta
    return [] if power * unit == epochs else [f"{epochs} epochs are no power of {eta} times {unit}: rungs are rounded to whole epochs"]


def _standing_for_fields(searcher: str, fidelity: str) -> set[str]:
    return {setting.name for setting in settings_of(searcher, fidelity) if setting.field is not None}


def _weights_line(values: Mapping[str, Any]) -> list[str]:
    objectives = values.get("objectives") or ()
    weighted = any(isinstance(item, Mapping) and {"weight", "scale"} & set(item) for item in objectives)
    return ["weight and scale of objectives have no effect: several objectives are never added up"] if weighted else []


def _word(given: Given, name: str) -> str | None:
    word: str | None = _at(given.places, name, lambda: word_of(name, given.values.get(name)))
    return word


def _switch(given: Given, name: str) -> bool:
    value = given.values.get(name, False)
    if not isinstance(value, bool):
        raise StudyError(f"{name} must be true or false, but is {value!r} ({given.places[name]})", hint="write it without quotes")
    return value


def _at(places: Mapping[str, str], name: str, read: Any) -> Any:
    """What `read` gives; its error gets the place of the setting."""
    try:
        return read()
    except UserError as error:
        if name not in places:
            raise
        raise StudyError(f"{error.message} ({places[name]})", hint=error.hint) from error
