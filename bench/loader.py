"""Training samples a second: from the decoded cache, against files that are decoded each time they are read.

    python -m bench.loader [FOLDER] [--rounds 5]

FOLDER holds real data sets and `annotations/*.txt` with paths relative to it; without it only generated pairs of 540x960 are read.
Both sides augment alike, give the same tensors bit for bit (asserted first, for every sample and two epochs) and take turns.  The side
without a cache remembers nothing, as with a set that is larger than a process's memory of decoded files.  One process, one thread.
`again` is a first epoch after the system forgot the pack (as after a restart): wall-clock, because it waits for the disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from bench.timing import conditions
from search_spaces.spec import Spec, spec_from_dict, with_values
from trials.data import DepthDataset, build_dataset, loader
from trials.data.pack import SAMPLES
from trials.data.sample import write_samples


@dataclass(frozen=True, kw_only=True)
class Set:
    """One list and what it takes to read it."""

    name: str
    data_file: Path
    root: Path | None
    dataset_name: str
    crop: tuple[int, int]
    depth_scale: float | None = None

    @property
    def spec(self) -> Spec:
        """Training on the list, without a cache."""
        source: dict[str, Any] = {"data_file": str(self.data_file), "dataset_name": self.dataset_name}
        source |= {"data_root": str(self.root)} if self.root else {}
        source |= {"depth_scale": self.depth_scale} if self.depth_scale else {}
        split = {"data_sources": [source], "augmentation": {"crop_size": list(self.crop), "do_flip": True}}
        metric = self.dataset_name in {"NYUDV2", "MetricMonoDataset"}
        model = "MetricDepthAnything" if metric else "FoundationStereo"
        depths = {"min_depth": 0.001, "max_depth": 80.0} if metric else {"max_disparity": 416}
        return spec_from_dict({"model": {"model_type": model, "encoder": "vits"}, "dataset": depths | {"train_dataset": split}})


def generated(folder: Path) -> list[Set]:
    """Pairs of the size of Scene Flow."""
    scenes = write_samples(folder, scenes=6, seed=1, height=540, width=960, max_disparity=128)
    file = scenes.list_file("stereo", "train")
    return [Set(name="generated pairs 540x960", data_file=file, root=None, dataset_name="GenericDataset", crop=(320, 736))]


def real(root: Path) -> list[Set]:
    """The lists of a folder of real data that hold more than a few images."""

    def of(name: str, file: str, dataset_name: str, crop: tuple[int, int], depth_scale: float | None = None) -> Set:
        return Set(
            name=name,
            data_file=root / "annotations" / f"{file}.txt",
            root=root,
            dataset_name=dataset_name,
            crop=crop,
            depth_scale=depth_scale,
        )

    return [
        of("Middlebury v3 quarter", "stereo_middlebury_v3q_train", "Middlebury", (320, 640)),
        of("Middlebury 2005/06", "stereo_middlebury_2005_2006_train", "Kitti", (320, 416)),
        of("KITTI 2015", "stereo_kitti2015_train", "Kitti", (320, 736)),
        of("7-Scenes", "mono_7scenes_redkitchen_train", "MetricMonoDataset", (518, 518), 1000),
        of("NYU", "mono_nyu_all", "NYUDV2", (518, 518)),
    ]


def check_same(plain: DepthDataset, ours: DepthDataset) -> None:
    """AssertionError unless both give the same tensors."""
    for epoch in range(2):
        for dataset in (plain, ours):
            dataset.set_epoch(epoch)
        for index in range(len(plain)):
            one, other = plain[index], ours[index]
            for name, value in one.items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, other[name]), f"{one['path']}: {name} differs"  # type: ignore[literal-required]


def cpu_ms(dataset: DepthDataset, epoch: int) -> float:
    """CPU milliseconds a sample over one epoch."""
    dataset.set_epoch(epoch)
    started = time.process_time()
    for index in range(len(dataset)):
        dataset[index]
    return 1e3 * (time.process_time() - started) / len(dataset)


def wall_ms(dataset: DepthDataset) -> float:
    """Wall-clock milliseconds a sample over one epoch."""
    started = time.perf_counter()
    for index in range(len(dataset)):
        dataset[index]
    return 1e3 * (time.perf_counter() - started) / len(dataset)


def forget(cache: Path) -> None:
    """Drops the packs from the system's memory."""
    for file in cache.glob(f"decoded/*/{SAMPLES}"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def row_of(chosen: Set, scratch: Path, rounds: int) -> str:
    """One line of the table."""
    cache = Path(tempfile.mkdtemp(dir=scratch))
    spec = chosen.spec
    cached_spec = with_values(spec, {"dataset.cache": "decoded", "dataset.cache_dir": str(cache)})
    plain = build_dataset(spec, "train", training=True, seed=1)
    started = time.perf_counter()
    ours = build_dataset(cached_spec, "train", training=True, seed=1)
    made_s = time.perf_counter() - started
    check_same(plain, ours)
    pairs = [(cpu_ms(plain, epoch), cpu_ms(ours, epoch)) for epoch in range(rounds)]
    ratio = statistics.median(a / b for a, b in pairs)
    size = sum(file.stat().st_size for file in cache.glob(f"decoded/*/{SAMPLES}")) / 2**20
    del ours  # the system forgets no page that is mapped
    forget(cache)
    again = wall_ms(build_dataset(cached_spec, "train", training=True, seed=1))
    sizes = f"| {chosen.name} | {len(plain)} | {chosen.crop[0]}x{chosen.crop[1]} "
    times = f"| {min(a for a, _ in pairs):.1f} | {min(b for _, b in pairs):.1f} | {ratio:.1f} "
    return f"{sizes}{times}| {made_s / len(plain) * 1e3:.0f} | {size / len(plain):.1f} | {again:.1f} |"


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="real data")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    loader.CACHE_BYTES = 0  # the side without a cache is to decode every time
    print(conditions())
    print(
        "| list | samples | crop | decoded each time, CPU ms | from the pack | ratio | making it, ms a sample | MiB a sample | again, ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="loader-bench-") as scratch:
        for chosen in generated(Path(scratch) / "scenes") + (real(arguments.folder.resolve()) if arguments.folder else []):
            print(row_of(chosen, Path(scratch), arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
