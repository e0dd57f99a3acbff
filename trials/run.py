"""`run_trial`: one training run from spec to result, behind trials of a search, `automl off` and `depth_net train` alike.

Layout of `TrialSpec.train_folder` (names of TAO Toolkit where it has them): experiment.yaml (the resolved spec), status.json,
metrics.jsonl, result.json, model_epoch_<EEE>_step_<SSSSS>.pth, dn_model_latest.pth, best.pth, train.log, and error.log
after a failure.
"""

from __future__ import annotations

import gc
import logging
import os
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import torch

from search_spaces.errors import SpecError, UserError
from search_spaces.spec import spec_from_dict
from trials.contract import Cause, Failure, ProgressTo, ReportTo, State, TrialResult, TrialSpec
from trials.devices import lightning_precision
from trials.failures import Interrupted, failure_of
from trials.interruption import StopRequest
from trials.layout import as_trained, machine_number, run_layout, visible_gpus
from trials.leading import lead
from trials.memory import out_of_memory_text
from trials.run_log import run_log
from trials.segment import Channels, Known, Parts, check_objective, resolved_spec, train
from trials.states import BEST, LATEST, state_to_resume
from trials.status import StatusWriter, kpi_of, write_result

logger = logging.getLogger(__name__)


def run_trial(
    trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None, parts: Parts | None = None, cpu_ranks: int = 1
) -> TrialResult:
    """Trains one segment of one trial and says how it ended; every failure of the trial is in the result, none is raised.

    `report` is asked after each validation (after each epoch when there is no validation list) and may pause or stop the
    run.  The first Ctrl-C or SIGTERM saves the state after the current step and gives INTERRUPTED.  One run at a time in a process.
    On several devices each has a process, which ends with this one; `cpu_ranks` takes as many processes on the CPU.  On several machines
    the same is called on each, and machine 0 alone writes and reports.
    """
    started = time.monotonic()
    folder = trial.train_folder
    refusal = _refusal(trial, folder)
    if refusal is not None:  # nothing is written: the folder may hold another run
        return _ended(trial, State.FAILED, started, error=failure_of(refusal))
    writes = machine_number(trial, os.environ) == 0
    known = Known(status=StatusWriter(folder / "status.json" if writes else None))
    state, error = State.COMPLETE, None
    try:
        with ExitStack() as stack:
            if writes:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(run_log(folder))
            stop = stack.enter_context(StopRequest())
            state = _run(trial, Channels(report=report, progress=progress, stop=stop), parts or Parts(), cpu_ranks=cpu_ranks, known=known)
    except (Interrupted, KeyboardInterrupt):
        state = State.INTERRUPTED
    except (Exception, SystemExit) as exception:  # noqa: BLE001  the worker border: whatever it was becomes a failed result
        # Lightning makes a SystemExit of a KeyboardInterrupt
        if isinstance(exception, SystemExit) and isinstance(exception.__context__, KeyboardInterrupt):
            state = State.INTERRUPTED
        else:
            state, error = State.FAILED, _failure(exception, known)
            if writes:
                _write_traceback(folder, exception)
    _release()
    facts = known.facts()
    best, keeps = facts.best, _keeps_files(known)
    result = replace(
        _ended(trial, state, started, error=error),
        metrics={} if best is None else dict(best.metrics),
        best_epoch=None if best is None else best.epoch,
        checkpoint=folder / BEST if keeps and best is not None and (folder / BEST).is_file() else None,
        peak_memory_mib=facts.peak_memory_mib,
        first_weights=facts.first_weights,
    )
    return _recorded(result, folder, known) if writes else result


def _run(trial: TrialSpec, channels: Channels, parts: Parts, *, cpu_ranks: int, known: Known) -> State:
    """The run itself; raises whatever goes wrong."""
    known.status.write("STARTED", "Starting Depth Net train.")
    spec = known.spec = resolved_spec(trial)
    check_objective(trial, spec)
    layout = run_layout(spec, study=bool(trial.study), environ=os.environ, gpus=visible_gpus(), cpu_ranks=cpu_ranks)
    spec = known.spec = as_trained(spec, layout)
    lightning_precision(spec, cuda=layout.devices[0].type == "cuda")
    if layout.count > 1:
        return lead(trial, channels, parts=parts, layout=layout, known=known)
    return train(trial, channels, parts=parts, rank=layout.rank(0), devices=layout.devices, known=known)


def _keeps_files(known: Known) -> bool:
    """Whether the run keeps checkpoints: a dry run does not."""
    return known.spec is not None and not known.spec.train.is_dry_run


def _failure(exception: BaseException, known: Known) -> Failure:
    """What `exception` stands for, with the state that was saved because of it."""
    failure, rescued = failure_of(exception), known.facts().rescued
    if failure.cause is Cause.OOM and known.spec is not None:
        volumes, hint = out_of_memory_text(known.spec)
        told = "; ".join(text for text in (failure.message, volumes) if text)
        failure = replace(failure, message=told, details={**failure.details, "hint": hint})
    if rescued is None:
        return failure
    with suppress(OSError):
        known.status.write("RUNNING", f"Saved the state before the failure: {rescued}")
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


def _release() -> None:
    """Gives memory back at once: Lightning's objects refer to each other, and the next trial may run in this process."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _recorded(result: TrialResult, folder: Path, known: Known) -> TrialResult:
    """Writes the last status line and result.json; a disk that refuses turns the result into a failure of the machine."""
    try:
        _write_end(result, folder, known)
        write_result(folder / "result.json", result)
    except OSError as exception:
        if result.error is None:
            return replace(result, state=State.FAILED, error=failure_of(exception))
    return result


def _write_end(result: TrialResult, folder: Path, known: Known) -> None:
    status, kpi = known.status, None if known.spec is None else kpi_of(result.metrics, known.spec.family) or None
    match result.state:
        case State.FAILED:
            assert result.error is not None
            status.failure(result.error)
        case State.INTERRUPTED:
            saved = _keeps_files(known) and (folder / LATEST).exists()
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
    try:
        (folder / "error.log").write_text("".join(traceback.format_exception(exception)), encoding="utf-8")
    except OSError:
        logger.warning("error.log could not be written")
