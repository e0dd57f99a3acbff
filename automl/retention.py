"""Which checkpoints stay on disk: what a decision can still need, and under `--disk-budget` no more than fits.

A full state (weights, optimiser, random state) is needed while its trial can go on, and afterwards for the best trial alone.  The best
weights of a trial are needed while it may win.  When a budget would be exceeded, what is least likely to be needed goes first: best
weights of the worst ended trials, then the states of paused trials, those furthest from a promotion first.  A paused trial whose state
goes is ended in the record before its files are removed, so nothing is ever promoted without the state it goes on from, whenever the
driver dies.  Its values stay, and the others are still compared with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from automl.config import StudyConfig
from automl.front import turned, values_of
from automl.ledger import Ledger
from automl.limits import GIB
from automl.pareto import nondominated
from automl.snapshot import TrialStatus
from automl.standing import LedgerStandings
from automl.trial_record import TrialRecord
from trials.states import BEST, drop_full_states, full_states

DROPPED = "disk budget"


def forget_removed(ledger: Ledger, folder: Path, config: StudyConfig) -> None:
    """Best weights that were removed for a disk budget: the record of an ended trial still names them, the files say that they are gone."""
    if config.limits.disk_budget_gib is None:
        return
    for record in ledger.records:
        if record.status.ended and record.checkpoint is not None and not (folder / record.checkpoint).is_file():
            ledger.forget_checkpoint(record)


class CheckpointKeeper:
    """Keeps the files of one study's trials within bounds; called by the study after each segment, under its lock.

    `movable` says whether a paused trial may be given up: a population needs all of its members.  A file that cannot be removed stays:
    it is no reason to lose the search.
    """

    def __init__(self, folder: Path, config: StudyConfig, ledger: Ledger, standings: LedgerStandings, *, movable: bool) -> None:
        self._folder, self._ledger, self._standings, self._movable = folder, ledger, standings, movable
        self._config = config
        self._sign = 1.0 if config.direction == "minimize" else -1.0
        self._lanes, self._chosen = config.parallel, max(1, config.finalists)
        self._finals = config.finalists * config.finalist_seeds
        budget = config.limits.disk_budget_gib
        self._budget = None if budget is None else int(budget * GIB)
        self._best: TrialRecord | None = None
        self._state: dict[int, int] = {}  # bytes of full states by trial
        self._weights: dict[int, int] = {}  # bytes of best weights by trial
        self._largest = (0, 0)  # of one state, of one file of best weights
        self._kept = 0  # bytes of both together
        self._elsewhere = 0
        forget_removed(ledger, folder, config)
        for record in ledger.records:
            self.tidy(record)
        if self._budget is not None:
            own = {self._train(record) for record in ledger.records}
            self._elsewhere = sum(
                path.stat().st_size for path in folder.glob("*/*/train/*.pth") if path.is_file() and path.parent not in own
            )

    def tidy(self, record: TrialRecord) -> None:
        """Removes what nobody can need any more of a trial whose segment ended."""
        if record.status.ended:
            self._drop_ended(record)
        if self._budget is not None:
            self._measure(record)

    def fit(self) -> str | None:
        """Removes the least needed files until the budget holds; what is too large for it, in words, when that is not enough."""
        if self._budget is None:
            return None
        while self._excess() > 0:
            least = next(self._releases(), None)
            if least is None:
                break
            self._release(least)
        over = self._excess()
        if over <= 0:
            return None
        need, budget = _gib(self._budget + over), _gib(self._budget)
        return f"checkpoints that must be kept need {need}, more than {budget}; extend --disk-budget raises it"

    def _drop_ended(self, record: TrialRecord) -> None:
        if record.status is TrialStatus.COMPLETE and self._better(record, self._best):
            record, self._best = self._best or record, record
        if record is not self._best:
            with suppress(OSError):
                drop_full_states(self._train(record))
            if self._budget is not None:
                self._measure(record)

    def _better(self, record: TrialRecord, than: TrialRecord | None) -> bool:
        if than is None or than.value is None:
            return True
        return (
            record is not than
            and record.value is not None
            and (self._sign * record.value, record.number)
            < (
                self._sign * than.value,
                than.number,
            )
        )

    def _measure(self, record: TrialRecord) -> None:
        """Sizes of the trial's files; of a trial that ended without best weights none are kept."""
        train = self._train(record)
        if record.status.ended and record.checkpoint is None:
            with suppress(OSError):
                (train / BEST).unlink(missing_ok=True)
        states = [_size(path) for path in full_states(train)]
        self._kept -= self._bytes(record.number)
        self._state[record.number], self._weights[record.number] = sum(states), _size(train / BEST)
        self._kept += self._bytes(record.number)
        self._largest = (max(self._largest[0], *states, 0), max(self._largest[1], self._weights[record.number]))

    def _bytes(self, number: int) -> int:
        return self._state.get(number, 0) + self._weights.get(number, 0)

    def _excess(self) -> int:
        """Bytes above the budget, with room for what the running trials will write: while a file is replaced there are two of it."""
        assert self._budget is not None
        state, weights = self._largest
        kept = self._kept - sum(map(self._bytes, self._ledger.standing(TrialStatus.RUNNING)))
        return self._elsewhere + kept + 2 * self._lanes * (state + weights) + self._finals * weights - self._budget

    def _releases(self) -> Iterator[TrialRecord]:
        """Trials that can lose files, the least needed first; a trial may come twice, for its weights and for its state."""
        ended = [record for record in self._ledger.records if record.checkpoint is not None and record.status.ended]
        front = self._front(ended)
        ended.sort(key=lambda record: (record.number not in front, self._rank(record)))
        kept = max(self._chosen, len(front))
        yield from reversed([record for record in ended[kept:] if record is not self._best])
        if self._movable:
            paused = [self._ledger.records[number] for number in self._ledger.standing(TrialStatus.PAUSED)]
            yield from sorted(paused, key=self._chance)

    def _front(self, ended: list[TrialRecord]) -> set[int]:
        """The trials of the full budget that none beats in every objective: each of them may be shipped."""
        if not self._config.further:
            return set()
        full = [record for record in ended if record.status is TrialStatus.COMPLETE]
        points = [(record.number, turned(tuple(values_of(record, self._config).values()), self._config.objectives)) for record in full]
        known = [(number, point) for number, point in points if point is not None]
        return {known[place][0] for place in nondominated([point for _, point in known])}

    def _release(self, record: TrialRecord) -> None:
        if record.status is TrialStatus.PAUSED:
            self._ledger.stop(record, DROPPED)
            self._drop_ended(record)
            return
        self._ledger.forget_checkpoint(record)
        self._measure(record)

    def _rank(self, record: TrialRecord) -> tuple[bool, float, int, int]:
        """As in `automl.snapshot.ranking`, failed trials last."""
        value = self._sign * record.value if record.value is not None else 0.0
        failed = record.status is TrialStatus.FAILED or record.value is None
        return (failed, value, -record.last_epoch, record.number)

    def _chance(self, record: TrialRecord) -> tuple[float, int, int]:
        """How near a paused trial is to its promotion: its place at its rung as a share of those who came there, the worst first."""
        standings = self._standings.now()
        group = standings.group(record.number)
        entry = standings.entry(record.number, record.granted)
        if entry is None:
            return (-1.0, record.granted, -record.number)
        place, count = standings.place(record.granted, entry, group), len(standings.ranked(record.granted, group))
        return (-place / count, record.granted, -record.number)

    def _train(self, record: TrialRecord) -> Path:
        return self._folder / record.folder / "train"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _gib(size: int) -> str:
    return f"{size / GIB:.3g} GiB"
