"""What is known of an export request before it is drawn: opsets that suit an engine's precision, and sizes that do not fit together.

TAO's users found with TensorRT 10.13 that stereo FP16 engines always build from graphs that were traced on the CPU with opset 16 or 17;
traced on a GPU, opset 16 sometimes ends in a builder assertion and 17 always does.  FP32 engines were not affected.  Here every graph is
drawn on the CPU, whatever export.on_cpu says, so that only the opset is left to choose.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from search_spaces.spec import Spec

SPLITS = ("val", "test", "infer")
# what is to be told for an opset, by the precision of the engine; None: engines were built from it
STEREO_PAIRINGS: dict[str, tuple[tuple[range, str | None], ...]] = {
    "FP16": (
        (range(16, 18), None),
        (
            range(18, 24),
            "no FP16 engine of this network is known from opset 18 or later: export.opset_version=17 is what they were built from",
        ),
    ),
}


def pairing_notes(spec: Spec) -> tuple[str, ...]:
    """What to tell about export.opset_version where the spec also asks for a stereo engine of a precision that has its rules."""
    rows = STEREO_PAIRINGS.get(spec.gen_trt_engine.tensorrt.data_type or "FP32", ()) if spec.family == "stereo" else ()
    return tuple(told for opsets, told in rows if told is not None and spec.export.opset_version in opsets)


def shape_notes(spec: Spec, given: Set[str], *, size: tuple[int, int], splits: Sequence[str] = SPLITS) -> tuple[str, ...]:
    """What to tell where a crop_size that images are brought to is not the model's `size`: a model of one size decides it.

    `given` are the keys that the user set.
    """
    height, width = size
    notes = []
    for split in splits:
        key = f"dataset.{split}_dataset.augmentation"
        augmentation = getattr(spec.dataset, f"{split}_dataset").augmentation
        crop = tuple(augmentation.crop_size)
        if f"{key}.crop_size" in given and augmentation.evaluation != "native" and crop != size:
            told = f"{key}.crop_size is {crop[0]}x{crop[1]}, but the model takes {height}x{width} (height x width)"
            notes.append(f"{told}: images are brought to the model's size")
    return tuple(notes)
