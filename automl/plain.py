"""Plain training: one spec, the same `run_trial` as a trial of a search, the same folder layout and the same tracking.

`automl off`, `automl run --policy off` and `depth_net train` all end here.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from automl.config import at_home
from automl.console import metrics_table, screen, seconds_text, tell
from automl.entry import DONE, FAILED, INTERRUPTED, MISUSED, say_error
from automl.folders import check_folder
from automl.launch import check_data, check_memory, check_weights, confirm, divide_for_review, divide_lists
from automl.live import TrainView
from automl.mirror import Mirror, RunRecord
from automl.placement import device_text, has_gpu
from automl.reader import read_snapshot
from automl.resolve import Resolved, RunRequest, check_alone, check_devices, check_one_machine, resolve, with_asked_gpus, with_key_options
from automl.shipping import open_mirror
from automl.stored_study import keeping
from automl.summary import shown_path
from automl.tracking import content_hash, params_of, read_history, tracking_for
from automl.winner import chosen_values
from search_spaces.errors import SpecError, StudyError, shell_word
from search_spaces.objective import Objective, objectives_for
from search_spaces.spec import Spec, read_spec, spec_from_dict, spec_to_dict, with_values
from search_spaces.writing import replace_text
from trials.contract import Cause, Decision, Report, State, TrialResult, TrialSpec
from trials.copy_notes import url_of_copy
from trials.states import LATEST, state_to_resume

RUN_FILE = "run.json"
STATUS = {
    State.COMPLETE: "FINISHED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "KILLED",
    State.PAUSED: "SCHEDULED",
    State.STOPPED: "FINISHED",
}
# failures that the user can put right: the command was misused, nothing broke
USER_CAUSES = frozenset({Cause.SPEC, Cause.DATA})


@dataclass(frozen=True, kw_only=True)
class PlainRun:
    """One training run: its results_dir (`folder`), what picks its best checkpoint, and the name of its skill for tracking."""

    spec: Spec
    folder: Path
    objective: Objective
    skill: str

    @property
    def train_folder(self) -> Path:
        """Where its files go: `train.results_dir` as it stands, else `<folder>/train`."""
        own = self.spec.train.results_dir
        return Path(own) if own else self.folder / "train"


def run_plain(request: RunRequest, *, from_study: Path | None, yes: bool) -> int:
    """Carries out `automl off`."""
    if 0 < (request.gpus_per_trial or 0) < 1:
        raise SpecError("plain training takes whole GPUs, but --gpus-per-trial is a share of one", hint="use --gpus-per-trial 1")
    if from_study is not None:
        return train_again(request, from_study, yes=yes)
    resolved = resolve(request)
    if request.results is None and resolved.folder.parent == Path("results"):
        resolved = replace(resolved, folder=resolved.folder.with_name(f"{resolved.folder.name}-off"))
        check_folder(resolved.folder, resumes=resolved.spec.train.resume != "never")
    return train_resolved(resolved, yes=yes)


def train_resolved(resolved: Resolved, *, yes: bool, dry_run: bool = False) -> int:
    """Plain training of a request that was understood; asks before it starts, or only shows what would be trained (`dry_run`)."""
    console = screen()
    for note in (resolved.route.why, *resolved.notes):
        tell(console, f"note  {note}")

    run = PlainRun(spec=resolved.spec, folder=resolved.folder, objective=resolved.objective, skill=resolved.skill.name)
    with tempfile.TemporaryDirectory(prefix="automl-") as scratch:
        review(replace(run, spec=divide_for_review(resolved, Path(scratch))), console)
    if dry_run:
        return DONE
    confirm(yes)
    with keeping(resolved.url, resolved.folder, again="the same command with train.resume=auto"):
        return train_tracked(replace(run, spec=divide_lists(resolved, resolved.folder / "data")), console)


def train_again(request: RunRequest, study: Path, *, yes: bool) -> int:
    """`automl off --from STUDY`: the winner's spec (before a choice: the best trial's), with the request's overrides on top.

    Its relative paths start where those of the study do.
    """
    if request.spec_file is not None or request.skill is not None:
        raise SpecError("--from takes skill and spec from the study", hint="leave out --skill and -e; key=value overrides are welcome")
    if request.val_fraction is not None:
        raise SpecError("--from takes the lists from the study, whose validation is part of its trials", hint="leave out --val-fraction")
    snapshot = read_snapshot(study)
    choice = chosen_values(study)
    best = snapshot.best
    if choice is None and best is None:
        raise StudyError(
            f"{study} has no trial with a metric yet, so there is no winner to train again", hint=f"`automl status {shell_word(study)}`"
        )
    values = choice["values"] if choice is not None else dict(best.values) if best is not None else {}
    spec = with_values(spec_from_dict(snapshot.config.spec), values)
    loaded = read_spec(None, with_key_options(request), template=spec_to_dict(spec), action="train", environ=os.environ)
    loaded = with_asked_gpus(loaded, request)
    check_one_machine(loaded)
    check_devices(loaded)
    spec = loaded.spec
    if request.results is None and url_of_copy(study) is not None:
        raise StudyError(f"{study} is in an S3 store, so where to train has to be said", hint="add --results DIR")
    folder = request.results or study.with_name(f"{study.resolve().name}-again")
    check_folder(folder, resumes=spec.train.resume != "never")
    check_alone(request.metrics)
    objective = objectives_for(spec.family, request.metrics or (snapshot.config.objective,), relative=spec.is_relative)[0]
    console = screen()
    source = f"trial {choice['trial']}, the winner" if choice is not None else f"trial {best.number if best else '-'}, the best so far"
    tell(console, f"the values of {source} of {study}")
    if snapshot.config.fidelity == "population":
        tell(console, "note  a population changes values on the way: these are the last ones, and from the start they may do worse")
    run = PlainRun(spec=spec, folder=folder.absolute(), objective=objective, skill=snapshot.config.skill)
    with at_home(snapshot.config):
        review(run, console)
        confirm(yes)
        return train_tracked(run, console)


def review(run: PlainRun, console: Console) -> None:
    """Checks device, data and weights and shows what is about to happen; writes nothing."""
    from trials.devices import check_device

    trained = check_device(run.spec)
    continues = tell_resume(replace(run, spec=trained), console)
    sources = check_data(run.spec)
    told = (*(() if continues else check_weights(run.spec)), *check_memory(run.spec))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    gpus = run.spec.train.num_gpus if has_gpu() else 0
    rows = {
        "network": f"{run.spec.model.model_type}, encoder {run.spec.model.encoder}",
        "objective": f"{run.objective.metric} picks the best checkpoint",
        "epochs": str(run.spec.train.num_epochs),
        "device": device_text(gpus),
        "results": shown_path(run.folder),
    }
    for name, text in rows.items():
        table.add_row(name, text)
    console.print(table)
    for source in sources:
        tell(console, f"data  {source.describe()}")
        for warning in source.warnings:
            tell(console, f"      warning: {warning}")
    for line in told:
        tell(console, line)


def train_tracked(run: PlainRun, console: Console) -> int:
    """Trains a run that was reviewed, mirrored in MLflow; the exit code.  Its folder has the layout of a trial's."""
    run = replace(run, spec=with_values(run.spec, {"train.results_dir": None}))
    run.folder.mkdir(parents=True, exist_ok=True)
    study_id = _identity(run)
    tracking = tracking_for(run.folder, run.folder.resolve().name, study_id)
    mirror = open_mirror(tracking, console)
    try:
        result = train(run, console, mirror=mirror)
    finally:
        complete = mirror.close()
    if not complete:
        tell(console, "MLflow does not hold everything; the run's own files do")
    return finish(run, result, console)


def train(run: PlainRun, console: Console, *, mirror: Mirror | None = None) -> TrialResult:
    """Trains `run` in this process with a progress bar; every report is mirrored.  Ctrl-C gives an INTERRUPTED result."""
    from trials.run import run_trial

    started_s = time.time()
    spec = with_values(run.spec, {"results_dir": str(run.folder)})
    trial = TrialSpec(
        study="",
        number=0,
        skill=run.skill,
        spec=spec_to_dict(spec),
        values={},
        max_epochs=spec.train.num_epochs,
        seed=spec.train.seed,
        folder=run.folder.resolve(),
        objective=run.objective.metric,
    )
    record = _record(run, spec, started_s)
    with TrainView(console, metric=run.objective.metric, epochs=trial.max_epochs) as view:

        def on_report(report: Report) -> Decision:
            view.on_report(report)
            if mirror is not None:
                mirror.put(replace(record, history=read_history(run.folder)))
            return Decision.CONTINUE

        if mirror is not None:
            mirror.put(record)
        result = run_trial(trial, on_report, progress=view.on_progress)
    if mirror is not None:
        tags = {**record.tags, "state": result.state.value}
        if result.error is not None:
            tags.update(failure=result.error.cause.value, failure_message=result.error.message)
        ended = replace(record, tags=tags, status=STATUS[result.state], history=read_history(run.folder), ended_s=time.time())
        mirror.put(ended)
    return result


def tell_resume(run: PlainRun, console: Console) -> bool:
    """Whether the run continues a state; says which and what is not as it was.  UserError, before anything is written, where it cannot."""
    state = state_to_resume(run.spec, run.train_folder)
    if state is None:
        return False
    from trials.checkpoints import read_resume
    from trials.resuming import check_settings, describe

    resume = read_resume(state, objective=run.objective.metric)
    check_settings(resume, run.spec)
    for line in describe(resume, run.spec, devices=run.spec.train.num_gpus * run.spec.train.num_nodes):
        tell(console, f"note  {line}")
    return True


def finish(run: PlainRun, result: TrialResult, console: Console) -> int:
    """Says how training ended and what comes next; the exit code."""
    folder, newest = shown_path(run.train_folder), run.train_folder / LATEST
    state = newest.resolve().name if newest.exists() else None
    if result.error is not None:
        details = result.error.details
        hint = str(details.get("hint") or f"the whole story is in {folder}/error.log")
        if state is not None and ("state" in details or result.error.cause is Cause.INFRASTRUCTURE):
            hint += f"; train.resume=auto goes on from {state}"
        say_error(result.error.message, hint)
        return MISUSED if result.error.cause in USER_CAUSES else FAILED
    if result.state is State.INTERRUPTED:
        if state is not None:
            say_error(f"interrupted; {state} is saved", f"run the same command with train.resume=auto to go on from it in {folder}")
        else:
            say_error("interrupted before a state was saved", f"{folder} holds the records of what was done")
        return INTERRUPTED
    console.print(metrics_table(f"Best epoch: {result.best_epoch}", result.metrics, run.spec.family, relative=run.spec.is_relative))
    nothing = "none, this was a dry run" if run.spec.train.is_dry_run else "-"
    tell(
        console,
        f"trained in {seconds_text(result.elapsed_s)}; checkpoint {shown_path(result.checkpoint) if result.checkpoint else nothing}",
    )
    if run.spec.dataset.test_dataset.data_sources and result.checkpoint is not None:
        words = (f"{folder}/experiment.yaml", f"evaluate.checkpoint={shown_path(result.checkpoint)}")
        tell(console, f"next: depth_net evaluate -e {' '.join(map(shell_word, words))}")
    return DONE


def _record(run: PlainRun, spec: Spec, started_s: float) -> RunRecord:
    from trials.data import data_hash

    splits = [split for split in ("train", "val") if getattr(spec.dataset, f"{split}_dataset").data_sources]
    data = spec_to_dict(spec)
    tags: Mapping[str, str] = {
        "kind": "plain",
        "state": "running",
        "skill": run.skill,
        "objective": run.objective.metric,
        "seed": str(spec.train.seed),
        "spec_hash": content_hash(data),
        "data_hash": content_hash([data_hash(spec, split) for split in splits]),
        "folder": str(run.folder.resolve()),
    }
    name = run.folder.resolve().name
    return RunRecord(key="plain", name=name, status="RUNNING", tags=tags, params=params_of(data, {}), started_s=started_s)


def _identity(run: PlainRun) -> str:
    """The run's own number for tracking, kept in its folder so that a resumed run finds its MLflow run again."""
    path = run.folder / RUN_FILE
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))["study_id"])
    study_id = uuid.uuid4().hex[:12]
    replace_text(path, json.dumps({"study_id": study_id, "skill": run.skill, "objective": run.objective.metric}) + "\n")
    return study_id
