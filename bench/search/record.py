"""Records real training curves: random configurations of a tiny stereo network through the product's own data and optimiser.

    python -m bench.search.record --table samples --configs 300 --minutes 4
    python -m bench.search.record --table middlebury --configs 300 --minutes 4 --root ../shared/data/real

One line a training is added to bench/search/tables/NAME.csv; a run ends after `--minutes` and the next one goes on.  Configurations
are drawn once, by their number, before any searcher sees the table.  `bench.search.recorded` reads it.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.search.recorded import EPOCHS, TABLES, recorded_space
from bench.search.synthetic import values_at
from bench.search.tiny_stereo import TinyStereo
from search_spaces.space import SearchSpace, Value
from search_spaces.spec import Spec, load_spec, with_values
from trials.data import Batch, build_dataset, collate
from trials.data.sample import write_samples
from trials.losses import sequence_loss
from trials.optim import make_optimizer, make_schedule, make_scheduler

STREAM = 4242
PLACES = {
    "samples": {"height": 64, "width": 128, "disparity": 64},
    "middlebury": {"height": 96, "width": 160, "disparity": 96},
}


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Annotation files of a recording, the folder their paths start from, and their class."""

    train: Path
    val: Path
    root: Path | None
    data_class: str


def spec_of(table: str, lists: Lists) -> Spec:
    """What every recorded training shares."""
    place = PLACES[table]
    root = f", data_root: {lists.root}" if lists.root else ""
    sources = {
        split: f"{{data_file: {path}, dataset_name: {lists.data_class}{root}}}"
        for split, path in (("train", lists.train), ("val", lists.val))
    }
    crop = f"[{place['height']},{place['width']}]"
    return load_spec(
        None,
        [
            "dataset.dataset_name=StereoDataset",
            "model.model_type=FoundationStereo",
            "model.encoder=vitt",
            f"model.max_disparity={place['disparity']}",
            f"dataset.max_disparity={place['disparity']}",
            f"dataset.train_dataset.augmentation.crop_size={crop}",
            f"dataset.val_dataset.augmentation.crop_size={crop}",
            "dataset.val_dataset.augmentation.evaluation=center_crop",
            f"dataset.train_dataset.data_sources=[{sources['train']}]",
            f"dataset.val_dataset.data_sources=[{sources['val']}]",
            "dataset.train_dataset.batch_size=2",
            f"train.num_epochs={EPOCHS}",
            "train.optim.lr_scheduler=CosineAnnealingLR",
        ],
    )


def train(spec: Spec, seed: int) -> list[float]:
    """End-point error in pixels on the val list after each epoch; NaN from the epoch on in which the loss was not finite."""
    torch.manual_seed(seed)
    data = build_dataset(spec, "train", training=True, seed=seed)
    held = build_dataset(spec, "val", training=False)
    held_batch = collate([held[index] for index in range(len(held))])
    network, size = TinyStereo(max_disparity=spec.dataset.max_disparity), spec.dataset.train_dataset.batch_size
    optimizer = make_optimizer(network, spec)
    scheduler = make_scheduler(optimizer, make_schedule(spec, -(-len(data) // size) * EPOCHS))
    order = np.random.default_rng(seed)
    errors: list[float] = []
    for epoch in range(EPOCHS):
        data.set_epoch(epoch)
        shuffled = order.permutation(len(data)).tolist()
        for start in range(0, len(data), size):
            loss = _step(network, optimizer, collate([data[index] for index in shuffled[start : start + size]]), spec.train.clip_grad_norm)
            if not math.isfinite(loss):
                return errors + [math.nan] * (EPOCHS - len(errors))
            scheduler.step()
        with torch.inference_mode():
            error = (network(held_batch["image"], held_batch["right_image"])[1][-1] - held_batch["target"]).abs()
        errors.append(float(error[held_batch["valid"]].mean()))
    return errors


def _step(network: TinyStereo, optimizer: torch.optim.Optimizer, batch: Batch, clip: float) -> float:
    """The loss of one optimiser step."""
    optimizer.zero_grad(set_to_none=True)
    initial, predictions = network(batch["image"], batch["right_image"])
    loss = sequence_loss(initial, predictions, batch["target"], batch["valid"])
    assert loss is not None, "a crop without a valid pixel"
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimizer.step()
    return loss.item()


def record(table: str, lists: Lists, *, configs: int, seconds: float) -> int:
    """Adds trainings to the table until it has `configs` lines or the time is up; gives the number of lines."""
    space, spec = recorded_space(), spec_of(table, lists)
    points = np.random.default_rng([STREAM]).uniform(size=(configs, len(space.parameters)))
    path = TABLES / f"{table}.csv"
    path.parent.mkdir(exist_ok=True)
    done = len(path.read_text(encoding="utf-8").splitlines()) - 1 if path.is_file() else -1
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if done < 0:
            writer.writerow([*(parameter.key for parameter in space.parameters), "epoch_s", *(f"epoch {n + 1}" for n in range(EPOCHS))])
            done = 0
        started = time.monotonic()
        while done < configs and time.monotonic() - started < seconds:
            values = space.values_of(spec) if done == 0 else values_at(space, points[done])  # the default first
            before = time.process_time()
            errors = train(with_values(spec, values), seed=done)
            epoch_s = (time.process_time() - before) / max(1, sum(math.isfinite(error) for error in errors))
            writer.writerow([*_cells(space, values), f"{epoch_s:.3f}", *(f"{error:.4f}" for error in errors)])
            stream.flush()
            done += 1
    return done


def _cells(space: SearchSpace, values: Mapping[str, Value]) -> list[str]:
    """The values as text; a float with the digits that give it back."""
    return [
        repr(values[parameter.key]) if parameter.kind != "categorical" else str(values[parameter.key]) for parameter in space.parameters
    ]


def main() -> int:
    """0 when the table is whole, 1 when another call is needed."""
    parser = argparse.ArgumentParser(prog="python -m bench.search.record", description="record real training curves")
    parser.add_argument("--table", choices=sorted(PLACES), required=True)
    parser.add_argument("--configs", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=4.0, help="of this call; another one goes on")
    parser.add_argument("--root", type=Path, default=None, help="folder of the real pairs, for the table middlebury")
    args = parser.parse_args()
    if args.table == "middlebury" and args.root is None:
        parser.error("--table middlebury needs --root")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.table == "samples":
            place = PLACES["samples"]
            scenes = write_samples(
                Path(folder) / "scenes", scenes=24, seed=3, height=place["height"], width=place["width"], max_disparity=48
            )
            train_list, val_list = scenes.list_file("stereo", "train"), scenes.list_file("stereo", "val")
            lists = Lists(train=train_list, val=val_list, root=None, data_class="GenericDataset")
        else:
            names = args.root / "annotations" / "stereo_middlebury_2005_2006_{}.txt"
            train_list, val_list = (Path(str(names).format(split)) for split in ("train", "val"))
            lists = Lists(train=train_list, val=val_list, root=args.root, data_class="Kitti")
        done = record(args.table, lists, configs=args.configs, seconds=60.0 * args.minutes)
    print(f"{args.table}: {done} of {args.configs} trainings")
    return 0 if done >= args.configs else 1


if __name__ == "__main__":
    raise SystemExit(main())
