"""Which processes train, as the spec and a scheduler's variables say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from search_spaces.errors import SpecError, UnsupportedError
from search_spaces.spec import Spec, spec_from_dict
from trials.layout import CPU, Layout, as_trained, run_layout


def spec(**train: Any) -> Spec:
    return spec_from_dict({"model": {"model_type": "FoundationStereo"}, "train": train})


def test_one_process_for_each_gpu_that_is_named() -> None:
    layout = run_layout(spec(num_gpus=2, gpu_ids=[1, 0]), study=False, environ={}, gpus=2)
    assert layout.devices == (torch.device("cuda:1"), torch.device("cuda:0"))


def test_a_trial_of_a_study_counts_the_gpus_that_it_was_given() -> None:
    layout = run_layout(spec(num_gpus=1, gpu_ids=[5]), study=True, environ={}, gpus=2)
    assert layout.devices == (torch.device("cuda:0"),)


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(SpecError, match=r"train\.gpu_ids names GPU 2, but only GPUs 0 to 1 are visible"):
        run_layout(spec(num_gpus=3, gpu_ids=[0, 1, 2]), study=False, environ={}, gpus=2)


def test_several_gpus_where_there_is_none_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"train\.num_gpus is 2, but no GPU is visible"):
        run_layout(spec(num_gpus=2, gpu_ids=[0, 1]), study=False, environ={}, gpus=0)


@pytest.mark.parametrize(
    ("strategy", "devices", "precision"),
    [("fsdp", "cuda cuda", "fp16"), ("ddp", "cuda cuda", "fp32"), ("fsdp", "cuda", "fp32"), ("fsdp", "cpu cpu", "fp32")],
)
def test_gpus_that_share_the_weights_compute_in_16_bit(strategy: str, devices: str, precision: str) -> None:
    layout = Layout(devices=tuple(torch.device(name) for name in devices.split()))
    assert as_trained(spec(distributed_strategy=strategy), layout).train.precision == precision


def test_a_scheduler_says_which_machine_this_is() -> None:
    environ = {"NODE_RANK": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"}
    layout = run_layout(spec(num_gpus=2, gpu_ids=[0, 1], num_nodes=3), study=False, environ=environ, gpus=2)
    assert (layout.count, layout.address, layout.port) == (6, "10.0.0.1", 1234)
    assert (layout.rank(1).number, layout.rank(1).local, layout.rank(1).here, layout.rank(1).node) == (5, 1, 2, 2)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "NODE_RANK does not say which of these machines this is"),
        ({"RANK": "2"}, "the environment variable RANK must be a number from 0 to 1, but is '2'"),
        ({"NODE_RANK": "0", "MASTER_PORT": "many"}, "MASTER_PORT must be a number from 0 to 65535, but is 'many'"),
    ],
)
def test_variables_that_do_not_say_where_this_is(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        run_layout(spec(num_nodes=2), study=False, environ=environ, gpus=0)


def test_a_trial_of_a_study_stays_on_one_machine() -> None:
    with pytest.raises(UnsupportedError, match=r"stays on one machine, but train\.num_nodes is 2"):
        run_layout(spec(num_nodes=2), study=True, environ={"NODE_RANK": "0"}, gpus=0)


def test_ranks_on_the_cpu_are_asked_for_by_the_caller_alone() -> None:
    assert run_layout(spec(), study=True, environ={}, gpus=0) == Layout()
    assert run_layout(spec(), study=True, environ={}, gpus=0, cpu_ranks=3).devices == (CPU,) * 3
