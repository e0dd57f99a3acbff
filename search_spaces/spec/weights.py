"""Where the first weights of a run come from: the files a spec names, the part each fills, and what is left random.

Paths are not looked at here; `models.weights` reads the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from search_spaces.spec.tree import Spec

# all: the whole network; mono_backbone: a mono network's encoder; side_network, trunk: FoundationStereo's two feature networks
Part = Literal["all", "mono_backbone", "side_network", "trunk"]

WHOLE = "train.pretrained_model_path"
MONO = "model.mono_backbone.pretrained_path"
SIDE = "model.stereo_backbone.depth_anything_v2_pretrained_path"
TRUNK = "model.stereo_backbone.edgenext_pretrained_path"
RESUME = "train.resume_training_checkpoint_path"
STEREO_LAYERS = "the stereo layers"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One file, the key of the spec that names it, and the part of the network that it fills."""

    key: str
    path: str
    part: Part


@dataclass(frozen=True, kw_only=True)
class FirstWeights:
    """`files` in the order in which they are loaded; `random` parts in words; `warning` when a part that is published is random."""

    files: tuple[WeightFile, ...]
    random: tuple[str, ...]
    warning: str | None

    def __str__(self) -> str:
        """One line for records: what was loaded, then what was random."""
        loaded = [f"{file.key}={file.path}" for file in self.files]
        return "; ".join([*loaded, *([f"random: {', '.join(self.random)}"] if self.random else [])])


def weight_files(spec: Spec) -> tuple[WeightFile, ...]:
    """The weight files of `spec` that its network reads, parts before the whole; an empty path is none."""
    stereo = spec.model.stereo_backbone
    named: list[tuple[str, str | None, Part]] = [(MONO, spec.model.mono_backbone.pretrained_path, "mono_backbone")]
    if spec.family == "stereo":
        named = [(SIDE, stereo.depth_anything_v2_pretrained_path, "side_network"), (TRUNK, stereo.edgenext_pretrained_path, "trunk")]
    named.append((WHOLE, spec.train.pretrained_model_path, "all"))
    return tuple(WeightFile(key=key, path=path, part=part) for key, path, part in named if path)


def first_weights(spec: Spec) -> FirstWeights:
    """What a run of `spec` starts from; a run that resumes starts from that state alone."""
    if spec.train.resume_training_checkpoint_path:
        resumed = WeightFile(key=RESUME, path=spec.train.resume_training_checkpoint_path, part="all")
        return FirstWeights(files=(resumed,), random=(), warning=None)
    files = weight_files(spec)
    parts = {file.part for file in files}
    if "all" in parts:
        return FirstWeights(files=files, random=(), warning=None)
    random, keys = _mono(parts) if spec.family == "mono" else _stereo(parts)
    return FirstWeights(files=files, random=random, warning=_warning(spec, random, keys) if keys else None)


def _mono(parts: set[Part]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Random parts, and the keys that would fill those for which weights are published."""
    return (("the head",), ()) if "mono_backbone" in parts else (("the encoder", "the head"), (WHOLE, MONO))


def _stereo(parts: set[Part]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    absent = [
        (words, key)
        for part, words, key in (
            ("side_network", "the side network (frozen, so it never learns)", SIDE),
            ("trunk", "the EdgeNeXt trunk", TRUNK),
        )
        if part not in parts
    ]
    return (*(words for words, _ in absent), STEREO_LAYERS), tuple(key for _, key in absent)


def _warning(spec: Spec, random: tuple[str, ...], keys: tuple[str, ...]) -> str:
    parts = [part for part in random if part != STEREO_LAYERS]  # those are random in every training from scratch
    line = f"training starts from random weights in {' and '.join(parts)}; "
    if spec.model.encoder == "vitt" and (MONO in keys or SIDE in keys):
        return line + "encoder vitt has no published weights, it is for smoke runs"
    return line + f"set {(' and ' if spec.family == 'stereo' else ' or ').join(keys)}"
