"""Disparity in pixels or depth of your images: python predict.py left.png right.png map.npy, or: image.png map.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

if __name__ == "__main__":
    folder, (*paths, target) = Path(__file__).parent, sys.argv[1:]
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    photos = [Image.open(path).convert("RGB") for path in paths]
    size, full = (facts["width"], facts["height"]), photos[0].size
    pixels = [np.asarray(photo.resize(size, Image.Resampling.BICUBIC), np.float32) / 255 for photo in photos]
    images = [((image - facts["mean"]) / facts["std"]).astype(np.float32).transpose(2, 0, 1)[None] for image in pixels]
    feeds = {node.name: image.repeat(facts["batch"] or 1, 0) for node, image in zip(session.get_inputs(), images, strict=True)}
    values = session.run(None, feeds)[0][0].reshape(size[::-1])
    answer = np.asarray(Image.fromarray(values).resize(full, Image.Resampling.BILINEAR))
    np.save(target, answer * (full[0] / size[0] if facts["family"] == "stereo" else 1))  # a disparity counts pixels of its image
