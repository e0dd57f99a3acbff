"""Which opsets and which place of tracing suit an engine of which precision, as TAO's users found out with TensorRT 10.13.

Their finding for stereo FP16 engines: traced on the CPU with opset 16 or 17 it always builds; on the GPU opset 16 sometimes ends in a
builder assertion, and 17 always does.  FP32 engines were not affected.  Here the graph is always drawn on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from search_spaces.spec import Spec

SPLITS, ACTIONS = ("val", "test", "infer"), ("evaluate", "inference")


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A row of the table: for these opsets, and with export.on_cpu set so (None: either way), `says` is what to tell."""

    opsets: range
    on_cpu: bool | None
    says: str


STEREO_FP16 = (
    Pairing(
        opsets=range(16, 17),
        on_cpu=False,
        says="export.on_cpu=false with opset 16 makes some FP16 builds fail in TAO; the graph is drawn on the CPU here, which builds",
    ),
    Pairing(
        opsets=range(17, 18),
        on_cpu=False,
        says="export.on_cpu=false with opset 17 breaks FP16 engines in TAO; the graph is drawn on the CPU here, which builds",
    ),
    Pairing(
        opsets=range(18, 24),
        on_cpu=None,
        says="no FP16 engine of this network is known from opset 18 or later; export.opset_version=17 is what engines were built from",
    ),
)


def pairing_notes(spec: Spec, given: Set[str]) -> tuple[str, ...]:
    """What to tell about export.opset_version and export.on_cpu where the spec also asks for a stereo FP16 engine.

    `given` are the keys that the user set: a default of on_cpu is nobody's wish.
    """
    if spec.family != "stereo" or spec.gen_trt_engine.tensorrt.data_type != "FP16":
        return ()
    on_cpu = spec.export.on_cpu if "export.on_cpu" in given else True
    rows = (row for row in STEREO_FP16 if spec.export.opset_version in row.opsets and row.on_cpu in (None, on_cpu))
    return tuple(row.says for row in rows)


def shape_notes(
    spec: Spec, given: Set[str], *, size: tuple[int, int], splits: Sequence[str] = SPLITS, actions: Sequence[str] = ACTIONS
) -> tuple[str, ...]:
    """What to tell where a crop_size that images are brought to, or evaluate's or inference's own size, is not the model's `size`.

    A model of one size decides it, whatever these keys say.  `given` are the keys that the user set.
    """
    height, width = size
    asked: dict[str, tuple[int | None, int | None]] = {}
    for split in splits:
        key = f"dataset.{split}_dataset.augmentation"
        augmentation = getattr(spec.dataset, f"{split}_dataset").augmentation
        if f"{key}.crop_size" in given and augmentation.evaluation != "native":
            asked[f"{key}.crop_size"] = (augmentation.crop_size[0], augmentation.crop_size[1])
    for action in actions:
        if {f"{action}.input_height", f"{action}.input_width"} & given:
            section = getattr(spec, action)
            asked[f"{action}.input_height and input_width"] = (section.input_height, section.input_width)
    return tuple(
        f"{key}: {high or 'free'}x{wide or 'free'}, but the model takes {height}x{width} (height x width): "
        "images are brought to the model's size"
        for key, (high, wide) in asked.items()
        if high not in (None, height) or wide not in (None, width)
    )
