"""Whether the stereo network can learn at all: two pairs by heart, until the mean error is below one pixel.

    python bench/overfit_stereo.py [--list pairs.txt --class Middlebury --root folder] [--steps 600] [--goal 1.0]

Without a list it draws two sample scenes.  No augmentation, no search, no Lightning: the network, the loss and the
optimizer of training on a fixed crop.  Prints the curve; exit status 1 when the goal is not reached.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from bench.timing import conditions
from models.registry import build_network
from models.stereo.foundation_stereo import FoundationStereo
from search_spaces.spec import Spec, load_spec
from trials.data import Batch, build_dataset, collate
from trials.data.sample import write_samples
from trials.losses import sequence_loss

PAIRS = 2


def pairs_of(spec: Spec) -> Batch:
    """The first two pairs of the val list, cut to the crop, as one batch."""
    dataset = build_dataset(spec, "val", training=False)
    return collate([dataset[index] for index in range(PAIRS)])


def end_point_error(network: FoundationStereo, batch: Batch) -> float:
    """Mean absolute error in pixels over the valid pixels of the batch, in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        disparity: Tensor = network(batch["image"], batch["right_image"])
    return float((disparity - batch["target"]).abs()[batch["valid"]].mean())


def fit(network: FoundationStereo, batch: Batch, *, steps: int, rate: float, goal: float, every: int) -> float:
    """Trains until the error is below `goal` or `steps` are done; prints the curve and returns the last error."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=rate, weight_decay=1e-5, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=max(0.05, 2 / steps))
    started = time.perf_counter()
    error = end_point_error(network, batch)
    print(f"  step {0:4d}   EPE {error:8.3f} px")
    for step in range(1, steps + 1):
        network.train()
        optimizer.zero_grad(set_to_none=True)
        initial, predictions = network.unroll(batch["image"], batch["right_image"])
        loss = sequence_loss(initial, predictions, batch["target"], batch["valid"])
        assert loss is not None, "the crop has no valid pixel"
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        schedule.step()
        if step % every == 0 or step == steps:
            error = end_point_error(network, batch)
            print(f"  step {step:4d}   EPE {error:8.3f} px   loss {loss.item():8.3f}   {time.perf_counter() - started:6.1f} s", flush=True)
            if error < goal:
                break
    return error


def main() -> int:
    """0 when the goal is reached, 1 when not."""
    parser = argparse.ArgumentParser(description="overfit two stereo pairs")
    parser.add_argument("--list", type=Path, default=None, help="annotation file; without one, sample scenes are drawn")
    parser.add_argument("--class", dest="data_class", default="GenericDataset", help="data class of the list")
    parser.add_argument("--root", type=Path, default=None, help="folder that the list's paths start from")
    parser.add_argument("--encoder", default="vitt")
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--disparity", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--goal", type=float, default=1.0, help="EPE in pixels")
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if args.list is None:
            scenes = write_samples(Path(folder) / "scenes", scenes=6, seed=1, height=args.height, width=args.width, max_disparity=48)
            args.list = scenes.list_file("stereo", "train")
        root = f", data_root: {args.root}" if args.root else ""
        source = f"{{data_file: {args.list}, dataset_name: {args.data_class}{root}}}"
        spec = load_spec(
            None,
            [
                "dataset.dataset_name=StereoDataset",
                "model.model_type=FoundationStereo",
                f"model.encoder={args.encoder}",
                f"model.hidden_dims=[{args.hidden},{args.hidden},{args.hidden}]",
                f"model.max_disparity={args.disparity}",
                f"dataset.max_disparity={args.disparity}",
                f"model.train_iters={args.iterations}",
                f"model.valid_iters={args.iterations}",
                f"dataset.val_dataset.augmentation.crop_size=[{args.height},{args.width}]",
                "dataset.val_dataset.augmentation.evaluation=center_crop",
                f"dataset.val_dataset.data_sources=[{source}]",
            ],
        )
        print(conditions())
        print(f"{PAIRS} pairs of {args.list.name}, crop {args.height}x{args.width}, D{args.disparity}, {args.iterations} iterations")
        network = build_network(spec)
        assert isinstance(network, FoundationStereo)
        error = fit(network, pairs_of(spec), steps=args.steps, rate=args.rate, goal=args.goal, every=args.every)
    reached = error < args.goal
    print(f"{'reached' if reached else 'NOT reached'}: EPE {error:.3f} px, goal {args.goal} px")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
