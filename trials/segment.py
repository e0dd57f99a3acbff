"""What one process does of a run: from the spec to trained weights.  A run on one device is one such process.

On several devices `trials.leading` starts one for each; only the first reports and writes files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from models.registry import build_network
from models.weights import load_spec_weights
from search_spaces.errors import SpecError
from search_spaces.objective import Objective, objective_for
from search_spaces.spec import Spec, save_spec, spec_from_dict, spec_to_dict, with_values
from search_spaces.spec.weights import first_weights
from trials.callbacks import ExactResume, OwnSignals, PeakMemory, ProgressFeed
from trials.checkpoints import AtomicFiles, Best, CheckpointFolder, Resume, read_resume
from trials.contract import ProgressTo, ReportTo, State, TrialSpec
from trials.costs import CostMeter
from trials.data import DepthDataset, build_dataset
from trials.datamodule import Start, TrialData
from trials.devices import lightning_precision
from trials.interruption import Stop
from trials.module import DepthModule
from trials.optim import freeze_unused
from trials.ranks import Rank, RankEnvironment
from trials.resuming import check_epoch, check_network, check_settings, describe
from trials.seeding import actual_seed, cudnn_settings, part_ways, seeded
from trials.sharding import ShardedStrategy
from trials.states import state_to_resume
from trials.status import MetricsLog, StatusWriter
from trials.trial_loop import Records, TrialLoop
from trials.weight_copies import local_weights
from trials.workers import usable_cores

logger = logging.getLogger(__name__)
Devices = tuple[torch.device, ...]


def _dataset(spec: Spec, split: str, training: bool, seed: int) -> DepthDataset:
    return build_dataset(spec, split, training=training, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of; tests put smaller things in their place.  Every rank gets a copy, by pickling."""

    network: Callable[[Spec], nn.Module] = build_network
    weights: Callable[[nn.Module, Spec], Sequence[object]] = load_spec_weights
    dataset: Callable[[Spec, str, bool, int], DepthDataset] = _dataset


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Who is asked after each validation, who is told how far the run is, and who says that it shall end."""

    report: ReportTo
    progress: ProgressTo | None
    stop: Stop


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a result says about a run beside how it ended; `rescued` is the state that was saved because it broke off."""

    best: Best | None = None
    rescued: Path | None = None
    peak_memory_mib: float | None = None
    first_weights: str | None = None


@dataclass(kw_only=True)
class Known:
    """What is known about a run so far, for its result whichever way it ends.  `told` is what a rank in another process says of it."""

    status: StatusWriter
    peak: PeakMemory = field(default_factory=PeakMemory)
    loop: TrialLoop | None = None
    spec: Spec | None = None
    told: Facts | None = None

    def facts(self) -> Facts:
        """As of now."""
        if self.told is not None:
            return self.told
        return Facts(
            best=None if self.loop is None else self.loop.best,
            rescued=None if self.loop is None else self.loop.rescued,
            peak_memory_mib=self.peak.peak_mib,
            first_weights=None if self.spec is None else str(first_weights(self.spec)),
        )


def resolved_spec(trial: TrialSpec) -> Spec:
    """The spec of a trial with its budget and seed; SpecError for one that cannot be read."""
    return with_values(spec_from_dict(trial.spec), {"train.num_epochs": trial.max_epochs, "train.seed": actual_seed(trial.seed)})


def check_objective(trial: TrialSpec, spec: Spec) -> Objective:
    """What picks the best checkpoint; SpecError for a metric that this run cannot measure."""
    objective = objective_for(spec.family, trial.objective, relative=spec.is_relative)
    if not spec.dataset.val_dataset.data_sources and not objective.metric.startswith("train/"):
        raise SpecError(
            f"the objective is {objective.metric}, but dataset.val_dataset.data_sources is empty",
            hint="give a validation list, or use train/loss as the objective (a proxy: it does not see overfitting)",
        )
    return objective


def train(trial: TrialSpec, channels: Channels, *, parts: Parts, rank: Rank, devices: Devices, known: Known) -> State:
    """Trains as `rank` on its one of the `devices` of this machine and keeps `known` up to date; raises whatever goes wrong."""
    folder, spec = trial.train_folder, known.spec
    assert spec is not None
    objective, seed, dry = check_objective(trial, spec), spec.train.seed, spec.train.is_dry_run
    checkpoints = CheckpointFolder(folder, keep_all=not trial.study, writes=rank.first)
    resume = _resume(trial, spec, objective, rank)
    if resume is None and trial.study:
        checkpoints.clear()
    if resume is None and rank.first:  # the spec of a run that is continued is replaced only when the new one is known to fit
        save_spec(spec, folder / "experiment.yaml")
    with seeded(seed), cudnn_settings(spec):
        torch.set_num_threads(min(torch.get_num_threads(), max(1, usable_cores() // rank.here)))  # torch counts cores of the whole machine
        data = _data(spec, parts, start=Start() if resume is None else resume.start, rank=rank)
        network = parts.network(spec)
        for loaded in [] if resume is not None else parts.weights(network, local_weights(spec)):
            logger.info("%s", loaded)
        logger.info("first weights: %s", first_weights(spec))
        if rank.count > 1:
            freeze_unused(network)
        part_ways(rank.number)
        epochs = 1 if dry else trial.max_epochs
        module = DepthModule(network, spec, total_steps=epochs * data.steps_per_epoch, rank=rank)
        if module.schedule.warmup_steps < spec.train.optim.warmup_steps:
            logger.info("warm-up: %d steps, half of the run, instead of %d", module.schedule.warmup_steps, spec.train.optim.warmup_steps)
        records = Records(
            status=known.status,
            metrics=MetricsLog(folder / "metrics.jsonl" if rank.first else None),
            checkpoints=None if dry else checkpoints,
        )
        costs = CostMeter(trial.costs, known={} if resume is None or resume.best is None else resume.best.metrics)
        loop = TrialLoop(
            trial,
            spec,
            objective=objective,
            report=channels.report,
            records=records,
            stop=channels.stop,
            spec_data=spec_to_dict(spec),
            costs=costs,
            rank=rank,
        )
        known.loop = loop
        if resume is not None:
            done = resume.start.epoch >= epochs
            _continue(resume, module, loop, records, data=None if done else data)
            if rank.first:
                save_spec(spec, folder / "experiment.yaml")
            if done:
                known.status.write("RUNNING", f"Nothing is left to train: {resume.start.epoch} of {epochs} epochs are done.")
                return State.COMPLETE
        steps, progress = module.schedule.total_steps, channels.progress
        feed = [] if progress is None else [ProgressFeed(progress, number=trial.number, max_epochs=epochs, total_steps=steps)]
        callbacks = [OwnSignals(), ExactResume(rank), known.peak, *feed, costs, loop]
        trainer = _trainer(spec, callbacks, rank=rank, devices=devices, epochs=epochs, folder=folder)
        known.status.write("STARTED", "Starting Training Loop.")
        trainer.fit(module, datamodule=data, ckpt_path=None if resume is None else resume.path, weights_only=True)
        return loop.state


def _resume(trial: TrialSpec, spec: Spec, objective: Objective, rank: Rank) -> Resume | None:
    """The state to continue from, if any: the trial's own, the spec's, or the folder's as `train.resume` says."""
    state = trial.resume_from
    if state is None and not trial.study:
        state = rank.from_first(lambda: state_to_resume(spec, trial.train_folder))
    return None if state is None else read_resume(state, objective=objective.metric)


def _continue(resume: Resume, module: DepthModule, loop: TrialLoop, records: Records, *, data: TrialData | None) -> None:
    """Makes loop and records stand where `resume` does; CheckpointError when spec or data (None: not read again) do not let it go on."""
    check_settings(resume, module.spec)
    check_network(resume, module)
    if data is not None:
        check_epoch(resume, steps_per_epoch=data.steps_per_epoch)
    loop.resumed(resume)
    records.metrics.cut_after(resume.start.epoch)
    records.status.write("RUNNING", f"Resuming training from checkpoint: {resume.path}")
    for line in describe(resume, module.spec, devices=module.rank.count):
        logger.info("%s", line)


def _data(spec: Spec, parts: Parts, *, start: Start, rank: Rank) -> TrialData:
    seed = spec.train.seed
    training = parts.dataset(spec, "train", True, seed)
    validation = parts.dataset(spec, "val", False, seed) if spec.dataset.val_dataset.data_sources else None
    return TrialData(training, validation, spec, seed=seed, start=start, rank=rank)


def _trainer(spec: Spec, callbacks: list[pl.Callback], *, rank: Rank, devices: Devices, epochs: int, folder: Path) -> pl.Trainer:
    """A silent Trainer that keeps no logs or checkpoints of its own, for one rank."""
    cuda, dry = devices[0].type == "cuda", spec.train.is_dry_run
    validates = bool(spec.dataset.val_dataset.data_sources)
    return pl.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices=[device.index for device in devices] if cuda else len(devices),
        num_nodes=rank.count // rank.here,
        strategy="auto" if rank.count == 1 else _strategy(spec),
        precision=lightning_precision(spec, cuda=cuda),  # type: ignore[arg-type]
        max_epochs=epochs,
        callbacks=callbacks,
        check_val_every_n_epoch=spec.train.validation_interval,
        limit_train_batches=1 if dry else None,
        limit_val_batches=(1 if dry else 1.0) if validates else 0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,  # it would draw random numbers and so break exact resume
        use_distributed_sampler=False,
        benchmark=spec.train.cudnn.benchmark,
        # without it Lightning would guess a cluster from the variables of a SLURM job
        plugins=[AtomicFiles(), LightningEnvironment() if rank.count == 1 else RankEnvironment(rank)],
        default_root_dir=folder,
    )


def _strategy(spec: Spec) -> DDPStrategy:
    """Every rank holds the whole network (ddp) or its part of it (fsdp); gradients are averaged.

    No search for unused parameters: those are known by name and frozen.  Buffers are shared before a validation and not in each forward
    pass, which would make ranks with an uneven number of images wait for each other.
    """
    if spec.train.distributed_strategy == "fsdp":
        return ShardedStrategy()
    return DDPStrategy(find_unused_parameters=False, broadcast_buffers=False, gradient_as_bucket_view=True)
