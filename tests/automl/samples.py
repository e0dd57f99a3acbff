"""What the tests of the command lines share: the smallest scenes, specs and weights that run, and a user without rights."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml

from automl.sample_specs import mono_spec, stereo_spec
from models.registry import build_network
from search_spaces.spec import load_spec, spec_to_dict
from trials.data.sample import write_samples


def small_stereo_spec(folder: Path) -> Path:
    """A stereo spec beside four scenes of 64 x 96 pixels: two to train, one to validate, one to test."""
    write_samples(folder / "scenes", scenes=4, seed=0, height=64, width=96, max_disparity=32)
    spec = stereo_spec(folder / "scenes")
    spec["dataset"]["max_disparity"] = spec["model"]["max_disparity"] = 32
    spec["model"].update(hidden_dims=[32, 32, 32], train_iters=1, valid_iters=1)
    spec["train"]["num_epochs"] = 1
    for split in ("train", "val", "test", "infer"):
        spec["dataset"][f"{split}_dataset"]["augmentation"]["crop_size"] = [64, 64] if split == "train" else [64, 96]
    spec["export"] = {"input_height": 64, "input_width": 96, "valid_iters": 1}
    return _write(folder / "stereo.yaml", spec)


def small_mono_spec(folder: Path) -> Path:
    """A metric mono spec beside four scenes of 64 x 96 pixels; the network sees 42 x 56."""
    write_samples(folder / "scenes", scenes=4, seed=0, height=64, width=96, max_disparity=32)
    spec = mono_spec(folder / "scenes")
    spec["train"]["num_epochs"] = 1
    for split in ("train", "val", "test", "infer"):
        spec["dataset"][f"{split}_dataset"]["augmentation"]["crop_size"] = [42, 56]
    spec["export"] = {"input_height": 42, "input_width": 56}
    return _write(folder / "mono.yaml", spec)


def untrained(folder: Path) -> Path:
    """`folder` with four scenes, stereo.yaml and mono.yaml, and beside each a checkpoint of ours that was never trained."""
    for path in (small_stereo_spec(folder), small_mono_spec(folder)):
        spec = load_spec(path)
        torch.manual_seed(0)
        state = {f"model.{key}": value for key, value in build_network(spec).state_dict().items()}
        torch.save({"pytorch-lightning_version": "2.6", "state_dict": state, "spec": spec_to_dict(spec)}, folder / f"{path.stem}.pth")
    return folder


@contextlib.contextmanager
def not_root() -> Iterator[None]:
    """This process with the rights of `nobody`, if it is root's; temporary files go to a folder that everybody may write to."""
    nobody, root, before = 65534, os.geteuid() == 0, tempfile.tempdir
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:  # TMPDIR may be root's own
        Path(scratch).chmod(0o777)
        tempfile.tempdir = scratch
        if root:
            os.setresuid(nobody, nobody, 0)
        try:
            yield
        finally:
            if root:
                os.setresuid(0, 0, 0)
            tempfile.tempdir = before


def _write(path: Path, spec: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path
