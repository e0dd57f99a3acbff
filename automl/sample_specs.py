"""`depth_net sample`: scenes with exact ground truth and two specs that run on them as they stand.

The specs are small on purpose (encoder `vitt`, narrow layers, few refinements): a search over them takes minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from automl.console import screen, tell
from automl.entry import DONE
from automl.folders import check_writable
from search_spaces.errors import DataError, shell_word

HEIGHT, WIDTH, MAX_DISPARITY = 128, 192, 64
SPLITS = ("train", "val", "test")


def sample_action(out: Path, scenes: int, seed: int) -> int:
    """Writes scenes, lists and specs into `out`; says what to run next."""
    from trials.data.sample import write_samples

    check_writable(out, hint="choose another folder with --out")
    try:
        written = write_samples(out, scenes=scenes, seed=seed, height=HEIGHT, width=WIDTH, max_disparity=MAX_DISPARITY)
        for family, spec in (("stereo", stereo_spec(out)), ("mono", mono_spec(out))):
            head = f"# A small {family} spec for the sample scenes beside it; every other key keeps its default.\n"
            path = out / f"{family}.yaml"
            if not path.exists():  # it may have been edited since
                path.write_text(head + yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=140), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}", hint="choose another folder with --out") from error
    counts = ", ".join(f"{count} {split}" for split, count in written.counts.items())
    console = screen()
    console.print(
        f"{'wrote' if written.written else 'found'} {scenes} scenes in {out} ({counts}); specs: {out / 'stereo.yaml'}, {out / 'mono.yaml'}",
        soft_wrap=True,
        markup=False,
    )
    tell(console, f"next: automl run --skill depth_net_stereo -e {shell_word(out / 'stereo.yaml')} --trials 6 --epochs 3")
    return DONE


def stereo_spec(folder: Path) -> dict[str, Any]:
    """A FoundationStereo spec of smoke size."""
    dataset = _lists(folder, kind="stereo", name="GenericDataset", train_crop=[64, 128], crop=[HEIGHT, WIDTH])
    return {
        "dataset": {"dataset_name": "StereoDataset", "max_disparity": MAX_DISPARITY, **dataset},
        "model": {
            "model_type": "FoundationStereo",
            "encoder": "vitt",
            "hidden_dims": [48, 48, 48],
            "max_disparity": MAX_DISPARITY,
            "train_iters": 4,
            "valid_iters": 4,
        },
        "train": {"num_epochs": 3, "precision": "fp32", "optim": {"lr": 0.0003, "warmup_steps": 2}},
        "export": {"input_height": HEIGHT, "input_width": WIDTH, "valid_iters": 4},
    }


def mono_spec(folder: Path) -> dict[str, Any]:
    """A metric Depth Anything spec of smoke size; its crop is a multiple of 14."""
    size = [HEIGHT // 14 * 14, WIDTH // 14 * 14]
    return {
        "dataset": {
            "dataset_name": "MonoDataset",
            "min_depth": 0.001,
            "max_depth": 10.0,
            **_lists(folder, kind="mono", name="MetricMonoDataset", train_crop=size, crop=size),
        },
        "model": {"model_type": "MetricDepthAnything", "encoder": "vitt"},
        "train": {"num_epochs": 3, "precision": "fp32", "optim": {"lr": 0.0001, "warmup_steps": 2}},
        "export": {"input_height": size[0], "input_width": size[1]},
    }


def _lists(folder: Path, *, kind: str, name: str, train_crop: list[int], crop: list[int]) -> Mapping[str, Any]:
    """The four splits; inference shows the test scenes.  No loader processes: the images are tiny."""
    splits: dict[str, Any] = {}
    for split in (*SPLITS, "infer"):
        source = {"data_file": str(folder.resolve() / f"{kind}_{'test' if split == 'infer' else split}.txt"), "dataset_name": name}
        size = train_crop if split == "train" else crop
        splits[f"{split}_dataset"] = {
            "data_sources": [source],
            "batch_size": 2 if split == "train" else 1,
            "workers": 0,
            "augmentation": {"crop_size": list(size)},
        }
    return splits
