"""Does the gate of the export notice a wrong weight?  One weight tensor of the exported file after the other is changed.

    python -m bench.broken_export STUDY [--tensors 12] [--factors 1.02 1.5]

Takes the promoted model of a study: its checkpoint is exported again as `depth_net export` does it, with one tensor of the graph multiplied
by a factor between drawing and gate.  Each row says how far the answers moved and what became of the file.  A tensor that moves nothing
(a layer that training left near zero) may pass: its file gives the checkpoint's answers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
from torch import nn

from automl.console import number_text
from bench.timing import conditions
from deploy.gated_export import Gated, export_gated
from deploy.onnx_export import ExportReport, export_onnx
from deploy.runtime import load_network
from deploy.samples import split_with_images
from deploy.sidecar import ModelFacts
from search_spaces.spec import Spec, load_spec

LEAST_VALUES = 16  # smaller tensors are shapes and scalars of the graph


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A promoted model: its network, its spec with the lists, and what its file says of itself."""

    network: nn.Module
    spec: Spec
    facts: ModelFacts


def champion_of(study: Path) -> Champion:
    """The promoted model of a study."""
    folder = study / "promotion"
    spec = load_spec(folder / "spec.yaml")
    facts = ModelFacts.from_text((folder / "model.json").read_text(encoding="utf-8"), place=str(folder / "model.json"))
    assert spec.export.checkpoint is not None
    return Champion(network=load_network(Path(spec.export.checkpoint), spec), spec=spec, facts=facts)


def weights_of(model: onnx.ModelProto, count: int, *, seed: int = 0) -> list[str]:
    """`count` names of float32 tensors of the graph, drawn at random."""
    names = [
        value.name for value in model.graph.initializer if value.data_type == onnx.TensorProto.FLOAT and np.prod(value.dims) >= LEAST_VALUES
    ]
    return [str(name) for name in np.random.default_rng(seed).choice(names, min(count, len(names)), replace=False)]


def gate(champion: Champion, folder: Path, name: str | None, factor: float) -> Gated:
    """The export of the champion with the tensor `name` multiplied by `factor`, or as it is."""
    facts = champion.facts

    def draw(path: Path) -> ExportReport:
        report = export_onnx(
            champion.network, champion.spec, path, height=facts.height, width=facts.width, batch=facts.batch, iterations=facts.iterations
        )
        if name is not None:
            model = onnx.load(path)
            (tensor,) = (value for value in model.graph.initializer if value.name == name)
            changed = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed, name))
            onnx.save(model, path)
        return report

    return export_gated(
        champion.network,
        champion.spec,
        folder / "model.onnx",
        draw,
        size=(facts.height, facts.width),
        samples=4,
        split=split_with_images(champion.spec),
        openvino=False,
    )


def main() -> None:
    """One row a tensor and factor, and the sidecar of a rejected file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path)
    parser.add_argument("--tensors", type=int, default=12)
    parser.add_argument("--factors", type=float, nargs="+", default=[1.02, 1.5])
    arguments = parser.parse_args()
    champion = champion_of(arguments.study)
    print(conditions())
    print("| tensor | factor | largest | mean | metric | file |\n|---|---|---|---|---|---|")
    told = None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        honest = gate(champion, folder, None, 1.0)
        rows: list[tuple[str | None, float]] = [
            (name, factor) for name in weights_of(onnx.load(honest.report.path), arguments.tensors) for factor in arguments.factors
        ]
        for name, factor in [(None, 1.0), *rows]:
            done = gate(champion, folder, name, factor)
            (check,) = done.checks.values()
            figures = " | ".join((number_text(check.max_abs), number_text(check.mean_abs), number_text(check.metric_change)))
            print(f"| {name or 'none'} | {factor:g} | {figures} | {done.report.path.name} |", flush=True)
            if done.reason is not None:
                told = json.loads(done.report.sidecar.read_text(encoding="utf-8"))["parity"]
    if told is not None:
        print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
