"""A stereo and a metric champion of small real data sets: the studies that `bench.runtimes` measures.

    python -m bench.champions stereo FOLDER OUT      FOLDER as for bench.real_data
    python -m bench.champions metric FOLDER OUT

Stereo: Middlebury 2005/06 at half size, ten pairs to learn from, four others to measure on; a run from random weights, then a search
that goes on from them.  Metric: 7-Scenes, one room, 32 frames to learn from, eight later ones to measure on; a search from random
weights.  Each takes about a quarter of an hour of one core and goes through the console scripts; OUT/study is the study, with its
champion in OUT/study/promotion.  Image formats: see trials/data/decoders.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from bench.timing import conditions
from trials.data.decoders import write_png

LISTS = {"stereo": "stereo_middlebury_2005_2006", "metric": "mono_7scenes_redkitchen"}
# an epoch is a list this many times over: short epochs would be spent on validation and checkpoints
REPEATS = {"stereo": 4, "metric": 4}
SEARCH = {
    "stereo": ["--trials", "3", "--epochs", "2", "--params", "lr,eraser_aug_prob", "--range", "train.optim.lr=5e-5:5e-4:log"],
    "metric": ["--trials", "6", "--epochs", "9", "--params", "lr,weight_decay", "--range", "train.optim.lr=5e-5:1e-3:log"],
}
FIRST_EPOCHS, FIRST_RATE = 8, 4e-4  # of the stereo run before the search


def halve_pair(row: list[str], root: Path, out: Path) -> list[str]:
    """Writes left, right and disparity of a line at half size under `out`; gives their paths relative to it.

    Colours are means of 2x2 pixels; a disparity is that of one of the four, halved, so that none is a mean across an edge.
    """
    for name in row[:3]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
    for name in row[:2]:
        colours = _even(Image.open(root / name).convert("RGB"))
        blocks = colours.reshape(colours.shape[0] // 2, 2, colours.shape[1] // 2, 2, 3)
        write_png(out / name, blocks.mean(axis=(1, 3)).round().astype(np.uint8))
    disparity = _even(Image.open(root / row[2]))[::2, ::2]
    write_png(out / row[2], (disparity / 2).round().astype(np.uint16))
    return row[:3]


def _even(image: Image.Image) -> NDArray[Any]:
    stored = np.asarray(image)
    return stored[: stored.shape[0] // 2 * 2, : stored.shape[1] // 2 * 2]


def write_lists(family: str, root: Path, out: Path) -> Path:
    """Writes OUT/train.txt and OUT/val.txt and, for stereo, the images that they name; gives the folder that the paths start from."""
    images = out / "data" if family == "stereo" else root
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        lines = (root / "annotations" / f"{LISTS[family]}_{split}.txt").read_text(encoding="utf-8").splitlines()
        rows = [line.split() for line in lines if line.strip()]
        if family == "stereo":
            rows = [halve_pair(row, root, images) for row in rows]
        listed = [" ".join(row) for row in rows] * (REPEATS[family] if split == "train" else 1)
        (out / f"{split}.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    return images


def spec_of(family: str, images: Path, out: Path) -> dict[str, Any]:
    """The spec of the study: the smallest encoder, no augmentation that a quarter of an hour cannot pay for."""
    stereo = family == "stereo"
    source: dict[str, Any] = {"dataset_name": "Kitti" if stereo else "MetricMonoDataset", "data_root": str(images)}
    source |= {} if stereo else {"depth_scale": 1000}
    crops = {"train": [96, 128], "val": [192, 224]} if stereo else {"train": [168, 224], "val": [168, 224]}

    def split(listed: str, **more: Any) -> dict[str, Any]:
        return {"data_sources": [{"data_file": str(out / f"{listed}.txt"), **source}], "workers": 0, **more}

    dataset: dict[str, Any] = {f"{name}_dataset": split("val", augmentation={"crop_size": crops["val"]}) for name in ("val", "infer")}
    if stereo:
        still = {"spatial_aug_prob": 0.0, "stretch_prob": 0.0, "yjitter_prob": 0.0, "hshift_prob": 0.0, "eraser_aug_prob": 0.2}
        dataset["train_dataset"] = split("train", batch_size=1, augmentation={"crop_size": crops["train"], **still})
        model: dict[str, Any] = {"model_type": "FoundationStereo", "max_disparity": 64, "hidden_dims": [48, 48, 48]}
        model |= {"train_iters": 4, "valid_iters": 4}
    else:
        dataset["train_dataset"] = split("train", batch_size=2, augmentation={"crop_size": crops["train"], "do_flip": True})
        dataset |= {"min_depth": 0.1, "max_depth": 6.0}
        model = {"model_type": "MetricDepthAnything"}
    schedule = {"lr_scheduler": "OneCycleLR", "lr": 3e-4, "warmup_steps": 0}
    train = {"optim": schedule, "clip_grad_norm": 1.0, "seed": 7}
    return {"dataset": dataset, "model": {**model, "encoder": "vitt"}, "train": train, "automl": {"finalists": 1}}


def run(*command: str) -> None:
    """One console command with its output shown; SystemExit with its status when it fails."""
    print("$", " ".join(command), flush=True)
    done = subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    """Prints what each command prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(LISTS))
    parser.add_argument("folder", type=Path, help="folder of the data sets, with annotations/")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    out, started = asked.out.resolve(), time.perf_counter()
    print(conditions(), flush=True)
    images = write_lists(asked.family, asked.folder.resolve(), out)
    spec = out / "spec.yaml"
    spec.write_text(yaml.safe_dump(spec_of(asked.family, images, out), sort_keys=False), encoding="utf-8")
    skill = ["--skill", f"depth_net_{'stereo' if asked.family == 'stereo' else 'mono'}", "-e", str(spec), "--yes"]
    first = []
    if asked.family == "stereo":
        run("automl", "off", *skill, "--results", str(out / "first"), f"train.num_epochs={FIRST_EPOCHS}", f"train.optim.lr={FIRST_RATE}")
        first = [f"train.pretrained_model_path={out / 'first' / 'train' / 'best.pth'}", "train.optim.lr=2e-4"]
    run("automl", "run", *skill, "--results", str(out / "study"), "--parallel", "1", *SEARCH[asked.family], *first)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
