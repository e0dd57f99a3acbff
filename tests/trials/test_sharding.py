"""Weights that ranks share: what each keeps, and that files and numbers are those of a single device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from models.registry import build_network
from search_spaces.spec import load_spec
from tests.trials.broken import Steady
from tests.trials.small import always_continue, parts, stereo_spec, trial
from trials.contract import State
from trials.data.sample import SampleSet
from trials.optim import make_optimizer
from trials.run import run_trial
from trials.sharding import gather_weights, part_weights, shard, shares_of, total_norm, whole, whole_tensor

SPECS = {
    "stereo": ["model.model_type=FoundationStereo", "model.hidden_dims=[48,48,48]", "model.max_disparity=64", "model.train_iters=2"],
    "mono": ["model.model_type=MetricDepthAnything", "dataset.max_depth=20", "dataset.min_depth=0.1"],
}


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """One rank, this process: everything is done as among several, and nothing is sent."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]  # unlisted
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def twins(kind: str, mesh: DeviceMesh) -> tuple[nn.Module, nn.Module]:
    """A network, and the same one shared out; both in evaluation mode, without dropout."""
    spec = load_spec(None, ["model.encoder=vitt", "train.activation_checkpoint=true", *SPECS[kind]])
    torch.manual_seed(0)
    plain, shared = build_network(spec).eval(), build_network(spec).eval()
    shared.load_state_dict(plain.state_dict())
    shard(shared, mesh)
    return plain, shared


def answer(network: nn.Module, kind: str) -> Tensor:
    images = torch.rand(2, 1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    if kind == "mono":
        return network(images[0, ..., :56, :84])  # type: ignore[no-any-return]
    _, maps = network.unroll(images[0], images[1])  # type: ignore[operator]
    return maps[-1]  # type: ignore[no-any-return]


def test_each_of_four_ranks_keeps_a_quarter() -> None:
    """Nearly: what has one row, such as the position embedding, is kept by the first rank alone."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    try:
        with torch.device("meta"):
            network = build_network(load_spec(None, ["model.encoder=vits", *SPECS["mono"]]))
        shard(network, init_device_mesh("cpu", (4,)))
        kept = sum(value.to_local().numel() for value in network.parameters() if isinstance(value, DTensor))
        assert kept == pytest.approx(sum(value.numel() for value in network.parameters()) / 4, rel=0.1)
    finally:
        distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view")  # nothing writes into it here
@pytest.mark.parametrize("kind", SPECS)
def test_a_network_in_parts_learns_what_a_whole_one_does(kind: str, mesh: DeviceMesh) -> None:
    plain, shared = twins(kind, mesh)
    for network in (plain, shared):
        answer(network, kind).square().mean().backward()  # type: ignore[no-untyped-call]
    named = dict(shared.named_parameters())
    assert list(named) == [name for name, _ in plain.named_parameters()]
    assert all(isinstance(value, DTensor) for value in named.values())
    for name, value in plain.named_parameters():
        theirs = named[name].grad
        assert (theirs is None) == (value.grad is None), name
        if value.grad is not None and theirs is not None:
            torch.testing.assert_close(whole_tensor(theirs), value.grad, rtol=1e-4, atol=1e-4, msg=name)
    gradients = [value.grad for value in named.values() if value.grad is not None]
    assert float(total_norm(gradients)) == pytest.approx(
        float(nn.utils.get_total_norm([value.grad for value in plain.parameters() if value.grad is not None]))
    )


def test_gathered_weights_are_those_of_a_device_until_they_are_parted(mesh: DeviceMesh) -> None:
    plain, shared = twins("mono", mesh)
    gather_weights(shared)
    assert not any(isinstance(value, DTensor) for value in shared.parameters())
    with torch.no_grad():
        assert torch.equal(answer(shared, "mono"), answer(plain, "mono"))
    assert not any(isinstance(value, DTensor) for value in shared.parameters())
    part_weights(shared)
    assert all(isinstance(value, DTensor) for value in shared.parameters())


def test_nothing_happens_to_a_network_of_one_device() -> None:
    network = Steady()
    with whole(network):
        assert [type(value) for value in network.parameters()] == [nn.Parameter] * 4
    assert float(total_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])) == 5.0


def test_the_state_of_an_optimizer_is_shared_out_as_the_weights_are(mesh: DeviceMesh) -> None:
    spec = load_spec(None, ["model.encoder=vitt", *SPECS["mono"]])
    plain, shared = twins("mono", mesh)
    alone, among = make_optimizer(plain, spec), make_optimizer(shared, spec)
    answer(plain, "mono").mean().backward()  # type: ignore[no-untyped-call]
    alone.step()
    state = alone.state_dict()
    among.load_state_dict(shares_of(state, among))
    back = among.state_dict()
    assert back["param_groups"] == state["param_groups"]
    assert isinstance(back["state"][0]["exp_avg"], DTensor)
    assert all(
        torch.equal(whole_tensor(back["state"][number][name]), value)
        for number in state["state"]
        for name, value in state["state"][number].items()
    )


def test_two_ranks_that_share_the_weights_train_as_one_device(scenes: SampleSet, tmp_path: Path) -> None:
    """SGD tells gradients and their clipped norm from others by a factor too, which AdamW does not."""
    for ranks, folder in ((1, tmp_path / "alone"), (2, tmp_path / "shared")):
        spec = stereo_spec(scenes, distributed_strategy="fsdp", optim={"optimizer": "SGD", "lr": 0.01})
        spec["dataset"]["train_dataset"]["batch_size"] = 2 // ranks
        result = run_trial(trial(folder, spec, epochs=1), always_continue, parts=parts(Steady), cpu_ranks=ranks)
        assert result.state is State.COMPLETE, result.error
    for name in ("dn_model_latest.pth", "best.pth"):
        alone, shared = (torch.load(tmp_path / run / "train" / name, weights_only=True) for run in ("alone", "shared"))
        assert list(shared["state_dict"]) == list(alone["state_dict"])
        for key, value in alone["state_dict"].items():
            torch.testing.assert_close(shared["state_dict"][key], value, rtol=1e-6, atol=1e-7)
        Steady().load_state_dict({key.removeprefix("model."): value for key, value in shared["state_dict"].items()})
