"""What it takes to continue a full state under a spec: what must agree, what may differ and is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl

from search_spaces.errors import CheckpointError
from search_spaces.spec import Acts, Spec, all_fields, get_value, spec_from_dict
from search_spaces.spec.weights import MONO, SIDE, TRUNK, WHOLE, weight_files
from trials.checkpoints import Resume, tensor_shapes

# a change of one of them would go on with other outputs, or with a state that belongs to another optimiser
FIXED = (
    "model.model_type",
    "model.encoder",
    "model.variant",
    "model.max_disparity",
    "dataset.max_depth",
    "dataset.normalize_depth",
    "train.optim.optimizer",
)
# a resumed run reads no weight file, and has nothing to do with the test and infer lists
UNTOLD = ("train.resume", "dataset.test_dataset.", "dataset.infer_dataset.")
WEIGHTS = (WHOLE, MONO, SIDE, TRUNK)
LEARNED = (Acts.TRAINING, Acts.MONO, Acts.STEREO, Acts.EVALUATION)


def check_settings(resume: Resume, spec: Spec) -> None:
    """CheckpointError when the run of `resume` had another value of a key that must not change on the way."""
    changed = [(key, was, now) for key, was, now in _differences(resume, spec) if key in FIXED]
    if changed:
        told = "; ".join(f"{key} is {_text(was)} there and {_text(now)} in the spec" for key, was, now in changed)
        raise CheckpointError(
            f"{resume.path} cannot be continued by this spec: {told}",
            hint="resume with the spec of that run (experiment.yaml beside it); to start from its weights set train.pretrained_model_path",
        )


def check_network(resume: Resume, module: pl.LightningModule) -> None:
    """CheckpointError unless the state of `resume` holds exactly the tensors of `module`."""
    theirs, ours = tensor_shapes(resume.path), {name: value.shape for name, value in module.state_dict().items()}
    differing = sorted(set(theirs) ^ set(ours)) or [name for name, shape in ours.items() if shape != theirs[name]]
    if differing:
        raise CheckpointError(
            f"{resume.path} belongs to another network than the spec: {len(differing)} tensors differ, first {differing[0]}",
            hint="resume with the spec that the run was started with (experiment.yaml beside the checkpoint)",
        )


def check_epoch(resume: Resume, *, steps_per_epoch: int) -> None:
    """CheckpointError when an epoch has become longer or shorter: schedule and order of samples would no longer fit."""
    if resume.steps_per_epoch not in (None, steps_per_epoch):
        raise CheckpointError(
            f"an epoch has {steps_per_epoch} steps here, but {resume.steps_per_epoch} in the run of {resume.path}",
            hint="keep its training lists and its global batch (dataset.train_dataset.batch_size x devices), or start a new run from its "
            "weights with train.pretrained_model_path",
        )


def describe(resume: Resume, spec: Spec, *, devices: int = 1) -> Iterator[str]:
    """Lines for people: where training goes on, on how many devices, and what is not as it was."""
    start, epochs = resume.start, spec.train.num_epochs
    place = f"{start.epoch} of {epochs} epochs" + (f" and {start.batch} batches" if start.batch else "")
    yield f"continues {resume.path} after {place}"
    if start.epoch >= epochs:
        yield f"nothing is left to train: train.num_epochs is {epochs}; a larger one goes on"
    if devices != resume.devices:
        yield f"trained on {_devices(resume.devices)} so far and goes on on {_devices(devices)}, with as many batches an epoch"
    for key, was, now in _differences(resume, spec):
        yield f"{key} was {_text(was)} and is {_text(now)} from here on"
    for file in weight_files(spec):
        yield f"{file.key} is not read: the state holds all weights"


def _differences(resume: Resume, spec: Spec) -> Iterator[tuple[str, Any, Any]]:
    """Key, value of the continued run, value of `spec`, for every key that a network of this family learns by."""
    if resume.spec is None:
        return
    own = spec_from_dict(resume.spec)
    for info in all_fields().values():
        told = info.acts in LEARNED and info.read_by(spec.family) and not info.key.startswith(UNTOLD) and info.key not in WEIGHTS
        was, now = get_value(own, info.key), get_value(spec, info.key)
        if told and was != now:
            yield info.key, was, now


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _text(value: object) -> str:
    match value:
        case tuple():
            return "[" + ", ".join(str(getattr(item, "data_file", item)) for item in value) + "]"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)
