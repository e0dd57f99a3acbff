"""Networks of a few weights and specs of a few steps: real runs in a fraction of a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.spec import Spec
from trials.contract import Decision, Report, TrialSpec
from trials.data.sample import SampleSet
from trials.segment import Parts


class SmallStereo(nn.Module):
    """A disparity from two convolutions with dropout, so that random state matters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 4, 3, padding=1)
        self.dropout = nn.Dropout(0.2)
        self.second = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor, iterations: int | None = None) -> Tensor:
        return 10.0 * self.second(self.dropout(torch.tanh(self.first(torch.cat((left, right), 1)))))

    def unroll(self, left: Tensor, right: Tensor, iterations: int | None = None) -> tuple[Tensor, list[Tensor]]:
        disparity = self(left, right)
        return nn.functional.avg_pool2d(disparity, 4) / 4, [0.5 * disparity, disparity]


class SmallMono(nn.Module):
    """Positive depth from two convolutions, named as the mono networks are."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained = nn.Conv2d(3, 4, 3, padding=1)
        self.depth_head = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.softplus(self.depth_head(torch.tanh(self.pretrained(image)))).squeeze(1)


class Exploding(SmallStereo):
    """Becomes NaN at the third training step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def unroll(self, left: Tensor, right: Tensor, iterations: int | None = None) -> tuple[Tensor, list[Tensor]]:
        initial, maps = super().unroll(left, right)
        self.steps += 1
        return initial, [each * float("nan") for each in maps] if self.steps == 3 else maps


class Constant(SmallStereo):
    """Sees nothing: one number for every pixel of every image."""

    def forward(self, left: Tensor, right: Tensor, iterations: int | None = None) -> Tensor:
        return self.second.bias.view(1, 1, 1, 1).expand(left.shape[0], 1, *left.shape[-2:]) + 5.0


def always_continue(report: Report) -> Decision:
    """The answer of plain training: nothing stops early."""
    del report
    return Decision.CONTINUE


def parts(network: Callable[[], nn.Module] = SmallStereo) -> Parts:
    return Parts(network=partial(_made, network), weights=no_weights)


def _made(network: Callable[[], nn.Module], spec: Spec) -> nn.Module:
    return network()


def no_weights(network: nn.Module, spec: Spec) -> Sequence[object]:
    return []


def stereo_spec(scenes: SampleSet, **train: Any) -> dict[str, Any]:
    optim = {"lr": 1e-3, "warmup_steps": 2, "lr_scheduler": "PolynomialLR"} | train.pop("optim", {})
    return {
        "model": {"model_type": "FoundationStereo", "encoder": "vitt", "max_disparity": 64, "train_iters": 2, "valid_iters": 2},
        "dataset": {
            "train_dataset": _split(scenes, "stereo", "train", [32, 64], 2),
            "val_dataset": _split(scenes, "stereo", "val", [32, 64], 2),
        },
        "train": {"optim": optim, **train},
    }


def mono_spec(scenes: SampleSet, *, relative: bool = False, **train: Any) -> dict[str, Any]:
    kind = "relative" if relative else "mono"
    depths = {} if relative else {"min_depth": 0.1, "max_depth": 20.0}
    return {
        "model": {"model_type": "RelativeDepthAnything" if relative else "MetricDepthAnything", "encoder": "vitt"},
        "dataset": depths
        | {"train_dataset": _split(scenes, kind, "train", [28, 42], 2), "val_dataset": _split(scenes, kind, "val", [28, 42], 1)},
        "train": {"optim": {"lr": 1e-3}, **train},
    }


def _split(scenes: SampleSet, kind: str, split: str, crop: list[int], batch: int) -> dict[str, Any]:
    names = {"stereo": "GenericDataset", "relative": "RelativeMonoDataset", "mono": "MetricMonoDataset"}
    return {
        "data_sources": [{"data_file": str(scenes.list_file(kind, split)), "dataset_name": names[kind]}],
        "batch_size": batch,
        "workers": 0,
        "augmentation": {"crop_size": crop},
    }


def trial(folder: Path, spec: dict[str, Any], *, epochs: int = 2, **fields: Any) -> TrialSpec:
    defaults: dict[str, Any] = {"study": "", "number": 3, "skill": "depth_net_stereo", "values": {}, "seed": 7}
    return TrialSpec(spec=spec, max_epochs=epochs, folder=folder, **(defaults | fields))


class Recorder:
    """Answers reports from a script, the last answer for ever, and keeps them."""

    def __init__(self, *answers: Decision) -> None:
        self.reports: list[Report] = []
        self._answers = answers or (Decision.CONTINUE,)

    def __call__(self, report: Report) -> Decision:
        self.reports.append(report)
        return self._answers[min(len(self.reports), len(self._answers)) - 1]


def status_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's status.json, the oldest first."""
    return [json.loads(line) for line in (folder / "train" / "status.json").read_text().splitlines()]
