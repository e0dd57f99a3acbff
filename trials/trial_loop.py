"""What happens between the steps of a run: reports, decisions, checkpoints, records.

At the end of an epoch the order is: best weights, records, report, full state.  A kill anywhere in between loses nothing:
the epoch is then trained and reported again, with the same numbers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer
from typing_extensions import override

from search_spaces.objective import Objective
from search_spaces.spec import Spec
from trials.checkpoints import TRIAL_KEY, Best, CheckpointFolder, Resume, trial_state
from trials.contract import Decision, Report, ReportTo, State, TrialSpec
from trials.costs import CostMeter
from trials.datamodule import Start, TrialData
from trials.failures import Interrupted, TrialFailure
from trials.interruption import Stop
from trials.module import DepthModule
from trials.ranks import Rank
from trials.sharding import whole
from trials.status import MetricsLog, StatusWriter, finite, kpi_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Records:
    """Where a run writes, its first rank alone; `checkpoints` is None for a dry run, which leaves none."""

    status: StatusWriter
    metrics: MetricsLog
    checkpoints: CheckpointFolder | None


class TrialLoop(pl.Callback):
    """Drives one segment of one trial; `state` and `best` are its outcome once `fit` has returned or raised.

    All ranks of a run come to the same decisions: the first one asks and tells the others.
    `rescued` is the state that was saved because the run broke off, None where there was nothing new or nothing sound to save.
    """

    def __init__(
        self,
        trial: TrialSpec,
        spec: Spec,
        *,
        objective: Objective,
        report: ReportTo,
        records: Records,
        stop: Stop,
        spec_data: Mapping[str, Any],
        costs: CostMeter,
        rank: Rank,
    ) -> None:
        self.state = State.COMPLETE
        self.best: Best | None = None
        self.rescued: Path | None = None
        self.last_metrics: Mapping[str, float | None] = {}
        self._trial = trial
        self._train = spec.train
        self._family = spec.family
        self._objective = objective
        self._report = report
        self._records = records
        self._stop = stop
        self._spec_data = spec_data
        self._costs = costs
        self._rank = rank
        self._position = Start()
        self._started = self._epoch_started = time.monotonic()
        self._due = False
        self._saved_step = 0
        self._between_steps: Start | None = None  # where a state could be saved now

    def resumed(self, resume: Resume) -> None:
        """Takes over what an earlier segment left."""
        checkpoints = self._records.checkpoints
        self.best = resume.best if checkpoints is None else self._rank.from_first(lambda: checkpoints.adopt_best(resume))
        self._position = resume.start

    @override
    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds spec, position and best epoch."""
        checkpoint["spec"] = dict(self._spec_data)
        steps = _data(trainer).steps_per_epoch
        checkpoint[TRIAL_KEY] = trial_state(self._position, self.best, steps_per_epoch=steps, devices=self._rank.count)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clocks."""
        self._epoch_started = time.monotonic()
        self._saved_step = trainer.global_step
        self._validate_last_epoch(trainer)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tells the data which epoch it is."""
        self._epoch_started = time.monotonic()
        _data(trainer).set_epoch(trainer.current_epoch)
        _module(pl_module).validation = {}
        self._validate_last_epoch(trainer)

    def _validate_last_epoch(self, trainer: pl.Trainer) -> None:
        # Lightning validates multiples of the interval only, and would end a run of 10 epochs at interval 3 with epoch 9
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    @override
    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """From here to the end of the step the weights may be half new."""
        self._between_steps = None

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Saves by steps and honours a stop request; the last batch of an epoch leaves both to the end of the epoch."""
        step, done = trainer.global_step, batch_idx + 1
        if step % self._train.log_every_n_steps == 0:
            logger.info("epoch %d step %d loss %.6g", trainer.current_epoch + 1, step, _module(pl_module).last_loss)
        by_step = self._train.checkpoint_interval_unit == "step" and step % self._train.checkpoint_interval == 0
        self._due = self._due or by_step
        if done == trainer.num_training_batches:
            return
        self._between_steps = Start(epoch=trainer.current_epoch, batch=done)
        stopping = self._stop_requested(trainer)
        if self._due or stopping:
            self._save(trainer, self._between_steps)
        if stopping:
            raise Interrupted(f"stopped in epoch {trainer.current_epoch + 1}, step {step}")

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports, saves, and ends the segment where the study says so."""
        module, epoch = _module(pl_module), trainer.current_epoch + 1
        module.check_learned()
        module.check_weights()
        validated = bool(module.validation) or not _data(trainer).validates
        with whole(module.model):
            costs = self._rank.from_first(lambda: self._costs.measured(module)) if validated else {}
        metrics = finite(module.train_summary() | module.validation | costs)
        decision = Decision.CONTINUE
        self._write_status(module, metrics, epoch=epoch)
        if validated:
            decision = self._reported(module, metrics, epoch=epoch)
        last, stopping = epoch == trainer.max_epochs, self._stop_requested(trainer)
        by_epoch = self._train.checkpoint_interval_unit == "epoch" and epoch % self._train.checkpoint_interval == 0
        if last or by_epoch or self._due or decision is not Decision.CONTINUE or stopping:
            self._save(trainer, Start(epoch=epoch))
        if last:
            return
        if decision is not Decision.CONTINUE:
            self.state = State.PAUSED if decision is Decision.PAUSE else State.STOPPED
            trainer.should_stop = True
        elif stopping:
            raise Interrupted(f"stopped after epoch {epoch}")

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Saves the state after the last whole step of a plain run that broke: a bad file after hours costs the user one step.

        Not for what the weights themselves are the cause of, nor for an interrupt, which has saved its state or must not wait; nor on
        several ranks, of which one alone cannot save.
        """
        breaks = isinstance(exception, Exception) and not isinstance(exception, TrialFailure | Interrupted)
        if (
            self._trial.study
            or self._rank.count > 1
            or not breaks
            or self._between_steps is None
            or trainer.global_step == self._saved_step
        ):
            return
        try:
            self.rescued = self._save(trainer, self._between_steps)
        except (OSError, RuntimeError) as error:
            logger.warning("the state before the failure could not be saved: %s", error)

    def _reported(self, module: DepthModule, metrics: Mapping[str, float | None], *, epoch: int) -> Decision:
        step = module.global_step
        value = metrics.get(self._objective.metric)
        if value is not None and (self.best is None or self._objective.better(value, self.best.value)):
            self.best = Best(objective=self._objective.metric, value=value, epoch=epoch, metrics=metrics)
            if self._records.checkpoints is not None:
                self._records.checkpoints.save_best(module, self.best, spec=self._spec_data, step=step)
        self.last_metrics = metrics
        report = Report(number=self._trial.number, epoch=epoch, step=step, metrics=metrics, elapsed_s=time.monotonic() - self._started)
        self._records.metrics.append(report)
        return self._rank.from_first(lambda: self._report(report))

    def _write_status(self, module: DepthModule, metrics: Mapping[str, float | None], *, epoch: int) -> None:
        status = self._records.status
        if module.validation:
            status.write("RUNNING", "Eval metrics generated.", kpi=kpi_of(metrics, self._family))
        status.epoch(done=epoch, max_epochs=module.trainer.max_epochs or epoch, epoch_s=time.monotonic() - self._epoch_started)
        status.write("RUNNING", "Train metrics generated.", kpi={"train_loss": metrics["train/loss"]})
        said = [f"{name} none" if value is None else f"{name} {value:.6g}" for name, value in metrics.items()]
        if module.skipped_batches:
            said.append(f"{module.skipped_batches} batches skipped: too few valid pixels")
        logger.info("epoch %d: %s", epoch, ", ".join(said))

    def _stop_requested(self, trainer: pl.Trainer) -> bool:
        return self._rank.any(self._stop.requested or trainer.received_sigterm)

    def _save(self, trainer: pl.Trainer, position: Start) -> Path | None:
        """The full state at `position`, or None for a dry run; NonFiniteError instead of a state that is worth nothing."""
        self._position, self._due = position, False
        if self._records.checkpoints is None:
            return None
        _module(trainer.lightning_module).check_weights()
        self._saved_step = trainer.global_step
        return self._records.checkpoints.save_full(trainer, epoch=trainer.current_epoch, step=trainer.global_step)


def _module(module: pl.LightningModule) -> DepthModule:
    assert isinstance(module, DepthModule)
    return module


def _data(trainer: pl.Trainer) -> TrialData:
    data: object = trainer.datamodule  # type: ignore[attr-defined]  # set by fit
    assert isinstance(data, TrialData)
    return data
