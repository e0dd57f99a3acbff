"""The real networks at their smallest: train, validate, save, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.registry import build_network
from models.weights import load_weights
from search_spaces.spec import spec_from_dict
from tests.trials.small import Recorder, mono_spec, stereo_spec, trial
from trials.contract import Decision, State, always_continue
from trials.data.sample import SampleSet
from trials.run import run_trial


def small(spec: dict[str, Any]) -> dict[str, Any]:
    spec["model"] |= {"hidden_dims": [16, 16, 16]}
    return spec


@pytest.mark.parametrize("kind", ["stereo", "metric", "relative"])
def test_a_real_network_trains_pauses_and_goes_on(scenes: SampleSet, tmp_path: Path, kind: str) -> None:
    spec = small(stereo_spec(scenes)) if kind == "stereo" else mono_spec(scenes, relative=kind == "relative")
    first = run_trial(trial(tmp_path, spec, study="s"), Recorder(Decision.PAUSE))
    assert first.state is State.PAUSED, first.error
    second = run_trial(trial(tmp_path, spec, study="s", resume_from=tmp_path / "train" / "dn_model_latest.pth"), always_continue)
    assert second.state is State.COMPLETE, second.error
    assert second.metrics["val/loss"] is not None
    assert (second.first_weights or "").startswith(f"random: {'the side network' if kind == 'stereo' else 'the encoder, the head'}")
    for name in ("best.pth", "dn_model_latest.pth"):
        report = load_weights(build_network(spec_from_dict(spec)), tmp_path / "train" / name)
        assert (report.missing, report.unexpected, report.notes) == (0, 0, ())
