"""`run_trial`: one training run from spec to result, behind trials of a search, `automl off` and `depth_net train` alike.

Layout of `TrialSpec.train_folder` (names of TAO Toolkit where it has them): experiment.yaml (the resolved spec), status.json,
metrics.jsonl, result.json, model_epoch_<EEE>_step_<SSSSS>.pth, dn_model_latest.pth, best.pth, train.log, and error.log
after a failure.
"""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import nn

from models.registry import build_network
from models.weights import load_spec_weights
from search_spaces.errors import SpecError, UnsupportedError, UserError
from search_spaces.objective import Objective, objective_for
from search_spaces.spec import Spec, save_spec, spec_from_dict, spec_to_dict, with_values
from search_spaces.spec.weights import first_weights
from trials.callbacks import ExactResume, PeakMemory, ProgressFeed
from trials.checkpoints import AtomicFiles, CheckpointFolder, Resume, read_resume
from trials.contract import Cause, Failure, ProgressTo, ReportTo, State, TrialResult, TrialSpec
from trials.costs import CostMeter
from trials.data import DepthDataset, build_dataset
from trials.datamodule import Start, TrialData
from trials.devices import check_device, cuda_device, lightning_precision
from trials.failures import Interrupted, failure_of
from trials.interruption import StopRequest
from trials.memory import out_of_memory_text
from trials.module import DepthModule
from trials.resuming import check_epoch, check_network, check_settings, describe
from trials.run_log import run_log
from trials.seeding import actual_seed, cudnn_settings, seeded
from trials.states import state_to_resume
from trials.status import MetricsLog, StatusWriter, kpi_of, write_result
from trials.trial_loop import Records, TrialLoop
from trials.workers import usable_cores

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of; tests put smaller things in their place."""

    network: Callable[[Spec], nn.Module] = build_network
    weights: Callable[[nn.Module, Spec], Sequence[object]] = load_spec_weights
    dataset: Callable[[Spec, str, bool, int], DepthDataset] = lambda spec, split, training, seed: build_dataset(
        spec, split, training=training, seed=seed
    )


@dataclass(kw_only=True)
class _Outcome:
    """What is known about a run so far, for its result whichever way it ends."""

    peak: PeakMemory
    status: StatusWriter
    loop: TrialLoop | None = None
    checkpoints: CheckpointFolder | None = None
    spec: Spec | None = None
    first_weights: str | None = None
    resume: Resume | None = None


def run_trial(trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None, parts: Parts | None = None) -> TrialResult:
    """Trains one segment of one trial and says how it ended; every failure of the trial is in the result, none is raised.

    `report` is asked after each validation (after each epoch when there is no validation list) and may pause or stop the
    run.  The first Ctrl-C or SIGTERM saves the state after the current step and gives INTERRUPTED.  One run at a time in a process.
    """
    started = time.monotonic()
    folder = trial.train_folder
    refusal = _refusal(trial, folder)
    if refusal is not None:  # nothing is written: the folder may hold another run
        return _ended(trial, State.FAILED, started, error=failure_of(refusal))
    outcome = _Outcome(peak=PeakMemory(), status=StatusWriter(folder / "status.json"))
    state, error = State.COMPLETE, None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with run_log(folder), StopRequest() as stop:
            state = _run(trial, report, progress, parts or Parts(), stop=stop, outcome=outcome)
    except (Interrupted, KeyboardInterrupt):
        state = State.INTERRUPTED
    except (Exception, SystemExit) as exception:  # noqa: BLE001  the worker border: whatever it was becomes a failed result
        # Lightning makes a SystemExit of a KeyboardInterrupt
        if isinstance(exception, SystemExit) and isinstance(exception.__context__, KeyboardInterrupt):
            state = State.INTERRUPTED
        else:
            state, error = State.FAILED, _failure(exception, outcome)
            _write_traceback(folder, exception)
    _release()
    best = None if outcome.loop is None else outcome.loop.best
    checkpoint = None if outcome.checkpoints is None or best is None or not outcome.checkpoints.best.is_file() else outcome.checkpoints.best
    result = replace(
        _ended(trial, state, started, error=error),
        metrics={} if best is None else dict(best.metrics),
        best_epoch=None if best is None else best.epoch,
        checkpoint=checkpoint,
        peak_memory_mib=outcome.peak.peak_mib,
        first_weights=outcome.first_weights,
    )
    return _recorded(result, folder, outcome)


def _failure(exception: BaseException, outcome: _Outcome) -> Failure:
    """What `exception` stands for, with the state that was saved because of it."""
    failure, rescued = failure_of(exception), None if outcome.loop is None else outcome.loop.rescued
    if failure.cause is Cause.OOM and outcome.spec is not None:
        volumes, hint = out_of_memory_text(outcome.spec)
        told = "; ".join(text for text in (failure.message, volumes) if text)
        failure = replace(failure, message=told, details={**failure.details, "hint": hint})
    if rescued is None:
        return failure
    outcome.status.write("RUNNING", f"Saved the state before the failure: {rescued}")
    return replace(failure, details={**failure.details, "state": str(rescued)})


def _ended(trial: TrialSpec, state: State, started: float, *, error: Failure | None) -> TrialResult:
    """A result without metrics; `started` is a time of the monotonic clock."""
    elapsed_s = time.monotonic() - started
    return TrialResult(
        number=trial.number,
        state=state,
        metrics={},
        best_epoch=None,
        checkpoint=None,
        elapsed_s=elapsed_s,
        peak_memory_mib=None,
        error=error,
    )


def _refusal(trial: TrialSpec, folder: Path) -> UserError | None:
    """Why a run outside of a search may not use `folder`, or None; a spec that cannot be read is reported by the run itself."""
    if trial.study or trial.resume_from is not None:
        return None
    try:
        spec = spec_from_dict(trial.spec)
    except SpecError:
        return None
    try:
        state_to_resume(spec, folder)
    except UserError as error:
        return error
    return None


def _run(trial: TrialSpec, report: ReportTo, progress: ProgressTo | None, parts: Parts, *, stop: StopRequest, outcome: _Outcome) -> State:
    """The run itself; raises whatever goes wrong."""
    folder = trial.train_folder
    outcome.status.write("STARTED", "Starting Depth Net train.")
    seed = actual_seed(trial.seed)
    spec = with_values(spec_from_dict(trial.spec), {"train.num_epochs": trial.max_epochs, "train.seed": seed})
    outcome.spec, outcome.first_weights = spec, str(first_weights(spec))
    objective = objective_for(spec.family, trial.objective, relative=spec.is_relative)
    _check(spec, objective)
    dry = spec.train.is_dry_run
    checkpoints = CheckpointFolder(folder, keep_all=not trial.study)
    resume = _resume(trial, spec, folder, objective)
    if resume is None and trial.study:
        checkpoints.clear()
    outcome.resume, outcome.checkpoints = resume, None if dry else checkpoints
    if resume is None:  # the spec of a run that is continued is replaced only when the new one is known to fit
        save_spec(spec, folder / "experiment.yaml")
    with seeded(seed), cudnn_settings(spec):
        _limit_threads()
        data = _data(spec, parts, seed=seed, start=Start() if resume is None else resume.start)
        network = parts.network(spec)
        for loaded in [] if resume is not None else parts.weights(network, spec):
            logger.info("%s", loaded)
        logger.info("first weights: %s", outcome.first_weights)
        epochs = 1 if dry else trial.max_epochs
        module = DepthModule(network, spec, total_steps=epochs * data.steps_per_epoch)
        if module.schedule.warmup_steps < spec.train.optim.warmup_steps:
            logger.info("warm-up: %d steps, half of the run, instead of %d", module.schedule.warmup_steps, spec.train.optim.warmup_steps)
        records = Records(status=outcome.status, metrics=MetricsLog(folder / "metrics.jsonl"), checkpoints=outcome.checkpoints)
        costs = CostMeter(trial.costs, known={} if resume is None or resume.best is None else resume.best.metrics)
        loop = TrialLoop(
            trial, spec, objective=objective, report=report, records=records, stop=stop, spec_data=spec_to_dict(spec), costs=costs
        )
        outcome.loop = loop
        if resume is not None:
            done = resume.start.epoch >= epochs
            _continue(resume, module, loop, records, steps_per_epoch=None if done else data.steps_per_epoch)
            save_spec(spec, folder / "experiment.yaml")
            if done:
                outcome.status.write("RUNNING", f"Nothing is left to train: {resume.start.epoch} of {epochs} epochs are done.")
                return State.COMPLETE
        steps = module.schedule.total_steps
        feed = [] if progress is None else [ProgressFeed(progress, number=trial.number, max_epochs=epochs, total_steps=steps)]
        trainer = _trainer(spec, [ExactResume(), outcome.peak, *feed, costs, loop], folder=folder, epochs=epochs, validates=data.validates)
        outcome.status.write("STARTED", "Starting Training Loop.")
        trainer.fit(module, datamodule=data, ckpt_path=None if resume is None else resume.path, weights_only=True)
        return loop.state


def _check(spec: Spec, objective: Objective) -> None:
    """Refuses what this release or this machine cannot do, before anything is read."""
    if spec.train.num_gpus > 1 or spec.train.num_nodes > 1:
        raise UnsupportedError(
            f"trials on more than one GPU are not in this release, but train.num_gpus is {spec.train.num_gpus} "
            f"and train.num_nodes is {spec.train.num_nodes}",
            hint="set both to 1; a search uses several GPUs by running several trials",
        )
    check_device(spec)
    if not spec.dataset.val_dataset.data_sources and not objective.metric.startswith("train/"):
        raise SpecError(
            f"the objective is {objective.metric}, but dataset.val_dataset.data_sources is empty",
            hint="give a validation list, or use train/loss as the objective (a proxy: it does not see overfitting)",
        )


def _resume(trial: TrialSpec, spec: Spec, folder: Path, objective: Objective) -> Resume | None:
    """The state to continue from, if any: the trial's own, the spec's, or the folder's as `train.resume` says."""
    if trial.resume_from is not None:
        return read_resume(trial.resume_from, objective=objective.metric)
    if trial.study:
        return None
    state = state_to_resume(spec, folder)
    return None if state is None else read_resume(state, objective=objective.metric)


def _continue(resume: Resume, module: DepthModule, loop: TrialLoop, records: Records, *, steps_per_epoch: int | None) -> None:
    """Makes loop and records stand where `resume` does; CheckpointError when spec or data (None: not read again) do not let it go on."""
    check_settings(resume, module.spec)
    check_network(resume, module)
    if steps_per_epoch is not None:
        check_epoch(resume, steps_per_epoch=steps_per_epoch)
    loop.resumed(resume)
    records.metrics.cut_after(resume.start.epoch)
    records.status.write("RUNNING", f"Resuming training from checkpoint: {resume.path}")
    for line in describe(resume, module.spec):
        logger.info("%s", line)


def _data(spec: Spec, parts: Parts, *, seed: int, start: Start) -> TrialData:
    train = parts.dataset(spec, "train", True, seed)
    validation = parts.dataset(spec, "val", False, seed) if spec.dataset.val_dataset.data_sources else None
    return TrialData(train, validation, spec, seed=seed, start=start)


def _release() -> None:
    """Gives memory back at once: Lightning's objects refer to each other, and the next trial may run in this process."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _limit_threads() -> None:
    """No more threads than cores that this process may use: torch counts those of the whole machine."""
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def _trainer(spec: Spec, callbacks: list[pl.Callback], *, folder: Path, epochs: int, validates: bool) -> pl.Trainer:
    """A silent Trainer on one device that keeps no logs or checkpoints of its own."""
    gpu = cuda_device(spec)
    return pl.Trainer(
        accelerator="cpu" if gpu is None else "gpu",
        devices=1 if gpu is None else [gpu],
        precision=lightning_precision(spec, cuda=gpu is not None),  # type: ignore[arg-type]
        max_epochs=epochs,
        callbacks=callbacks,
        check_val_every_n_epoch=spec.train.validation_interval,
        limit_train_batches=1 if spec.train.is_dry_run else None,
        limit_val_batches=(1 if spec.train.is_dry_run else 1.0) if validates else 0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,  # it would draw random numbers and so break exact resume
        use_distributed_sampler=False,
        benchmark=spec.train.cudnn.benchmark,
        # without it Lightning would guess a cluster from the variables of a SLURM job
        plugins=[AtomicFiles(), LightningEnvironment()],
        default_root_dir=folder,
    )


def _recorded(result: TrialResult, folder: Path, outcome: _Outcome) -> TrialResult:
    """Writes the last status line and result.json; a disk that refuses turns the result into a failure of the machine."""
    try:
        _write_end(result, outcome)
        write_result(folder / "result.json", result)
    except OSError as exception:
        if result.error is None:
            return replace(result, state=State.FAILED, error=failure_of(exception))
    return result


def _write_end(result: TrialResult, outcome: _Outcome) -> None:
    status, kpi = outcome.status, None if outcome.spec is None else kpi_of(result.metrics, outcome.spec.family) or None
    match result.state:
        case State.FAILED:
            assert result.error is not None
            status.failure(result.error)
        case State.INTERRUPTED:
            saved = outcome.checkpoints is not None and outcome.checkpoints.latest.exists()
            after = "it can be resumed" if saved else "no state was saved"
            status.write("FAILURE", f"User/System interruption: training was interrupted; {after}.")
        case State.PAUSED:
            status.write("RUNNING", "Training paused; it can be resumed.", kpi=kpi)
        case State.STOPPED:
            status.write("SUCCESS", "Training stopped early by the search.", kpi=kpi)
        case State.COMPLETE:
            status.write("RUNNING", "Training loop complete.")
            status.write("SUCCESS", "Train finished successfully.", kpi=kpi)


def _write_traceback(folder: Path, exception: BaseException) -> None:
    """error.log with the whole traceback, where the disk still takes it: the result carries the reason either way."""
    text = "".join(traceback.format_exception(exception))
    with ExitStack() as stack:
        try:
            file = stack.enter_context((folder / "error.log").open("w", encoding="utf-8"))
            file.write(text)
        except OSError:
            logger.warning("error.log could not be written")
