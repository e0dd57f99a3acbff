"""The same search through both engines: every proposal, report, decision, promotion and result has to be the same.

    python -m bench.same_decisions [--algorithms tpe hyperband bohb dehb] [--trials 8] [--epochs 4]

Each algorithm searches the mono skill's space with one worker, once in this process and once on Ray Tune; a small network is really
trained on generated scenes, and metrics are compared to the last bit.  Prints a Markdown table; exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from automl.algorithms import find_algorithm
from automl.config import StudyConfig
from automl.engine import run_inline
from automl.events import OnEvent, StudyEnded, StudyEvent, TrialEnded, TrialPromoted, TrialReported, TrialStarted
from automl.ray_engine import run_ray
from automl.ray_session import ray_session
from automl.sample_specs import mono_spec
from automl.snapshot import StudySnapshot
from automl.study import Study
from bench.timing import conditions
from search_spaces.skill import find_skill
from search_spaces.spec import spec_from_dict, spec_to_dict
from trials.data.sample import write_samples

ALGORITHMS = ("tpe", "hyperband", "bohb", "dehb")
HEIGHT, WIDTH, CROP = 64, 96, [42, 56]
Run = Callable[[Study, OnEvent], StudySnapshot]
Step = tuple[object, ...]


def config_of(folder: Path, algorithm: str, *, trials: int, epochs: int) -> StudyConfig:
    """A search of the mono skill over the scenes in `folder`."""
    data = mono_spec(folder)
    for split in ("train", "val", "test", "infer"):
        data["dataset"][f"{split}_dataset"]["augmentation"]["crop_size"] = CROP
    data["train"]["num_epochs"] = epochs
    skill, spec = find_skill("depth_net_mono"), spec_from_dict(data)
    chosen = find_algorithm(algorithm)
    return StudyConfig(
        name=f"same decisions {algorithm}",
        skill=skill.name,
        spec=spec_to_dict(spec),
        space=skill.review(spec).space,
        objective="val/loss",
        direction="minimize",
        trials=trials,
        epochs=epochs,
        searcher=chosen.searcher,
        fidelity=chosen.fidelity,
        parallel=1,
    )


def step_of(event: StudyEvent) -> Step | None:
    """What has to be the same of an event; None for one that only tells how far a run is."""
    match event:
        case TrialStarted():
            return ("starts", event.number, dict(event.values), event.seed, event.from_epoch, event.until_epoch, event.donor)
        case TrialReported():
            return ("reports", event.number, event.epoch, event.step, dict(event.metrics), event.decision.value, event.until_epoch)
        case TrialPromoted():
            return ("is promoted", event.number, event.from_epoch, event.to_epoch)
        case TrialEnded():
            return ("ends", event.number, event.status.value, event.value, event.result.best_epoch, event.retry)
        case StudyEnded():
            return ("study ends", event.end.reason.value)
        case _:
            return None


def story_of(folder: Path, config: StudyConfig, run: Run) -> tuple[list[Step], float]:
    """Every step of a search, and the seconds that it took."""
    steps: list[Step] = []

    def on_event(event: StudyEvent) -> None:
        step = step_of(event)
        if step is not None:
            steps.append(step)

    study, started = Study.create(folder, config), time.perf_counter()
    try:
        run(study, on_event)
    finally:
        study.close()
    return steps, time.perf_counter() - started


def row_of(algorithm: str, inline: tuple[list[Step], float], on_ray: tuple[list[Step], float]) -> str:
    """One line of the table."""
    kinds = Counter(step[0] for step in inline[0])
    answers = Counter(step[5] for step in inline[0] if step[0] == "reports")
    differing = [f"{a} | {b}" for a, b in zip(inline[0], on_ray[0], strict=False) if a != b]
    if len(inline[0]) != len(on_ray[0]):
        differing.append(f"{len(inline[0])} steps | {len(on_ray[0])} steps")
    trials = len({step[1] for step in inline[0] if step[0] == "starts"})
    same = f"all {len(inline[0])} steps" if not differing else f"NO: {differing[0]}"
    counts = f"{trials} | {kinds['reports']} | {answers['pause']} | {answers['stop']} | {kinds['is promoted']}"
    return f"| `{algorithm}` | {counts} | {same} | {inline[1]:.0f} / {on_ray[1]:.0f} |"


def main() -> int:
    """Run every algorithm twice; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    print(conditions())
    print("| algorithm | trials | reports | pauses | stops | promotions | the same on both | seconds: inline / Ray Tune |")
    print("|---|---|---|---|---|---|---|---|")
    cores, differs = len(os.sched_getaffinity(0)), False
    torch.set_num_threads(1)  # as many as each worker has below: sums of more threads round differently
    with tempfile.TemporaryDirectory() as scratch, ray_session(Path(scratch), slots=cores) as session:
        folder = Path(scratch)
        write_samples(folder / "scenes", scenes=4, seed=0, height=HEIGHT, width=WIDTH, max_disparity=32)
        for algorithm in arguments.algorithms:
            config = config_of(folder / "scenes", algorithm, trials=arguments.trials, epochs=arguments.epochs)
            inline = story_of(folder / f"inline-{algorithm}", config, lambda study, on_event: run_inline(study, on_event=on_event))
            on_ray = story_of(folder / f"ray-{algorithm}", config, lambda study, on_event: run_ray(study, session, on_event=on_event))
            differs |= inline[0] != on_ray[0]
            print(row_of(algorithm, inline, on_ray), flush=True)
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
