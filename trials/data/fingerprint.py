"""What was measured on what: hashes of a split's data and of an evaluation.

Metrics with different evaluation hashes are never compared (design decision 5).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from search_spaces.spec import Spec
from trials.data.annotations import Row, read_annotations, read_source_lines
from trials.data.datasets import find_class
from trials.data.loader import sources_of, split_of
from trials.data.objects import fetcher

METRIC_DEFINITIONS_VERSION = 1  # goes up when a metric's formula or averaging changes
_HASH_CHARACTERS = 16


def data_hash(spec: Spec, split: str) -> str:
    """16 hexadecimal characters that change with any list's lines, class, depth_scale or file sizes, and not with the folder it lies in."""
    return _digest([_source_facts(spec, split, number) for number in range(len(sources_of(spec, split)))])


def _source_facts(spec: Spec, split: str, number: int) -> dict[str, Any]:
    source = sources_of(spec, split)[number]
    rows = read_annotations(source, family=spec.family, action=split, fetch=fetcher(spec))
    lines = read_source_lines(source, fetcher(spec))
    return {
        "class": find_class(source.dataset_name, family=spec.family).name,
        "depth_scale": source.depth_scale,
        "lines": [line.fields for line in lines],
        "sizes": [_file_sizes(row) for row in rows],
    }


def _file_sizes(row: Row) -> list[int]:
    return [path.stat().st_size for path in row.files()]


def evaluation_hash(spec: Spec, split: str) -> str:
    """16 hexadecimal characters that change with anything that moves a metric though the network stays the same: data, evaluation mode,
    its size, normalisation, the limits of valid ground truth, and the metrics' definitions."""
    augmentation = split_of(spec, split).augmentation
    size_matters = augmentation.evaluation != "native" or spec.family == "mono"
    facts = {
        "data": data_hash(spec, split),
        "family": spec.family,
        "relative": spec.is_relative,
        "mode": augmentation.evaluation,
        "size": list(augmentation.crop_size) if size_matters else None,
        "mean": list(augmentation.input_mean),
        "std": list(augmentation.input_std),
        "limits": [spec.dataset.max_disparity] if spec.family == "stereo" else [spec.dataset.min_depth, spec.dataset.max_depth],
        "normalize_depth": spec.dataset.normalize_depth,
        "metrics": METRIC_DEFINITIONS_VERSION,
    }
    return _digest(facts)


def _digest(facts: object) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]
