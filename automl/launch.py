"""`automl run` and `automl resume`: review, question, search, finalists, choice, promotion, summary.

The order is fixed: everything that can be refused is refused before the study folder is made; the MLflow database is
made before any worker starts; the winner is chosen before anything is promoted.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from automl.algorithms import ALGORITHMS, complete_settings, usual_lowest
from automl.amend import amend, moved
from automl.carry import carry_out
from automl.config import STUDY_ID, StudyConfig
from automl.console import screen, tell
from automl.database import open_database
from automl.earlier import gather
from automl.entry import DONE, quiet_libraries
from automl.fidelity import rule_of
from automl.folders import place_text
from automl.limits import Limits
from automl.placement import Placement, has_gpu, placed
from automl.reader import read_snapshot
from automl.resolve import Resolved, RunRequest, resolve
from automl.review import Review, review_data, review_view
from automl.searchers import startup_trials
from automl.several import check_costs, objective_notes
from automl.sources import SearchSource, usual_finalists, usual_trials
from automl.stored_study import keeping, older_states, records_of
from automl.study import Study
from automl.timing import measure
from automl.tracking import tracking_for
from automl.unchanged import check_surroundings, data_facts, skill_facts
from search_spaces.errors import StudyError, UserError, shell_word
from search_spaces.space import SearchSpace
from search_spaces.spec import Spec, save_spec, spec_to_dict, with_values
from search_spaces.spec.weights import first_weights
from trials.copy_notes import url_of_copy

if TYPE_CHECKING:
    from trials.data.preflight import SourceReport

DEFAULT_TRIALS = 10
FIRST_SHOWN = 4


def run_request(request: RunRequest, *, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Carries out `automl run`: the review alone with `dry_run`; plain training when the policy says so."""
    if as_json and not dry_run:
        raise UserError("--json shows the review and goes with --dry-run", hint="for the state of a study use `automl status DIR --json`")
    quiet_libraries()
    resolved = resolve(request)
    if not resolved.route.search:
        from automl.plain import train_resolved

        if as_json:
            tell(screen(), json.dumps(plain_data(resolved), indent=2, allow_nan=False))
            return DONE
        return train_resolved(resolved, yes=yes, dry_run=dry_run)
    review = make_review(resolved)
    if as_json:
        tell(screen(), json.dumps(review_data(review), indent=2, allow_nan=False))
    else:
        console = screen()
        console.print(review_view(review, console.width))
    if dry_run:
        return DONE
    confirm(yes)
    with keeping(resolved.url, resolved.folder, again=f"`automl resume {shell_word(resolved.url)}`"):
        return start(resolved, review)


def plain_data(resolved: Resolved) -> dict[str, object]:
    """What plain training instead of a search would be, ready for JSON."""
    return {
        "folder": resolved.url or str(resolved.folder),
        "skill": resolved.skill.name,
        "route": {"search": False, "why": resolved.route.why},
        "metric": resolved.objective.metric,
        "direction": resolved.objective.direction,
        "notes": list(resolved.notes),
        "spec": spec_to_dict(resolved.spec),
    }


def make_review(resolved: Resolved) -> Review:
    """Everything the user should see; checks device, data and weights on the way.  Writes nothing that stays."""
    from trials.devices import check_device

    if resolved.request.storage is not None:
        open_database(resolved.request.storage)
    with tempfile.TemporaryDirectory(prefix="automl-") as scratch:
        spec = divide_for_review(resolved, Path(scratch))
        fields = resolved.settings.fields
        placement = placed(resolved.request, spec, parallel=fields.get("parallel"), cpus=fields.get("cpus_per_trial"))
        here = not (placement.gpus and resolved.request.address) or has_gpu()  # else this machine says nothing about the workers'
        if here:
            check_device(spec, study=True)
        sources = check_data(spec)
        told = (*check_weights(spec), *(check_memory(spec) if here else ()))
        rows = sum(source.rows for source in sources if source.split == "train")
        steps = max(1, rows // (spec.dataset.train_dataset.batch_size * spec.train.num_gpus))
        space = resolved.skill.review(spec, total_steps=steps * spec.train.num_epochs, request=resolved.settings.space)
        config = _config(resolved, space.space, placement)
        check_costs(config)
        rule = rule_of(config)
        with records_of(resolved.request.warm_start) as studies:
            gathered = gather(config, rule, studies=studies, points=resolved.request.enqueue)
        config = replace(config, head_start=gathered.start)
        source = SearchSource(config, rule)
        # what is proposed from results of this study is not known yet
        blind = startup_trials(config.trials) if not gathered.start.trials else 1 + len(gathered.start.points)
        blind = min(config.trials, blind, FIRST_SHOWN)
        return Review(
            config=config,
            folder=resolved.url or str(resolved.folder),
            route=resolved.route,
            spec=resolved.spec,
            dropped=space.dropped,
            first=tuple(source.draw(number, ()).values for number in range(blind)),
            rungs=rule.rungs,
            search_epochs=rule.likely_epochs(config.trials),
            sources=tuple(sources),
            device=placement.text,
            times=measure(spec) if here else None,
            tracking=tracking_for(resolved.folder, config.name, "").shown,
            notes=(*resolved.notes, *told, *objective_notes(config), *gathered.notes),
            faults=space.faults,
        )


def start(resolved: Resolved, review: Review) -> int:
    """Makes the study and runs it to its summary; the exit code."""
    folder = resolved.folder
    folder.mkdir(parents=True, exist_ok=True)
    spec = divide_lists(resolved, folder / "data")
    # the study's own number keeps its tracking apart from an earlier study of the same name
    notes = {**review.config.notes, STUDY_ID: uuid.uuid4().hex[:12]}
    notes |= {"skill": skill_facts(resolved.skill), "data": data_facts(spec)}
    config = replace(review.config, spec=spec_to_dict(spec), notes=notes)
    study = Study.create(folder, config)
    try:
        save_spec(spec, folder / "spec.yaml")
        return carry_out(study)
    finally:
        study.close()


def resume_study(folder: Path, *, yes: bool, address: str | None = None) -> int:
    """`automl resume`: goes on with the search, or with what comes after it; `address` moves it to that Ray cluster."""
    quiet_libraries()
    snapshot = read_snapshot(folder)
    console = screen()
    if snapshot.active:
        raise StudyError(
            f"{folder} is being run by another process",
            hint=f"look at it with `automl status {shell_word(folder)}`, end it with `automl stop {shell_word(folder)}`",
        )
    over = sum(trial.status.ended for trial in snapshot.trials)
    tell(console, f"{place_text(folder)}: {over} of {snapshot.config.trials} trials are over, they are kept")
    if snapshot.end is not None and snapshot.end.reason.is_success and over >= snapshot.config.trials:
        console.print("the search itself is over; finalists, choice and promotion go on where they were left")
    confirm(yes or not sys.stdin.isatty(), question="Go on?")
    if address is not None:
        amend(folder, snapshot.config, moved(snapshot.config, address))
    for line in check_surroundings(snapshot.config):
        tell(console, f"note: {line}")
    study = Study.open(folder)
    try:
        for line in older_states(study.snapshot()) if url_of_copy(folder) is not None else ():
            tell(console, f"note: {line}")
        return carry_out(study)
    finally:
        study.close()


def confirm(yes: bool, *, question: str = "Start?") -> None:
    """Asks `question`; UserError where nobody can answer, Abort on no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("the question whether to start cannot be asked: stdin is no terminal", hint="add --yes to start")
    typer.confirm(question, default=True, abort=True)


def divide_for_review(resolved: Resolved, scratch: Path) -> Spec:
    """`divide_lists` into a folder that goes away; what is wrong in the lists is told first, with the user's own file and line."""
    if resolved.split_fraction is not None:
        check_data(resolved.spec)
    return divide_lists(resolved, scratch)


def divide_lists(resolved: Resolved, folder: Path) -> Spec:
    """The spec with a validation list cut out of the training lists (written to `folder`), or as it is when it has one."""
    spec, fraction = resolved.spec, resolved.split_fraction
    if fraction is None:
        return spec
    from trials.data.objects import fetcher
    from trials.data.split import write_split

    train: list[dict[str, object]] = []
    val: list[dict[str, object]] = []
    for source in spec.dataset.train_dataset.data_sources:
        lists = write_split(source, fraction, max(spec.train.seed, 0), folder, fetch=fetcher(spec))
        for part, path in zip((train, val), lists, strict=True):
            part.append({**asdict(source), "data_file": str(path.resolve()), "data_root": None})
    return with_values(spec, {"dataset.train_dataset.data_sources": train, "dataset.val_dataset.data_sources": val})


def check_data(spec: Spec) -> Sequence[SourceReport]:
    """What was found in every list of the spec that a study reads; DataError for data that cannot be used."""
    from trials.data.preflight import preflight

    splits = [split for split in ("train", "val", "test") if getattr(spec.dataset, f"{split}_dataset").data_sources]
    return preflight(spec, splits)


def check_weights(spec: Spec) -> tuple[str, ...]:
    """A line for each weight file that the spec names and for what starts random; CheckpointError for a file that does not fit."""
    from models.weights import check_spec_weights
    from trials.weight_copies import local_weights

    first = first_weights(spec)
    lines = [f"weights  {report}" for report in check_spec_weights(local_weights(spec))]
    if first.warning is not None:
        lines.append(f"WARNING  {first.warning}")
    elif first.random:
        lines.append(f"weights  random in {' and '.join(first.random)}")
    return tuple(lines)


def check_memory(spec: Spec) -> tuple[str, ...]:
    """A line on what a training step takes, where that can be told; UnsupportedError where it is more than there is."""
    from trials.memory import check_training_memory

    line = check_training_memory(spec)
    return () if line is None else (f"memory   {line}",)


def _config(resolved: Resolved, space: SearchSpace, placement: Placement) -> StudyConfig:
    """The study's settings, but for its head start."""
    request, spec, objective, settings = resolved.request, resolved.spec, resolved.objective, resolved.settings
    gpus, fields = placement.gpus, settings.fields
    repeatable = all(
        item.repeatable for item in ALGORITHMS.values() if (item.searcher, item.fidelity) == (settings.searcher, settings.fidelity)
    )
    seed = spec.train.seed if spec.train.seed >= 0 else secrets.randbelow(2**31)
    eta = fields.get("reduction_factor", 3)
    lowest = usual_lowest(settings.searcher, settings.fidelity, epochs=spec.train.num_epochs, eta=eta)
    config = StudyConfig(
        name=resolved.folder.resolve().name,
        skill=resolved.skill.name,
        spec=spec_to_dict(spec),
        space=space,
        objective=objective.metric,
        direction=objective.direction,
        further=resolved.objectives[1:],
        trials=DEFAULT_TRIALS,
        epochs=spec.train.num_epochs,
        seed=seed,
        algorithm=settings.algorithm,
        searcher=settings.searcher,
        fidelity=settings.fidelity,
        settings=complete_settings(settings.own, searcher=settings.searcher, fidelity=settings.fidelity),
        reduction_factor=eta,
        min_epochs=fields.get("min_epochs", lowest),
        parallel=placement.parallel,
        gpus_per_trial=gpus,
        cpus_per_trial=placement.cpus,
        engine=request.engine,
        address=request.address,
        storage=request.storage,
        limits=_limits(request.limits.over(settings.limits), gpus, request.engine),
        notes={"route": resolved.route.why, "asked_skill": request.skill},
    )
    trials = fields.get("trials") or usual_trials(config) or DEFAULT_TRIALS
    finalists = fields.get("finalists", usual_finalists(trials, config)) if repeatable else 0
    seeds = fields.get("finalist_seeds", 1)
    return replace(config, trials=trials, parallel=min(trials, config.parallel), finalists=finalists, finalist_seeds=seeds)


def _limits(limits: Limits, gpus: float, engine: str) -> Limits:
    """The limits that were asked for; StudyError for one that this search cannot keep."""
    if limits.gpu_hours is not None and not gpus:
        raise StudyError("--gpu-hours is given, but the trials run on the CPU", hint="use --max-hours")
    if limits.trial_timeout_s is not None and engine != "ray":
        raise StudyError(
            "--trial-timeout needs trials in processes of their own, but --engine inline runs them in this one", hint="use --engine ray"
        )
    return limits
