"""Seconds, peak memory and size of one export at full size, in a process of its own.

    python -m bench.export_full [--encoder vits] [--height 576] [--width 960] [--max-disparity 416] [--iterations 22] [--compare]

Random weights: they change neither the graph nor the time.  The peak is the resident set of the whole process (torch and the network
included), as the kernel counts it, from its beginning.  With --compare torch and ONNX Runtime each answer one generated pair, once, and
their maps are held against each other; exit status 1 when they differ by more than the export's gate allows.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from bench.timing import conditions
from deploy.onnx_export import export_onnx
from deploy.onnx_runtime import OnnxPredictor
from deploy.parity import Comparison, tolerance_for
from deploy.samples import sample_batches
from deploy.torch_runtime import TorchPredictor
from models.registry import build_network
from search_spaces.spec import Spec, load_spec, with_values
from trials.data.sample import write_samples
from trials.evaluate import Predictor, images_of

GIB = 2.0**30


def peak_gib() -> float:
    """Of this process since it began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vits")
    for name, value in (("height", 576), ("width", 960), ("max-disparity", 416), ("iterations", 22), ("opset", 17)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--compare", action="store_true")
    asked = parser.parse_args(arguments)
    sizes = [f"model.max_disparity={asked.max_disparity}", f"dataset.max_disparity={asked.max_disparity}"]
    kind = ["dataset.dataset_name=StereoDataset", "model.model_type=FoundationStereo", f"model.encoder={asked.encoder}"]
    spec = load_spec(None, [*kind, *sizes])
    torch.manual_seed(0)
    print(conditions(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        network, started = build_network(spec), time.process_time()
        report = export_onnx(
            network,
            spec,
            Path(folder) / "model.onnx",
            height=asked.height,
            width=asked.width,
            batch=1,
            iterations=asked.iterations,
            opset=asked.opset,
        )
        cpu_s = time.process_time() - started
        print(f"FoundationStereo {asked.encoder} {asked.height}x{asked.width}, D{asked.max_disparity}, {asked.iterations} iterations:")
        print(f"opset {report.opset}, {report.nodes} nodes, {report.size_bytes / 2**20:.1f} MiB")
        print(f"{report.seconds:.0f} s, {cpu_s:.0f} CPU s, peak {peak_gib():.1f} GiB", flush=True)
        if asked.compare:
            pair = scene(Path(folder) / "scene", spec, height=asked.height, width=asked.width)
            return compare_once(network, with_values(spec, {"model.valid_iters": asked.iterations}), report.path, pair)
    return 0


def scene(folder: Path, spec: Spec, *, height: int, width: int) -> tuple[Tensor, ...]:
    """A generated pair of that size, normalised as the spec says, each 1 x 3 x H x W."""
    drawn = write_samples(folder, scenes=3, seed=0, height=height, width=width, max_disparity=min(192, spec.model.max_disparity))
    source = f"{{data_file: {drawn.list_file('stereo', 'val')}, dataset_name: GenericDataset}}"
    listed = with_values(spec, {"dataset.val_dataset.data_sources": [yaml.safe_load(source)]})
    return images_of(next(sample_batches(listed, "val", 1)))


def compare_once(network: nn.Module, spec: Spec, model: Path, pair: tuple[Tensor, ...]) -> int:
    """Prints seconds and peak of one answer of each runtime and how far they differ; 1 when that is too far."""
    comparison, answers = Comparison("torch", "onnxruntime", tolerance=tolerance_for(spec)), []
    starts: tuple[Callable[[], Predictor], ...] = (
        lambda: OnnxPredictor(model, runtime="cpu"),
        lambda: TorchPredictor(network, spec.family, iterations=spec.model.valid_iters, device="cpu"),
    )
    for start in starts:
        loading = time.process_time()
        predictor = start()
        began, began_cpu = time.perf_counter(), time.process_time()
        answers.append(predictor.predict(pair))
        taken = f"{time.perf_counter() - began:.0f} s, {time.process_time() - began_cpu:.0f} CPU s"
        print(f"{predictor.name}: loaded in {began_cpu - loading:.0f} CPU s, one pair in {taken}, peak {peak_gib():.1f} GiB", flush=True)
    comparison.add(answers[1], answers[0])
    check, reach = comparison.check(), answers[1]
    print(f"disparities of torch {reach.min():.1f} to {reach.max():.1f} px, mean {reach.mean():.1f}")
    print(f"largest difference {check.max_abs} px, mean {check.mean_abs} px: {check.reason or 'within the tolerance of the gate'}")
    return 0 if check.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
