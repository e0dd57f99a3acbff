"""A study from its first trial to its summary, and again from wherever it was left.

Every step writes its result and is skipped when that is there: search, finalists, choice (choice.json), promotion
(promotion/promotion.json), report.html.  Ctrl-C stops cleanly at any point and says how to go on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from automl.board import Board
from automl.config import StudyConfig
from automl.console import screen, tell
from automl.engine import run_inline
from automl.entry import DONE, FAILED, INTERRUPTED, say_error
from automl.events import OnEvent, StudyEvent
from automl.front_choice import members_of
from automl.live import SearchView
from automl.mirror import Mirror, RunRecord
from automl.reader import final_trials
from automl.report import write_report
from automl.shipping import is_shipped, lists_hash, open_mirror, register, ship_best
from automl.snapshot import EndReason, StudyEnd, StudySnapshot, TrialSummary
from automl.status import CHOICE_FILE, PROMOTION_FILE, read_json
from automl.study import Study
from automl.summary import print_summary, shown_path
from automl.tracking import StudyMirror, tracking_for
from search_spaces.errors import UserError, shell_word

if TYPE_CHECKING:
    from automl.ray_session import RaySession

RunStudy = Callable[[Study, OnEvent], StudySnapshot]


def carry_out(study: Study) -> int:
    """Runs `study` to its end and says what was found; the exit code: 0 done, 1 failed, 130 ended by Ctrl-C or SIGTERM."""
    console = screen()
    config = study.config
    tracking = tracking_for(study.folder, config.name, config.study_id)
    mirror = open_mirror(tracking, console)
    keeper = StudyKeeper(study, mirror, console)
    end: StudyEnd | None = None
    try:
        with engine_of(config, console) as run:
            end = keeper.search(run)
            if end.reason.is_success:
                end = keeper.final(end, run)
        if end.reason.is_success:
            keeper.crown()
    except UserError as error:
        if end is None:  # the search broke off: its cluster, its database or a worker's machine cannot be used
            mirror.close()
            say_error(error.message, error.hint)
            return FAILED
        # the search itself is worth its report even if nothing could be promoted
        keeper.fault = error
    except KeyboardInterrupt:
        end = StudyEnd(reason=EndReason.INTERRUPTED, message="interrupted by Ctrl-C or SIGTERM")
    return keeper.close(end)


class StudyKeeper:
    """Leads one opened study through its steps; used once, by one thread."""

    def __init__(self, study: Study, mirror: Mirror, console: Console) -> None:
        self.study, self.config = study, study.config
        self.mirror, self.console = mirror, console
        self._started = time.time()
        self.fault: UserError | None = None
        self._finalists: tuple[TrialSummary, ...] = ()
        self._data_hash = lists_hash(self.config)

    def search(self, run: RunStudy) -> StudyEnd:
        """Runs the trials; a search that is over already is only mirrored again."""
        return self._run(self.study, run, kind="trial", title=f"{self.config.name}: {self.config.objective}")

    def final(self, search_end: StudyEnd, run: RunStudy) -> StudyEnd:
        """Trains the best trials again with other seeds; how the study stands after that."""
        if not self.config.finalists:
            return search_end
        if not self.study.spending.finalists_fit() and not final_trials(self.study.folder):
            tell(self.console, "no finalists: what is left of the time limit is too short to train them")
            return search_end
        final = self.study.finalists()
        end = self._run(final, run, kind="finalist", title="finalists, other seeds")
        self._finalists = final.snapshot().trials
        # a failed repetition is no reason to have no winner, nor is one that the time limit cut short
        return search_end if end.reason.is_success or end.reason is EndReason.FAILED else end

    def crown(self) -> None:
        """Chooses the winner and ships it; nothing when that was done and no trial was run since."""
        trials = self.study.snapshot().trials
        if not is_shipped(self.study.folder, trials, self._finalists):
            ship_best(self.study.folder, self.config, trials, self._finalists, console=self.console)

    def close(self, end: StudyEnd) -> int:
        """Writes the report, ends the mirror, prints the summary; the exit code."""
        snapshot = replace(self.study.snapshot(), active=False)
        report = write_report(snapshot, self._finalists)
        self.mirror.put(self._study_record(snapshot, end, report))
        complete = self.mirror.close()
        members = members_of(self.study.folder)
        if end.reason.is_success and any(member.promoted for member in members):
            register(self.study.folder, self.config, self.mirror, data_hash=self._data_hash, console=self.console)
        print_summary(self.console, snapshot, end, complete=complete)
        if self.fault is not None:
            say_error(self.fault.message, self.fault.hint or f"`automl resume {shell_word(shown_path(self.study.folder))}` tries again")
            return FAILED
        match end.reason:
            case EndReason.EXHAUSTED | EndReason.LIMIT:
                return DONE if members and all(member.promoted for member in members) else FAILED
            case EndReason.INTERRUPTED:
                return INTERRUPTED
            case EndReason.STOPPED:
                return DONE
            case EndReason.FAILED:
                return FAILED

    def _run(self, study: Study, run: RunStudy, *, kind: str, title: str) -> StudyEnd:
        board = Board(study.config)
        mirror = StudyMirror(self.mirror, study.config, kind=kind, data_hash=self._data_hash)
        if study.end is not None and study.end.reason.is_success:
            mirror.catch_up(study.snapshot().trials)
            return study.end
        spent_s = self.study.spending.driver_s()
        with SearchView(board, self.console, title=title, noun=kind, since=self._started, spent_s=spent_s) as view:

            def on_event(event: StudyEvent) -> None:
                board.apply(event)
                mirror.on_event(event, board)
                view.on_event(event)

            ended = run(study, on_event).end
        assert ended is not None
        return ended

    def _study_record(self, snapshot: StudySnapshot, end: StudyEnd, report: Path) -> RunRecord:
        config, folder = self.config, self.study.folder
        choice = read_json(folder / CHOICE_FILE) or {}
        tags = {
            "kind": "study",
            "state": end.reason.value,
            "skill": config.skill,
            "study": config.name,
            "searcher": config.searcher,
            "fidelity": config.fidelity,
            "objective": config.objective,
            "direction": config.direction,
            **({"further_objectives": ", ".join(one.metric for one in config.further)} if config.further else {}),
            **({"front": ", ".join(str(entry["trial"]) for entry in choice["front"])} if choice.get("front") else {}),
            "space_hash": config.space.fingerprint[:12],
            "data_hash": self._data_hash,
            "winner": str(choice.get("chosen", "")),
            "reason": str(choice.get("reason", end.message)),
            "folder": str(folder),
        }
        best = {} if snapshot.best is None or snapshot.best.value is None else {"best_value": snapshot.best.value}
        status = {EndReason.FAILED: "FAILED", EndReason.INTERRUPTED: "KILLED"}.get(end.reason, "FINISHED")
        files = [report, folder / "study.yaml", folder / CHOICE_FILE, folder / PROMOTION_FILE]
        return RunRecord(
            key="study",
            name=f"study {config.name}",
            status=status,
            tags=tags,
            params={"epochs": str(config.epochs), "seed": str(config.seed)},  # MLflow never changes one; trials can become more
            metrics={**best, "trials": float(len(snapshot.trials))},
            started_s=min((trial.started_at for trial in snapshot.trials if trial.started_at is not None), default=self._started),
            ended_s=time.time(),
            artifacts=files,
        )


@contextlib.contextmanager
def engine_of(config: StudyConfig, console: Console) -> Iterator[RunStudy]:
    """Runs one study after another with the engine of `config`; Ray starts with the first of them, says so, and serves all."""
    with contextlib.ExitStack() as opened:
        sessions: list[RaySession] = []

        def on_ray(study: Study, on_event: OnEvent) -> StudySnapshot:
            if not sessions:
                tell(console, "starting Ray ..." if config.address is None else f"joining the Ray cluster at {config.address} ...")
            from automl.ray_engine import run_ray
            from automl.ray_session import session_of

            if not sessions:
                sessions.append(opened.enter_context(session_of(study.folder, config)))
            return run_ray(study, sessions[0], on_event=on_event)

        yield on_ray if config.engine == "ray" else lambda study, on_event: run_inline(study, on_event=on_event)
