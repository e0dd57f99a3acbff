"""Seconds, peak memory and size of one export at full size, in a process of its own.

    python bench/export_full.py [--encoder vits] [--height 576] [--width 960] [--max-disparity 416] [--iterations 22] [--opset 17] [--run]

Random weights: they change neither the graph nor the time.  The peak is the resident set of the whole process (torch and the network
included), as the kernel counts it.  With --run the file is also run once in ONNX Runtime; the peak then holds that too.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.timing import conditions
from deploy.onnx_export import export_onnx
from deploy.onnx_runtime import OnnxPredictor
from models.registry import build_network
from search_spaces.spec import load_spec

GIB = 2.0**30


def peak_gib() -> float:
    """Of this process since it began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vits")
    for name, value in (("height", 576), ("width", 960), ("max-disparity", 416), ("iterations", 22), ("opset", 17)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--run", action="store_true")
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
        if asked.run:
            pair = tuple(torch.randn(1, 3, asked.height, asked.width) for _ in range(2))
            predictor, started = OnnxPredictor(report.path), time.perf_counter()
            finite = bool(torch.isfinite(predictor.predict(pair)).all())
            print(f"ONNX Runtime: {time.perf_counter() - started:.0f} s, all values finite: {finite}, peak {peak_gib():.1f} GiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
