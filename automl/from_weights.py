"""What a weight file decides about the spec that names it: the layers are in the file, so nobody has to repeat their sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from search_spaces.errors import CheckpointError
from search_spaces.spec import LoadedSpec, Spec, get_value, spec_warnings, with_values
from search_spaces.spec.weights import WHOLE


def fitted(loaded: LoadedSpec) -> LoadedSpec:
    """`loaded` with the keys that the file of train.pretrained_model_path decides and nobody set; a line names them.

    A file that cannot be read or belongs to another family is left to the check of the weights, which says so.
    """
    path = loaded.spec.train.pretrained_model_path
    if not path:
        return loaded
    from models.inspection import inspect_checkpoint
    from trials.weight_copies import local_file

    file = local_file(loaded.spec, path, key=WHOLE)
    if not file.is_file():
        return loaded
    try:
        decided = dict(inspect_checkpoint(file).decides)
    except CheckpointError:
        return loaded
    if decided.pop("model.model_type", None) not in (None, loaded.spec.model.model_type):
        return loaded
    values = {key: value for key, value in decided.items() if key not in loaded.given and _differs(get_value(loaded.spec, key), value)}
    if not values:
        return loaded
    spec = with_values(loaded.spec, values)
    line = f"{' '.join(f'{key}={value}' for key, value in values.items())}: taken from {path}"
    return replace(loaded, spec=spec, assumed=(*loaded.assumed, line), warnings=_warnings(loaded, spec))


def _warnings(loaded: LoadedSpec, spec: Spec) -> tuple[str, ...]:
    """The lines of `loaded` but for those that do not hold for `spec` any more, and those that are new with it."""
    before, now = (spec_warnings(one, action="train") for one in (loaded.spec, spec))
    kept = [line for line in loaded.warnings if line in now or line not in before]
    return (*kept, *(line for line in now if line not in kept))


def template_of(model: Path) -> dict[str, Any]:
    """What the weight file of another program decides, as a spec template."""
    from models.inspection import inspect_checkpoint

    info = inspect_checkpoint(model)
    tree: dict[str, Any] = {} if info.max_depth_m is None else {"dataset": {"max_depth": info.max_depth_m}}
    for key, value in info.decides.items():
        *groups, name = key.split(".")
        section = tree
        for group in groups:
            section = section.setdefault(group, {})
        section[name] = value
    return tree


def exported_template(model: Path) -> dict[str, Any]:
    """What an exported file says about its network, as a spec template; {} for a file without a description."""
    from deploy.engine_runtime import engine_facts
    from deploy.onnx_runtime import onnx_facts
    from deploy.openvino_runtime import openvino_facts

    facts = {".onnx": onnx_facts, ".xml": openvino_facts, ".engine": engine_facts}[model.suffix.lower()](model)
    if facts is None:
        return {}
    network: dict[str, Any] = {"model_type": facts.model_type, "encoder": facts.encoder}
    dataset: dict[str, Any] = {"min_depth": facts.min_depth, "max_depth": facts.max_depth}
    if facts.variant is not None:
        network["variant"] = facts.variant
    if facts.max_disparity is not None:
        network["max_disparity"] = dataset["max_disparity"] = facts.max_disparity
    images = {"augmentation": {"input_mean": list(facts.mean), "input_std": list(facts.std)}}
    return {"model": network, "dataset": {**dataset, **{f"{split}_dataset": images for split in ("val", "test", "infer")}}}


def _differs(own: object, theirs: object) -> bool:
    return (list(own) if isinstance(own, tuple) else own) != theirs
