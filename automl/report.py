"""<study>/report.html: the whole study on one page that needs nothing else, made from its snapshot and files.

The page holds no script and no remote file; charts are inline SVG.  Rendered with jinja2 (BSD-3), autoescaped.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from automl.charts import Axis, Point, Series, chart
from automl.console import and_text, metric_text, number_text, percent_text, seconds_text
from automl.fidelity import rule_of
from automl.front import beats_everywhere, front_of, values_of
from automl.front_choice import members_of
from automl.insight import convergence, importance
from automl.review import search_text
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary, ranking
from automl.status import status_data
from search_spaces.objective import Objective, metric_info
from search_spaces.space import Parameter, Value
from search_spaces.spec import Spec, spec_from_dict
from search_spaces.spec.weights import first_weights
from search_spaces.writing import replace_text

REPORT = "report.html"
DRAWN = 500  # trials in a chart; every one more is a mark in each of them, with its values to hover over
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its caption; `svg` is markup made here, never a user's text."""

    title: str
    svg: str


def write_report(snapshot: StudySnapshot, finalists: Sequence[TrialSummary] = ()) -> Path:
    """Writes the report into the study folder and gives its path; an unfinished study gives a report of what there is."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(number=number_text, listed=and_text, metric=metric_text, seconds=seconds_text, zip=zip)
    text = environment.get_template("report.html.j2").render(**_content(snapshot, finalists))
    path = snapshot.folder / REPORT
    replace_text(path, text)
    return path


def _content(snapshot: StudySnapshot, finalists: Sequence[TrialSummary]) -> dict[str, Any]:
    config = snapshot.config
    spec = spec_from_dict(config.spec)
    keys = list(dict.fromkeys(key for trial in snapshot.trials for key in trial.values))
    objectives, drawn = [_objective_data(objective, spec) for objective in config.objectives], drawn_trials(snapshot)
    return {
        "status": status_data(snapshot),
        "search": search_text(config, rule_of(config).rungs),
        "whole": min(len(snapshot.trials), config.trials) * config.epochs,
        "network": f"{spec.model.model_type}, encoder {spec.model.encoder}",
        "first_weights": str(first_weights(spec)),
        "gain": gain_text(snapshot),
        "importance": importance(snapshot),
        "convergence": convergence(snapshot),
        "keys": keys,
        "names": [key.rsplit(".", 1)[-1] for key in keys],
        "trials": snapshot.trials,
        "finalists": list(finalists),
        "best": snapshot.best,
        "objectives": objectives,
        "front": [(trial, values_of(trial, config)) for trial in front_of(snapshot.trials, config)],
        "members": {member.entry["trial"]: member for member in members_of(snapshot.folder)} if config.further else {},
        "folder": snapshot.folder,
        "everywhere": _better_everywhere(snapshot),
        "pictures": [figure for figure in _fronts(snapshot) if figure.svg],
        "beside": {trial.number: list(values_of(trial, config).items())[1:] for trial in snapshot.trials},
        "drawn": len(drawn),
        "figures": [figure for figure in _figures(snapshot, drawn) if figure.svg],
        "made": time.strftime("%Y-%m-%d %H:%M", time.localtime(snapshot.taken_at)),
        "failed": sum(trial.status is TrialStatus.FAILED for trial in snapshot.trials),
        "epochs_done": snapshot.epochs_trained,
        "busy_s": sum(trial.elapsed_s for trial in snapshot.trials),
    }


def _objective_data(objective: Objective, spec: Spec) -> dict[str, str]:
    info = metric_info(spec.family, objective.metric, relative=spec.is_relative)
    better = "lower is better" if objective.direction == "minimize" else "higher is better"
    return {"metric": objective.metric, "unit": info.unit, "definition": info.definition, "better": better}


def _better_everywhere(snapshot: StudySnapshot) -> list[int]:
    """Trials of the front that are better than the baseline in every objective."""
    config, baseline = snapshot.config, next((trial for trial in snapshot.trials if trial.number == 0), None)
    if baseline is None:
        return []
    return [trial.number for trial in front_of(snapshot.trials, config) if beats_everywhere(trial, baseline, config)]


def _fronts(snapshot: StudySnapshot) -> list[Figure]:
    """The first objective against each other one: all trials, and those of the front; a staircase where there are just two."""
    config = snapshot.config
    front = {trial.number for trial in front_of(snapshot.trials, config)}
    figures = []
    for other in config.further:
        valued = [(trial, values_of(trial, config)) for trial in snapshot.trials]
        placed = [(trial, values[other.metric], values[config.objective]) for trial, values in valued]
        points = [
            Point(x=x, y=y, title=_title(trial), style="best" if trial.number in front else trial.status.value)
            for trial, x, y in placed
            if x is not None and y is not None
        ]
        edge = sorted((point for point in points if point.style == "best"), key=lambda point: point.x)
        line = [Series(points=_stairs(edge), style="best", line=True, marks=False)] if len(config.further) == 1 else []
        xs, ys = [point.x for point in points], [point.y for point in points]
        axes = Axis(label=other.metric, log=_spans_decades(xs)), Axis(label=config.objective, log=_spans_decades(ys))
        svg = chart([*line, Series(points=points)], *axes)
        figures.append(Figure(title=f"Front: {config.objective} against {other.metric}", svg=svg))
    return figures


def _stairs(edge: Sequence[Point]) -> list[Point]:
    """The border between what a front covers and what it does not: from each point level to the next one, and then to its height."""
    found = list(edge[:1])
    for before, point in itertools.pairwise(edge):
        found += [Point(x=point.x, y=before.y), point]
    return found


def gain_text(snapshot: StudySnapshot) -> str | None:
    """How the best trial compares with trial 0, the spec's own values; None while one of them is missing."""
    baseline = next((trial for trial in snapshot.trials if trial.number == 0), None)
    best = snapshot.best
    if baseline is None or best is None or baseline.value is None or best.value is None:
        return None
    if best.number == 0:
        tried = any(trial.value is not None for trial in snapshot.trials if trial.number != 0)
        return "the spec's own values were not beaten" if tried else None
    compared = percent_text(best.value, baseline.value, minimise=snapshot.config.direction == "minimize")
    same = "" if baseline.epoch == best.epoch else f" (after {best.epoch} epochs against {baseline.epoch})"
    return f"{compared} than the spec's own values: {number_text(best.value)} against {number_text(baseline.value)}{same}"


def drawn_trials(snapshot: StudySnapshot) -> tuple[TrialSummary, ...]:
    """The trials that the charts show: all of them, or of more than `DRAWN` the best tenth and of the others an even selection."""
    trials = snapshot.trials
    if len(trials) <= DRAWN:
        return trials
    best = {trial.number for trial in ranking(trials, snapshot.config.direction)[: DRAWN // 10]}
    others = [trial.number for trial in trials if trial.number not in best]
    count = DRAWN - len(best)
    best.update(others[index * len(others) // count] for index in range(count))
    return tuple(trial for trial in trials if trial.number in best)


def _figures(snapshot: StudySnapshot, drawn: tuple[TrialSummary, ...]) -> list[Figure]:
    shown = replace(snapshot, trials=drawn)
    figures = [Figure(title="Objective over trials", svg=_history(snapshot, drawn)), Figure(title="Learning curves", svg=_curves(shown))]
    figures += [Figure(title=parameter.key, svg=_against(shown, parameter)) for parameter in snapshot.config.space.parameters]
    return figures


def _style(trial: TrialSummary, snapshot: StudySnapshot) -> str:
    """The colour of a trial in the charts, as their legend has it."""
    return "best" if snapshot.best is not None and trial.number == snapshot.best.number else trial.status.value


def _history(snapshot: StudySnapshot, drawn: tuple[TrialSummary, ...]) -> str:
    """The best value of the `drawn` trials by number, and the best so far among all trials as a line."""
    valued = [(trial.number, trial.value) for trial in snapshot.trials if trial.value is not None]
    if not valued:
        return ""
    leaders = accumulate((value for _, value in valued), min if snapshot.config.direction == "minimize" else max)
    best = dict(zip((number for number, _ in valued), leaders, strict=True))
    marks = [
        Point(x=trial.number, y=trial.value, title=_title(trial), style=_style(trial, snapshot))
        for trial in drawn
        if trial.value is not None
    ]
    line = [Point(x=mark.x, y=best[int(mark.x)]) for mark in marks]
    series = [Series(points=line, style="best", line=True, marks=False), Series(points=marks)]
    return chart(
        series, Axis(label="trial", whole=True), Axis(label=snapshot.config.objective, log=_spans_decades([mark.y for mark in marks]))
    )


def _curves(snapshot: StudySnapshot) -> str:
    """The objective over epochs, one line a trial; the best one stands out."""
    series = []
    for trial in snapshot.trials:
        style = _style(trial, snapshot)
        points = [
            Point(x=epoch, y=value, title=f"trial {trial.number}, epoch {epoch}: {number_text(value)}", style=style)
            for epoch, value in trial.curve
        ]
        series.append(Series(points=points, style=style, line=True, marks=style == "best" or len(points) == 1))
    values = [value for trial in snapshot.trials for _, value in trial.curve]
    return chart(series, Axis(label="epoch", whole=True), Axis(label=snapshot.config.objective, log=_spans_decades(values)))


def _against(snapshot: StudySnapshot, parameter: Parameter) -> str:
    """Objective against one parameter, on the scale that it was sampled on."""
    found = [
        (trial, trial.values[parameter.key], trial.value)
        for trial in snapshot.trials
        if parameter.key in trial.values and trial.value is not None
    ]
    if parameter.kind in {"categorical", "bool"}:
        words: list[Value] = list(parameter.choices) if parameter.kind == "categorical" else [False, True]
        placed = [(trial, float(words.index(given)), value) for trial, given, value in found if given in words]
        axis = Axis(label=parameter.key, words=tuple(number_text(word) for word in words))
    else:
        placed = [(trial, float(given), value) for trial, given, value in found]
        axis = Axis(label=f"{parameter.key}{' (log)' if parameter.log else ''}", log=parameter.log)
    points = [Point(x=x, y=y, title=_title(trial), style=_style(trial, snapshot)) for trial, x, y in placed if y is not None]
    return chart([Series(points=points)], axis, Axis(label=snapshot.config.objective, log=_spans_decades([point.y for point in points])))


def _spans_decades(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis serves better: positive values over more than one decade and a half."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > 30


def _title(trial: TrialSummary) -> str:
    values: Mapping[str, Any] = trial.values
    told = "\n".join(f"{key} = {number_text(value)}" for key, value in values.items()) or "the spec's own values"
    return f"trial {trial.number} ({trial.status.value}), {trial.epoch} epochs: {number_text(trial.value)}\n{told}"
