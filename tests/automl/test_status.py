"""What `automl status`, `logs`, `stop` and the report say about a finished toy study."""

from __future__ import annotations

import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from automl import cli
from automl.board import Board
from automl.console import screen
from automl.engine import run_inline
from automl.entry import DONE, MISUSED, run_app
from automl.events import NodeAvoided, StudyEvent, TrialPromoted, TrialReported, TrialStarted
from automl.live import SearchView, event_line
from automl.reader import read_snapshot
from automl.report import gain_text, write_report
from automl.requests import STOP_FILE, StopRequest, read_stop, request_stop
from automl.snapshot import ranking
from automl.status import status_data
from automl.study import Study
from search_spaces.errors import StudyError
from tests.automl.toy import ToyRun, toy_config
from trials.contract import Cause, Decision, Report, report_to_json


@pytest.fixture(scope="module")
def events() -> list[StudyEvent]:
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, events: list[StudyEvent]) -> Path:
    """Five trials of three epochs by formula; trial 3 runs out of memory."""
    folder = tmp_path_factory.mktemp("studies") / "toy"
    study = Study.create(folder, toy_config(trials=5, epochs=3))
    run_inline(study, run=ToyRun(faults={3: Cause.OOM}), on_event=events.append)
    study.close()
    train = folder / "trials" / "0000" / "train"
    train.mkdir(parents=True, exist_ok=True)
    report = Report(number=0, epoch=1, step=4, metrics={"val/loss": 2.0}, elapsed_s=1.0)
    (train / "metrics.jsonl").write_text(json.dumps(report_to_json(report)) + "\n")
    return folder


def automl(*arguments: str | Path) -> int:
    return run_app(cli.app, "automl", [str(argument) for argument in arguments])


def test_json_keeps_its_promise(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert automl("status", folder, "--json") == DONE
    data = json.loads(capsys.readouterr().out)
    assert {"skill", "metric", "direction", "trials", "best", "promotion", "state", "choice"} <= set(data)
    assert (data["metric"], data["direction"], data["state"]) == ("val/loss", "minimize", "exhausted")
    keys = {"number", "state", "values", "rung", "epoch", "metrics", "checkpoint", "error"}
    assert all(keys <= set(trial) for trial in data["trials"])
    assert [trial["number"] for trial in data["trials"]] == [0, 1, 2, 3, 4]


def test_a_failed_trial_tells_its_cause_and_has_no_metric(folder: Path):
    failed = status_data(read_snapshot(folder))["trials"][3]
    assert failed["error"]["cause"] == "oom"
    assert (failed["state"], failed["value"], failed["metrics"]) == ("failed", None, {})


def test_the_best_is_the_trial_with_the_smallest_loss_at_full_budget(folder: Path):
    data = status_data(read_snapshot(folder))
    complete = [trial for trial in data["trials"] if trial["state"] == "complete"]
    assert data["best"]["value"] == min(trial["value"] for trial in complete)


def test_the_table_for_people(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert automl("status", folder) == DONE
    out = capsys.readouterr().out
    assert "(lower is better), done" in out
    assert "oom: made to fail: oom" in out
    assert "the spec's own" in out


def test_logs_print_epochs_and_the_end(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert automl("logs", folder, "0") == DONE
    out = capsys.readouterr().out
    assert "epoch 1  step 4  val/loss 2" in out
    assert "trial 0: complete after 3 epochs" in out


def test_logs_of_a_failed_trial_say_why(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert automl("logs", folder, "3") == DONE
    assert "oom: made to fail: oom" in capsys.readouterr().out


def test_logs_of_an_unknown_trial(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert automl("logs", folder, "9") == MISUSED
    assert "trials 0 to 4 have begun" in capsys.readouterr().err


def test_stop_needs_somebody_who_runs_the_study(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert automl("stop", folder) == MISUSED
    assert "nobody is running" in capsys.readouterr().err


def test_stop_leaves_a_request_for_the_driver(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = Study.create(tmp_path / "s", toy_config())
    try:
        assert automl("stop", tmp_path / "s") == DONE
    finally:
        study.close()
    assert read_stop(tmp_path / "s").study
    assert "automl resume" in capsys.readouterr().out


def test_stop_says_what_a_running_trial_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = Study.create(tmp_path / "s", toy_config())
    try:
        study.ask()
        assert automl("stop", tmp_path / "s") == DONE
    finally:
        study.close()
    assert "once the running trial has paused" in capsys.readouterr().out


def test_stop_comes_too_late_for_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The search is over, its driver still there: nobody would read the request before the end."""
    study = Study.create(tmp_path / "s", toy_config(trials=5, epochs=3))
    try:
        run_inline(study, run=ToyRun())
        assert automl("stop", tmp_path / "s") == MISUSED
    finally:
        study.close()
    assert "cannot pause" in capsys.readouterr().err
    assert not read_stop(tmp_path / "s").study


def test_a_final_can_be_stopped_and_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = Study.create(tmp_path / "s", toy_config(trials=5, epochs=3, finalists=1))
    try:
        run_inline(study, run=ToyRun())
        study.finalists().ask()
        assert automl("status", tmp_path / "s") == DONE
        assert automl("stop", tmp_path / "s") == DONE
    finally:
        study.close()
    out = capsys.readouterr().out
    assert "running at 0/3" in out
    assert "once the running finalist has paused" in out


def test_what_comes_after_a_search_is_still_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = Study.create(tmp_path / "s", toy_config(trials=5, epochs=3))
    run_inline(study, run=ToyRun())
    study.close()
    automl("status", tmp_path / "s")
    assert "continue it with: automl resume" in capsys.readouterr().out


def test_resume_is_refused_while_another_process_runs_the_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = Study.create(tmp_path / "s", toy_config())
    try:
        assert automl("resume", tmp_path / "s") == MISUSED
    finally:
        study.close()
    assert "is being run by another process" in capsys.readouterr().err


def test_the_board_arrives_where_the_study_is(folder: Path, events: list[StudyEvent]):
    board = Board(toy_config(trials=5, epochs=3))
    for event in events[:-1]:  # the last one carries the snapshot itself
        board.apply(event)
    snapshot = read_snapshot(folder)
    for trial in snapshot.trials:
        ours = board.trials[trial.number]
        assert (ours.value, ours.epoch, ours.best_epoch) == (trial.value, trial.epoch, trial.best_epoch)
    best_first = ranking(snapshot.trials, "minimize")
    assert len(best_first) > 1
    assert [trial.number for trial in board.ranked(5)] == [trial.number for trial in best_first]
    ended = sum(trial.status.ended for trial in board.trials.values())
    assert (board.epochs_done(), board.ended()) == (snapshot.epochs_trained, ended)


def test_every_segment_of_a_log_file_has_its_lines(events: list[StudyEvent], capsys: pytest.CaptureFixture[str]):
    board = Board(toy_config(trials=5, epochs=3))
    with SearchView(board, screen(), title="toy") as view:
        for event in events:
            board.apply(event)
            view.on_event(event)
    out = capsys.readouterr().out
    assert "trial 0 starts (the spec's own values): lr=1e-4" in out
    assert "trial 3 FAILED (oom): made to fail: oom" in out
    assert "  all 5 trials were run" in out
    assert event_line(events[0], board) is None


def test_in_the_usual_terminal_the_live_table_leaves_room_for_the_time_left():
    """Thirty trials with seven long values each, on 80 x 24."""
    board = Board(toy_config(trials=30, epochs=3))
    values = {f"train.augmentation.{name * 20}": 0.123456 for name in "abcdefg"}
    for number in range(30):
        start = TrialStarted(number=number, values=values, seed=0, folder=Path(), segment=1, from_epoch=0, until_epoch=1, max_epochs=3)
        board.apply(start)
    board.apply(reported(3, 1, 1.0, Decision.PAUSE))
    file = io.StringIO()
    with SearchView(board, Console(file=file, force_terminal=True, no_color=True, width=80, height=24), title="toy") as view:
        view.say("a remark is drawn together with the table")
        frame = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()).splitlines()[1:]
    assert len(frame) <= 24
    assert (frame[0].strip(), frame[1].split()) == ("toy", ["trial", "state", "epochs", "val/loss", "time", "values"])
    assert frame[-2].strip().endswith("0/30 trials over, 1 epoch  time left: unknown")
    assert frame[-1].strip().endswith("so far, best after 1 epoch: 1 (trial 3)")


def test_a_promotion_is_one_line_of_a_log_file(capsys: pytest.CaptureFixture[str]):
    board = Board(toy_config(trials=2, epochs=3))
    start = TrialStarted(number=1, values={}, seed=0, folder=Path(), segment=1, from_epoch=0, until_epoch=1, max_epochs=3)
    promoted = TrialPromoted(number=1, from_epoch=1, to_epoch=3)
    with SearchView(board, screen(), title="toy") as view:
        for event in (start, reported(1, 1, 1.0, Decision.PAUSE), promoted, replace(start, segment=2, from_epoch=1, until_epoch=3)):
            board.apply(event)
            view.on_event(event)
    lines = capsys.readouterr().out.splitlines()
    assert [line[14:41] for line in lines] == ["trial 1 starts: ", "trial 1 epoch 1/3  val/loss", "trial 1 is promoted from ep"]


def test_a_node_that_is_avoided_is_said_with_what_to_do():
    event = NodeAvoided(host="10.0.0.7", message="the study folder is not shared with gpu-7", hint="mount it")
    said = event_line(event, Board(toy_config(trials=2, epochs=3)))
    assert said == "10.0.0.7 gets no trials: the study folder is not shared with gpu-7 (mount it)"


def test_the_leader_is_told_with_how_long_it_was_trained():
    """Trial 1 has the better value after one epoch than trial 0 after three."""
    board = Board(toy_config(trials=2, epochs=3))
    for number, values in ((0, (3.0, 2.0, 1.5)), (1, (1.0,))):
        start = TrialStarted(
            number=number, values={}, seed=0, folder=Path(), segment=1, from_epoch=0, until_epoch=3, max_epochs=3, parent=None
        )
        board.apply(start)
        for epoch, value in enumerate(values, start=1):
            report = reported(number, epoch, value, Decision.PAUSE if number else Decision.CONTINUE)
            board.apply(report)
    assert event_line(report, board) == "trial 1 epoch 1/3  val/loss 1, pauses; best after 1 epoch: 1 (trial 1)"


def reported(number: int, epoch: int, value: float, decision: Decision) -> TrialReported:
    metrics = {"val/loss": value}
    return TrialReported(
        number=number, epoch=epoch, step=epoch, metrics=metrics, value=value, elapsed_s=1.0, decision=decision, until_epoch=3
    )


def test_the_report_is_one_file_without_remote_parts(folder: Path):
    text = write_report(read_snapshot(folder)).read_text()
    assert "first weights: random: the side network" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text
    assert text.count("<svg") == 4  # objective, curves, two parameters: momentum waits for SGD, which was not drawn
    assert "oom: made to fail: oom" in text


def test_requests_of_several_shells_at_once_add_up(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as shells:
        list(shells.map(lambda number: request_stop(tmp_path, trial=number), range(40)))
    assert read_stop(tmp_path).trials == set(range(40))


def test_requests_add_up_and_nonsense_is_named(tmp_path: Path) -> None:
    request_stop(tmp_path, trial=3)
    assert request_stop(tmp_path, trial=1) == StopRequest(trials=frozenset({1, 3}))
    assert request_stop(tmp_path).study
    (tmp_path / STOP_FILE).write_text("[]")
    with pytest.raises(StudyError, match="no stop request"):
        read_stop(tmp_path)


def test_the_studies_in_a_folder_and_near_misses_are_named(tmp_path: Path) -> None:
    for name in ("demo", "my study"):
        Study.create(tmp_path / name, toy_config()).close()
    hints = {}
    for asked in (".", "dmo", "elsewhere"):
        with pytest.raises(StudyError) as caught:
            read_snapshot(tmp_path / asked)
        hints[asked] = caught.value.hint
    assert hints["."] == f"studies in it: {tmp_path}/demo, '{tmp_path}/my study'"
    assert hints["dmo"] == f"did you mean {tmp_path}/demo?"
    assert hints["elsewhere"] == "name the folder that `automl run` printed"


def test_the_best_trial_has_its_colour_in_every_chart_and_the_end_is_told_in_words(folder: Path):
    text = write_report(read_snapshot(folder)).read_text()
    charts = [part.split("</svg>")[0] for part in text.split("<svg")[1:]]
    assert len(charts) == 4
    assert all('class="mark best"' in chart for chart in charts)
    assert "\N{MIDDLE DOT} all 5 trials were run</p>" in text


def test_the_report_says_why_trials_and_finalists_ended(tmp_path: Path):
    study = Study.create(tmp_path / "s", toy_config(trials=5, epochs=3, finalists=1))
    snapshot = run_inline(study, run=ToyRun())
    finalists = run_inline(study.finalists(), run=ToyRun(faults={0: Cause.NAN})).trials
    text = write_report(snapshot, finalists).read_text()
    assert "nan: made to fail: nan" in text
    assert any(trial.stopped_by == "never promoted" for trial in snapshot.trials)
    assert "never promoted" in text


def test_the_gain_is_told_against_the_baseline(folder: Path):
    snapshot = read_snapshot(folder)
    told = gain_text(snapshot)
    assert told is not None
    assert "than the spec's own values" in told or told == "the spec's own values were not beaten"
