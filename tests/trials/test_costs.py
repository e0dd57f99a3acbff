"""What a network costs: how it is counted and timed, and that the run that measures it is the same run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from tests.trials.small import Recorder, SmallStereo, parts, stereo_spec, trial
from trials.contract import Decision, Report, TrialSpec, trial_spec_from_json, trial_spec_to_json
from trials.costs import FEWEST, ROUNDS, WARM_UP, fastest_ms, parameter_count, prediction_ms
from trials.data.sample import SampleSet
from trials.run import run_trial

COSTS = ("latency_ms", "parameters")


def ticking(*moments: float) -> Iterator[float]:
    """A clock that stands still after its last moment."""
    yield from moments
    while True:
        yield moments[-1]


def timed(*moments: float) -> tuple[float, int]:
    """The milliseconds of a call by a clock that shows `moments`, and how often it was called."""
    clock, calls = ticking(*moments), []
    return fastest_ms(lambda: calls.append(1), finish=lambda: None, clock=lambda: next(clock)), len(calls)


def test_the_fastest_of_the_timed_calls_is_told() -> None:
    # begun at 0; each call is two looks at the clock, and from the third on one look decides about going on
    seconds, now, moments = (0.004, 0.001, 0.009, 0.002, 0.003, 0.004, 0.004, 0.005, 0.006, 0.007), 1.0, [0.0]
    for place, length in enumerate(seconds):
        moments += [now] * (2 if place >= FEWEST else 1) + [now + length]
        now += 0.01
    milliseconds, calls = timed(*moments)
    assert milliseconds == pytest.approx(1.0)
    assert calls == WARM_UP + ROUNDS


def test_a_slow_network_is_timed_three_times() -> None:
    milliseconds, calls = timed(0.0, 20.0, 27.0, 30.0, 36.0, 40.0, 48.0)
    assert milliseconds == pytest.approx(6000.0)
    assert calls == WARM_UP + FEWEST


def test_shared_numbers_count_once_and_frozen_ones_too() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert parameter_count(nn.Sequential(layer, layer)) == 8


def test_measuring_leaves_every_module_in_its_mode() -> None:
    network = SmallStereo().train()
    frozen = next(network.children()).eval()
    assert prediction_ms(network, "stereo", (32, 64)) > 0
    assert (network.training, frozen.training) == (True, False)


def reports(folder: Path, scenes: SampleSet, costs: tuple[str, ...]) -> list[Report]:
    recorder = Recorder()
    run_trial(trial(folder, stereo_spec(scenes), costs=costs), recorder, parts=parts())
    return recorder.reports


def test_a_run_that_measures_is_the_same_run(scenes: SampleSet, tmp_path: Path) -> None:
    plain, measured = reports(tmp_path / "a", scenes, ()), reports(tmp_path / "b", scenes, COSTS)
    assert [{name: value for name, value in one.metrics.items() if name not in COSTS} for one in measured] == [
        dict(one.metrics) for one in plain
    ]
    assert measured[0].metrics["parameters"] == parameter_count(SmallStereo())
    assert measured[0].metrics["latency_ms"] is not None
    assert measured[0].metrics["latency_ms"] == measured[1].metrics["latency_ms"]


def test_a_later_segment_keeps_the_measurement(scenes: SampleSet, tmp_path: Path) -> None:
    first, second, spec = Recorder(Decision.PAUSE), Recorder(), stereo_spec(scenes)
    run_trial(trial(tmp_path, spec, study="s", costs=COSTS), first, parts=parts())
    state = tmp_path / "train" / "dn_model_latest.pth"
    result = run_trial(trial(tmp_path, spec, study="s", costs=COSTS, resume_from=state), second, parts=parts())
    assert second.reports[0].metrics["latency_ms"] == first.reports[0].metrics["latency_ms"] == result.metrics["latency_ms"]


def test_what_is_to_be_measured_survives_json(tmp_path: Path) -> None:
    spec: TrialSpec = trial(tmp_path, {}, costs=COSTS)
    assert trial_spec_from_json(trial_spec_to_json(spec)) == spec
