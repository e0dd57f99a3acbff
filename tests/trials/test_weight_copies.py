"""Weights and states in an S3 store: read as files, recorded as URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from search_spaces.errors import DataError
from search_spaces.spec import spec_from_dict, with_values
from tests.s3_server import S3Server
from tests.trials.small import Recorder, parts, stereo_spec, trial
from trials.data.sample import SampleSet
from trials.run import run_trial
from trials.states import state_to_resume
from trials.weight_copies import local_file, local_weights

KEY = "train.pretrained_model_path"
RESUME = "train.resume_training_checkpoint_path"


def test_a_file_of_this_machine_stays_what_it_is(scenes: SampleSet) -> None:
    spec = spec_from_dict(stereo_spec(scenes))
    assert local_file(spec, "weights.pth", key=KEY) == Path("weights.pth")
    assert local_weights(spec) is spec


def test_weights_are_fetched_and_the_record_keeps_the_url(scenes: SampleSet, s3: S3Server, tmp_path: Path) -> None:
    s3.client.pipe_file("data/weights.pth", b"tensors")
    spec = with_values(spec_from_dict(stereo_spec(scenes)), {KEY: "s3://data/weights.pth", "dataset.cache_dir": str(tmp_path)})
    assert Path(str(local_weights(spec).train.pretrained_model_path)).read_bytes() == b"tensors"
    assert spec.train.pretrained_model_path == "s3://data/weights.pth"


def test_a_missing_state_is_refused(scenes: SampleSet, s3: S3Server, tmp_path: Path) -> None:
    del s3
    spec = with_values(spec_from_dict(stereo_spec(scenes)), {RESUME: "s3://data/none.pth", "dataset.cache_dir": str(tmp_path)})
    with pytest.raises(DataError, match=r"named by train\.resume_training_checkpoint_path do not exist:\n  s3://data/none\.pth"):
        state_to_resume(spec, tmp_path)


def test_an_exported_model_comes_with_the_files_of_its_name(scenes: SampleSet, s3: S3Server, tmp_path: Path) -> None:
    for name in ("model.onnx", "model.json", "model.onnx.data", "other.json", "deep/model.json"):
        s3.client.pipe_file(f"data/there/{name}", b"x")
    spec = with_values(spec_from_dict(stereo_spec(scenes)), {"dataset.cache_dir": str(tmp_path)})
    model = local_file(spec, "s3://data/there/model.onnx", key="evaluate.checkpoint")
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.json", "model.onnx", "model.onnx.data"]


def test_a_state_in_the_store_is_continued_exactly(scenes: SampleSet, s3: S3Server, tmp_path: Path) -> None:
    run_trial(trial(tmp_path / "whole", stereo_spec(scenes), epochs=2), Recorder(), parts=parts())
    state = sorted((tmp_path / "whole" / "train").glob("model_epoch_000_*.pth"))[0]
    s3.client.put_file(str(state), "data/state.pth")
    spec = stereo_spec(scenes, resume_training_checkpoint_path="s3://data/state.pth")
    spec["dataset"]["cache_dir"] = str(tmp_path / "cache")
    run_trial(trial(tmp_path / "rest", spec, epochs=2), Recorder(), parts=parts())
    recorded = yaml.safe_load((tmp_path / "rest" / "train" / "experiment.yaml").read_text())
    assert recorded["train"]["resume_training_checkpoint_path"] == "s3://data/state.pth"
    one, other = (torch.load(tmp_path / name / "train" / "dn_model_latest.pth", weights_only=True) for name in ("whole", "rest"))
    assert all(torch.equal(one["state_dict"][name], other["state_dict"][name]) for name in one["state_dict"])
