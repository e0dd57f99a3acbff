"""Predictions as numbers, for other programs: PFM and NumPy files, float32, top row first in memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from search_spaces.spec import Spec
from trials.data.decoders import F32, write_atomically, write_pfm
from trials.output_names import NPY, PFM


def raw_endings(spec: Spec) -> tuple[str, ...]:
    """Endings of the raw files that the spec asks for with inference.save_raw_pfm and inference.save_npy."""
    wanted = {PFM: spec.inference.save_raw_pfm, NPY: spec.inference.save_npy}
    return tuple(ending for ending, asked in wanted.items() if asked)


def write_map(path: Path, values_HW: F32) -> None:
    """Writes one raw file, all or nothing; its ending says which kind, `.npy` as numpy.load reads it."""
    if path.suffix == PFM:
        write_pfm(path, values_HW)
        return
    content = io.BytesIO()
    np.save(content, values_HW, allow_pickle=False)
    write_atomically(path, content.getvalue())
