"""How long a step takes on this machine, measured on the user's own data before anything is asked for.

The measurement runs in a process of its own: it may take too long or too much memory without harm, and the driver never
holds a GPU.  `python -m automl.timing` reads a spec as JSON on stdin and prints the times as JSON.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from search_spaces.spec import Spec, spec_from_dict, spec_to_dict

if TYPE_CHECKING:
    from trials.module import StereoNetwork  # it imports Lightning, which takes longer than the measurement

LIMIT_S = 45.0  # with the start of the process, which alone takes seconds
SLOW_S = 4.0  # a first step that takes longer is not repeated
STEPS = 2


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Seconds of one training step and one validation image, and how many of each an epoch has."""

    step_s: float
    image_s: float
    steps: int
    images: int

    @property
    def epoch_s(self) -> float:
        """One epoch with its validation."""
        return self.steps * self.step_s + self.images * self.image_s


def measure(spec: Spec, *, limit_s: float = LIMIT_S) -> StepTimes | None:
    """The times of `spec` on this machine, or None when they cannot be had within `limit_s` seconds."""
    command = [sys.executable, "-P", "-m", "automl.timing"]  # -P: a folder named models or trials in the current folder is not ours
    try:
        done = subprocess.run(command, input=json.dumps(spec_to_dict(spec)), capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return None
    try:
        return StepTimes(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        return None


def time_steps(spec: Spec) -> StepTimes:
    """Times in this process: one step to warm up, then the faster of the next ones."""
    import torch

    from models.registry import build_network
    from trials.data import build_dataset, collate

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(spec).to(device)
    stereo = spec.family == "stereo"
    train = build_dataset(spec, "train", training=True)
    size = min(spec.dataset.train_dataset.batch_size, len(train))
    batch = collate([train[index] for index in range(size)])
    images = [batch["image"].to(device), batch["right_image"].to(device)] if stereo else [batch["image"].to(device)]

    def step() -> None:
        output = cast("StereoNetwork", network).unroll(images[0], images[1], spec.model.train_iters)[1][-1] if stereo else network(*images)
        output.mean().backward()
        network.zero_grad()

    steps = math.ceil(len(train) / spec.dataset.train_dataset.batch_size)
    step_s = _fastest(step)
    image_s, count = 0.0, 0
    if spec.dataset.val_dataset.data_sources:
        val = build_dataset(spec, "val", training=False)
        one = collate([val[0]])
        pair = [one["image"].to(device), one["right_image"].to(device)] if stereo else [one["image"].to(device)]
        network.eval()
        with torch.inference_mode():
            image_s, count = _fastest(lambda: network(*pair)), len(val)
    return StepTimes(step_s=step_s, image_s=image_s, steps=steps, images=count)


def _fastest(work: Callable[[], object]) -> float:
    import torch

    times: list[float] = []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        if times[0] > SLOW_S:
            break
    return min(times)


def main() -> None:
    """The child process: spec on stdin, times on stdout."""
    times = time_steps(spec_from_dict(json.load(sys.stdin)))
    print(json.dumps(asdict(times)))  # noqa: T201  the answer to the parent process


if __name__ == "__main__":
    main()
