"""The worker's side of the Ray engine: one segment of a trial in a process of its own.

`Mailbox` is a small actor between driver and workers.  It decides nothing: specs go out, reports come in, and each report
waits there until the driver has answered it.  `SegmentTrainable` is what Ray Tune starts, reuses and restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from automl.engine import RunTrial
from trials.contract import (
    Decision,
    ProgressEvent,
    Report,
    TrialResult,
    TrialSpec,
    report_to_json,
    result_to_json,
    trial_spec_from_json,
)

RESULT, FATAL = "trial_result", "fatal"
LOG_FILE = "worker.log"


@dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What all segments of a search share: the runner (None = `trials.run.run_trial`), whose code it is, where paths start."""

    run: RunTrial | None
    install: Path
    working_folder: Path


class Mailbox:
    """Carries specs, reports and answers; an asyncio actor, so a waiting report blocks nobody else."""

    def __init__(self, order: WorkOrder) -> None:
        self._order = order
        self._specs: dict[int, Mapping[str, Any]] = {}
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._inbox: list[tuple[int | None, Any]] = []
        self._arrived = asyncio.Event()
        self._next = 0

    async def order(self) -> WorkOrder:
        """What all segments share."""
        return self._order

    async def put_spec(self, ticket: int, spec: Mapping[str, Any]) -> None:
        """Lay a segment's spec ready; `ticket` is its number among all segments of this driver."""
        self._specs[ticket] = spec

    async def take_spec(self, ticket: int) -> Mapping[str, Any]:
        """The spec of a segment."""
        return self._specs.pop(ticket)

    async def report(self, data: Mapping[str, Any]) -> str:
        """Hand in a report and wait for the driver's answer."""
        letter = self._next
        self._next += 1
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[letter] = answer
        self._inbox.append((letter, data))
        self._arrived.set()
        return await answer

    async def progress(self, event: ProgressEvent) -> None:
        """Hand in how far a trial is; nobody answers."""
        self._inbox.append((None, event))
        self._arrived.set()

    async def collect(self, patience_s: float) -> list[tuple[int | None, Any]]:
        """Everything handed in since the last call, in order; waits up to `patience_s` for the first."""
        if not self._inbox:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), patience_s)
        self._arrived.clear()
        letters, self._inbox = self._inbox, []
        return letters

    async def answer(self, letter: int, decision: str) -> None:
        """Answer a report."""
        waiting = self._waiting.pop(letter, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(decision)


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
        trial = trial_spec_from_json(ray.get(self._mailbox.take_spec.remote(self._ticket)))
        found = installed()
        if found != order.install:
            message = f"the worker would run {found} instead of {order.install}: another folder on its path holds a package named models"
            return {FATAL: message, "done": True}
        with worker_log(trial.folder / LOG_FILE), contextlib.chdir(order.working_folder):
            result = self._run(order, trial)
        return {RESULT: json.dumps(result_to_json(result)), "done": True}  # text: Tune would take a mapping apart

    def _run(self, order: WorkOrder, trial: TrialSpec) -> TrialResult:
        run = order.run
        if run is None:
            from trials.run import run_trial

            run = run_trial
        return run(trial, self._report, progress=self._progress)

    def _report(self, report: Report) -> Decision:
        return Decision(ray.get(self._mailbox.report.remote(report_to_json(report))))

    def _progress(self, event: ProgressEvent) -> None:
        self._mailbox.progress.remote(event)


def installed() -> Path | None:
    """The folder of the package `models` that this process would import (without importing it)."""
    loaded = sys.modules.get("models")
    origin = getattr(loaded, "__file__", None)
    if origin is None:
        found = importlib.util.find_spec("models")
        origin = None if found is None else found.origin
    return None if origin is None else Path(origin).resolve().parent


@contextlib.contextmanager
def worker_log(path: Path) -> Iterator[None]:
    """Everything this process writes to stdout and stderr goes to `path` meanwhile, C++ libraries included."""
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


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
