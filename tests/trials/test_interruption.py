"""Ctrl-C and SIGTERM during a run: what is saved, and what the run says."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.trials.small import SmallStereo, always_continue, parts, status_lines, stereo_spec, trial
from trials.contract import Decision, Report, State
from trials.data.sample import SampleSet
from trials.run import run_trial


class Interrupting(SmallStereo):
    """Presses Ctrl-C in the second training step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def unroll(self, *args: Any) -> Any:
        self.steps += 1
        if self.steps == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().unroll(*args)


def test_ctrl_c_saves_the_state_between_two_steps(scenes: SampleSet, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    result = run_trial(trial(tmp_path, stereo_spec(scenes)), always_continue, parts=parts(Interrupting))
    assert result.state is State.INTERRUPTED
    assert (tmp_path / "train" / "dn_model_latest.pth").readlink() == Path("model_epoch_000_step_00002.pth")
    assert status_lines(tmp_path)[-1]["status"] == "FAILURE"
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_termination_after_an_epoch_saves_the_state_too(scenes: SampleSet, tmp_path: Path) -> None:
    def report(report: Report) -> Decision:
        if report.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return always_continue(report)

    result = run_trial(trial(tmp_path, stereo_spec(scenes)), report, parts=parts())
    assert (result.state, result.error) == (State.INTERRUPTED, None)
    assert (tmp_path / "train" / "dn_model_latest.pth").is_file()


class Impatient(SmallStereo):
    """Presses Ctrl-C twice in the first step."""

    def unroll(self, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return super().unroll(*args)


def test_a_second_ctrl_c_ends_the_run_at_once(scenes: SampleSet, tmp_path: Path) -> None:
    result = run_trial(trial(tmp_path, stereo_spec(scenes)), always_continue, parts=parts(Impatient))
    assert result.state is State.INTERRUPTED
    assert not (tmp_path / "train" / "dn_model_latest.pth").exists()
    assert status_lines(tmp_path)[-1]["message"].endswith("interrupted; no state was saved.")
