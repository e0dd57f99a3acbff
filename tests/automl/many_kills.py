"""Drivers killed with SIGKILL at random points, again and again: `python -m tests.automl.many_kills [KILLS] [SEED]`.

Each search is killed several times and must end as the same search that nobody disturbed: the same trials, values, curves, rungs and
reasons.  Prints one line a search; exit code 1 when one differs.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

from automl.config import CONFIG_FILE
from automl.engine import run_inline
from automl.snapshot import StudySnapshot
from automl.study import Study
from tests.automl.killed_driver import DyingRun, die
from tests.automl.toy import ToyRun, toy_config
from trials.contract import Decision, ProgressTo, Report, ReportTo, TrialResult, TrialSpec

KILLS_EACH = 5
MOMENTS = ("reporting", "answered", "told")


def outcome(snapshot: StudySnapshot) -> list[tuple[object, ...]]:
    """All that must not depend on kills."""
    return [(t.number, t.status, dict(t.values), t.seed, t.curve, t.value, t.epoch, t.rung, t.stopped_by) for t in snapshot.trials]


def opened(folder: Path, seed: int, fidelity: str) -> Study:
    """The study in `folder`, made when it is not there."""
    return Study.open(folder) if (folder / CONFIG_FILE).exists() else Study.create(folder, toy_config(seed=seed, fidelity=fidelity))


def killed(folder: Path, seed: int, fidelity: str, rng: random.Random) -> bool:
    """Let a child drive the study until it dies at a random report; True when it did, False when the search ended first."""
    left, when = rng.randrange(1, 12), rng.choice(MOMENTS)
    child = os.fork()
    if child == 0:
        run = CountingRun(left, when)
        run_inline(opened(folder, seed, fidelity), run=run)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


class CountingRun(DyingRun):
    """Dies around its n-th report, or after the segment of that report."""

    def __init__(self, left: int, when: str) -> None:
        super().__init__(-1, -1, when)
        self.left = left

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def counting(sent: Report) -> Decision:
            self.left -= 1
            if self.left == 0 and self.when == "reporting":
                die()
            decision = report(sent)
            if self.left == 0 and self.when == "answered":
                die()
            return decision

        result = ToyRun.__call__(self, trial, counting, progress=progress)
        if self.left <= 0 and self.when == "told":
            die()  # the segment is over and its result is lost
        return result


def main(kills: int, seed: int) -> int:
    """Kill until `kills` drivers are dead; the exit code."""
    rng, dead, wrong = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        while dead < kills:
            number = rng.randrange(10**6)
            fidelity = rng.choice(("asha", "hyperband", "median"))
            folder, before = Path(scratch) / f"killed-{number}", dead
            for _ in range(KILLS_EACH):
                dead += killed(folder, number, fidelity, rng)
            study = opened(folder, number, fidelity)
            found = outcome(run_inline(study, run=ToyRun()))
            study.close()
            whole = Study.create(Path(scratch) / f"whole-{number}", toy_config(seed=number, fidelity=fidelity))
            same = found == outcome(run_inline(whole, run=ToyRun()))
            whole.close()
            wrong += not same
            print(f"{fidelity:9} seed {number:6}: {dead - before} kills, {'the same search' if same else 'ANOTHER SEARCH'}", flush=True)  # noqa: T201
    print(f"{dead} drivers killed, {wrong} searches changed by it")  # noqa: T201
    return int(wrong > 0)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(given + [50, 0][len(given) :])))
