"""Seconds of one training step and of one inference of FoundationStereo.

    python bench/stereo_step.py [--encoder vits] [--height 128] [--width 256] [--disparity 192] [--iterations 6] [--rounds 3]

A training step is: forward with every refinement, sequence loss, backward, clipping by norm, AdamW.  Random weights and
images: the arithmetic does not depend on them.  Wall-clock times; read them with the conditions printed above them.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from bench.timing import Times, conditions, wall_times
from models.registry import build_network
from models.stereo.foundation_stereo import FoundationStereo
from search_spaces.spec import load_spec
from trials.losses import sequence_loss

CLIP_NORM = 0.1


def main() -> int:
    """Prints the two times; always 0."""
    parser = argparse.ArgumentParser(description="seconds of one training step and one inference of FoundationStereo")
    parser.add_argument("--encoder", default="vits")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--disparity", type=int, default=192)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    spec = load_spec(
        None,
        [
            "dataset.dataset_name=StereoDataset",
            "model.model_type=FoundationStereo",
            f"model.encoder={args.encoder}",
            f"model.max_disparity={args.disparity}",
            f"dataset.max_disparity={args.disparity}",
            f"model.train_iters={args.iterations}",
            f"model.valid_iters={args.iterations}",
        ],
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = build_network(spec).to(device)
    assert isinstance(network, FoundationStereo)
    left, right = (torch.randn(args.batch, 3, args.height, args.width, device=device) for _ in range(2))
    target = torch.rand(args.batch, 1, args.height, args.width, device=device) * args.disparity / 4
    valid = torch.ones_like(target, dtype=torch.bool)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, fused=True)

    def step() -> float:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        initial, predictions = network.unroll(left, right, args.iterations)
        loss = sequence_loss(initial, predictions, target, valid)
        assert loss is not None
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trainable, CLIP_NORM)
        optimizer.step()
        return loss.item()

    def infer() -> Tensor:
        network.eval()
        with torch.inference_mode():
            disparity: Tensor = network(left, right, iterations=args.iterations)
        return disparity

    print(conditions())
    millions = sum(parameter.numel() for parameter in trainable) / 1e6
    shape = f"{args.batch}x{args.height}x{args.width}, D{args.disparity}, {args.iterations} iterations"
    print(f"FoundationStereo {args.encoder}, {shape}, float32, {millions:.2f} M trainable parameters, {args.rounds} rounds")
    _show("training step", wall_times(step, rounds=args.rounds))
    _show("inference", wall_times(infer, rounds=args.rounds))
    return 0


def _show(name: str, times: Times) -> None:
    print(f"  {name:14s} min {times.minimum:7.3f} s   median {times.median:7.3f} s   CPU {times.cpu:7.3f} s")


if __name__ == "__main__":
    raise SystemExit(main())
