"""What training keeps for the backward pass, with and without `train.activation_checkpoint`.

    python bench/activation_memory.py

Main figure: bytes that autograd holds between forward and backward, counted through `saved_tensors_hooks`, each storage
once, parameters left out.  At full size they are counted on fake tensors (shapes and storages without numbers, CPU kernels);
small sizes are counted both ways, and the two counts must agree.  Before anything is printed the gradients with and
without recomputation are compared.  The small steps then run in child processes of their own for seconds and for the growth
of the peak resident set, which holds gradients and scratch memory as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.timing import conditions
from models.registry import build_network
from models.stereo.foundation_stereo import FoundationStereo
from search_spaces.spec import load_spec

MIB = 2.0**20
STEREO = ("dataset.dataset_name=StereoDataset", "model.model_type=FoundationStereo")
METRIC = ("model.model_type=MetricDepthAnything", "dataset.max_depth=10")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network on one image or pair of `height` x `width` pixels; `small` ones are also run."""

    name: str
    values: tuple[str, ...]
    height: int
    width: int
    small: bool


def stereo(encoder: str, *, height: int, width: int, disparity: int, iterations: int, small: bool) -> Case:
    values = (*STEREO, f"model.encoder={encoder}", f"model.max_disparity={disparity}", f"model.train_iters={iterations}")
    name = f"FoundationStereo {encoder}, {height}x{width}, D{disparity}, {iterations} iterations"
    return Case(name=name, values=values, height=height, width=width, small=small)


def metric(encoder: str, *, side: int, small: bool) -> Case:
    return Case(
        name=f"MetricDepthAnything {encoder}, {side}x{side}",
        values=(*METRIC, f"model.encoder={encoder}"),
        height=side,
        width=side,
        small=small,
    )


CASES = (
    stereo("vits", height=320, width=736, disparity=416, iterations=22, small=False),
    stereo("vits", height=320, width=736, disparity=192, iterations=22, small=False),
    stereo("vits", height=128, width=256, disparity=192, iterations=6, small=True),
    metric("vitl", side=518, small=False),
    metric("vits", side=518, small=True),
)
CHECKED = (
    stereo("vitt", height=64, width=64, disparity=32, iterations=3, small=True),
    metric("vitt", side=126, small=True),
)


def network_of(case: Case, *, recompute: bool) -> nn.Module:
    """The network in training mode with weights that depend on nothing but the case."""
    torch.manual_seed(0)
    flag = f"train.activation_checkpoint={str(recompute).lower()}"
    return build_network(load_spec(None, [*case.values, flag])).train()


def loss_of(network: nn.Module, case: Case) -> Tensor:
    """A sum over everything a training loss reads; images and dropout are the same at every call."""
    torch.manual_seed(1)
    first, second = (torch.randn(1, 3, case.height, case.width) for _ in range(2))
    if isinstance(network, FoundationStereo):
        initial, maps = network.unroll(first, second)
        return initial.mean() + torch.stack([each.mean() for each in maps]).sum()
    depth: Tensor = network(first)
    return depth.mean()


@contextmanager
def counted(network: nn.Module) -> Iterator[Mapping[int, int]]:
    """Bytes of each storage that autograd keeps inside the context, parameters and buffers of `network` left out."""
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def kept_mib(case: Case, *, recompute: bool, fake: bool) -> float:
    """MiB that one forward pass keeps for the backward pass."""
    with FakeTensorMode() if fake else nullcontext():
        network = network_of(case, recompute=recompute)
        with counted(network) as kept:
            loss = loss_of(network, case)
        total = sum(kept.values()) / MIB
        del loss
    return total


def gradients(case: Case, *, recompute: bool) -> dict[str, Tensor]:
    """The gradient of every parameter that gets one."""
    network = network_of(case, recompute=recompute)
    torch.autograd.backward(loss_of(network, case))
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


def largest_difference(case: Case) -> float:
    """Largest difference between the gradients of a parameter, relative to its largest gradient without recomputation."""
    plain, again = (gradients(case, recompute=recompute) for recompute in (False, True))
    assert plain.keys() == again.keys(), "recomputation changes which parameters learn"
    return max(float((plain[name] - again[name]).abs().max() / plain[name].abs().max().clamp(min=1e-12)) for name in plain)


def step(case: Case, *, recompute: bool) -> dict[str, float]:
    """Seconds of the second forward and backward pass, and the growth of the peak resident set in MiB; for a fresh process."""
    network = network_of(case, recompute=recompute)
    before = peak_mib()
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        network.zero_grad(set_to_none=True)
        torch.autograd.backward(loss_of(network, case))
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "grown_mib": peak_mib() - before}


def peak_mib() -> float:
    """The most that this process ever held; `ru_maxrss` would start from what the parent held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return float(line.split()[1]) / 1024


def in_child(case: Case, *, recompute: bool) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--child", str(CASES.index(case)), str(recompute)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def show(case: Case) -> None:
    """Prints the lines of a case."""
    plain, again = (kept_mib(case, recompute=recompute, fake=True) for recompute in (False, True))
    print(f"{case.name}: kept for backward {plain:.0f} -> {again:.0f} MiB ({again / plain:.0%})")
    if not case.small:
        return
    measured = [kept_mib(case, recompute=recompute, fake=False) for recompute in (False, True)]
    assert measured == [plain, again], f"fake tensors count {[plain, again]} MiB, real ones {measured}"
    without, with_ = (in_child(case, recompute=recompute) for recompute in (False, True))
    print(
        f"  peak resident set grows by {without['grown_mib']:.0f} -> {with_['grown_mib']:.0f} MiB, "
        f"forward and backward {without['seconds']:.2f} -> {with_['seconds']:.2f} s"
    )


def main() -> int:
    """Prints the figures; AssertionError when recomputation changes a gradient."""
    parser = argparse.ArgumentParser(description="what training keeps for the backward pass, with and without recomputation")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "RECOMPUTE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(step(CASES[int(args.child[0])], recompute=args.child[1] == "True")))
        return 0
    print(conditions())
    for case in CHECKED:
        difference = largest_difference(case)
        assert difference <= 1e-6, f"{case.name}: recomputation moves a gradient by {difference:.2g} of its size"
        print(f"{case.name}: largest relative difference of a gradient {difference:.2g}")
    for case in CASES:
        show(case)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
