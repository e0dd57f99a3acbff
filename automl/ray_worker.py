"""The worker's side of the Ray engine: one segment of a trial in a process of its own.

Imports little: each new worker pays for it before torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune

from automl.mailbox import WorkOrder
from automl.worksite import training_fault, worksite_fault
from trials.contract import (
    Cause,
    Decision,
    Failure,
    ProgressEvent,
    Report,
    State,
    TrialResult,
    TrialSpec,
    report_to_json,
    result_to_json,
    trial_spec_from_json,
)

RESULT, FATAL = "trial_result", "fatal"
LOG_FILE = "worker.log"
TRACE_LINES = 8
GONE = 75  # exit code of a worker that nobody waits for


class SegmentTrainable(tune.Trainable):  # type: ignore[misc]  # Ray carries no types
    """Runs one segment per Ray trial: fetch the spec, train, give the result back as data.

    The process is used again for the next segment, so that torch is imported once.  Nothing is raised for a trial that
    fails; what kills the process is the machine's fault and is told apart by having no result.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Note which segment is wanted; nothing heavy happens before the code is known to be ours."""
        self._ticket = int(config["ticket"])
        self._mailbox = ray.get_actor(config["mailbox"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on the next segment."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run the segment; the result is JSON-able data."""
        order: WorkOrder = ray.get(self._mailbox.order.remote())
        this, node_id = ray.get_runtime_context().current_actor, ray.get_runtime_context().get_node_id()
        trial = trial_spec_from_json(ray.get(self._mailbox.take_spec.remote(self._ticket, this, node_id)))
        fault = worksite_fault(order) or training_fault(order)
        if fault is not None:
            return {FATAL: json.dumps([node_id, fault.message, fault.hint]), "done": True}
        try:
            with worker_log(trial.folder / LOG_FILE), contextlib.chdir(order.working_folder):
                result = self._run(order, trial)
        except Exception as error:  # noqa: BLE001  the worker border; `run_trial` raises nothing, but it may not even be importable
            result = _broken(trial.number, error)
        return {RESULT: json.dumps(result_to_json(result)), "done": True}  # text: Tune would take a mapping apart

    def _run(self, order: WorkOrder, trial: TrialSpec) -> TrialResult:
        run = order.run
        if 0 < order.gpus < 1:
            from trials.devices import keep_to_share

            keep_to_share(order.gpus)
        if run is None:
            from trials.run import run_trial

            run = run_trial
        return run(trial, self._report, progress=self._progress)

    def _report(self, report: Report) -> Decision:
        try:
            answer = ray.get(self._mailbox.report.remote(self._ticket, report_to_json(report)))
        except ray.exceptions.RayError:
            answer = None
        if answer is None:  # the driver is gone or has given this segment to another machine: nothing here may be written any more
            os._exit(GONE)
        return Decision(answer)

    def _progress(self, event: ProgressEvent) -> None:
        self._mailbox.progress.remote(event)


@contextlib.contextmanager
def worker_log(path: Path) -> Iterator[None]:
    """Everything this process writes to stdout and stderr goes to `path` meanwhile, C++ libraries included; no empty file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    with path.open("ab", buffering=0) as stream:
        _flush()
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            for number, saved in zip((1, 2), kept, strict=True):
                os.dup2(saved, number)
                os.close(saved)
    if path.stat().st_size == 0:
        path.unlink()


def _broken(number: int, error: Exception) -> TrialResult:
    """What becomes of a segment that did not even begin; the disk's and network's errors are the machine's fault."""
    failure = Failure(
        cause=Cause.INFRASTRUCTURE if isinstance(error, OSError) else Cause.CRASH,
        message=f"the worker cannot run trials: {type(error).__name__}: {error}",
        details={"traceback": traceback.format_exc(limit=-TRACE_LINES)},
    )
    return TrialResult(
        number=number,
        state=State.FAILED,
        metrics={},
        best_epoch=None,
        checkpoint=None,
        elapsed_s=0.0,
        peak_memory_mib=None,
        error=failure,
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
