"""Checkpoint files of one run: full states to continue from, and the best weights.

Names follow TAO Toolkit (Apache-2.0): `model_epoch_<EEE>_step_<SSSSS>.pth` with a 0-based epoch, `dn_model_latest.pth` a
link to the newest.  `best.pth` (ours) holds weights, spec and metrics alone.  Every file appears in one step, holds plain
data only and is read with `weights_only=True`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor
from typing_extensions import override

from models.checkpoints import read_checkpoint
from search_spaces.errors import CheckpointError, shell_word
from trials.datamodule import Start
from trials.states import BEST, LATEST, drop_full_states, full_states

TRIAL_KEY = "trial"
RECORDS = ("metrics.jsonl", "result.json", "error.log")


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best epoch (1-based) by `objective` so far, with all its metrics."""

    objective: str
    value: float
    epoch: int
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Resume:
    """A full state to continue from: where it stands, the best epoch before it, and spec, epoch length and devices of its run.

    `spec` and `steps_per_epoch` are None where the state does not say.
    """

    path: Path
    start: Start
    best: Best | None
    spec: Mapping[str, Any] | None
    steps_per_epoch: int | None
    devices: int = 1


class AtomicFiles(CheckpointIO):
    """Writes a checkpoint beside its place and moves it there; reads it without rebuilding objects."""

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """OSError with the path when the disk refuses."""
        del storage_options
        write_state(checkpoint, Path(path))

    @override
    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The content on the CPU, plain data only, whatever the caller would allow."""
        del map_location, weights_only
        return _read(Path(path), mmap=False)  # the optimiser keeps these tensors

    @override
    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes the file."""
        Path(path).unlink(missing_ok=True)


class CheckpointFolder:
    """Writes the checkpoints of one run; no other process writes there.  `keep_all` False keeps the newest full state alone.

    All ranks of a run call it alike, and one of them `writes`.
    """

    def __init__(self, folder: Path, *, keep_all: bool, writes: bool = True) -> None:
        self._folder = folder
        self._keep_all = keep_all
        self._writes = writes

    @property
    def latest(self) -> Path:
        """The link to the newest full state."""
        return self._folder / LATEST

    @property
    def best(self) -> Path:
        """The best weights."""
        return self._folder / BEST

    def save_full(self, trainer: pl.Trainer, *, epoch: int, step: int) -> Path:
        """Saves everything needed to continue; `epoch` is 0-based, `step` counts optimiser steps done."""
        path = self._folder / f"model_epoch_{epoch:03d}_step_{step:05d}.pth"
        trainer.save_checkpoint(path)  # gathers the state from all ranks
        if not self._writes:
            return path
        link = self._folder / f".{LATEST}.tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        link.replace(self.latest)
        if not self._keep_all:
            for old in full_states(self._folder):
                if old.name != path.name:
                    old.unlink(missing_ok=True)
        return path

    def save_best(self, module: pl.LightningModule, best: Best, *, spec: Mapping[str, Any], step: int) -> None:
        """Saves the weights as they are now as the best ones; `epoch` in the file is 0-based, as Lightning has it."""
        content = {
            "pytorch-lightning_version": version("pytorch-lightning"),
            "state_dict": module.trainer.strategy.lightning_module_state_dict(),  # gathers the weights from all ranks
            "spec": dict(spec),
            "epoch": best.epoch - 1,
            "global_step": step,
            "objective": best.objective,
            "metrics": dict(best.metrics),
        }
        if self._writes:
            write_state(content, self.best)

    def clear(self) -> None:
        """Removes what an earlier attempt of the same trial left."""
        if not self._writes:
            return
        for name in (BEST, *RECORDS):
            (self._folder / name).unlink(missing_ok=True)
        drop_full_states(self._folder)

    def adopt_best(self, resume: Resume) -> Best | None:
        """The best epoch so far, None where its weights are not at hand; a trial continued in another folder gets a copy of them.

        What the file says counts: a run that was killed may have left better weights in it than its last state knows of.
        """
        if resume.best is None:
            return None
        donor = resume.path.parent / BEST
        if not self.best.is_file() and donor.is_file():
            write_state(_read(donor), self.best)
        return _best_in(self.best, resume.best.objective)


def trial_state(start: Start, best: Best | None, *, steps_per_epoch: int, devices: int) -> dict[str, Any]:
    """What a full state says about the run it belongs to, as plain data."""
    return {
        "epochs_done": start.epoch,
        "batches_done": start.batch,
        "steps_per_epoch": steps_per_epoch,
        "devices": devices,
        "best": None if best is None else {**asdict(best), "metrics": dict(best.metrics)},
    }


def _best_in(path: Path, objective: str) -> Best | None:
    """The best epoch by `objective` whose weights the file at `path` holds, None when it holds none."""
    try:
        content = _read(path)
    except CheckpointError:
        return None
    if content.get("objective") != objective:
        return None
    return Best(objective=objective, value=content["metrics"][objective], epoch=content["epoch"] + 1, metrics=content["metrics"])


def read_resume(path: Path, *, objective: str) -> Resume:
    """Where the full state at `path` stands; CheckpointError when it is not one of ours.  A best by another objective is forgotten."""
    content = _read(path)
    state = content.get(TRIAL_KEY)
    if not isinstance(state, Mapping) or "optimizer_states" not in content:
        raise _no_state(
            path, "a training state of another program" if "optimizer_states" in content else "weights without a training state"
        )
    best = Best(**state["best"]) if state["best"] is not None and state["best"]["objective"] == objective else None
    start = Start(epoch=state["epochs_done"], batch=state["batches_done"])
    return Resume(
        path=path.resolve(),
        start=start,
        best=best,
        spec=content.get("spec"),
        steps_per_epoch=state.get("steps_per_epoch"),
        devices=state.get("devices", 1),
    )


def tensor_shapes(path: Path) -> dict[str, torch.Size]:
    """The shape of every weight in the full state at `path`."""
    weights: Mapping[str, Tensor] = _read(path)["state_dict"]
    return {name: value.shape for name, value in weights.items()}


def write_state(content: Mapping[str, Any], path: Path) -> None:
    """Puts `content` at `path` in one step; OSError with the path when the disk refuses."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        torch.save(dict(content), temporary)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"cannot write a checkpoint ({error.strerror or error})", str(path)) from error
    except RuntimeError as error:
        # what torch makes of a disk that is full
        if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
            raise OSError(errno.EIO, "cannot write a checkpoint (is the disk full?)", str(path)) from error
        raise
    finally:
        _drop(temporary)


def _drop(file: Path) -> None:
    """Removes a file, if it is there, and frees its room at once: torch has it open for as long as the error of a full disk lives."""
    with contextlib.suppress(OSError):
        os.truncate(file, 0)
    file.unlink(missing_ok=True)


def _read(path: Path, *, mmap: bool = True) -> dict[str, Any]:
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        read_checkpoint(path)  # says what is wrong with it, if anything is
        raise _no_state(path, "a training state of another program") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, but a full training state is needed", hint="resume from dn_model_latest.pth"
        )
    return content


def _no_state(path: Path, what: str) -> CheckpointError:
    weights = shell_word(f"train.pretrained_model_path={path}")
    return CheckpointError(
        f"{path} holds {what}, so training cannot continue from it",
        hint=f"to start from its weights alone set {weights}; a run of ours keeps its newest state as {LATEST}",
    )
