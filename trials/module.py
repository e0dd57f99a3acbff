"""The LightningModule of all families: losses in training, metrics in validation, groups and schedule.

It receives its network (`model`, so that checkpoints carry `model.*`) and never builds one.  Numbers leave it through
`train_summary` and `validation`; nothing is sent to a logger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from typing_extensions import override

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from trials.data.geometry import to_target_grid
from trials.failures import CollapseError, NonFiniteError
from trials.losses import sequence_loss
from trials.optim import Schedule, make_optimizer, make_schedule, make_scheduler, parameter_groups, set_beta1
from trials.ranks import ALONE, Rank
from trials.scoring import Scorer, map_loss
from trials.sharding import gather_weights, part_weights, total_norm, whole_tensor

Batch = Mapping[str, Any]
STATE_KEY = "trial_module"
SHOWN_PATHS = 4
# what has helped others, in the order of its price
NAN_REMEDIES = (
    "train.pretrained_model_path with weights of the same kind, a larger batch, more train.optim.warmup_steps, a smaller train.optim.lr"
)
COLLAPSE_REMEDIES = "weights to start from (train.pretrained_model_path), a smaller train.optim.lr, more train.optim.warmup_steps"


class StereoNetwork(Protocol):
    """What training asks of a stereo network beyond being callable."""

    def unroll(self, left: Tensor, right: Tensor, iterations: int) -> tuple[Tensor, list[Tensor]]:
        """(initial disparity at quarter resolution, refined full-resolution maps)."""


def predict_map(network: nn.Module, batch: Batch, family: str) -> Tensor:
    """(B,1,h,w) float32: the final map of the network on its own grid."""
    if family == "stereo":
        return cast(Tensor, network(batch["image"], batch["right_image"])).float()
    return cast(Tensor, network(batch["image"])).unsqueeze(1).float()


class DepthModule(pl.LightningModule):
    """Trains one network, on one rank of possibly several.  `total_steps` is the schedule's horizon: optimiser steps of the full budget."""

    def __init__(self, network: nn.Module, spec: Spec, *, total_steps: int, rank: Rank = ALONE) -> None:
        super().__init__()
        self.model = network
        self.rank = rank
        self.spec = spec
        self.schedule: Schedule = make_schedule(spec, total_steps)
        self.validation: dict[str, float | None] = {}
        self.skipped_batches = 0  # of this epoch: no pixel of theirs had ground truth
        self.last_finite_step: int | None = None
        self.last_loss = math.nan  # of the last step that learned; a log line, never a metric
        self._rate: float | None = None
        self._map_loss = map_loss(spec)
        self._scorer = Scorer(spec)
        self._scored: list[int] = []  # places of the images that the scorer saw in the validation list
        self._nothing_learned = False  # in this step, on any rank
        self._loss_sum = 0.0
        self._loss_count = 0

    @override
    def configure_optimizers(self) -> Any:
        """Optimiser and per-step schedule of the spec."""
        optimizer = make_optimizer(self.model, self.spec)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": make_scheduler(optimizer, self.schedule), "interval": "step"}}

    @override
    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the norm over all groups at `train.clip_grad_norm`; 0 leaves gradients alone.

        Done here and not by the Trainer, which refuses to clip for a fused optimiser even under bf16, where it is right.
        """
        if self.spec.train.clip_grad_norm > 0:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            norm = total_norm(parameter.grad for parameter in parameters if parameter.grad is not None)
            nn.utils.clip_grads_with_norm_(parameters, self.spec.train.clip_grad_norm, norm)

    @override
    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Moves beta1 with the schedule; gradients are unscaled by now, and clipped next."""
        set_beta1(optimizer, self.schedule, self.global_step)
        if self._nothing_learned:
            for parameter in self.model.parameters():
                parameter.grad = None  # as after a skipped batch of a single process: no decay, no momentum

    @override
    def on_train_start(self) -> None:
        """A resumed run follows the schedule, decay and momentum of its own spec, not those stored by the run it continues."""
        optimizer, scheduler = self.trainer.optimizers[0], cast(Any, self.lr_schedulers())
        rates = [group["lr"] for group in parameter_groups(self.model, self.spec)]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["weight_decay"] = self.spec.train.optim.weight_decay
            if "momentum" in group:
                group["momentum"] = self.spec.train.optim.momentum
            group["initial_lr"] = rate
            group["lr"] = rate * self.schedule.factor(scheduler.last_epoch, base_lr=rate)
        scheduler.base_lrs = rates

    @override
    def on_train_epoch_start(self) -> None:
        """Forgets the last epoch's mean loss and skipped batches."""
        self._loss_sum, self._loss_count, self.skipped_batches = 0.0, 0, 0

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """The loss of a batch; None (batch skipped and counted) when it holds nothing to learn from.

        The gradient of several ranks is the mean over those that learn something from theirs.  The others take part with a zero.
        """
        maps = self._training_maps(batch)
        loss = self._training_loss(maps, batch)
        value = None if loss is None else float(loss.detach())
        if value is not None and not math.isfinite(value):
            raise self._non_finite(value, batch)
        learned, total = self.rank.total(float(value is not None), value or 0.0)
        self._nothing_learned = not learned
        if learned:
            self.last_finite_step = self.global_step
            self.last_loss = total / learned
            self._rate = self.learning_rate()
            self._loss_sum += self.last_loss
            self._loss_count += 1
        else:
            self.skipped_batches += 1
        if self.rank.count == 1:
            return loss
        if loss is None:
            return cast(Tensor, 0.0 * sum(each.nan_to_num().sum() for each in maps))
        return loss if learned == self.rank.count else loss * (self.rank.count / learned)

    def _training_maps(self, batch: Batch) -> list[Tensor]:
        """The answers of the network that its loss is made of: for stereo the volume's estimate, then the refinements."""
        if self.spec.family == "stereo":
            network = cast(StereoNetwork, self.model)
            initial, predictions = network.unroll(batch["image"], batch["right_image"], self.spec.model.train_iters)
            return [initial, *predictions]
        return [to_target_grid(predict_map(self.model, batch, "mono"), batch["geometry"], "mono")]

    def _training_loss(self, maps: list[Tensor], batch: Batch) -> Tensor | None:
        if self.spec.family == "stereo":
            return sequence_loss(maps[0], maps[1:], batch["target"], batch["valid"])
        return self._map_loss(maps[0], batch["target"], batch["valid"])

    def _non_finite(self, loss: float, batch: Batch) -> NonFiniteError:
        """The failure of this step with what a person needs to find its cause."""
        valid, paths = batch["valid"], list(batch["path"])
        seen = batch["target"][valid].float()
        details = {
            "paths": paths,
            "step": self.global_step,
            "epoch": self.current_epoch,
            "last_finite_step": self.last_finite_step,
            "valid_share": float(valid.float().mean()),
            "target_range": [float(seen.min()), float(seen.max())] if seen.numel() else None,
            "learning_rate": self.learning_rate(),
            "hint": self._nan_remedies(),
        }
        last = (
            "no step before it was finite" if self.last_finite_step is None else f"the last finite one was at step {self.last_finite_step}"
        )
        truth = f"ground truth {float(seen.min()):.4g} to {float(seen.max()):.4g}" if seen.numel() else "no ground truth"
        names = ", ".join(paths[:SHOWN_PATHS]) + (f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else "")
        return NonFiniteError(
            f"the training loss is {loss} at step {self.global_step}; {last}; {details['valid_share']:.1%} of the batch's pixels are "
            f"valid, {truth}, learning rate {self.learning_rate():.3g}; samples: {names}",
            details=details,
        )

    def _nan_remedies(self) -> str:
        unclipped = "train.clip_grad_norm=0.1 (clipping is off), " if self.spec.train.clip_grad_norm == 0 else ""
        return f"look at these samples; then {unclipped}{NAN_REMEDIES}"

    def check_weights(self) -> None:
        """NonFiniteError when a weight is NaN or infinite: such weights are worth nothing and are never saved."""
        if math.isfinite(float(total_norm(self.model.parameters()))):
            return
        bad = next(name for name, value in self.model.named_parameters() if not bool(whole_tensor(value).isfinite().all()))
        details = {
            "step": self.global_step,
            "epoch": self.current_epoch,
            "last_finite_step": self.last_finite_step,
            "hint": self._nan_remedies(),
        }
        raise NonFiniteError(f"{bad} is not finite after step {self.global_step}, so the weights are not saved", details=details)

    def learning_rate(self) -> float:
        """The rate of the first group (the encoder, in mono) that the next step takes."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def train_summary(self) -> dict[str, float | None]:
        """Mean loss of the steps of this epoch (None when every batch was skipped) and the rate of the last of them."""
        mean = self._loss_sum / self._loss_count if self._loss_count else None
        return {"train/loss": mean, "train/lr": self._rate}

    def check_learned(self) -> None:
        """DataError when every batch of the epoch was skipped: no pixel of the training lists has ground truth in range."""
        if self._loss_count == 0 and self.skipped_batches:
            raise DataError(
                f"none of the {self.skipped_batches} batches of epoch {self.current_epoch + 1} has enough valid pixels to learn from",
                hint="check dataset_name (it decides unit and invalid marks) and the depth or disparity range of the spec",
            )

    @override
    def on_validation_epoch_start(self) -> None:
        """Starts a new pass, with all weights on every rank: some take more batches than others."""
        self._scorer, self._scored = Scorer(self.spec), []
        self.rank.share_buffers(self.model)
        gather_weights(self.model)

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Scores a batch on the grid of its ground truth."""
        prediction = to_target_grid(predict_map(self.model, batch, self.spec.family), batch["geometry"], self.spec.family)
        self._scorer.update(prediction, batch["target"], batch["valid"], batch["path"])
        self._scored += batch["index"].tolist()

    @override
    def on_validation_epoch_end(self) -> None:
        """Puts the numbers of the pass into `validation`; CollapseError when every map is constant."""
        part_weights(self.model)
        scorer = self._scorer
        scorer.pool(self.rank, self._scored)
        if scorer.num_images == 0:
            raise DataError(
                f"none of the {scorer.skipped} validation images has a valid pixel",
                hint="check the ground truth and the depth or disparity range of dataset.val_dataset",
            )
        if scorer.collapsed:
            raise CollapseError(
                f"every predicted map is constant after epoch {self.current_epoch + 1}: the network has collapsed",
                details={"step": self.global_step, "epoch": self.current_epoch, "hint": COLLAPSE_REMEDIES, **self.train_summary()},
            )
        self.validation = {f"val/{name}": value for name, value in scorer.compute().items()}

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the running mean of the epoch, so that a resume in mid-epoch reports the same loss."""
        checkpoint[STATE_KEY] = {
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
            "skipped_batches": self.skipped_batches,
            "last_finite_step": self.last_finite_step,
        }

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what `on_save_checkpoint` stored; a checkpoint of TAO has none of it."""
        state = checkpoint.get(STATE_KEY)
        if state is not None:
            self._loss_sum, self._loss_count = state["loss_sum"], state["loss_count"]
            self.skipped_batches, self.last_finite_step = state["skipped_batches"], state["last_finite_step"]
