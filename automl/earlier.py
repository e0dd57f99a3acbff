"""`--warm-start` and `--enqueue`: what the user and earlier studies bring to a new search.

Trials of an earlier study are like the trials to come where the space, the objective, the budget, the data, the evaluation and the rest of
the spec are the same: then the searcher learns from them.  From a study that differs only the best configurations are taken, to be tried
again as first points.  Either way it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from automl.config import StudyConfig, at_home
from automl.console import count_text
from automl.course import FidelityRule
from automl.distributions import drawable
from automl.folders import place_text
from automl.front import best_of, further_of, turned
from automl.head_start import LEARNERS, EarlierTrial, HeadStart, Point
from automl.reader import read_snapshot
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary, ranking
from automl.trial_record import INFEASIBLE_CAUSES
from automl.unchanged import data_facts
from search_spaces.errors import SpecError, StudyError, UserError
from search_spaces.space import SearchSpace, Value, choice_of
from search_spaces.spec import Spec, spec_from_dict, spec_to_dict, with_values

BEST_TAKEN = 3  # of a study that differs; of one that is alike the searcher knows the rest anyway
DIFFERENCES_SHOWN = 3
OWN_OF_A_RUN = ("train.seed", "train.results_dir")


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """A head start, and lines that say where it comes from."""

    start: HeadStart
    notes: tuple[str, ...]


def gather(config: StudyConfig, rule: FidelityRule, *, studies: Sequence[Path] = (), points: Path | None = None) -> Gathered:
    """The head start of a new study; StudyError or SpecError for a study or a file that cannot be used, or more points than trials."""
    first: list[Point] = [] if points is None else read_points(points, config)
    trials: list[EarlierTrial] = []
    notes = [] if points is None else [f"{count_text(len(first), 'point')} of {points} tried first"]
    for folder in studies:
        snapshot, named = read_snapshot(folder), place_text(folder)
        differences = differences_of(config, snapshot.config)
        if differences:
            taken = _best_points(snapshot, config, BEST_TAKEN)
            shown = ", ".join(differences[:DIFFERENCES_SHOWN]) + (" and more" if len(differences) > DIFFERENCES_SHOWN else "")
            notes.append(f"{named} differs ({shown}), so its values say nothing here: its best {len(taken)} configurations are tried first")
        else:
            known = [] if config.searcher not in LEARNERS else _earlier_trials(snapshot, config, rule)
            taken = _best_points(snapshot, config, 1)
            trials += known
            learnt = (
                f"{config.searcher} learns from {len(known)} of its trials" if known else f"{config.searcher} learns from no earlier trials"
            )
            notes.append(f"{named} is alike: {learnt}; its best configuration is tried first" if taken else f"{named} is alike: {learnt}")
        first += [point for point in taken if all(point.values != other.values for other in first)]
    if len(first) >= config.trials:
        raise StudyError(
            f"{len(first)} points are to be tried first, but with the baseline there are only {config.trials} trials",
            hint=f"raise --trials to {len(first) + 1} or more",
        )
    return Gathered(start=HeadStart(points=tuple(first), trials=tuple(trials)), notes=tuple(notes))


def read_points(path: Path, config: StudyConfig) -> list[Point]:
    """The configurations in a YAML file: a list of `key: value`; what one leaves out has the spec's value.  SpecError names the entry.

    Values are read as those of a spec: 1e-4 is a number.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        entries = OmegaConf.to_container(OmegaConf.create(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StudyError(
            f"--enqueue {path} cannot be read: {error.strerror}", hint="name a YAML file with a list of configurations"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}", hint="check its indentation") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise StudyError(f"{path} must hold a list of configurations", hint="for instance: - {train.optim.lr: 0.0003}")
    spec = spec_from_dict(config.spec)
    found = []
    for number, entry in enumerate(entries, start=1):
        try:
            values = complete_point(entry, config.space, spec)
        except SpecError as error:
            raise StudyError(f"{path}, configuration {number}: {error.message}", hint=error.hint) from error
        found.append(Point(values=values, source=str(path)))
    return found


def complete_point(given: Mapping[str, Any], space: SearchSpace, spec: Spec) -> dict[str, Value]:
    """`given` with the spec's own values of what it leaves out, active ones alone; SpecError for what the space or the spec forbids."""
    for key in given:
        space.parameter(str(key))
    baseline = space.values_of(spec)
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        if parameter.active_in(values):
            value = choice_of(given.get(parameter.key, baseline.get(parameter.key, parameter.default)))
            value = float(value) if parameter.kind == "float" and isinstance(value, int) and not isinstance(value, bool) else value
            if parameter.key in given:
                parameter.check(value)
            values[parameter.key] = value
        elif parameter.key in given:
            assert parameter.condition is not None
            raise SpecError(
                f"{parameter.key} counts only where {parameter.condition.key} is {' or '.join(map(str, parameter.condition.values))}",
                hint="leave it out of this configuration",
            )
    space.check_relations(values)
    with_values(spec, values)
    return values


def differences_of(config: StudyConfig, other: StudyConfig) -> list[str]:
    """In what an earlier study differs so that its values cannot be set beside new ones; empty for one that is alike."""
    found = [name for name in ("objective", "direction", "further", "epochs") if getattr(config, name) != getattr(other, name)]
    if config.space.fingerprint != other.space.fingerprint:
        found.append("search space")
    searched = {parameter.key for parameter in config.space.parameters} | set(OWN_OF_A_RUN)
    mine, theirs = _flat(_trained_by(config.spec)), _flat(_trained_by(other.spec))
    found += sorted(key for key in mine.keys() | theirs.keys() if key not in searched and mine.get(key) != theirs.get(key))
    try:
        here = data_facts(spec_from_dict(config.spec))
        with at_home(other):
            there = data_facts(spec_from_dict(other.spec))
    except (UserError, OSError):
        return [*found, "its data cannot be read any more"]
    return found + [f"{name} data" for name in ("train", "val") if here.get(name) != there.get(name)]


def _earlier_trials(snapshot: StudySnapshot, config: StudyConfig, rule: FidelityRule) -> list[EarlierTrial]:
    """Every trial that reached a rung or showed that its point cannot work, from inside the space."""
    found = []
    for trial in snapshot.trials:
        infeasible = trial.error is not None and trial.error.cause in INFEASIBLE_CAUSES
        if trial.error is not None and not infeasible:
            continue
        by_rung = _by_rung(trial, rule, config)
        inside = all(drawable(config.space.parameter(key), value) for key, value in trial.values.items())
        if inside and trial.start == 0 and (by_rung or infeasible):
            complete = trial.status is TrialStatus.COMPLETE
            beside = turned(further_of(trial, config.further), config.further)
            values = dict(trial.values)
            found.append(EarlierTrial(values=values, by_rung=by_rung, complete=complete, infeasible=infeasible, beside=beside))
    return found


def _by_rung(trial: TrialSummary, rule: FidelityRule, config: StudyConfig) -> tuple[tuple[int, float], ...]:
    pick = min if config.direction == "minimize" else max
    curve = dict(trial.curve)
    reached = max(curve, default=0)
    found = []
    for rung in rule.rungs:
        values = [value for epoch, value in curve.items() if epoch <= rung]
        if rung <= reached and values:
            found.append((rung, pick(values)))
    return tuple(found)


def _best_points(snapshot: StudySnapshot, config: StudyConfig, count: int) -> list[Point]:
    """The best configurations that this space and spec allow; what the earlier space did not know has the spec's value."""
    spec, known = spec_from_dict(config.spec), {parameter.key for parameter in config.space.parameters}
    found: list[Point] = []
    first, ranked = best_of(snapshot.trials, snapshot.config, count), ranking(snapshot.trials, snapshot.config.direction)
    for trial in (*first, *(trial for trial in ranked if trial not in first)):
        if len(found) == count:
            break
        try:
            values = complete_point({key: value for key, value in trial.values.items() if key in known}, config.space, spec)
        except SpecError:
            continue
        if values != config.space.values_of(spec) and all(values != point.values for point in found):
            found.append(Point(values=values, source=f"trial {trial.number} of {snapshot.config.name}"))
    return found


def _trained_by(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about training in the spec as this release reads it, without its lists: their content is compared, not their paths."""
    data = spec_to_dict(spec_from_dict(spec))
    dataset = {key: value for key, value in data["dataset"].items() if key not in {"test_dataset", "infer_dataset"}}
    for split in ("train_dataset", "val_dataset"):
        dataset[split] = {**dataset[split], "data_sources": []}
    return {"model": data["model"], "train": data["train"], "dataset": dataset}


def _flat(data: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found
