"""Which parameters are worth searching for one spec, and why the others are not.

TAO flags the same 45 parameters for stereo and mono; most do nothing for the network at hand, and some change how validation is
measured, so that a search could win by making the exam easier.  Each flagged parameter is either searched or left out with a
reason.  What a key does is said in `search_spaces.spec`; which acting keys are varied by default is said in a skill's space.yaml.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from search_spaces.schema import Leaf
from search_spaces.spec import Acts, Spec, all_fields, get_value
from search_spaces.spec.rules import condition_against

AUGMENTATION = "dataset.train_dataset.augmentation"
OPTIM = "train.optim"
# keys that change the shape of layers beyond the encoder, and keys that change the encoder itself
STRUCTURAL = ("model.corr_radius", "model.corr_levels", "model.hidden_dims", "model.n_gru_layers", "model.variant")
ENCODER = ("model.encoder", "model.mono_backbone.use_bn", "model.mono_backbone.use_clstoken")
CONTROLLED = {
    "train.num_epochs": "it is the budget of a trial: --epochs sets it",
    "train.seed": "it is kept equal so that trials differ in their parameters alone",
    "train.resume": "the search decides what is resumed",
    "train.resume_training_checkpoint_path": "the search decides what is resumed",
    "train.pretrained_model_path": "a file is no hyperparameter",
    "dataset.train_dataset.data_sources": "the data stay the same in all trials",
    "model.model_type": "the skill is made for one network",
}
# they also decide which pixels are measured
MEASURING = ("dataset.max_disparity", "dataset.min_depth", "dataset.max_depth", "dataset.normalize_depth")


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """The reasons for one spec; `wanted` are the keys that would be searched if all of them acted.

    `total_steps` are the optimiser steps of a whole run, None when they are not known.
    """

    spec: Spec
    wanted: tuple[str, ...]
    total_steps: int | None = None

    def reason_against(self, key: str) -> str | None:
        """Why searching `key` would be useless or unfair, or None."""
        rules: tuple[Callable[[str], str | None], ...] = (_effect(self.spec), self._shape, self._condition, self._schedule, self._switch)
        for rule in rules:
            reason = rule(key)
            if reason is not None:
                return reason
        return None

    def capped(self, leaf: Leaf) -> Leaf:
        """The leaf with a range in steps cut to half the length of the run."""
        if self.total_steps is None or all_fields()[leaf.key].unit != "steps":
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
        elif key == "model.max_disparity" and spec.model.max_disparity == spec.dataset.max_disparity:
            found = "it moves together with dataset.max_disparity, which decides what is measured; set the two apart to search it alone"
        elif info.acts is Acts.RUNNING:
            found = "it changes speed or files, not what is learned"
        return found

    return reason
