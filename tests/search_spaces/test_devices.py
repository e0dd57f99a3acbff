"""GPUs: environment > command line > spec > default, then the longer of number and list."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import SpecError
from search_spaces.spec import LoadedSpec, read_spec


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text("train: {num_gpus: 2, gpu_ids: [4, 5]}\n", encoding="utf-8")
    return path


def devices(loaded: LoadedSpec) -> tuple[int, int, tuple[int, ...]]:
    train = loaded.spec.train
    return train.num_nodes, train.num_gpus, train.gpu_ids


@pytest.mark.parametrize(
    ("overrides", "environ", "expected"),
    [
        ([], {}, (1, 2, (4, 5))),
        (["train.num_gpus=3"], {}, (1, 3, (0, 1, 2))),
        (["train.gpu_ids=[7]"], {}, (1, 2, (0, 1))),
        (["train.num_gpus=1"], {}, (1, 2, (4, 5))),
        (["train.num_gpus=1", "train.gpu_ids=[7]"], {}, (1, 1, (7,))),
        (["train.num_gpus=3"], {"NUM_GPU_PER_NODE": "4"}, (1, 4, (0, 1, 2, 3))),
        (["train.num_nodes=5"], {"WORLD_SIZE": "3", "NUM_GPU_PER_NODE": "2"}, (3, 2, (4, 5))),
        (["evaluate.num_gpus=8"], {"WORLD_SIZE": "", "RANK": "1"}, (1, 2, (4, 5))),
    ],
)
def test_precedence_and_the_longer_of_the_two(
    file: Path, overrides: list[str], environ: dict[str, str], expected: tuple[int, int, tuple[int, ...]]
) -> None:
    before = file.read_bytes()
    assert devices(read_spec(file, overrides, environ=environ)) == expected
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["train.num_gpus=2"], (1, 2, (0, 1))),
        (["train.gpu_ids=[3,5]"], (1, 2, (3, 5))),
        (["train.gpu_ids=[]"], (1, 1, (0,))),
        (["train.gpu_ids=null"], (1, 1, (0,))),
        (["train.num_gpus=1", "train.gpu_ids=[0,1]"], (1, 2, (0, 1))),
    ],
)
def test_one_alone_decides_the_other(overrides: list[str], expected: tuple[int, int, tuple[int, ...]]) -> None:
    assert devices(read_spec(None, overrides)) == expected


def test_what_followed_what_is_said() -> None:
    assert read_spec(None, ["train.gpu_ids=[3,5]"]).assumed[0] == "train.num_gpus follows train.gpu_ids [3, 5]: 2"
    assert read_spec(None, ["train.num_gpus=2"]).assumed[0] == "train.gpu_ids follows train.num_gpus: [0, 1]"


def test_a_variable_is_a_place() -> None:
    loaded = read_spec(None, ["train.num_gpus=1"], environ={"NUM_GPU_PER_NODE": "2"})
    assert loaded.places["train.num_gpus"] == "environment variable NUM_GPU_PER_NODE"
    with pytest.raises(SpecError, match=r"at most 64, but is 65 \(environment variable NUM_GPU_PER_NODE\)"):
        read_spec(None, environ={"NUM_GPU_PER_NODE": "65"})


@pytest.mark.parametrize("text", ["two", "0", "-1", "1.5", "٣", "9" * 30])
def test_a_variable_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="the environment variable WORLD_SIZE must be a number of machines, but is") as caught:
        read_spec(None, environ={"WORLD_SIZE": text})
    assert caught.value.hint == "unset WORLD_SIZE"


def test_a_gpu_is_named_once() -> None:
    with pytest.raises(SpecError, match=r"train\.gpu_ids must name each GPU once, but is \[1, 1\]"):
        read_spec(None, ["train.gpu_ids=[1,1]"])
