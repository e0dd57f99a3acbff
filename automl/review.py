"""What the user sees before anything starts: space, what was left out and why, budget, objective, data, device, time.

A Review is data; `review_data` is its JSON, `review_view` its picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from automl.config import StudyConfig
from automl.console import PLAIN_WIDTH, and_text, count_text, number_text, seconds_text
from automl.limits import Limits
from automl.policy import Route
from automl.sources import FEWEST_FOR_FINALISTS
from automl.timing import LIMIT_S, StepTimes
from search_spaces.objective import Objective, metric_info
from search_spaces.space import Parameter, Value
from search_spaces.space_review import Dropped
from search_spaces.spec import Spec

if TYPE_CHECKING:
    from trials.data.preflight import SourceReport

EXAMPLES = 3
FAULTS_SHOWN = 5
RUNGS_SHOWN = 6
WIDE = 120  # columns in which the longest keys leave room for a reason
LIMITS_TOLD = "; time for the finalists, evaluation and promotion is kept back from them"


@dataclass(frozen=True, kw_only=True)
class Review:
    """Everything about a run that is known before it starts.

    `first` are the first configurations by number, None for a trial that will only be proposed from results; `rungs`
    are epochs at which trials are compared, `search_epochs` what the rule expects of the search without its finalists.  `times` is
    None when nothing could be measured.  `faults` are what the skill's schema gets wrong.
    """

    config: StudyConfig
    folder: str
    route: Route
    spec: Spec
    dropped: tuple[Dropped, ...]
    first: tuple[Mapping[str, Value], ...]
    rungs: tuple[int, ...]
    search_epochs: int
    sources: tuple[SourceReport, ...]
    device: str
    times: StepTimes | None
    tracking: str
    notes: tuple[str, ...]
    faults: tuple[str, ...] = ()

    @property
    def most_epochs(self) -> int:
        """Epochs if no trial were stopped early; finalists included."""
        config = self.config
        return (config.trials + config.finalists * config.finalist_seeds) * config.epochs

    @property
    def likely_epochs(self) -> int:
        """Epochs if as many trials end early as the fidelity rule is made for; finalists included."""
        config = self.config
        return min(self.search_epochs + config.finalists * config.finalist_seeds * config.epochs, self.most_epochs)

    def seconds(self, epochs: int) -> float | None:
        """Time of so many epochs with all slots busy, or None when no step was measured."""
        # on GPUs and on a cluster trials run side by side; else they share the cores that the measurement had to itself
        lanes = self.config.parallel if self.config.gpus_per_trial or self.config.address else 1
        return None if self.times is None else self.times.epoch_s * epochs / lanes


def review_data(review: Review) -> dict[str, Any]:
    """The review as plain data, ready for JSON."""
    config = review.config
    return {
        "study": config.name,
        "folder": review.folder,
        "skill": config.skill,
        "route": {"search": review.route.search, "why": review.route.why},
        "metric": config.objective,
        "direction": config.direction,
        "objectives": [asdict(objective) for objective in config.objectives],
        "algorithm": config.algorithm,
        "searcher": config.searcher,
        "fidelity": config.fidelity,
        "settings": dict(config.settings),
        "reduction_factor": config.reduction_factor,
        "min_epochs": config.min_epochs,
        "engine": config.engine,
        "seed": config.seed,
        "address": config.address,
        "storage": config.storage,
        "parallel": config.parallel,
        "gpus_per_trial": config.gpus_per_trial,
        "device": review.device,
        "tracking": review.tracking,
        "budget": {
            "trials": config.trials,
            "epochs": config.epochs,
            "rungs": list(review.rungs),
            "finalists": config.finalists,
            "limits": config.limits.to_data(),
            "likely_epochs": review.likely_epochs,
            "most_epochs": review.most_epochs,
            "likely_s": review.seconds(review.likely_epochs),
            "most_s": review.seconds(review.most_epochs),
        },
        "space": [_parameter_data(parameter) for parameter in config.space.parameters],
        "relations": [constraint.describe() for constraint in config.space.constraints],
        "schema_faults": list(review.faults),
        "dropped": [{"key": dropped.key, "reason": dropped.reason} for dropped in review.dropped],
        "first_configurations": [dict(values) for values in review.first],
        "data": [_source_data(source) for source in review.sources],
        "notes": list(review.notes),
        "spec": dict(config.spec),
    }


def review_view(review: Review, width: int = PLAIN_WIDTH) -> RenderableType:
    """The review as a picture: panels from what is decided to what it costs; below WIDE columns parameters go by their short names."""
    wide = width >= WIDE
    parts: list[RenderableType] = [Panel(_head(review), title=f"[bold]automl run[/]  {escape(review.config.skill)}", title_align="left")]
    parts += [
        _space_table(review, wide=wide),
        *([_dropped_table(review.dropped, wide=wide)] if review.dropped else []),
        _first_table(review),
        _data_view(review.sources),
        _budget(review),
    ]
    notes = [*review.notes, *_fault_lines(review.faults)]
    if notes:
        parts.append(_notes_view(notes))
    return Group(*(part for pair in ((part, "") for part in parts) for part in pair))


def _fault_lines(faults: Sequence[str]) -> list[str]:
    """The first of what the schema gets wrong, and how many more there are."""
    lines = [f"not obeyed in the skill's schema: {fault}" for fault in faults[:FAULTS_SHOWN]]
    more = len(faults) - FAULTS_SHOWN
    return [*lines, f"{more} more faults of the skill's schema: --dry-run --json lists them"] if more > 0 else lines


def _notes_view(notes: Sequence[str]) -> Table:
    """A row a note; lines on the first weights and on memory bring their own mark."""
    table = _table("", "", "")
    table.title, table.show_header = None, False
    for note in notes:
        mark, _, rest = note.partition("  ")
        style = {"WARNING": "bold red", "weights": "", "memory": ""}.get(mark)
        table.add_row(
            Text("note", style="yellow") if style is None else Text(mark, style=style), Text(note if style is None else rest.strip())
        )
    return table


def _head(review: Review) -> Table:
    config, spec = review.config, review.spec
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    first, *further = (objective_text(objective, spec) for objective in config.objectives)
    rows = {
        "network": f"{spec.model.model_type}, encoder {spec.model.encoder}",
        "objective": first,
        **({"beside it": "\n".join(further)} if further else {}),
        "route": review.route.why,
        "search": search_text(config, review.rungs),
        "engine": f"{config.engine}, {config.parallel} at once, on {review.device}",
        "study": review.folder + (f", recorded in {config.storage}" if config.storage else ""),
        "tracking": review.tracking,
    }
    for name, text in rows.items():
        table.add_row(name, escape(text))
    return table


def objective_text(objective: Objective, spec: Spec) -> str:
    """`val/epe (lower is better, px): mean absolute disparity error ...`."""
    info = metric_info(spec.family, objective.metric, relative=spec.is_relative)
    better = "lower is better" if objective.direction == "minimize" else "higher is better"
    return f"{objective.metric} ({better}{f', {info.unit}' if info.unit else ''}): {info.definition}"


def search_text(config: StudyConfig, rungs: Sequence[int]) -> str:
    """`bohb: bohb proposes, hyperband stops early, seed 1 (kde_samples 64, top_n_percent 15)`."""
    named = f"{config.algorithm}: " if config.algorithm else ""
    settings = ", ".join(f"{name} {number_text(value)}" for name, value in config.settings.items())
    stops = "the worst give way to children of the best" if config.fidelity == "population" else f"{config.fidelity} stops early"
    if len(rungs) == 1:
        stops = "every trial to the end" + ("" if config.fidelity == "full" else f", too short for {config.fidelity} to stop any")
    return f"{named}{config.searcher} proposes, {stops}, seed {config.seed}" + (f" ({settings})" if settings else "")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"parameter", "range", "spec's value"})
    return table


def _names(keys: Sequence[str]) -> list[str]:
    """The last part of each key, or the whole key where another one ends alike."""
    short = [key.rsplit(".", 1)[-1] for key in keys]
    return [name if short.count(name) == 1 else key for key, name in zip(keys, short, strict=True)]


def _space_table(review: Review, *, wide: bool) -> RenderableType:
    parameters = review.config.space.parameters
    guessed = any(parameter.prior is not None for parameter in parameters)
    conditional = any(parameter.condition is not None for parameter in parameters)
    columns = ("parameter", "range", "spec's value", *(("your guess",) if guessed else ()), *(("only if",) if conditional else ()), "why")
    table = _table(f"Search space: {len(parameters)} parameters", *columns)
    keys = [parameter.key for parameter in parameters]
    for name, parameter in zip(keys if wide else _names(keys), parameters, strict=True):
        condition = parameter.condition
        only = "" if condition is None else f"{condition.key.rsplit('.', 1)[-1]} = {' or '.join(map(str, condition.values))}"
        guess = (number_text(parameter.prior) if parameter.prior is not None else "",) if guessed else ()
        cells = (name, parameter.describe(), number_text(parameter.default), *guess, *((only,) if conditional else ()), parameter.why)
        table.add_row(*(escape(cell) for cell in cells))
    relations = [Text(f"always: {constraint.describe()}") for constraint in review.config.space.constraints]
    return Group(table, *relations)


def _dropped_table(dropped: Sequence[Dropped], *, wide: bool) -> RenderableType:
    table = _table(f"Left out: {len(dropped)} parameters", "count", "reason", "parameters")
    groups: dict[str, list[str]] = {}
    for one in dropped:
        groups.setdefault(one.reason, []).append(one.key)
    for reason, keys in sorted(groups.items(), key=lambda group: -len(group[1])):
        shown = (keys if wide else _names(keys))[:EXAMPLES]
        named = ", ".join(shown) + (f" and {len(keys) - EXAMPLES} more (--json lists them)" if len(keys) > EXAMPLES else "")
        table.add_row(str(len(keys)), escape(reason), escape(named))
    return table


def _first_table(review: Review) -> RenderableType:
    keys = list(dict.fromkeys(key for values in review.first for key in values))
    trials = ["trial 0, the spec's own" if number == 0 else f"trial {number}" for number in range(len(review.first))]
    table = _table("First configurations", "parameter", *trials)
    for key, name in zip(keys, _names(keys), strict=True):
        table.add_row(name, *(number_text(values.get(key)) for values in review.first))
    return table


def _data_view(sources: Sequence[SourceReport]) -> RenderableType:
    table = _table("Data", "", "")
    table.show_header = False
    for source in sources:
        split, _, found = source.describe().partition(": ")
        warnings = [Text(f"warning: {warning}", style="yellow") for warning in source.warnings]
        table.add_row(split, Group(Text(found), *warnings))
    return table


def _budget(review: Review) -> Table:
    config = review.config
    table = _table("Budget", "", "")
    table.show_header = False
    of = "of up to" if review.rungs[:-1] else "of"
    table.add_row("trials", f"{config.trials} {of} {count_text(config.epochs, 'epoch')}, {_compared(review.rungs[:-1])}")
    none = "none: too few trials" if config.trials < FEWEST_FOR_FINALISTS else "none, as the settings say"
    if config.fidelity == "population":
        none = "none: a population finds a course of values, not one set"
    best = "the best one" if config.finalists == 1 else f"the {config.finalists} best"
    chosen = f"up to {config.finalists} of the front" if config.further else best
    seeds = "another seed" if config.finalist_seeds == 1 else f"{config.finalist_seeds} other seeds"
    table.add_row("finalists", f"{chosen} trained again with {seeds}" if config.finalists else none)
    if config.limits != Limits():
        table.add_row("limits", f"{', '.join(config.limits.describe())}{LIMITS_TOLD if config.limits.timed else ''}")
    sure = review.likely_epochs == review.most_epochs
    table.add_row("epochs", f"{review.most_epochs}" if sure else f"about {review.likely_epochs}, at most {review.most_epochs}")
    times = review.times
    if times is None:
        table.add_row("time", f"unknown until trial 0 has run an epoch: no step could be measured in {LIMIT_S:.0f} s")
    else:
        likely, most = seconds_text(review.seconds(review.likely_epochs)), seconds_text(review.seconds(review.most_epochs))
        an_epoch = f"{count_text(times.steps, 'step')} and {count_text(times.images, 'validation image')} an epoch"
        measured = f"measured: {number_text(times.step_s)} s a step, {an_epoch}"
        told = f"about {likely}" if sure else f"about {likely}, at most {most}"
        table.add_row("time", f"{told}, without start-up and promotion ({measured})")
    return table


def _compared(epochs: Sequence[int]) -> str:
    """When trials are compared before the end, `epochs` being those."""
    if not epochs:
        return "every trial to the end"
    if len(epochs) > RUNGS_SHOWN:
        return f"compared after epochs {epochs[0]}, {epochs[1]} ... {epochs[-1]}"
    return f"compared after epoch{'s' if len(epochs) > 1 else ''} {and_text([str(epoch) for epoch in epochs])}"


def _parameter_data(parameter: Parameter) -> dict[str, Any]:
    condition = parameter.condition
    return {
        "key": parameter.key,
        "kind": parameter.kind,
        "low": parameter.low,
        "high": parameter.high,
        "log": parameter.log,
        "step": parameter.step,
        "choices": list(parameter.choices),
        "default": parameter.default,
        "prior": parameter.prior,
        "weights": list(parameter.weights),
        "condition": None if condition is None else {"key": condition.key, "values": list(condition.values)},
        "why": parameter.why,
    }


def _source_data(source: SourceReport) -> dict[str, Any]:
    """Every field of a report, the groups in it as objects."""
    data = asdict(source)
    return {name: str(value) if isinstance(value, Path) else value for name, value in data.items()}
