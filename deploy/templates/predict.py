"""Disparity in pixels or depth: python predict.py left.png right.png map.npy, or image.png map.npy; images as .npy need no Pillow."""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime


def _mix(new: int, old: int) -> np.ndarray:  # new x old: how the pixels of an old line make those of a new one
    rows = np.maximum(0, 1 - abs((np.arange(new)[:, None] + 0.5) * old / new - 0.5 - np.arange(old)) / max(1, old / new))
    return np.asarray(rows / rows.sum(1, keepdims=True))


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"), providers=["CPUExecutionProvider"])
    names, facts = [node.name for node in session.get_inputs()], json.loads(session.get_modelmeta().custom_metadata_map["depth_automl"])
    *paths, target = sys.argv[1:] if len(sys.argv) == len(names) + 2 else sys.exit(f"{__doc__}\nThis model takes {' and '.join(names)}.")
    photos = [np.array(np.load(path) if path.endswith(".npy") else import_module("PIL.Image").open(path).convert("RGB")) for path in paths]
    rows, columns = _mix(facts["height"], photos[0].shape[0]), _mix(facts["width"], photos[0].shape[1])
    images = [np.einsum("hy,yxc,wx->chw", rows, (photo / 255 - facts["mean"]) / facts["std"], columns, optimize=True) for photo in photos]
    values = session.run(None, {name: image[None].astype(np.float32) for name, image in zip(names, images, strict=True)})[0].squeeze()
    answer = _mix(*rows.shape[::-1]) @ values @ _mix(*columns.shape[::-1]).T
    np.save(target, np.float32(answer * (columns.shape[1] / len(columns) if len(names) == 2 else 1)))  # disparity: pixels of its own image
