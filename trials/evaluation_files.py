"""The files of one evaluation: `results.json` with the summary, `per_image.csv` with one line for each image of the lists.

Both appear in one step; `per_image.csv` comes first, so that a summary is never there without its table.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from search_spaces.objective import LEADING
from search_spaces.spec import Family
from trials.data.decoders import write_atomically
from trials.evaluate import Evaluation
from trials.scoring import ImageScore

SUMMARY, TABLE = "results.json", "per_image.csv"


def write_evaluation(folder: Path, done: Evaluation, *, runtime: str, model: Path) -> None:
    """Writes both files; a number that is missing is null in the summary and empty in the table."""
    write_atomically(folder / TABLE, _table(done).encode("utf-8", "surrogateescape"))
    counts = {"num_images": done.num_images, "num_pixels": done.num_pixels, "skipped": done.skipped, "not_finite": len(done.not_finite)}
    how = {"evaluation": done.mode, "evaluation_hash": done.evaluation_hash, "runtime": runtime, "model": str(model)}
    write_atomically(folder / SUMMARY, (json.dumps({**done.metrics, **counts, **how}, indent=4, allow_nan=False) + "\n").encode())


def worst_images(done: Evaluation, family: Family, *, count: int) -> list[ImageScore]:
    """The images with the largest epe (stereo) or abs_rel (mono), worst first."""
    measured = [image for image in done.images if image.skipped is None]
    return sorted(measured, key=lambda image: -image.metrics[LEADING[family]])[:count]


def _table(done: Evaluation) -> str:
    names = [name for name in done.metrics if name != "loss"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "loss", *names, "num_pixels", "skipped"])
    for image in done.images:
        metrics = [image.metrics.get(name) for name in names]
        writer.writerow([image.path, image.loss, *metrics, image.num_pixels, image.skipped])
    return text.getvalue()
