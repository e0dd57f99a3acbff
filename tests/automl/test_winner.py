"""The choice of the winner: mean over seeds, then the best checkpoint, and the gap that luck made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from automl.snapshot import TrialStatus, TrialSummary
from automl.winner import Candidate, Judged, candidates_of, choice_data, choose, pick, save_choice
from search_spaces.errors import StudyError
from tests.automl.toy import toy_config


def trial(number: int, value: float, *, parent: int | None = None, checkpoint: bool = True) -> TrialSummary:
    path = Path(f"/study/{number}/train/best.pth") if checkpoint else None
    summary = TrialSummary(number=number, status=TrialStatus.COMPLETE, values={}, seed=number + 10, folder=Path(), rung=3, value=value)
    return replace(summary, parent=parent, checkpoint=path)


def judge(candidate: Candidate) -> Judged:
    return Judged(candidate=candidate, value=candidate.search_value, metrics={"epe": candidate.search_value}, evaluation_hash="same")


SEARCH = [trial(4, 1.0), trial(7, 1.2), trial(2, 1.3)]
FINALISTS = [trial(0, 2.0, parent=4), trial(1, 1.25, parent=7)]


def test_the_better_mean_beats_the_luckier_run():
    choice = choose(candidates_of(SEARCH, FINALISTS, toy_config()), judge, minimise=True)
    assert choice.winner.candidate.name == "trial 7"  # means: trial 4 1.5, trial 7 1.225
    assert choice.gap == pytest.approx(0.05)
    assert "trial 7 has the best mean over 2 runs: 1.225 (against trial 4 1.5)" in choice.reason


def test_every_configuration_is_told_with_its_spread_and_gap():
    first, second = choose(candidates_of(SEARCH, FINALISTS, toy_config()), judge, minimise=True).configurations
    assert (first.trial, first.runs, first.mean, first.best, first.worst) == (7, 2, pytest.approx(1.225), 1.2, 1.25)
    assert (second.trial, second.mean, second.gap) == (4, 1.5, 1.0)


def test_a_repetition_that_was_cut_short_does_not_count():
    waiting = replace(trial(0, 0.1, parent=4), status=TrialStatus.WAITING)
    assert [one.name for one in candidates_of(SEARCH, [waiting], toy_config())] == ["trial 4"]


def test_a_trial_picked_by_hand_needs_its_checkpoint(tmp_path: Path):
    (tmp_path / "best.pth").touch()
    chosen = pick(replace(SEARCH[2], checkpoint=tmp_path / "best.pth"), judge)
    assert (chosen.winner.candidate.configuration, chosen.gap, chosen.reason) == (2, None, "trial 2 was chosen by hand")
    with pytest.raises(StudyError, match="removed for the disk budget"):
        pick(replace(SEARCH[2], checkpoint=None, stopped_by="disk budget"), judge)


def test_the_better_checkpoint_of_the_winner_is_taken():
    finalists = [trial(0, 2.0, parent=4), trial(1, 1.1, parent=7)]
    choice = choose(candidates_of(SEARCH, finalists, toy_config()), judge, minimise=True)
    assert choice.winner.candidate.name == "trial 7, seed 11"
    assert choice.gap == pytest.approx(-0.1)


def test_a_score_is_maximised():
    scores = [trial(4, 0.9), trial(7, 0.8)]
    choice = choose(candidates_of(scores, [trial(0, 0.5, parent=4), trial(1, 0.8, parent=7)], toy_config()), judge, minimise=False)
    assert choice.winner.candidate.configuration == 7  # means 0.7 and 0.8
    assert choice.gap == pytest.approx(0.0)


def test_without_finalists_the_best_trial_wins():
    choice = choose(candidates_of(SEARCH, [], toy_config()), judge, minimise=True)
    assert (choice.winner.candidate.name, choice.gap) == ("trial 4", None)


def test_a_failed_repetition_does_not_count():
    failed = replace(trial(0, 9.0, parent=4), status=TrialStatus.FAILED)
    assert [one.name for one in candidates_of(SEARCH, [failed], toy_config())] == ["trial 4"]


def test_no_checkpoint_no_winner():
    with pytest.raises(StudyError, match="left a checkpoint"):
        candidates_of([trial(1, 1.0, checkpoint=False)], [], toy_config())


def test_measurements_on_different_data_are_never_compared():
    hashes = iter("ab")

    def careless(candidate: Candidate) -> Judged:
        return replace(judge(candidate), evaluation_hash=next(hashes))

    with pytest.raises(AssertionError, match="different data"):
        choose(candidates_of(SEARCH, [trial(0, 2.0, parent=4)], toy_config()), careless, minimise=True)


def test_the_choice_is_kept_as_plain_json(tmp_path: Path):
    choice = choose(candidates_of(SEARCH, FINALISTS, toy_config()), judge, minimise=True)
    path = save_choice(tmp_path, choice_data(choice, toy_config(), test={"metrics": {"test/epe": 1.0}, "num_images": 3}))
    data = json.loads(path.read_text())
    assert (data["chosen"], data["trial"], data["winners_curse"]) == ("trial 7", 7, pytest.approx(0.05))
    assert [one["name"] for one in data["candidates"]] == ["trial 4", "trial 7", "trial 4, seed 10", "trial 7, seed 11"]
    assert data["test"]["metrics"] == {"test/epe": 1.0}
