"""Which processes train: one for each device that a spec asks for, on this machine and on others like it.

The variables of a scheduler are those of TAO Toolkit: NODE_RANK (else RANK) says which machine this is, MASTER_ADDR and MASTER_PORT where
machine 0 is met.  WORLD_SIZE (the number of machines) and NUM_GPU_PER_NODE are in the spec already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from search_spaces.errors import SpecError, UnsupportedError, UserError
from search_spaces.spec import Spec, shared_precision, spec_from_dict, with_values
from trials.contract import TrialSpec
from trials.ranks import Rank

CPU = torch.device("cpu")
HERE = "127.0.0.1"
USUAL_PORT = 29500


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One process for each of `devices`, on each of `nodes` machines, of which this is number `node`.

    Machine 0 is met at `address`; `port` 0 is any free one, for a run of one machine.
    """

    devices: tuple[torch.device, ...] = (CPU,)
    nodes: int = 1
    node: int = 0
    address: str = HERE
    port: int = 0

    @property
    def count(self) -> int:
        """Processes in all."""
        return self.nodes * len(self.devices)

    def rank(self, local: int) -> Rank:
        """The rank of this machine's process number `local`, not connected yet."""
        here = len(self.devices)
        return Rank(number=self.node * here + local, count=self.count, local=local, here=here, node=self.node)


def machine_number(trial: TrialSpec, environ: Mapping[str, str]) -> int:
    """Which of the machines of a run this is; 0 for a run of one, and for a spec that cannot be read or does not fit this machine."""
    try:
        spec = spec_from_dict(trial.spec)
        return 0 if spec.train.num_nodes == 1 else run_layout(spec, study=bool(trial.study), environ=environ, gpus=visible_gpus()).node
    except UserError:
        return 0


def as_trained(spec: Spec, layout: Layout) -> Spec:
    """The spec as the processes of `layout` train it: several GPUs that share the weights compute in 16 bit."""
    shared = layout.count > 1 and spec.train.distributed_strategy == "fsdp" and layout.devices[0].type == "cuda"
    return with_values(spec, {"train.precision": shared_precision(spec)}) if shared else spec


def visible_gpus() -> int:
    """How many CUDA devices this process sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def run_layout(spec: Spec, *, study: bool, environ: Mapping[str, str], gpus: int, cpu_ranks: int = 1) -> Layout:
    """The processes of one run of `spec` on a machine with `gpus` visible ones; UserError for devices that are not there.

    A trial of a study takes the first `train.num_gpus` devices that it sees: those that it was given.  Without a GPU a run is one process
    on the CPU, unless the caller wants several (`cpu_ranks`): they share its cores and prove what several devices do.
    """
    train = spec.train
    devices = _devices(spec, study=study, visible=gpus, cpu_ranks=cpu_ranks)
    if train.num_nodes == 1:
        return Layout(devices=devices)
    if study:
        raise UnsupportedError(
            f"a trial of a search stays on one machine, but train.num_nodes is {train.num_nodes}",
            hint="set it to 1; `depth_net train` trains one spec on several machines",
        )
    port = _number(environ, ("MASTER_PORT",), default=USUAL_PORT, below=2**16)
    node = _number(environ, ("NODE_RANK", "RANK"), default=None, below=train.num_nodes)
    return Layout(devices=devices, nodes=train.num_nodes, node=node, address=environ.get("MASTER_ADDR") or HERE, port=port)


def _devices(spec: Spec, *, study: bool, visible: int, cpu_ranks: int) -> tuple[torch.device, ...]:
    wanted = spec.train.num_gpus
    if cpu_ranks > 1 or not visible:
        if wanted > 1:
            raise UnsupportedError(f"train.num_gpus is {wanted}, but no GPU is visible", hint="set train.num_gpus=1 to train on the CPU")
        return (CPU,) * cpu_ranks
    ids = tuple(range(wanted)) if study else spec.train.gpu_ids or (0,)
    for gpu in ids:
        if gpu >= visible:
            seen = "GPU 0 is visible" if visible == 1 else f"GPUs 0 to {visible - 1} are visible"
            raise SpecError(
                f"train.gpu_ids names GPU {gpu}, but only {seen}", hint="GPUs count from 0, within CUDA_VISIBLE_DEVICES if it is set"
            )
    return tuple(torch.device("cuda", gpu) for gpu in ids)


def _number(environ: Mapping[str, str], names: tuple[str, ...], *, default: int | None, below: int) -> int:
    """The number that the first of `names` in the environment gives, from 0 to `below` - 1."""
    for name in names:
        text = environ.get(name, "").strip()
        if not text:
            continue
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < below):
            raise SpecError(
                f"the environment variable {name} must be a number from 0 to {below - 1}, but is {text!r}", hint=f"correct {name}"
            )
        return int(text)
    if default is None:
        raise SpecError(
            f"train.num_nodes is {below}, but {names[0]} does not say which of these machines this is",
            hint=f"start the same command on each with {names[0]}=0 to {below - 1} and MASTER_ADDR=<address of machine 0>",
        )
    return default
