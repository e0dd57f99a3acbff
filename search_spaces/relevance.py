"""Which parameters are worth searching for one spec, and why the others are not.

TAO flags the same 45 parameters for stereo and mono; most do nothing for the network at hand, and some change how validation is
measured, so that a search could win by making the exam easier.  Each flagged parameter is either searched or left out with a
reason.  What a key does is said in `search_spaces.spec`; which acting keys are varied by default is said in a skill's space.yaml.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.errors import SpecError, nearest
from search_spaces.schema import Leaf, TrainSchema, parameter_of
from search_spaces.space import Condition, Parameter, SearchSpace
from search_spaces.spec import Acts, Spec, all_fields, get_value
from search_spaces.spec.rules import condition_against

if TYPE_CHECKING:
    from search_spaces.skill import Skill

AUGMENTATION = "dataset.train_dataset.augmentation"
OPTIM = "train.optim"
# keys that change the shape of layers beyond the encoder, and keys that change the encoder itself
STRUCTURAL = ("model.corr_radius", "model.corr_levels", "model.hidden_dims", "model.n_gru_layers", "model.variant")
ENCODER = ("model.encoder", "model.mono_backbone.use_bn", "model.mono_backbone.use_clstoken")
CONTROLLED = {
    "train.num_epochs": "it is the budget of a trial: --epochs sets it",
    "train.seed": "it is kept equal so that trials differ in their parameters alone",
    "train.resume": "the search decides what is resumed",
}
# they also decide which pixels are measured
MEASURING = ("dataset.max_disparity", "dataset.min_depth", "dataset.max_depth", "dataset.normalize_depth")


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A parameter that is not searched, and the reason in words."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SpaceReview:
    """The space of one search, and every parameter a user might expect in it with the reason of its absence."""

    space: SearchSpace
    dropped: tuple[Dropped, ...]


def review_space(skill: Skill, spec: Spec, *, total_steps: int | None = None, names: Sequence[str] = ()) -> SpaceReview:
    """The parameters of `skill` that act on the training of `spec`.

    `total_steps` (optimiser steps of a whole run, when known) drops what would happen after the end and shortens ranges.
    `names` replaces the default choice; naming a parameter that cannot be searched is a SpecError with the reason.
    """
    if skill.task != spec.family:
        raise SpecError(
            f"skill {skill.name} is for {skill.task} networks, but model.model_type is {spec.model.model_type}",
            hint="choose the other skill, or another model.model_type",
        )
    schema = skill.schema()
    review = _Review(spec=spec, schema=schema, wanted=_wanted(schema, names), total_steps=total_steps)
    parameters, dropped = review.sort_out(named=bool(names))
    if not parameters:
        raise SpecError(f"no parameter of skill {skill.name} acts on this spec", hint="train without search: --policy off")
    return SpaceReview(space=SearchSpace(skill=skill.name, parameters=parameters), dropped=dropped)


def _wanted(schema: TrainSchema, names: Sequence[str]) -> tuple[str, ...]:
    """The keys that would be searched if all of them acted, in the order of the schema."""
    for name in names:
        if name not in schema.leaves:
            guess = nearest(name, schema.leaves)
            raise SpecError(f"unknown parameter {name}", hint=f"did you mean {guess}?" if guess else None)
    if names:
        return tuple(key for key in schema.leaves if key in names)
    if schema.has_overlay:
        return tuple(key for key, leaf in schema.leaves.items() if leaf.overlay.get("searched") == "default")
    return schema.automl_default_parameters


@dataclass(frozen=True, kw_only=True)
class _Review:
    spec: Spec
    schema: TrainSchema
    wanted: tuple[str, ...]
    total_steps: int | None

    def sort_out(self, *, named: bool) -> tuple[tuple[Parameter, ...], tuple[Dropped, ...]]:
        """Parameters in the order of suggestion, and the rest with reasons."""
        reasons = {key: self.reason_against(key) for key in self.wanted}
        kept = [key for key in self.wanted if reasons[key] is None]
        if named and len(kept) < len(self.wanted):
            bad = next(key for key in self.wanted if reasons[key] is not None)
            raise SpecError(f"{bad} cannot be searched: {reasons[bad]}", hint="leave it out of the list")
        parameters = [self.parameter(key, kept) for key in kept]
        parents = {parameter.condition.key for parameter in parameters if parameter.condition}
        order = {key: self.schema.leaves[key].overlay.get("order", 0) for key in kept}
        parameters.sort(key=lambda parameter: (parameter.key not in parents, order[parameter.key]))
        dropped = [Dropped(key=key, reason=reason) for key, reason in reasons.items() if reason is not None]
        if not named:
            left = [key for key in self.schema.leaves if key in self.schema.automl_default_parameters and key not in reasons]
            dropped += [Dropped(key=key, reason=self.reason_against(key) or self.reason_to_wait(key)) for key in left]
        return tuple(parameters), tuple(dropped)

    def reason_to_wait(self, key: str) -> str:
        """Why an acting parameter is not part of the small default space."""
        why = self.schema.leaves[key].overlay.get("why")
        return f"it acts, but is not searched by default: {why}" if why else "it acts, but is not searched by default"

    def reason_against(self, key: str) -> str | None:
        """Why searching `key` would be useless or unfair, or None."""
        rules: tuple[Callable[[str], str | None], ...] = (_effect(self.spec), self._shape, self._condition, self._schedule, self._switch)
        for rule in rules:
            reason = rule(key)
            if reason is not None:
                return reason
        try:
            parameter_of(self.schema.leaves[key])
        except SpecError as error:
            return error.message
        return None

    def parameter(self, key: str, kept: Collection[str]) -> Parameter:
        """The parameter with the spec's own value as default and inside its range, and its condition when that varies."""
        own = get_value(self.spec, key)
        parameter = dataclasses.replace(parameter_of(self._capped(key)), default=own)
        if parameter.low is not None and parameter.high is not None:
            parameter = dataclasses.replace(parameter, low=min(parameter.low, own), high=max(parameter.high, own))
        elif parameter.choices and own not in parameter.choices:
            parameter = dataclasses.replace(parameter, choices=(*parameter.choices, own))
        when = all_fields()[key].rule.when
        if when is not None and when[0] in kept:
            parameter = dataclasses.replace(parameter, condition=Condition(key=when[0], values=when[1]))
        return parameter

    def _capped(self, key: str) -> Leaf:
        """The leaf with a range in steps cut to the length of the run."""
        leaf = self.schema.leaves[key]
        if self.total_steps is None or all_fields()[key].unit != "steps":
            return leaf
        overlay = dict(leaf.overlay)
        low, high = overlay.get("low", leaf.low or 0), overlay.get("high", leaf.high or self.total_steps)
        top = max(1, self.total_steps // 2)
        return dataclasses.replace(leaf, overlay={**overlay, "low": min(low, top), "high": min(high, top)})

    def _shape(self, key: str) -> str | None:
        train, model = self.spec.train, self.spec.model
        whole = train.pretrained_model_path or train.resume_training_checkpoint_path
        if key in (*STRUCTURAL, *ENCODER) and whole:
            return f"it changes the shape of layers that {whole} fills"
        part = (
            model.mono_backbone.pretrained_path if self.spec.family == "mono" else model.stereo_backbone.depth_anything_v2_pretrained_path
        )
        if key in ENCODER and part:
            return f"it changes the shape of layers that {part} fills"
        return None

    def _condition(self, key: str) -> str | None:
        when = all_fields()[key].rule.when
        if when is None or (when[0] in self.wanted and self.reason_against(when[0]) is None):
            return None
        return condition_against(self.spec, all_fields()[key])

    def _schedule(self, key: str) -> str | None:
        """What a decay would change happens after the end of the run."""
        optim = self.spec.train.optim
        if self.total_steps is None or key != f"{OPTIM}.lr_decay" or f"{OPTIM}.lr_scheduler" in self.wanted:
            return None
        first = None
        if optim.lr_scheduler == "MultiStepLR":
            first = min(optim.lr_steps, default=None)
            if first is None:
                return "lr_steps is empty"
        elif f"{OPTIM}.lr_step_size" not in self.wanted:
            first = optim.lr_step_size
        if first is None or first < self.total_steps:
            return None
        return f"the first decay comes after {first} steps, the run has {self.total_steps}"

    def _switch(self, key: str) -> str | None:
        """The spec switches off the thing, or the thing that it is a part of."""
        info = all_fields()[key]
        own = get_value(self.spec, key)
        if info.rule.off is not None and own == info.rule.off:
            return f"switched off in the spec ({own:g})"
        if key == f"{OPTIM}.optimizer" and self.spec.family == "mono":
            return "mono networks train with AdamW alone"
        if key == "train.clip_grad_norm" and own == 0:
            return "switched off in the spec (0)"
        augmentation = self.spec.dataset.train_dataset.augmentation
        blur = f"{AUGMENTATION}.spatial_aug_prob"
        if key == f"{AUGMENTATION}.stretch_prob" and (
            augmentation.max_stretch == 0 or (augmentation.spatial_aug_prob == 0 and blur not in self.wanted)
        ):
            return "the stretch is a part of the resampling blur, which the spec switches off"
        return None


def _effect(spec: Spec) -> Callable[[str], str | None]:
    """The rule on what a key does at all, for this spec."""

    def reason(key: str) -> str | None:
        info = all_fields().get(key)
        split = key.removeprefix("dataset.").split("_dataset.")[0]
        found: str | None = CONTROLLED.get(key)
        if info is None:
            found = "this trainer has no such key"
        elif split in ("val", "test", "infer"):
            found = f"it belongs to the {split} split: evaluation is fixed, and never augmented"
        elif info.acts is Acts.INERT:
            found = info.rule.why
        elif not info.read_by(spec.family):
            found = info.rule.why or f"{spec.model.model_type} does not read it"
        elif info.acts is Acts.EVALUATION or key in MEASURING:
            found = "it changes how results are measured: evaluation is fixed"
        elif info.acts is Acts.RUNNING:
            found = "it changes speed or files, not what is learned"
        return found

    return reason
