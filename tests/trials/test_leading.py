"""Two ranks on the CPU train one run; tests/scale has more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from search_spaces.spec import spec_from_dict
from tests.trials.small import Recorder, SmallMono, mono_spec, parts, trial
from tests.trials.stops import random_stops
from trials.contract import Decision, State
from trials.data.sample import SampleSet
from trials.evaluate import evaluate
from trials.module import predict_map
from trials.run import run_trial


class Trained:
    """What the ranks have trained, as a predictor."""

    name, fixed_size = "small", None

    def __init__(self, weights: Path) -> None:
        self._network = SmallMono().eval()
        state = torch.load(weights, weights_only=True)["state_dict"]
        self._network.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})

    def predict(self, images: tuple[torch.Tensor, ...]) -> torch.Tensor:
        with torch.no_grad():
            return predict_map(self._network, {"image": images[0]}, "mono")


def test_two_ranks_report_the_metrics_of_one_process(scenes: SampleSet, tmp_path: Path) -> None:
    spec = mono_spec(scenes)
    spec["dataset"]["train_dataset"]["batch_size"] = 1
    five = scenes.folder / "five.txt"
    five.write_text("".join(scenes.list_file("mono", "train").read_text().splitlines(keepends=True)[:5]))
    spec["dataset"]["val_dataset"]["data_sources"][0]["data_file"] = str(five)
    recorder = Recorder(Decision.PAUSE)
    result = run_trial(trial(tmp_path, spec), recorder, parts=parts(SmallMono), cpu_ranks=2)
    assert result.state is State.PAUSED, result.error
    alone = evaluate(Trained(tmp_path / "train" / "best.pth"), spec_from_dict(spec), "val").metrics
    reported = {name: value for name, value in recorder.reports[0].metrics.items() if name.startswith("val/")}
    assert reported == pytest.approx({f"val/{name}": value for name, value in alone.items()}, rel=1e-6)
    lines = (tmp_path / "train" / "status.json").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines].count("Eval metrics generated.") == 1


def test_ranks_agree_on_random_stops(tmp_path: Path) -> None:
    ends = random_stops(6, tmp_path, limit_s=280.0)
    assert len(ends) == 6
    assert {"paused", "stopped"} <= set(ends)
