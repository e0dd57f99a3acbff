"""Disparity in pixels or depth: python predict.py left.png right.png map.npy, or image.png map.npy; images as .npy need no Pillow."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def _mix(new: int, old: int) -> np.ndarray:  # new x old: how the pixels of an old line make those of a new one
    rows = np.maximum(0, 1 - abs((np.arange(new)[:, None] + 0.5) * old / new - 0.5 - np.arange(old)) / max(1, old / new))
    return np.asarray(rows / rows.sum(1, keepdims=True))


if __name__ == "__main__":
    folder, (*paths, target) = Path(__file__).parent, sys.argv[1:] if len(sys.argv) > 2 else sys.exit(__doc__)
    if not all(path.endswith(".npy") for path in paths):
        from PIL import Image
    photos = [np.load(path) if path.endswith(".npy") else np.asarray(Image.open(path).convert("RGB")) for path in paths]
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    rows, columns = (_mix(facts[side], old) for side, old in zip(("height", "width"), photos[0].shape, strict=False))
    images = [(np.einsum("hy,yxc,wx->hwc", rows, photo / 255, columns, optimize=True) - facts["mean"]) / facts["std"] for photo in photos]
    batch = [image.astype(np.float32).transpose(2, 0, 1)[None].repeat(facts["batch"] or 1, 0) for image in images]
    values = session.run(None, {node.name: image for node, image in zip(session.get_inputs(), batch, strict=True)})[0][0]
    answer = _mix(*rows.shape[::-1]) @ values.reshape(len(rows), len(columns)) @ _mix(*columns.shape[::-1]).T
    stretch = columns.shape[1] / len(columns) if facts["family"] == "stereo" else 1  # a disparity counts pixels of its image
    np.save(target, (answer * stretch).astype(np.float32))
