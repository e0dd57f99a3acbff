"""What the processes of one run agree on.

Each device has a process of its own, a rank; Lightning's strategies exchange their gradients.  What else they have to agree on
passes through a group of CPU sockets (gloo): it neither waits for nor holds up what the devices compute.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import distributed, nn
from typing_extensions import override

T = TypeVar("T")
# the others wait meanwhile for the first rank, which writes, or waits for the answer of a study
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One process of a run: number `number` of `count`, and number `local` of the `here` ones of its machine, which is number `node`.

    Every method but `first` is collective: all ranks call it at the same point, and all are given the same.  A rank that raises
    instead leaves the others waiting; the leader ends them.  Alone, nothing is exchanged and torch.distributed is not touched.
    """

    number: int = 0
    count: int = 1
    local: int = 0
    here: int = 1
    node: int = 0
    group: distributed.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this rank reports and writes files; no other does."""
        return self.number == 0

    def total(self, *values: float) -> list[float]:
        """The sum over all ranks of each value, in float64."""
        if self.count == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums, group=self.group)
        return sums.tolist()

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on any rank."""
        return self.total(float(flag))[0] > 0

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order; plain data."""
        if self.count == 1:
            return [value]
        values: list[T | None] = [None] * self.count
        distributed.all_gather_object(values, value, group=self.group)
        return values  # type: ignore[return-value]  # every place is filled

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on the first rank, where alone it is called; plain data."""
        if self.count == 1:
            return make()
        box = [make() if self.first else None]
        distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]  # type: ignore[return-value]

    def share_buffers(self, module: nn.Module) -> None:
        """Gives every rank the buffers of the first (running means of normalisation), which its checkpoints hold."""
        if self.count > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)


ALONE = Rank()


class RankEnvironment(ClusterEnvironment):
    """Tells Lightning which rank a process is; the processes are there and connected when it asks."""

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self._rank = rank

    @property
    @override
    def creates_processes_externally(self) -> bool:
        """Lightning starts nothing."""
        return True

    @property
    @override
    def main_address(self) -> str:
        """Not asked for: the process group stands."""
        return "127.0.0.1"

    @property
    @override
    def main_port(self) -> int:
        """Not asked for either."""
        return 0

    @staticmethod
    @override
    def detect() -> bool:
        """Never chosen by itself."""
        return False

    @override
    def world_size(self) -> int:
        """Ranks in all."""
        return self._rank.count

    @override
    def set_world_size(self, size: int) -> None:
        """Lightning's own count must be ours."""
        assert size == self._rank.count

    @override
    def global_rank(self) -> int:
        """The rank's number."""
        return self._rank.number

    @override
    def set_global_rank(self, rank: int) -> None:
        """Lightning's own number must be ours."""
        assert rank == self._rank.number

    @override
    def local_rank(self) -> int:
        """The rank's number on its machine."""
        return self._rank.local

    @override
    def node_rank(self) -> int:
        """The machine's number."""
        return self._rank.node


@contextlib.contextmanager
def connected(rank: Rank, *, address: str, port: int, device: torch.device) -> Iterator[Rank]:
    """`rank` with the group it agrees through; all ranks meet at the store of the first leader.

    Gradients go through NCCL or, on CPUs, gloo.
    """
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        store=distributed.TCPStore(address, port, is_master=False, timeout=PATIENCE),  # type: ignore[attr-defined]  # unlisted
        rank=rank.number,
        world_size=rank.count,
        timeout=PATIENCE,
        device_id=device if cuda else None,
    )
    yield replace(rank, group=distributed.new_group(backend="gloo", timeout=PATIENCE))
    distributed.destroy_process_group()  # not after an error: it may wait for ranks that are gone


def lost_another(error: BaseException) -> bool:
    """Whether `error` only says that another process of the run is gone."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo/" in str(error))
