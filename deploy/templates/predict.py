"""Disparity in pixels or depth: python predict.py left.png right.png map.npy, or image.png map.npy; images as .npy need no Pillow."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def mix(new: int, old: int) -> np.ndarray:
    """How the pixels of an old line make those of a new one, new x old."""
    rows = np.maximum(0, 1 - abs((np.arange(new)[:, None] + 0.5) * old / new - 0.5 - np.arange(old)) / max(1, old / new))
    return np.asarray(rows / rows.sum(1, keepdims=True))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, (*paths, target) = Path(__file__).parent, sys.argv[1:]
    if not all(path.endswith(".npy") for path in paths):  # H x W x 3, RGB, 0 to 255
        from PIL import Image
    photos = [np.load(path) if path.endswith(".npy") else np.asarray(Image.open(path).convert("RGB")) for path in paths]
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    rows, columns = (mix(facts[side], old) for side, old in zip(("height", "width"), photos[0].shape, strict=False))
    images = [(np.einsum("hy,yxc,wx->hwc", rows, photo / 255, columns, optimize=True) - facts["mean"]) / facts["std"] for photo in photos]
    batch = [image.astype(np.float32).transpose(2, 0, 1)[None].repeat(facts["batch"] or 1, 0) for image in images]
    values = session.run(None, {node.name: image for node, image in zip(session.get_inputs(), batch, strict=True)})[0][0]
    answer = mix(*rows.shape[::-1]) @ values.reshape(len(rows), len(columns)) @ mix(*columns.shape[::-1]).T
    stretch = photos[0].shape[1] / len(columns) if facts["family"] == "stereo" else 1
    np.save(target, (answer * stretch).astype(np.float32))  # a disparity counts pixels of its image
