"""One epoch of training, evaluation and inference on small real data sets, each through the console script.

    python -m bench.real_data FOLDER [--only NAME] [--out FOLDER]

FOLDER holds the data sets and `annotations/*.txt` with paths relative to it.  The networks are small and start from
random weights, so the errors say only that data, units and masks are read right and that every action runs; they are
no measure of the published models.  Prints a Markdown table; exit status 1 when an action fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.timing import conditions

ACTIONS = ("train", "evaluate", "inference")


@dataclass(frozen=True, kw_only=True)
class RealSet:
    """One data set: its class, its lists (train, and val for everything else), and what the network needs to know of it."""

    name: str
    dataset_name: str
    train: str
    val: str
    family: str = "stereo"
    crop: tuple[int, int] = (192, 288)
    depth_scale: float | None = None
    dataset: dict[str, Any] = field(default_factory=dict)


SETS = (
    RealSet(
        name="Middlebury v3, masks",
        dataset_name="Middlebury",
        train="stereo_middlebury_v3q_train_nocc",
        val="stereo_middlebury_v3q_val_nocc",
    ),
    RealSet(
        name="Middlebury 2005/06", dataset_name="Kitti", train="stereo_middlebury_2005_2006_train", val="stereo_middlebury_2005_2006_val"
    ),
    RealSet(name="Middlebury 2003", dataset_name="Kitti", train="stereo_middlebury_2003_all", val="stereo_middlebury_2003_all"),
    RealSet(name="KITTI 2015", dataset_name="Kitti", train="stereo_kitti2015_train", val="stereo_kitti2015_val"),
    RealSet(name="NYU", dataset_name="NYUDV2", train="mono_nyu_all", val="mono_nyu_all", family="metric"),
    RealSet(name="NYU, relative", dataset_name="NYUDV2Relative", train="mono_nyu_all", val="mono_nyu_all", family="relative"),
    RealSet(name="TUM", dataset_name="MetricMonoDataset", train="mono_tum_all", val="mono_tum_all", family="metric", depth_scale=5000),
    RealSet(
        name="7-Scenes",
        dataset_name="MetricMonoDataset",
        train="mono_7scenes_redkitchen_train",
        val="mono_7scenes_redkitchen_val",
        family="metric",
        depth_scale=1000,
    ),
    RealSet(
        name="KITTI depth",
        dataset_name="MetricMonoDataset",
        train="mono_kitti_depth_all",
        val="mono_kitti_depth_all",
        family="metric",
        depth_scale=256,
        dataset={"max_depth": 80.0},
    ),
    RealSet(
        name="Middlebury 2005/06, relative",
        dataset_name="RelativeMonoDataset",
        train="mono_relative_middlebury_2005_2006_train",
        val="mono_relative_middlebury_2005_2006_val",
        family="relative",
    ),
)


def spec_of(real: RealSet, root: Path, results: Path) -> dict[str, Any]:
    """The spec of all three actions for one data set."""
    stereo = real.family == "stereo"
    crop = list(real.crop) if stereo else [140, 182]

    def split(listing: str) -> dict[str, Any]:
        source: dict[str, Any] = {
            "data_file": str(root / "annotations" / f"{listing}.txt"),
            "dataset_name": real.dataset_name,
            "data_root": str(root),
        }
        if real.depth_scale is not None:
            source["depth_scale"] = real.depth_scale
        return {"data_sources": [source], "batch_size": 1, "workers": 1, "augmentation": {"crop_size": crop}}

    dataset: dict[str, Any] = {"train_dataset": split(real.train)}
    dataset |= {f"{name}_dataset": split(real.val) for name in ("val", "test", "infer")}
    model: dict[str, Any] = {"encoder": "vitt"}
    if stereo:
        dataset |= {"dataset_name": "StereoDataset", "max_disparity": 192}
        model |= {"model_type": "FoundationStereo", "max_disparity": 192, "hidden_dims": [48, 48, 48], "train_iters": 4, "valid_iters": 4}
    else:
        dataset["dataset_name"] = "MonoDataset"
        model["model_type"] = "MetricDepthAnything" if real.family == "metric" else "RelativeDepthAnything"
        if real.family == "metric":
            dataset |= {"min_depth": 0.001, "max_depth": 10.0}
    train = {"num_epochs": 1, "optim": {"lr": 2e-4, "warmup_steps": 2}}
    return {"results_dir": str(results), "dataset": dataset | real.dataset, "model": model, "train": train}


def run_action(action: str, spec: Path, *overrides: str) -> float:
    """Seconds that `depth_net <action>` took; SystemExit with its output when it fails."""
    script = Path(sys.executable).parent / "depth_net"
    started = time.perf_counter()
    done = subprocess.run([str(script), action, "-e", str(spec), *overrides], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"depth_net {action} -e {spec} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - started


def row_of(real: RealSet, root: Path, results: Path) -> str:
    """One line of the table: runs the three actions on `real`."""
    results.mkdir(parents=True)
    spec = results / "spec.yaml"
    spec.write_text(yaml.safe_dump(spec_of(real, root, results), sort_keys=False), encoding="utf-8")
    best = results / "train" / "best.pth"
    taken = [run_action("train", spec)]
    taken += [run_action(action, spec, f"{action}.checkpoint={best}") for action in ACTIONS[1:]]
    trained = json.loads((results / "train" / "result.json").read_text(encoding="utf-8"))
    measured = json.loads((results / "evaluate" / "results.json").read_text(encoding="utf-8"))
    pictures = [path for path in (results / "inference").rglob("*") if path.suffix in {".png", ".jpg"}]
    names = ("epe", "bp3") if real.family == "stereo" else ("abs_rel", "d1")
    figures = ", ".join(f"{name} {measured[name]:.3f}" for name in names)
    losses = trained["metrics"]
    return (
        f"| {real.name} | {real.dataset_name} | {measured['num_images']} | {measured['num_pixels']:,} "
        f"| {losses['train/loss']:.3g} / {losses['val/loss']:.3g} | {figures} | {len(pictures)} | {' / '.join(f'{s:.0f}' for s in taken)} |"
    )


def main() -> None:
    """Runs every data set and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder of the data sets, with annotations/")
    parser.add_argument("--only", help="run the data sets whose name starts so")
    parser.add_argument("--out", type=Path, help="keep the results here; default is a temporary folder")
    arguments = parser.parse_args()
    root = arguments.folder.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        print(conditions())
        print(
            "| data set | class | images | pixels with ground truth | train / val loss | after one epoch | pictures | seconds: "
            + " / ".join(ACTIONS)
            + " |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for number, real in enumerate(SETS):
            if arguments.only is None or real.name.startswith(arguments.only):
                print(row_of(real, root, out / f"{number:02d}"), flush=True)


if __name__ == "__main__":
    main()
