"""The facts that travel with an exported model: in its metadata and, for people, in `<stem>.json` beside it.

The ONNX file alone is enough to run it: the same facts lie in its `metadata_props` under `depth_automl`
(ONNX IR, "Metadata", https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md, Apache-2.0).
The JSON file adds what is known only once the file is written: its size, its sha256 and its node count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from search_spaces.errors import CheckpointError
from search_spaces.spec import Spec, spec_to_dict

METADATA_KEY = "depth_automl"
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a program must know to feed an exported model and to trace it back.

    Images are RGB, (x/255 - mean) / std, float32, B x 3 x height x width.  `batch` None means that any batch
    size is accepted.  `min_depth` and `max_depth` are in metres (metric models), `max_disparity` in pixels (stereo): the other
    family holds None.  `checkpoint_sha256` is None for a network that never was a file.
    """

    model_type: str
    family: str
    encoder: str
    variant: str | None
    height: int
    width: int
    batch: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_depth: float | None
    max_depth: float | None
    max_disparity: int | None
    iterations: int | None
    checkpoint: str | None
    checkpoint_sha256: str | None
    spec_sha256: str
    opset: int
    torch_version: str
    onnx_version: str

    def to_text(self) -> str:
        """JSON on one line, for the model's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str, *, place: str) -> Self:
        """The facts that `to_text` wrote; CheckpointError, naming `place`, for anything else."""
        try:
            data = json.loads(text)
            names = cls.__dataclass_fields__
            fields = {name: data[name] for name in names}
            fields["mean"], fields["std"] = tuple(fields["mean"]), tuple(fields["std"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            message = f"{place}: the model's description cannot be read ({type(error).__name__}: {error})"
            raise CheckpointError(message, hint="export the model again with this release") from error
        return cls(**fields)


def sidecar_path(model: Path) -> Path:
    """`<stem>.json` beside the model file."""
    return model.with_suffix(".json")


def rejected(model: Path) -> Path:
    """`<stem>.rejected<ending>`: where a model that the gate stopped is kept."""
    return model.with_name(f"{model.stem}.rejected{model.suffix}")


def move_model(model: Path, target: Path | None) -> None:
    """Moves a model with its sidecar, or removes both where there is no target; one that somebody took away is missing there too."""
    for source, goal in ((sidecar_path(model), None if target is None else sidecar_path(target)), (model, target)):
        if goal is not None and source.exists():
            source.replace(goal)
        else:
            (source if goal is None else goal).unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def spec_sha256(spec: Spec) -> str:
    """A hash of every value of the spec, the same for equal specs in every process."""
    text = json.dumps(spec_to_dict(spec), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes `data` so that a reader sees the old file or the whole new one, also after a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            json.dump(data, stream, indent=2, allow_nan=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
