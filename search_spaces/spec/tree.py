"""The root of the spec and the flat view of its keys."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, cast

from search_spaces.errors import SpecError, nearest
from search_spaces.spec.actions import Evaluate, Export, GenTrtEngine, Inference, Quantize, Wandb
from search_spaces.spec.dataset import Dataset
from search_spaces.spec.keys import Acts, FieldInfo, fields_of, key, section_fields
from search_spaces.spec.model import Model
from search_spaces.spec.train import Train

Family = Literal["stereo", "mono"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that can be said about a run.  Build one with `load_spec` or `spec_from_dict`: they check and complete it."""

    model_name: str | None = key(None, "name of the network for TAO's launcher", acts=Acts.INERT, why="model.model_type says it")
    encryption_key: str | None = key(None, "key of encrypted TAO files", acts=Acts.INERT, why="encrypted files are not read")
    results_dir: str | None = key(None, "root of all outputs", acts=Acts.RUNNING)
    dataset: Dataset = field(default_factory=Dataset)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    evaluate: Evaluate = field(default_factory=Evaluate)
    inference: Inference = field(default_factory=Inference)
    export: Export = field(default_factory=Export)
    gen_trt_engine: GenTrtEngine = field(default_factory=GenTrtEngine)
    quantize: Quantize = field(default_factory=Quantize)
    wandb: Wandb = field(default_factory=Wandb)

    @property
    def family(self) -> Family:
        """`stereo` or `mono`, from the model type."""
        return family_of(self.model.model_type)

    @property
    def is_relative(self) -> bool:
        """Whether the network predicts inverse depth up to scale and shift."""
        return self.model.model_type == "RelativeDepthAnything"


def family_of(model_type: str) -> Family:
    """The family of a legal model type."""
    return "stereo" if model_type == "FoundationStereo" else "mono"


@functools.cache
def all_fields() -> Mapping[str, FieldInfo]:
    """Every key of the spec by its dotted name, in the order of declaration."""
    return MappingProxyType({info.key: info for info in fields_of(Spec)})


@functools.cache
def all_sections() -> frozenset[str]:
    """Dotted names of the groups that hold keys, such as `train.optim`."""
    return frozenset(name.rsplit(".", depth)[0] for name in all_fields() for depth in range(1, name.count(".") + 1))


def get_value(spec: Spec, dotted: str) -> Any:
    """The value (or section) at a dotted key; SpecError for an unknown one."""
    value: Any = spec
    for part in dotted.split("."):
        if not dataclasses.is_dataclass(value) or part not in section_fields(cast(Any, type(value))):
            raise unknown_key(dotted)
        value = getattr(value, part)
    return value


def unknown_key(dotted: str, *, place: str = "") -> SpecError:
    """The error for a key that does not exist, with the nearest one that does, from anywhere in the tree."""
    guess = _nearest_key(dotted)
    where = f" ({place})" if place else ""
    hint = f"did you mean {guess}?" if guess else _names_beside(dotted)
    head, colon, value = dotted.rpartition(":")
    if colon and head in all_fields():
        hint = f"put a blank after the colon: {head.rsplit('.', 1)[-1]}: {value}"
    elif ": +" in place:
        hint = f"+ adds no key that does not exist; {hint}"
    elif dotted == "data_root" or dotted.endswith("_dir_pattern"):
        hint = "that is a key of the other kind of spec, which `depth_net convert -e` reads"
    return SpecError(f"unknown key {dotted}{where}", hint=hint)


GROUPS = "the names are TAO's, in groups: dataset, model, train, evaluate, inference, export"
FEW = 12  # names that a hint lists
# the blocks of one action each; a key of another action is no good guess
BLOCKS = ("train", "evaluate", "inference", "export", "gen_trt_engine", "quantize")
# names that people bring along from elsewhere, by the last part of the key
FAMILIAR = {
    "num_workers": "workers",
    "batchsize": "batch_size",
    "learning_rate": "lr",
    "epochs": "num_epochs",
    "max_disp": "max_disparity",
    "vit_size": "encoder",
    "scheduler": "lr_scheduler",
}


def _names_beside(dotted: str) -> str:
    """What the group of an unknown key holds, where that is a short list; else the groups of the spec."""
    head = dotted.rpartition(".")[0]
    start = len(head) + 1
    names = list(dict.fromkeys(name[start:].partition(".")[0] for name in all_fields() if head and name.startswith(f"{head}.")))
    return f"{head} has {', '.join(names)}" if 0 < len(names) <= FEW else GROUPS


def _nearest_key(dotted: str) -> str | None:
    known = [*all_fields(), *sorted(all_sections())]
    head, _, last = dotted.rpartition(".")
    last = FAMILIAR.get(last, last)
    away = [f"{block}." for block in BLOCKS if head and block != "train" and not dotted.startswith(f"{block}.")]
    same_name = [name for name in known if name.rsplit(".", 1)[-1] == last and not name.startswith(tuple(away))]
    if same_name:
        return max(same_name, key=lambda name: _shared_parts(name, head))
    siblings = {name.rsplit(".", 1)[-1]: name for name in known if name.rpartition(".")[0] == head}
    close = nearest(last, siblings)
    if close or head in all_sections():
        return siblings[close] if close else None
    return nearest(dotted, known)


def _shared_parts(name: str, head: str) -> tuple[int, bool, int]:
    """How much of `name`'s path agrees with `head`; among equals what acts on training wins, then the shallower key."""
    ours, theirs = name.split(".")[:-1], head.split(".") if head else []
    shared = sum(1 for part in theirs if part in ours)
    info = all_fields().get(name)
    return shared, info is not None and info.acts in (Acts.TRAINING, Acts.STEREO, Acts.MONO), -len(ours)
