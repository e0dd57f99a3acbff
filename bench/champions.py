"""A stereo and a metric champion of small real data sets: the studies that `bench.runtimes` measures.

    python -m bench.champions stereo FOLDER OUT      FOLDER as for bench.real_data
    python -m bench.champions metric FOLDER OUT

Stereo: two pairs of Middlebury 2005/06 at a third of their size, learned by heart and measured on themselves, because so short a run
learns no matching that carries over; a run from random weights, then a search that goes on from them.  Metric: 7-Scenes, one room, 32
frames to learn from, eight later ones to measure on; a search from random weights.  Each takes five to ten minutes of one core and goes
through the console scripts; OUT/study is the study, with its champion in OUT/study/promotion.
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
from PIL import Image

from bench.timing import conditions
from trials.data.decoders import write_png

LISTS = {"stereo": "stereo_middlebury_2005_2006", "metric": "mono_7scenes_redkitchen"}
# an epoch is a list this many times over: short epochs would be spent on validation and checkpoints
REPEATS = {"stereo": 10, "metric": 4}
PAIRS, SIZE, SHARE = 2, (96, 128), 3  # of the stereo champion; one pixel of its images is SHARE of the files
SEARCH = {
    "stereo": ["--trials", "2", "--epochs", "2", "--range", "train.optim.lr=5e-5:4e-4:log", "--engine", "inline"],
    "metric": ["--trials", "6", "--epochs", "9", "--range", "train.optim.lr=5e-5:1e-3:log"],
}
PARAMS = ["--params", "lr,weight_decay"]
# the stereo run before the search: a high rate that stays
FIRST = ["train.num_epochs=7", "train.optim.lr=4e-4", "train.optim.lr_scheduler=MultiStepLR", "train.optim.warmup_steps=4"]


def shrink_pair(row: list[str], root: Path, out: Path) -> None:
    """Writes left, right and disparity of a line under `out`: the middle of each, made smaller to SIZE.

    Colours are means of SHARE x SHARE pixels; a disparity is that of one of them, so that none is a mean across an edge.
    """
    height, width = SIZE
    for name in row[:3]:
        stored = np.asarray(Image.open(root / name))
        top, left = ((side - SHARE * wanted) // 2 for side, wanted in zip(stored.shape[:2], SIZE, strict=True))
        middle = stored[top : top + SHARE * height, left : left + SHARE * width]
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if middle.ndim == 2:
            write_png(out / name, (middle[::SHARE, ::SHARE] / SHARE).round().astype(np.uint16))
        else:
            colours = middle.reshape(height, SHARE, width, SHARE, 3).mean(axis=(1, 3))
            write_png(out / name, colours.round().astype(np.uint8))


def write_lists(family: str, root: Path, out: Path) -> Path:
    """Writes OUT/train.txt and OUT/val.txt and, for stereo, the images that they name; gives the folder that the paths start from."""
    images = out / "data" if family == "stereo" else root
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        source = "train" if family == "stereo" else split
        lines = (root / "annotations" / f"{LISTS[family]}_{source}.txt").read_text(encoding="utf-8").split("\n")
        lines = [line for line in lines if line.strip()]
        if family == "stereo":
            lines = lines[:PAIRS]
            for line in lines:
                shrink_pair(line.split(), root, images)
        listed = lines * (REPEATS[family] if split == "train" else 1)
        (out / f"{split}.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    return images


def spec_of(family: str, images: Path, out: Path) -> dict[str, Any]:
    """The spec of the study: the smallest encoder, and no augmentation that a few minutes cannot pay for."""
    stereo = family == "stereo"
    source: dict[str, Any] = {"dataset_name": "Kitti" if stereo else "MetricMonoDataset", "data_root": str(images)}
    source |= {} if stereo else {"depth_scale": 1000}
    crop = {"crop_size": list(SIZE) if stereo else [168, 224]}

    def split(listed: str, **more: Any) -> dict[str, Any]:
        return {"data_sources": [{"data_file": str(out / f"{listed}.txt"), **source}], "workers": 0, **more}

    dataset: dict[str, Any] = {f"{name}_dataset": split("val", augmentation=crop) for name in ("val", "infer")}
    if stereo:
        none = dict.fromkeys(("spatial_aug_prob", "stretch_prob", "yjitter_prob", "hshift_prob", "eraser_aug_prob", "color_aug_prob"), 0.0)
        dataset["train_dataset"] = split("train", batch_size=2, augmentation={**crop, **none})
        model: dict[str, Any] = {"model_type": "FoundationStereo", "max_disparity": 32, "hidden_dims": [48, 48, 48]}
        model |= {"train_iters": 4, "valid_iters": 4}
    else:
        dataset["train_dataset"] = split("train", batch_size=2, augmentation={**crop, "do_flip": True})
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
        run("automl", "off", *skill, "--results", str(out / "first"), *FIRST)
        first = [f"train.pretrained_model_path={out / 'first' / 'train' / 'best.pth'}", "train.optim.lr=2e-4"]
    run("automl", "run", *skill, "--results", str(out / "study"), "--parallel", "1", *PARAMS, *SEARCH[asked.family], *first)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
