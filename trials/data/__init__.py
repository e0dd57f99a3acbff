"""Annotation files, data classes, transforms and batches: what a network is trained and measured on.

`decoders < datasets < annotations < reading, geometry, input_folder < transforms, looking, packing < loader, fitting < fingerprint`, and
`preflight` last; `urls < s3 < objects` bring what lies in an S3 store; `convert`, `split` and `sample` write lists and images, and
nothing here reads them.
"""

from __future__ import annotations

from trials.data.fingerprint import data_hash, evaluation_hash
from trials.data.geometry import Geometry, to_target_grid
from trials.data.loader import Batch, DepthDataset, EpochSampler, EqualShapeBatches, Item, build_dataset, collate, normalised

__all__ = [
    "Batch",
    "DepthDataset",
    "EpochSampler",
    "EqualShapeBatches",
    "Geometry",
    "Item",
    "build_dataset",
    "collate",
    "data_hash",
    "evaluation_hash",
    "normalised",
    "to_target_grid",
]
