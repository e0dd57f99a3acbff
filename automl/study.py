"""The study: which segment runs next, what a report is answered, what a result means.

A trial runs in segments.  A segment ends because the trial is done, paused at a rung, stopped, cut short or failed; the
next one resumes it from its last checkpoint with the same number, values, seed and folder.  The study is the only one
who decides, an engine only carries specs out and results back:

    while not study.finished():
        trial = study.ask()                      # None: nothing to do until a running segment ends
        study.tell(run(trial, study.report))

Everything is in the folder: a study that was killed goes on from `Study.open(folder)`.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from optuna.storages import BaseStorage

from automl.algorithms import complete_settings
from automl.config import CONFIG_FILE, STUDY_ID, StudyConfig, load_config, save_config
from automl.course import Promotion, Verdict
from automl.ending import Ending
from automl.fidelity import rule_of
from automl.folders import below
from automl.front import values_of
from automl.journal import JOURNAL_FILE
from automl.ledger import Ledger, ledger_of, snapshot_of
from automl.population import PopulationRule
from automl.proposals import Unavailable
from automl.requests import forget_study_stop
from automl.retention import CheckpointKeeper
from automl.segments import is_saved, segment_spec
from automl.snapshot import EndReason, StudyEnd, StudySnapshot, TrialStatus, TrialSummary
from automl.sources import FinalistSource, SearchSource, TrialSource, list_finalists
from automl.spending import Spending
from automl.standing import LedgerStandings
from automl.storage import DriverRight, driver_right, open_record
from automl.trial_record import TrialRecord, summary_of
from automl.unchanged import check_settings_kept
from search_spaces.errors import StudyError, shell_word
from search_spaces.spec import spec_from_dict
from trials import states
from trials.contract import Cause, Decision, Failure, Report, State, TrialResult, TrialSpec

Clock = Callable[[], float]

MAX_RETRIES = 3  # of one trial in the same epoch, after faults of the machine


class Study:
    """One search, held by one process.  Methods may be called from several threads; `close` frees the folder.

    `clock` gives seconds since 1970; the simulator passes its own.
    """

    def __init__(
        self, folder: Path, config: StudyConfig, *, ledger: Ledger, source: TrialSource, clock: Clock, search: Study | None = None
    ) -> None:
        self.folder = folder
        self.config = config
        self.resumed = bool(ledger.records)
        self._ledger = ledger
        self._source = source
        self._clock = clock
        self._rule = rule_of(config)
        self._standings = LedgerStandings(ledger, self._rule, config.direction)
        self._sign = 1.0 if config.direction == "minimize" else -1.0
        self._base = spec_from_dict(config.spec)
        self._guard = threading.RLock()
        self._right: DriverRight | None = None
        self._storage: BaseStorage | None = None
        self._at_rung: set[int] = set()  # trials that the rule told to pause
        self.spending: Spending = Spending(config, ledger, clock) if search is None else search.spending
        self._ending = Ending(
            folder,
            config,
            ledger,
            source=source,
            rule=self._rule,
            standings=self._standings,
            spending=self.spending,
            clock=clock,
            final=search is not None,
        )
        self._keeper = CheckpointKeeper(folder, config, ledger, self._standings, movable=not isinstance(self._rule, PopulationRule))
        self._resume_known_trials()

    @classmethod
    def create(cls, folder: Path, config: StudyConfig, *, clock: Clock = time.time) -> Study:
        """A new study in `folder`; StudyError when one is there already or the folder cannot be written."""
        if (folder / CONFIG_FILE).exists() or (folder / JOURNAL_FILE).exists():
            raise StudyError(
                f"{folder} already holds a study, and a study is never overwritten",
                hint=f"continue it with `automl resume {shell_word(folder)}`, or choose another folder with --results",
            )
        SearchSource(config, rule_of(config))  # what cannot be searched is refused before anything is written
        settings = complete_settings(config.settings, searcher=config.searcher, fidelity=config.fidelity)
        config = replace(config, settings=settings)
        if config.storage is not None:
            config = replace(config, notes={STUDY_ID: uuid.uuid4().hex[:12], **config.notes})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            right = driver_right(folder, config)
            right.take()
            save_config(config, folder)
        except OSError as error:
            raise StudyError(f"{folder} cannot be written: {error.strerror}", hint="choose another folder with --results") from error
        return cls._opened(folder, config, right, clock, create=True)

    @classmethod
    def open(cls, folder: Path, *, clock: Clock = time.time) -> Study:
        """The study in `folder`, ready to go on; StudyError when there is none or another process runs it.

        Half-written records are cut, a request to stop the whole study is dropped, trials that a dead process left are
        continued from their last checkpoint.  To look only, use `automl.reader.read_snapshot`.
        """
        config = load_config(folder)
        right = driver_right(folder, config)
        right.take()
        forget_study_stop(folder)
        return cls._opened(folder, config, right, clock, create=config.storage is None or not (folder / "trials").exists())

    @classmethod
    def _opened(cls, folder: Path, config: StudyConfig, right: DriverRight, clock: Clock, *, create: bool) -> Study:
        folder = folder.resolve()
        try:
            storage = open_record(folder, config, mend=True)
            try:
                ledger = ledger_of(storage, config, clock=clock, create=create)
            except KeyError as error:
                hint = f"put the database it began in into {CONFIG_FILE}"
                raise StudyError(f"{config.storage} holds no record of the study in {folder}", hint=hint) from error
            check_settings_kept(ledger.study, config)
            study = cls(folder, config, ledger=ledger, source=SearchSource(config, rule_of(config)), clock=clock)
        except BaseException:
            right.release()
            raise
        study._right, study._storage = right, storage
        return study

    def finalists(self) -> Study:
        """The final of this search: a second study in the same file that trains the best trials again with other seeds.

        They are chosen when the search ends, and more of them after it was extended.  It is run by the same engines, and closed with this.
        """
        assert self._storage is not None
        config = self.config
        final = replace(config, name=f"{config.name}/finalists", fidelity="full", finalists=0)
        ledger = ledger_of(self._storage, final, clock=self._clock, create=True)
        listed = list_finalists(ledger.study, self.snapshot().trials, config)
        config = replace(final, trials=max(1, len(listed)))
        self.spending.include(ledger)
        study = Study(self.folder, config, ledger=ledger, source=FinalistSource(listed, config.epochs), clock=self._clock, search=self)
        study._right = self._right
        return study

    def close(self) -> None:
        """Free the folder for other processes; harmless when it is free."""
        if self._right is not None:
            self._right.release()

    def ask(self) -> TrialSpec | None:
        """The next segment to run, or None when nothing can start now.

        First come trials that were cut short, then a promotion, then a new trial.  Last, when nothing reached the full
        budget, the best paused trial is taken there.
        """
        with self._driving():
            over = self._ending.is_over() or self._ending.near() is not None
            try:
                record = None if over else self._next()
            except Unavailable as error:  # as after Ctrl-C: what runs pauses, and all of it can be resumed
                record = None
                self._ending.halt(EndReason.INTERRUPTED, error.message)
            if record is None:
                return None
            spec = self._spec_of(record)
            self._ledger.start(record)
            return spec

    def report(self, report: Report) -> Decision:
        """Keep the metrics of an epoch and answer what the trial does next.  An epoch may be reported twice.

        What a segment still had on its way when it was given up changes nothing.
        """
        with self._driving():
            record = self._ledger.records[report.number]
            if record.status is not TrialStatus.RUNNING:
                return Decision.PAUSE
            self.spending.note_running(self.config.name, report.number, report.elapsed_s)
            self._ledger.note_report(record, report, _finite(report.metrics.get(self.config.objective)))
            if report.epoch >= self.config.epochs:
                return Decision.CONTINUE  # it ends by itself, as complete
            asked = self._ending.heed_requests()
            if record.number in asked:
                record.stopped_by = "user"
                return Decision.STOP
            if self._ending.pauses():
                return Decision.PAUSE
            verdict = self._judge(record)
            match verdict.decision:
                case Decision.STOP:
                    record.stopped_by = f"{self._rule.name} rule"
                case Decision.PAUSE:
                    self._at_rung.add(record.number)
                case Decision.CONTINUE:
                    self._ledger.grant(record, verdict.granted)
            return verdict.decision

    def tell(self, result: TrialResult) -> TrialStatus:
        """Take note of how a segment ended and give where the trial stands now.  A failure never becomes a metric."""
        with self._driving():
            record = self._ledger.records[result.number]
            checkpoint = None if result.checkpoint is None else below(result.checkpoint, self.folder)
            self._ledger.note_effort(record, elapsed_s=result.elapsed_s, peak_memory_mib=result.peak_memory_mib, checkpoint=checkpoint)
            self.spending.note_running(self.config.name, record.number, None)
            if result.state is not State.FAILED:
                self._ending.failures.note(None)
            match result.state:
                case State.COMPLETE:
                    self._complete(record, result)
                case State.STOPPED:
                    self._ledger.stop(record, record.stopped_by or "user")
                case State.PAUSED:
                    self._pause(record)
                case State.INTERRUPTED:
                    self._ledger.wait(record)
                case State.FAILED:
                    self._fail(record, result.error or Failure(cause=Cause.CRASH, message="the trial failed and gave no reason"))
            self._tidy(record)
            self._ending.is_over()
            return record.status

    def finished(self) -> bool:
        """True when nothing runs and nothing will: the search is exhausted, stopped, interrupted or given up."""
        with self._driving():
            return self._ending.is_over()

    def pausing(self) -> bool:
        """True when running trials pause at their next report: a stop was asked for, or a limit of time is reached."""
        with self._driving():
            self._ending.heed_requests()
            return self._ending.pauses()

    def interrupt(self, message: str = "interrupted by Ctrl-C or SIGTERM") -> None:
        """Start nothing more; running trials pause at their next report and can be resumed later."""
        with self._guard:
            if self._ledger.end_of_search() is None:
                self._ending.halt(EndReason.INTERRUPTED, message)

    @property
    def end(self) -> StudyEnd | None:
        """Why the search ended, None while it goes on."""
        with self._guard:
            return self._ledger.end_of_search()

    def trial(self, number: int) -> TrialSummary:
        """Where trial `number` stands."""
        with self._guard:
            return summary_of(self._ledger.records[number], self.folder)

    def snapshot(self) -> StudySnapshot:
        """A frozen copy of everything."""
        with self._guard:
            return snapshot_of(self.folder, self.config, self._ledger, active=True, now=self._clock())

    @contextlib.contextmanager
    def _driving(self) -> Iterator[None]:
        """For one thread, and for a driver that still has the right to write; StudyError for one that lost it."""
        with self._guard:
            if self._right is not None:
                self._right.check()
            yield

    # What comes next

    def _next(self) -> TrialRecord | None:
        waiting = self._ledger.standing(TrialStatus.WAITING)
        if waiting:
            return self._ledger.records[min(waiting)]
        turn = self._rule.promotable(self._standings.now())
        if isinstance(turn, Promotion):
            return self._promote(turn)
        number = len(self._ledger.records)
        if turn is not None or self._source.has_next(self._ledger.records):
            record = self._ledger.add(self._source.draw(number, self._ledger.records, turn))
            self._take_place(record)
            return record
        last = self._ending.last_chance()
        return None if last is None else self._promote(last)

    def _promote(self, promotion: Promotion) -> TrialRecord:
        record = self._ledger.records[promotion.number]
        self._ledger.grant(record, promotion.to_epoch)
        return record

    def _take_place(self, record: TrialRecord) -> None:
        """Let a trial that takes another one's place do so: it gets its donor's state, the other one ends.  Twice does no harm."""
        if "replaces" not in record.origin or record.segments > 0:
            return
        donor, replaced = (self._ledger.records[record.origin[name]] for name in ("donor", "replaces"))
        states.hand_over(self.folder / donor.folder / "train", self.folder / record.folder / "train")
        if replaced.status is TrialStatus.PAUSED:
            self._ledger.stop(replaced, f"replaced by trial {record.number}")

    def _tidy(self, record: TrialRecord) -> None:
        """Remove files that nobody needs; when the rest does not fit on disk, the search stops."""
        self._keeper.tidy(record)
        message = self._keeper.fit()
        if message is not None:
            self._ending.halt(EndReason.FAILED, message)

    # How a segment ended

    def _complete(self, record: TrialRecord, result: TrialResult) -> None:
        value = _finite(result.metrics.get(self.config.objective))
        if value is not None and (record.value is None or self._sign * value < self._sign * record.value):
            self._ledger.note_best(record, result.best_epoch, value, result.metrics)
        missing = [name for name, known in values_of(record, self.config).items() if known is None]
        if record.value is None or missing:
            message = f"training ended without a finite {' and '.join(missing)}"
            self._fail(record, Failure(cause=Cause.CRASH, message=message))
        else:
            self._ledger.complete(record, *(known for known in values_of(record, self.config).values() if known is not None))

    def _pause(self, record: TrialRecord) -> None:
        if record.number in self._at_rung:
            self._at_rung.discard(record.number)
            self._ledger.pause(record)
        else:  # the search stops; the rung was not judged
            self._ledger.wait(record)

    def _fail(self, record: TrialRecord, failure: Failure) -> None:
        if failure.cause is Cause.INFRASTRUCTURE and record.futile_retries < MAX_RETRIES:
            self._ledger.retry(record, failure)
            self._at_rung.discard(record.number)
            record.stopped_by = None
            self._judge_again(record)
            return
        self._ledger.fail(record, failure)
        self._ending.failures.note(failure)

    def _resume_known_trials(self) -> None:
        """Let the search go on where it was left."""
        if self._ending.can_go_on():
            self._ledger.note_end(None)
        for record in self._ledger.records:
            self._take_place(record)
            self._judge_again(record)

    def _judge_again(self, record: TrialRecord) -> None:
        """Let a trial pause or stop that died right after a report at its rung: trained on, it would pass what was decided there."""
        if record.status is not TrialStatus.WAITING or record.last_epoch < record.granted or record.granted >= self.config.epochs:
            return
        verdict = self._judge(record)
        match verdict.decision:
            case Decision.PAUSE:
                if is_saved(record, self.folder):  # else it trains that epoch again: what is promoted or copied has its state
                    self._ledger.pause(record)
            case Decision.STOP:
                self._ledger.stop(record, f"{self._rule.name} rule")
            case Decision.CONTINUE:
                self._ledger.grant(record, verdict.granted)

    def _judge(self, record: TrialRecord) -> Verdict:
        return self._rule.judge(self._standings.course(record), self._standings.now())

    def _spec_of(self, record: TrialRecord) -> TrialSpec:
        return segment_spec(record, self.config, self._base, self.folder)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
