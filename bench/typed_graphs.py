"""What FP16 and BF16 cost a trained model, and what the float32 islands of the typed graph are worth.

    python -m bench.typed_graphs STUDY [--samples 4]

The promoted ONNX file of a study against its typed graphs, all in ONNX Runtime on the CPU (BF16: float32 with every result rounded to
bfloat16, see deploy.precision), on images of the test or val list.  `rule` is what `depth_net gen_trt_engine` builds from; `without the
exceptions` is automatic mixed precision alone; `everything` has no float32 at all.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

import onnx

from automl.console import number_text
from bench.timing import conditions
from deploy.engine import write_typed
from deploy.onnx_runtime import OnnxPredictor
from deploy.parity import Candidate, Check, coarse_tolerance, compare
from deploy.precision import Precision, typed_graph
from deploy.samples import samples_at, split_with_images
from search_spaces.spec import Spec, load_spec

VARIANTS: dict[str, bool | None] = {"rule": True, "without the exceptions": False, "everything": None}  # None: every node is named


def figures(model: Path, spec: Spec, precision: Precision, *, variant: str, samples: int, scratch: Path) -> tuple[Check, int, int]:
    """The typed graph against `model`, its operators in float32, and its bytes."""
    layers: Sequence[str] = [f"*:{precision.value.lower()}"] if VARIANTS[variant] is None else ()
    changed: AbstractContextManager[object] = nullcontext()
    if VARIANTS[variant] is not True:
        changed = patch("deploy.precision._exact_nodes", return_value=set())
    with changed:
        typed = typed_graph(onnx.load(model), precision, layers=layers)
    path = scratch / "typed.onnx"
    write_typed(typed, path)
    reference, lower = OnnxPredictor(model, runtime="cpu"), OnnxPredictor(path, runtime="cpu")
    reference.name, lower.name = "float32", "typed"
    assert reference.fixed_size is not None
    images = samples_at(reference.fixed_size, spec, split_with_images(spec), samples)
    (check,) = compare(reference, [Candidate(predictor=lower, tolerance=coarse_tolerance(spec))], spec, images).values()
    return check, typed.nodes.get("FP32", 0), path.stat().st_size


def main() -> None:
    """One row a type and variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path)
    parser.add_argument("--samples", type=int, default=4)
    arguments = parser.parse_args()
    folder = arguments.study / "promotion"
    spec = load_spec(folder / "spec.yaml")
    print(conditions())
    print("| type | float32 | operators in float32 | MiB | largest | mean | metric moves by |\n|---|---|---|---|---|---|---|")
    for precision in (Precision.FP16, Precision.BF16):
        for variant in VARIANTS:
            with tempfile.TemporaryDirectory() as scratch:
                check, exact, size = figures(
                    folder / "model.onnx", spec, precision, variant=variant, samples=arguments.samples, scratch=Path(scratch)
                )
            moved = f"{number_text(check.max_abs)} | {number_text(check.mean_abs)} | {check.metric} {number_text(check.metric_change)}"
            print(
                f"| {precision} | {variant} | {exact} | {size / 2**20:.1f} | {moved if check.max_abs is not None else check.reason} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
