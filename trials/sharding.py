"""Ranks that share one network: each keeps its part of all weights, gradients and optimiser state, and gathers weights while it needs them.

The method is that of "PyTorch FSDP" (arXiv 2304.11277) in torch's `fully_shard`, which gathers one block of the network at a time.
Files hold the network as a single device has it, however many ranks wrote them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map
from typing_extensions import override

# beside `forward`, the ways in which training calls a network
ENTRIES = ("unroll",)


@runtime_checkable
class NamesBlocks(Protocol):
    """A network that knows of which parts it is made."""

    def blocks(self) -> list[nn.Module]:
        """Parts that a pass through the network calls as modules, none inside another."""


class ShardedStrategy(DDPStrategy):
    """Lightning's strategy for ranks that are there already, where each keeps a part of the network instead of a copy of it.

    Gradients are the mean over ranks, as with copies.  The first rank alone is given the whole state, for its files.
    """

    @override
    def configure_ddp(self) -> None:
        """Shares the network out; the ranks have drawn or read the same weights, and the optimiser is made after this."""
        shard(self._network, init_device_mesh(self.root_device.type, (self.world_size,)))

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights on the first rank, nothing on the others; collective."""
        assert self.lightning_module is not None
        return self._for_first(self.lightning_module.state_dict())

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state on the first rank, laid out as that of one device, nothing on the others; collective."""
        return self._for_first(super().optimizer_state(optimizer))

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes this rank's part of the state, which any number of devices may have written."""
        states = [shares_of(state, optimizer) for state, optimizer in zip(checkpoint["optimizer_states"], self.optimizers, strict=True)]
        super().load_optimizer_state_dict({"optimizer_states": states})

    @property
    def _network(self) -> nn.Module:
        assert self.lightning_module is not None
        return cast(nn.Module, self.lightning_module.model)

    def _for_first(self, state: dict[str, Any]) -> dict[str, Any]:
        def kept(value: object) -> object:
            if not isinstance(value, DTensor):
                return value
            gathered = value.full_tensor()
            return gathered.cpu() if self.is_global_zero else None

        gathered: dict[str, Any] = tree_map(kept, state)
        return gathered if self.is_global_zero else {}


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Leaves each rank of `mesh` its part of every weight: block by block, and what is in no block together."""
    for block in network.blocks() if isinstance(network, NamesBlocks) else []:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    for entry in ENTRIES:
        if hasattr(network, entry):
            register_fsdp_forward_method(network, entry)


def gather_weights(network: nn.Module) -> None:
    """Gives every rank all weights until `part_weights`; collective.  Does nothing to a network that is not shared out.

    Ranks may then call it each as often as they like: nothing is exchanged.
    """
    for part in _parts(network):
        part.set_reshard_after_forward(reshard_after_forward=False, recurse=False)
        part.unshard()


def part_weights(network: nn.Module) -> None:
    """Ends what `gather_weights` began."""
    for part in _parts(network):
        part.reshard()
        part.set_reshard_after_forward(reshard_after_forward=True, recurse=False)


@contextmanager
def whole(network: nn.Module) -> Iterator[None]:
    """All weights on every rank meanwhile; collective at its start."""
    gather_weights(network)
    yield
    part_weights(network)


def whole_tensor(value: Tensor) -> Tensor:
    """`value` with the parts of all ranks; collective where it is shared out."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The 2-norm over all numbers of all `tensors`, those of other ranks too; a scalar."""
    return whole_tensor(nn.utils.get_total_norm(list(tensors)))


def shares_of(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """The whole `state` of an optimiser with what belongs to a weight shared out as the weight is."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    shared = {
        number: {name: _share(value, weights[number]) for name, value in numbers.items()} for number, numbers in state["state"].items()
    }
    return {**state, "state": shared}


def _share(value: object, weight: Tensor) -> object:
    if isinstance(value, torch.Tensor) and isinstance(weight, DTensor) and value.shape == weight.shape:
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)
    return value


def _parts(network: nn.Module) -> list[FSDPModule]:
    """The network first: it has to know that it is the outermost."""
    return [module for module in network.modules() if isinstance(module, FSDPModule)]
