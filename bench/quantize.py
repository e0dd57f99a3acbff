"""What quantisation makes of size, latency and answers, on networks with random weights.

    python -m bench.quantize [--size 266 350]

Each row is `depth_net quantize` on one generated scene: bytes and median milliseconds before and after, the ratio of the milliseconds,
and how far the maps move (mean difference / spread of the map).  The last rows compute with torchao's own tensors, which expand the
weights anew at every call: the form that this program does not keep.  Random weights show sizes and speeds; what a trained network
loses, its validation list says.
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.timing import conditions
from deploy.latency import Latency, measure_latency
from deploy.onnx_export import export_onnx
from deploy.quantize import Quantized, quantize
from deploy.runtime import TorchPredictor, load_predictor
from models.registry import build_network
from search_spaces.spec import Spec, load_spec, spec_to_dict, with_values
from trials.data import build_dataset
from trials.data.sample import SampleSet, write_samples
from trials.evaluate import Predictor, fitted_spec

STATIC = {"quantize.backend": "onnxruntime", "quantize.mode": "static_ptq"}
STEREO = [
    "dataset.dataset_name=StereoDataset",
    "model.model_type=FoundationStereo",
    "model.encoder=vitt",
    "model.hidden_dims=[48,48,48]",
    "model.max_disparity=64",
    "model.valid_iters=4",
]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, the height and width it is measured at, and the algorithms of its int8 file."""

    name: str
    spec: Spec
    size: tuple[int, int]
    algorithms: tuple[str, ...]


def cases(scenes: SampleSet, size: tuple[int, int]) -> list[Case]:
    """The tiny networks and Depth Anything V2 vits."""

    def spec(kind: str, data_class: str, *overrides: str) -> Spec:
        lists = {split: scenes.list_file(kind, split) for split in ("train", "val")}
        sources = [
            f"dataset.{split}_dataset.data_sources=[{{data_file: {file}, dataset_name: {data_class}}}]" for split, file in lists.items()
        ]
        return load_spec(None, [*overrides, *sources, "dataset.val_dataset.workers=0", "quantize.max_metric_drop=99"])

    def mono(encoder: str) -> Spec:
        kind = ["dataset.dataset_name=MonoDataset", "model.model_type=MetricDepthAnything", "dataset.max_depth=20"]
        return spec("mono", "MetricMonoDataset", *kind, f"model.encoder={encoder}")

    return [
        Case(name="mono vitt", spec=mono("vitt"), size=(126, 182), algorithms=("minmax",)),
        Case(name="stereo vitt, D64", spec=spec("stereo", "GenericDataset", *STEREO), size=(128, 192), algorithms=("minmax",)),
        Case(name="mono vits", spec=mono("vits"), size=size, algorithms=("minmax", "max", "percentile")),
    ]


def moved(before: Predictor, after: Predictor, spec: Spec, size: tuple[int, int]) -> float:
    """Mean difference of two predictors' maps of the first validation image, as a share of the spread (maximum - minimum)."""
    item = build_dataset(fitted_spec(spec, "val", size), "val", training=False)[0]
    images = tuple(item[key].unsqueeze(0) for key in ("image", "right_image") if key in item)
    one, other = before.predict(images), after.predict(images)
    return float((one - other).abs().mean() / (one.max() - one.min()))


def times(before: Latency, after: Latency) -> str:
    """The two columns of a latency before and after: milliseconds, and the second as a multiple of the first."""
    return f"{before.median_ms:.1f} -> {after.median_ms:.1f} | {after.median_ms / before.median_ms:.2f}"


def row(case: Case, what: str, done: Quantized) -> str:
    """A line of the table in docs/benchmarks.md."""
    first, second = done.latency.rows
    distance = moved(load_predictor(done.source, case.spec), load_predictor(done.model, case.spec), case.spec, case.size)
    sizes = f"{done.size_before / 2**20:.1f} -> {done.size_after / 2**20:.1f}"
    shape = f"{case.size[0]}x{case.size[1]}"
    return f"| {case.name}, {shape} | {what} | {len(done.kinds)} | {sizes} | {times(first, second)} | {100 * distance:.2f} % |"


def torchao_row(case: Case, network: nn.Module) -> str:
    """The same network with torchao's tensors in the place of its Linear weights."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    held = copy.deepcopy(network).requires_grad_(False)
    quantize_(held, Int8WeightOnlyConfig(set_inductor_config=False))
    pair = {"before": TorchPredictor(network, case.spec.family), "after": TorchPredictor(held, case.spec.family)}
    images = tuple(torch.randn(1, 3, *case.size) for _ in range(2 if case.spec.family == "stereo" else 1))
    first, second = measure_latency(pair, images, warm_up=1, budget_s=10.0).rows
    return f"| {case.name}, {case.size[0]}x{case.size[1]} | torchao's tensors | | | {times(first, second)} | |"


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(266, 350), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    print(conditions())
    print("| network | quantised | parts | MiB | ms | ratio | the map moves by |\n|---|---|---|---|---|---|---|")
    last = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        scenes = write_samples(folder / "scenes", scenes=5, height=256, width=320, max_disparity=32)
        for case in cases(scenes, tuple(arguments.size)):
            torch.manual_seed(0)
            network = build_network(case.spec).eval()
            checkpoint, model = folder / f"{case.name}.pth", folder / f"{case.name}.onnx"
            state = {f"model.{key}": value for key, value in network.state_dict().items()}
            torch.save({"pytorch-lightning_version": "2.6", "state_dict": state, "spec": spec_to_dict(case.spec)}, checkpoint)
            spec = with_values(fitted_spec(case.spec, "val", case.size), {"quantize.overwrite": True})
            print(row(case, "torchao int8", quantize(checkpoint, spec, folder)), flush=True)
            export_onnx(network, case.spec, model, height=case.size[0], width=case.size[1], batch=1)
            for algorithm in case.algorithms:
                chosen = with_values(spec, {**STATIC, "quantize.algorithm": algorithm})
                print(row(case, f"onnxruntime {algorithm}", quantize(model, chosen, folder)), flush=True)
            last.append(torchao_row(case, network))
    print("\n".join(last))


if __name__ == "__main__":
    main()
