"""Who wins: the best trials of the search and their repetitions, measured once more by one fixed evaluation.

The best of many trials looks better than it is, because luck was selected too (the winner's curse).  So the best few
configurations are trained again with other seeds; a configuration is judged by the mean over its runs, and the better of
its checkpoints is shipped.  Without finalists the best trial of the search wins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from automl.config import StudyConfig, at_home
from automl.console import number_text
from automl.snapshot import TrialStatus, TrialSummary
from automl.status import CHOICE_FILE, read_json
from search_spaces.errors import StudyError
from search_spaces.objective import PEAK_MEMORY
from search_spaces.space import Value
from search_spaces.spec import Spec, spec_from_dict
from search_spaces.writing import replace_text


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One checkpoint that may win.  `configuration` is the search trial whose values it has; `search_value` what training reported, and
    `peak_memory_mib` what training held."""

    name: str
    configuration: int
    repeated: bool
    seed: int
    values: Mapping[str, Value]
    checkpoint: Path
    search_value: float
    peak_memory_mib: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A candidate with its metrics in the fixed evaluation (`value` is the objective there; without a val list that of training).

    `further` are the values of objectives beside the first.
    """

    candidate: Candidate
    value: float
    metrics: Mapping[str, float | None]
    evaluation_hash: str | None
    further: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The runs of one configuration: how many, their mean, best and worst value in the fixed evaluation.

    `gap` is by how much the repetitions were worse on average than the search's own run (positive = worse), None without any.
    `further` are objectives beside the first, where there are any: means, and of a cost the least.
    """

    trial: int
    runs: int
    mean: float
    best: float
    worst: float
    gap: float | None
    further: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The winner and why.  `gap` is by how much its configuration was worse with other seeds than the search had said (positive =
    worse, in the unit of the objective); None when it was not repeated.  With several objectives `front` has a checkpoint of every
    configuration that none beats, the winner first."""

    winner: Judged
    judged: tuple[Judged, ...]
    configurations: tuple[Configuration, ...]
    reason: str
    gap: float | None
    front: tuple[Judged, ...] = ()


Judge = Callable[[Candidate], Judged]


def pick(trial: TrialSummary, judge: Judge) -> Choice:
    """The choice of a trial by hand; StudyError when it left no checkpoint."""
    if trial.checkpoint is None or trial.value is None or not trial.checkpoint.is_file():
        why = "its weights were removed for the disk budget" if trial.stopped_by == "disk budget" else f"it is {trial.status.value}"
        raise StudyError(f"trial {trial.number} has no checkpoint to ship: {why}", hint="`automl status` shows the trials that have one")
    judged = judge(_candidate(trial, f"trial {trial.number}", trial.number))
    alone = (configuration_of(trial.number, (judged,), 1.0),)
    return Choice(winner=judged, judged=(judged,), configurations=alone, reason=f"trial {trial.number} was chosen by hand", gap=None)


def candidates_of(
    ranked: Sequence[TrialSummary], finalists: Sequence[TrialSummary], config: StudyConfig, *, unrepeated: int = 1
) -> list[Candidate]:
    """The search trials that were repeated, with their repetitions, or the first `unrepeated` ones when none was.

    Only what has a checkpoint; StudyError when nothing has one.
    """
    usable = [trial for trial in ranked if trial.checkpoint is not None]
    repeated = [trial for trial in finalists if trial.checkpoint is not None and trial.status is TrialStatus.COMPLETE]
    parents = {trial.parent for trial in repeated}
    chosen = [trial for trial in usable if trial.number in parents] or usable[:unrepeated]
    found = [_candidate(trial, f"trial {trial.number}", trial.number) for trial in chosen]
    known = {trial.number for trial in chosen}
    found += [
        _candidate(trial, f"trial {trial.parent}, seed {trial.seed}", trial.parent)
        for trial in repeated
        if trial.parent is not None and trial.parent in known
    ]
    if not found:
        raise StudyError(
            f"no trial of {config.name} left a checkpoint, so there is no winner", hint="`automl status` shows why each trial ended"
        )
    return found


def choose(candidates: Sequence[Candidate], judge: Judge, *, minimise: bool) -> Choice:
    """Judges every candidate and picks: best mean over the runs of a configuration, then its best checkpoint."""
    judged = tuple(judge(candidate) for candidate in candidates)
    groups, sign = by_configuration(judged), 1.0 if minimise else -1.0
    means = {number: fmean(sign * one.value for one in runs) for number, runs in groups.items()}
    order = sorted(means, key=lambda key: (means[key], key))
    winner = best_run(groups[order[0]], sign)
    configurations = tuple(configuration_of(number, groups[number], sign) for number in order)
    gap = configurations[0].gap
    reason = _reason(order[0], groups, means, sign=sign, gap=gap)
    return Choice(winner=winner, judged=judged, configurations=configurations, reason=reason, gap=gap)


def by_configuration(judged: Sequence[Judged]) -> dict[int, list[Judged]]:
    """The runs of each configuration, all of them measured on the same data."""
    hashes = {one.evaluation_hash for one in judged}
    assert len(hashes) == 1, f"candidates were measured on different data: {hashes}"
    groups: dict[int, list[Judged]] = {}
    for one in judged:
        groups.setdefault(one.candidate.configuration, []).append(one)
    return groups


def best_run(runs: Sequence[Judged], sign: float) -> Judged:
    """The run of a configuration whose checkpoint is shipped."""
    return min(runs, key=lambda one: (sign * one.value, one.candidate.repeated, one.candidate.seed))


def evaluation_judge(config: StudyConfig) -> Judge:
    """Measures checkpoints on the val list; with a training objective (no val list) their own training value stands.

    Objectives beside the first are measured here too, one checkpoint after another with nothing else running; only what training held
    is known from training.
    """
    if config.further:
        return lambda candidate: _judged_by_several(candidate, config)
    if not config.objective.startswith("val/"):
        return lambda candidate: Judged(candidate=candidate, value=candidate.search_value, metrics={}, evaluation_hash=None)

    def judge(candidate: Candidate) -> Judged:
        from deploy.runtime import load_predictor
        from trials.evaluate import evaluate

        spec = spec_of(candidate, config)
        with at_home(config):
            done = evaluate(load_predictor(candidate.checkpoint, spec), spec, "val")
        value = _finite(candidate, config.objective, done.metrics[config.objective.partition("/")[2]])
        return Judged(candidate=candidate, value=value, metrics=done.metrics, evaluation_hash=done.evaluation_hash)

    return judge


def _judged_by_several(candidate: Candidate, config: StudyConfig) -> Judged:
    from deploy.runtime import load_network
    from deploy.torch_runtime import TorchPredictor
    from trials.costs import costs_of
    from trials.evaluate import evaluate

    spec, names = spec_of(candidate, config), [objective.metric for objective in config.objectives]
    split = "val" if spec.dataset.val_dataset.data_sources else "train"
    with at_home(config):
        predictor = TorchPredictor(load_network(candidate.checkpoint, spec), spec.family)
        done = evaluate(predictor, spec, "val") if split == "val" else None
        costs = costs_of(predictor.network, spec, names, split=split)
    known: dict[str, float | None] = {PEAK_MEMORY: candidate.peak_memory_mib, **costs}
    if done is not None:
        known |= {f"val/{name}": value for name, value in done.metrics.items()}
    value, *further = (_finite(candidate, name, candidate.search_value if name.startswith("train/") else known.get(name)) for name in names)
    metrics, evaluation_hash = ({}, None) if done is None else (done.metrics, done.evaluation_hash)
    return Judged(candidate=candidate, value=value, metrics=metrics, evaluation_hash=evaluation_hash, further=tuple(further))


def _finite(candidate: Candidate, name: str, value: float | None) -> float:
    if value is None:
        message = f"{candidate.checkpoint} has no finite {name} in the fixed evaluation"
        raise StudyError(message, hint="is there ground truth in the validation list?")
    return value


def spec_of(candidate: Candidate, config: StudyConfig) -> Spec:
    """The spec that the candidate was trained with, its own seed and results_dir included."""
    from search_spaces.spec import with_values

    own = {"train.seed": candidate.seed, "train.num_epochs": config.epochs, "results_dir": str(candidate.checkpoint.parent.parent)}
    return with_values(spec_from_dict(config.spec), {**candidate.values, **own})


def evaluate_test(choice: Choice, config: StudyConfig) -> dict[str, Any] | None:
    """Metrics of the winner on the test list, or None without one.  Called once in the life of a study (`choice.json` keeps it)."""
    from deploy.runtime import load_predictor
    from trials.evaluate import evaluate

    candidate = choice.winner.candidate
    spec = spec_of(candidate, config)
    if not spec.dataset.test_dataset.data_sources:
        return None
    with at_home(config):
        done = evaluate(load_predictor(candidate.checkpoint, spec), spec, "test")
    return {
        "metrics": {f"test/{name}": value for name, value in done.metrics.items()},
        "num_images": done.num_images,
        "evaluation_hash": done.evaluation_hash,
        "mode": done.mode,
    }


def choice_data(choice: Choice, config: StudyConfig, *, test: Mapping[str, Any] | None, among: Sequence[int] = ()) -> dict[str, Any]:
    """What `choice.json` holds: every candidate, the winner, the reason, the gap, the test figures, and `among` how many."""
    return {
        "objective": config.objective,
        "direction": config.direction,
        "chosen": choice.winner.candidate.name,
        "trial": choice.winner.candidate.configuration,
        "seed": choice.winner.candidate.seed,
        "values": dict(choice.winner.candidate.values),
        "checkpoint": str(choice.winner.candidate.checkpoint),
        "value": choice.winner.value,
        "metrics": {f"val/{name}": value for name, value in choice.winner.metrics.items()},
        "reason": choice.reason,
        "winners_curse": choice.gap,
        "evaluation_hash": choice.winner.evaluation_hash,
        "configurations": [asdict(one) for one in choice.configurations],
        "candidates": [_judged_data(one) for one in choice.judged],
        "test": None if test is None else dict(test),
        "among": list(among),
    }


def save_choice(folder: Path, data: Mapping[str, Any]) -> Path:
    """Writes `choice.json` whole or not at all."""
    path = folder / CHOICE_FILE
    replace_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")
    return path


def chosen_values(folder: Path) -> Mapping[str, Any] | None:
    """`values`, `trial` and `seed` of the winner of a finished study, or None before there is one."""
    return read_json(folder / CHOICE_FILE)


def configuration_of(number: int, runs: Sequence[Judged], sign: float) -> Configuration:
    """The runs of the configuration of trial `number`, as one; `sign` is -1 where more is better."""
    costs = [sign * one.value for one in runs]
    fresh = [sign * one.value for one in runs if one.candidate.repeated]
    original = next((sign * one.value for one in runs if not one.candidate.repeated), None)
    gap = fmean(fresh) - original if fresh and original is not None else None
    worst, best, mean = sign * max(costs), sign * min(costs), sign * fmean(costs)
    return Configuration(trial=number, runs=len(runs), mean=mean, best=best, worst=worst, gap=gap)


def _candidate(trial: TrialSummary, name: str, configuration: int) -> Candidate:
    assert trial.checkpoint is not None
    assert trial.value is not None
    return Candidate(
        name=name,
        configuration=configuration,
        repeated=trial.parent is not None,
        seed=trial.seed,
        values=trial.values,
        checkpoint=trial.checkpoint,
        search_value=trial.value,
        peak_memory_mib=trial.peak_memory_mib,
    )


def _reason(number: int, groups: Mapping[int, Sequence[Judged]], means: Mapping[int, float], *, sign: float, gap: float | None) -> str:
    runs = len(groups[number])
    own = number_text(sign * means[number])
    told = (
        f"trial {number} has the best mean over {runs} runs: {own}"
        if runs > 1
        else f"trial {number} has the best value in the fixed evaluation: {own}"
    )
    others = ", ".join(f"trial {other} {number_text(sign * mean)}" for other, mean in means.items() if other != number)
    if others:
        told += f" (against {others})"
    if gap is not None:
        told += f"; with other seeds it was {number_text(abs(gap))} {'worse' if gap > 0 else 'better'} than its run in the search"
    return told


def _judged_data(one: Judged) -> dict[str, Any]:
    data = asdict(one.candidate)
    data["checkpoint"] = str(one.candidate.checkpoint)
    data["values"] = dict(one.candidate.values)
    return {**data, "value": one.value, "metrics": dict(one.metrics), "further": list(one.further)}
