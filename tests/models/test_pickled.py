"""Files of strangers: what stands beside the weights is left out or refused, and nothing of it runs."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from models.checkpoints import Checkpoint, read_checkpoint
from search_spaces.errors import CheckpointError
from tests.models.files import saved, tao

WEIGHTS = {"cnet.conv1.weight": torch.ones(2)}


@dataclass
class Settings:
    """A structured config, as TAO keeps its spec."""

    lr: float = 1e-4


class Payload:
    """What unpickling would run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class Evaluated(Payload):
    """The same through a built-in function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({str(self.marker)!r}, 'w')",)


def read(tmp_path: Path, content: object) -> Checkpoint:
    return read_checkpoint(saved(tmp_path / "a.pth", content))


def refused(tmp_path: Path, content: object, name: str = "a.pth") -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(saved(tmp_path / name, content))
    return caught.value


def test_a_whole_tao_checkpoint_needs_nothing_left_out(tmp_path: Path) -> None:
    checkpoint = read(tmp_path, tao(WEIGHTS))
    assert (list(checkpoint.state_dict), checkpoint.epoch, checkpoint.step) == (["model.cnet.conv1.weight"], 3, 40)
    assert checkpoint.left_out == ()


def test_settings_as_objects_are_left_out(tmp_path: Path) -> None:
    counts: defaultdict[str, int] = defaultdict(int, a=1)
    config = OmegaConf.create({"train": {"optim": {"lr": 1e-4}, "gpu_ids": [0, 1]}, "results_dir": "/results"})
    checkpoint = read(tmp_path, tao(WEIGHTS, hyper_parameters={"spec": config, "path": Path("/x"), "counts": counts, "rng": np.zeros(2)}))
    assert torch.equal(checkpoint.state_dict["model.cnet.conv1.weight"], torch.ones(2))
    assert {"omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"} <= set(checkpoint.left_out)


def test_a_class_of_nobody_known_is_refused_by_name(tmp_path: Path) -> None:
    error = refused(tmp_path, tao(WEIGHTS, hyper_parameters=OmegaConf.structured(Settings)))
    assert "it holds an object of tests.models.test_pickled.Settings" in error.message


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("payload", [Payload, Evaluated])
def test_a_payload_is_refused_and_never_runs(tmp_path: Path, payload: type[Payload], zipped: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "a.pth"
    content = {"state_dict": WEIGHTS, "hyper_parameters": OmegaConf.create({"lr": 1}), "x": payload(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="is refused: besides tensors it holds an object of"):
        read_checkpoint(path)
    assert not marker.exists()


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    assert read(tmp_path, {"model": WEIGHTS, "global_step": np.int64(7), "epoch": np.float64(2)}).step == 7


def test_an_encrypted_file_says_who_can_read_it(tmp_path: Path) -> None:
    error = refused(tmp_path, {**tao(WEIGHTS), "state_dict": b"\x01\x02", "state_dict_encrypted": True}, "model.tlt")
    assert "is encrypted: its weights can be read with TAO's key alone" in error.message


def test_a_tlt_without_encryption_is_a_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(saved(tmp_path / "model.tlt", tao(WEIGHTS))).epoch == 3


@pytest.mark.parametrize("content", [b"PK\x03\x04 an archive of something else", b"\x13\x37 encrypted from the first byte"])
def test_a_tlt_that_is_no_checkpoint_may_be_encrypted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.tlt").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "model.tlt")
    assert "an encrypted .tlt cannot be read" in (caught.value.hint or "")
