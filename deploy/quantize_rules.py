"""Which parts of a model are quantised, by quantize.layers and quantize.skip_names of a spec.

The order is TAO's: entries are read from the first to the last and later ones override; `native` takes a match out again; then
skip_names does.  A pattern is held against the name of a part and, where that does not fit, against its kind, upper and lower case told
apart (`fnmatch.fnmatchcase`).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from search_spaces.errors import SpecError, UnsupportedError
from search_spaces.spec import Spec

NATIVE = "native"
EIGHT_BIT = "int8"
_NEAR, _NEARNESS = 4, 0.3


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that can be quantised: a module with its class, or a node of a graph with its operator."""

    name: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One entry of quantize.layers: `weights` and `activations` are number kinds, None where the entry leaves them out."""

    pattern: str
    weights: str
    activations: str | None

    def fits(self, part: Part) -> bool:
        """Whether the pattern names `part` or its kind."""
        return fnmatchcase(part.name, self.pattern) or fnmatchcase(part.kind, self.pattern)


def rules_of(spec: Spec) -> tuple[Rule, ...]:
    """The entries of quantize.layers, int8 for everything where it is empty; SpecError for one that decides nothing or asks for an axis."""
    layers = spec.quantize.layers
    if not layers:
        return (Rule(pattern="*", weights=EIGHT_BIT, activations=None),)
    return tuple(_rule(f"quantize.layers[{number}]", layer) for number, layer in enumerate(layers))


def check_kinds(rules: Sequence[Rule], *, weights: Sequence[str], activations: Sequence[str], backend: str) -> None:
    """UnsupportedError for a kind of number that `backend` does not write."""
    for number, rule in enumerate(rules):
        for what, kind, known in (("weights", rule.weights, weights), ("activations", rule.activations, activations)):
            if kind not in (None, *known):
                raise UnsupportedError(
                    f"quantize.layers[{number}].{what}.dtype is {kind}, but backend {backend} takes {', '.join(known)} for {what}",
                    hint=_instead(backend, what, str(kind)),
                )


def chosen(parts: Sequence[Part], rules: Sequence[Rule], skip_names: Sequence[str], *, all_kinds: Mapping[str, int]) -> dict[str, str]:
    """The kind of number for each part that is to be quantised, by name in the order of `parts`.

    `all_kinds` counts the parts of every kind in the model, also of those that cannot be quantised.  SpecError when nothing is left.
    """
    decided: dict[str, str] = {}
    for part in parts:
        kinds = [rule.weights for rule in rules if rule.fits(part)]
        if kinds and kinds[-1] != NATIVE and not any(fnmatchcase(part.name, name) or fnmatchcase(part.kind, name) for name in skip_names):
            decided[part.name] = kinds[-1]
    if not decided:
        raise _nothing(parts, rules, skip_names, all_kinds)
    return decided


def idle_rules(parts: Sequence[Part], rules: Sequence[Rule], skip_names: Sequence[str]) -> list[str]:
    """A line for each pattern that fits nothing that can be quantised."""
    lines = [
        f"quantize.layers[{number}]: {rule.pattern} fits nothing" for number, rule in enumerate(rules) if not any(map(rule.fits, parts))
    ]
    skipped = [Rule(pattern=name, weights=NATIVE, activations=None) for name in skip_names]
    return lines + [f"quantize.skip_names: {rule.pattern} fits nothing" for rule in skipped if not any(map(rule.fits, parts))]


def _rule(key: str, layer: Mapping[str, object]) -> Rule:
    weights, activations = (_kind(key, part, layer.get(part)) for part in ("weights", "activations"))
    if weights is None:
        raise SpecError(f"{key} says nothing about weights", hint=f"add weights: {{dtype: {EIGHT_BIT}}}, or {NATIVE} to leave them alone")
    return Rule(pattern=str(layer["module_name"]), weights=weights, activations=activations)


def _kind(key: str, part: str, value: object) -> str | None:
    if not isinstance(value, Mapping):
        return None
    # TAO's names for how ranges are found and laid out: here the algorithm finds them, with a scale for each row
    if value.get("quant_axis") not in (None, 0):
        raise SpecError(f"{key}.{part}.quant_axis must be 0, but is {value['quant_axis']}", hint="a scale belongs to a row of a weight")
    for name in ("observer_or_fake_quant", "observer_or_fake_quant_kwargs"):
        if value.get(name):
            raise UnsupportedError(f"{key}.{part}.{name} is not supported", hint="quantize.algorithm says how ranges are found")
    kind = value.get("dtype")
    return None if kind is None else str(kind)


def _nothing(parts: Sequence[Part], rules: Sequence[Rule], skip_names: Sequence[str], all_kinds: Mapping[str, int]) -> SpecError:
    able = ", ".join(f"{count} {kind}" for kind, count in Counter(part.kind for part in parts).most_common())
    if not parts:
        found = ", ".join(sorted(all_kinds))
        return SpecError("the model has nothing that this backend quantises", hint=f"it holds {found}")
    if any(rule.fits(part) for rule in rules for part in parts):
        taken_out = f"native and skip_names ({', '.join(skip_names) or 'empty'}) take every match out again"
        return SpecError(f"nothing is left to quantise: {taken_out}", hint=f"there are {able}")
    patterns = [rule.pattern for rule in rules]
    unable = [kind for kind in all_kinds if any(fnmatchcase(kind, pattern) for pattern in patterns)]
    why = f"; {', '.join(unable)} cannot be quantised by this backend" if unable else ""
    words = [*dict.fromkeys(part.kind for part in parts), *(part.name for part in parts)]
    near = [word for pattern in patterns for word in difflib.get_close_matches(pattern.strip("*"), words, n=_NEAR, cutoff=_NEARNESS)]
    return SpecError(
        f"quantize.layers fits none of the parts that can be quantised ({able}): {', '.join(patterns)}{why}",
        hint=f"near are {', '.join(dict.fromkeys(near or words[:_NEAR]))}; * stands for any letters",
    )


def _instead(backend: str, what: str, kind: str) -> str:
    if backend == "torchao":
        return f"leave {what} out; quantize.backend=onnxruntime quantize.mode=static_ptq quantises activations as well"
    if kind == NATIVE:
        return "static_ptq quantises weights and activations together; quantize.backend=torchao packs weights alone"
    return "ONNX Runtime computes in int8 alone on CPUs; quantize.backend=torchao packs weights as fp8"
