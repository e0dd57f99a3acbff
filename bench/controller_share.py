"""What the controller costs: milliseconds of ask, report and tell, and their share of a trial.

    python bench/controller_share.py [--trials 10 100] [--epochs 9] [--trial-seconds 60]

A real study (journal on disk, TPE, successive halving, the stereo skill's reviewed space) whose trials cost nothing:
the value follows a formula.  The share is the controller's time for one trial, with every report of its rungs, against a
trial of `--trial-seconds`.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from automl.config import StudyConfig
from automl.study import Study
from bench.timing import conditions
from search_spaces.skill import find_skill
from search_spaces.spec import load_spec, spec_to_dict
from trials.contract import Decision, Report, State, TrialResult, TrialSpec

RATE = "train.optim.lr"
Answer = TypeVar("Answer")


class Clock:
    """Gathers the milliseconds of each kind of call."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, call: Callable[[], Answer]) -> Answer:
        started = time.perf_counter()
        answer = call()
        self.taken[name].append((time.perf_counter() - started) * 1e3)
        return answer


def config_of(trials: int, epochs: int) -> StudyConfig:
    """A study of the stereo skill with its real space."""
    skill = find_skill("depth_net_stereo")
    spec = load_spec(None, ["dataset.dataset_name=StereoDataset", "model.model_type=FoundationStereo", "model.encoder=vitt"])
    return StudyConfig(
        name="controller share",
        skill=skill.name,
        spec=spec_to_dict(spec),
        space=skill.review(spec).space,
        objective="val/loss",
        direction="minimize",
        trials=trials,
        epochs=epochs,
        engine="inline",
    )


def value_of(trial: TrialSpec, epoch: int) -> float:
    """A valley in the learning rate that deepens with the epochs."""
    rate = float(trial.values.get(RATE, 1e-4))
    return abs(math.log10(rate) + 3.5) + 1.0 / epoch


def run_segment(study: Study, trial: TrialSpec, reached: int, clock: Clock) -> int:
    """Reports every epoch after `reached` until the study pauses, stops or has enough; returns the epochs done."""
    decision, epoch = Decision.CONTINUE, reached
    while decision is Decision.CONTINUE and epoch < trial.max_epochs:
        epoch += 1
        report = Report(number=trial.number, epoch=epoch, step=epoch, metrics={"val/loss": value_of(trial, epoch)}, elapsed_s=1.0)
        checkpoint = trial.folder / "train" / "dn_model_latest.pth"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
        decision = clock.time("report", lambda report=report: study.report(report))  # type: ignore[misc]
    states = {Decision.CONTINUE: State.COMPLETE, Decision.PAUSE: State.PAUSED, Decision.STOP: State.STOPPED}
    result = TrialResult(
        number=trial.number,
        state=states[decision],
        metrics={"val/loss": value_of(trial, epoch)},
        best_epoch=epoch,
        checkpoint=None,
        elapsed_s=1.0,
        peak_memory_mib=None,
    )
    clock.time("tell", lambda: study.tell(result))
    return epoch


def search(trials: int, epochs: int) -> Clock:
    """Runs a whole study on instant trials; the times of its controller."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        study = Study.create(Path(folder) / "study", config_of(trials, epochs))
        reached: dict[int, int] = {}
        try:
            while not study.finished():
                trial = clock.time("ask", study.ask)
                if trial is None:
                    break
                reached[trial.number] = run_segment(study, trial, reached.get(trial.number, 0), clock)
        finally:
            study.close()
    assert len(reached) == trials, f"{len(reached)} of {trials} trials were run"
    return clock


def main() -> int:
    """Prints a table a study; 1 when the controller takes more than 1 % of a trial."""
    parser = argparse.ArgumentParser(description="share of the controller's time in a trial")
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--trial-seconds", type=float, default=60.0)
    args = parser.parse_args()
    logging.getLogger("optuna").setLevel(logging.WARNING)
    print(conditions())
    largest = 0.0
    for trials in args.trials:
        clock = search(trials, args.epochs)
        total_s = sum(map(sum, clock.taken.values())) / 1e3
        share = total_s / trials / args.trial_seconds
        largest = max(largest, share)
        head = f"{trials} trials of at most {args.epochs} epochs"
        print(f"{head}: {total_s / trials * 1e3:.1f} ms a trial, {share:.3%} of {args.trial_seconds:g} s")
        for name, taken in clock.taken.items():
            ordered = sorted(taken)
            tail = ordered[int(0.95 * (len(ordered) - 1))]
            print(f"  {name:8s} {len(taken):5d} calls   median {statistics.median(taken):7.2f} ms   p95 {tail:7.2f} ms")
    return 1 if largest > 0.01 else 0


if __name__ == "__main__":
    raise SystemExit(main())
