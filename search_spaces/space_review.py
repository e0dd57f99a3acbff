"""The space of one search: what the skill offers and the user asks for, less what would be useless, unfair or impossible.

Each parameter that somebody might expect is either searched or left out with a reason (`search_spaces.relevance`).  What a schema says
about itself that cannot be right is told and not obeyed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces.errors import SpecError
from search_spaces.math_cond import parse_depends_on, parse_math_cond
from search_spaces.ranges import CHOICES, NUMBERS, faults_of, parameter_of
from search_spaces.relevance import Relevance
from search_spaces.schema import Leaf, TrainSchema
from search_spaces.space import Condition, Constraint, Parameter, SearchSpace, Value, choice_of, parents_first
from search_spaces.space_request import RangeChange, SpaceRequest, find_key
from search_spaces.spec import FieldInfo, Spec, all_fields, get_value, with_values
from search_spaces.spec.rules import condition_against

if TYPE_CHECKING:
    from search_spaces.skill import Skill

ANYTHING = SpaceRequest()
# what a parameter of a kind may be for the trainer; choices are tried one by one
TAKEN = {"bool": ("bool",), "int": ("int", "float"), "float": ("float",)}


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A parameter that is not searched, and the reason in words."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SpaceReview:
    """The space of one search, every parameter a user might expect in it with the reason of its absence, and the schema's own faults."""

    space: SearchSpace
    dropped: tuple[Dropped, ...]
    faults: tuple[str, ...] = ()


def review_space(skill: Skill, spec: Spec, *, total_steps: int | None = None, request: SpaceRequest = ANYTHING) -> SpaceReview:
    """The parameters of `skill` that act on the training of `spec`, as `request` wants them.

    `total_steps` (optimiser steps of a whole run, when known) drops what would happen after the end and shortens ranges.
    Naming a parameter that cannot be searched is a SpecError with the reason.
    """
    if skill.task != spec.family:
        raise SpecError(
            f"skill {skill.name} is for {skill.task} networks, but model.model_type is {spec.model.model_type}",
            hint="choose the other skill, or another model.model_type",
        )
    schema = skill.schema()
    asked = request.resolved(schema.leaves, skill.shorthands)
    chosen = _wanted(schema, asked)
    wanted = tuple(key for key in schema.leaves if key in chosen and key not in asked.without)
    builder = _Builder(spec=spec, schema=schema, request=asked, relevance=Relevance(spec=spec, wanted=wanted, total_steps=total_steps))
    return builder.review(skill.name)


def _wanted(schema: TrainSchema, request: SpaceRequest) -> Collection[str]:
    """The keys that would be searched if all of them acted."""
    if request.names:
        return request.names
    if schema.has_overlay:
        default = [key for key, leaf in schema.leaves.items() if leaf.overlay.get("searched") == "default"]
    else:
        default = list(schema.automl_default_parameters)
    return {*default, *request.asked}


@dataclass(frozen=True, kw_only=True)
class _Builder:
    spec: Spec
    schema: TrainSchema
    request: SpaceRequest
    relevance: Relevance

    def review(self, skill: str) -> SpaceReview:
        wanted, asked = self.relevance.wanted, self.request.asked
        reasons: dict[str, str] = {}
        parameters: dict[str, Parameter] = {}
        for key in wanted:
            reason = self.relevance.reason_against(key) or self._disabled(key)
            try:
                if reason is None:
                    parameters[key] = self.parameter(key)
            except SpecError as error:
                if key in self.request.changes or key in self.request.priors:
                    raise
                reason = error.message
            if reason is not None:
                reasons[key] = reason
        for key, reason in self._orphans(parameters).items():
            reasons[key] = reason
            del parameters[key]
        self._refuse({key: reason for key, reason in reasons.items() if key in asked})
        if not parameters:
            raise SpecError(f"no parameter of skill {skill} acts on this spec", hint="train without search: --policy off")
        left_out = reasons | dict.fromkeys(self.request.without, "it was asked to be left out")
        if not self.request.names:
            others = [key for key in self.schema.automl_default_parameters if key not in left_out and key not in parameters]
            left_out |= {key: self.relevance.reason_against(key) or self._reason_to_wait(key) for key in others}
        return SpaceReview(
            space=self._space(skill, parameters),
            dropped=tuple(Dropped(key=key, reason=reason) for key, reason in left_out.items()),
            faults=self._faults(),
        )

    def _orphans(self, parameters: Mapping[str, Parameter]) -> dict[str, str]:
        """Reasons against parameters that count only with another one, which turned out not to be searched."""
        alone = [info for info in map(all_fields().__getitem__, parameters) if info.rule.when and info.rule.when[0] not in parameters]
        return {info.key: reason for info in alone if (reason := condition_against(self.spec, info)) is not None}

    def _refuse(self, bad: Mapping[str, str]) -> None:
        """SpecError for what was asked for by name and cannot be."""
        if not bad:
            return
        first, *rest = bad
        others = f"; nor can {', '.join(rest[:4])}{' and others' if len(rest) > 4 else ''}" if rest else ""
        raise SpecError(f"{first} cannot be searched: {bad[first]}{others}", hint=f"leave {'them' if rest else 'it'} out of the list")

    def _space(self, skill: str, parameters: Mapping[str, Parameter]) -> SearchSpace:
        """The parameters in the order of suggestion: parents first, else as the skill lists them."""
        parents: dict[str, list[str]] = {key: self._parents(key) for key in parameters}
        for key in parameters:
            when = all_fields()[key].rule.when
            if when is not None and when[0] in parameters:
                parents[key] = [*parents[key], when[0]]
                parameters = {**parameters, key: dataclasses.replace(parameters[key], condition=Condition(key=when[0], values=when[1]))}
        above = {parent for several in parents.values() for parent in several}
        listed = sorted(parameters, key=lambda key: (key not in above, self.schema.leaves[key].overlay.get("order", 0)))
        order = parents_first(listed, parents)
        constraints = tuple(constraint for key in order for constraint in self._constraints(key, parameters))
        return SearchSpace(skill=skill, parameters=tuple(parameters[key] for key in order), constraints=constraints)

    def _disabled(self, key: str) -> str | None:
        leaf = self.schema.leaves[key]
        if leaf.automl_enabled is not False or self.request.disabled_too:
            return None
        return "the schema marks it as not searchable; automl.override_automl_disabled_params=true allows it all the same"

    def _reason_to_wait(self, key: str) -> str:
        """Why an acting parameter is not part of the small default space."""
        why = self.schema.leaves[key].overlay.get("why")
        return f"it acts, but is not searched by default: {why}" if why else "it acts, but is not searched by default"

    def parameter(self, key: str) -> Parameter:
        """The parameter with the spec's own value as default and, unless the user gave a range, inside its range."""
        own, change, info = choice_of(get_value(self.spec, key)), self.request.changes.get(key), all_fields()[key]
        leaf = _changed(self.schema.leaves[key], change) if change is not None else self.relevance.capped(self.schema.leaves[key])
        parameter = dataclasses.replace(parameter_of(leaf), default=own)
        if info.type not in TAKEN.get(parameter.kind, (info.type,)):
            raise SpecError(f"its type is {leaf.type} in the schema, but {info.type} in this trainer")
        if parameter.kind in NUMBERS.values():
            parameter = _within_trainer(parameter, info)
            if change is None and parameter.low is not None and parameter.high is not None:
                parameter = dataclasses.replace(parameter, low=min(parameter.low, own), high=max(parameter.high, own))
        elif parameter.kind == "categorical":
            parameter = self._with_legal_choices(parameter, strict=change is not None)
            if change is None and own not in parameter.choices:
                parameter = dataclasses.replace(parameter, choices=(*parameter.choices, own), weights=())
        prior = self.request.priors.get(key)
        if prior is not None and parameter.kind == "float" and isinstance(prior, int) and not isinstance(prior, bool):
            prior = float(prior)
        why = parameter.why or ("asked for by name" if key in self.request.asked else "the skill's schema enables it")
        return dataclasses.replace(parameter, prior=prior, why=why)

    def _with_legal_choices(self, parameter: Parameter, *, strict: bool) -> Parameter:
        """Without the choices that the trainer refuses, in its own spelling; `strict`: the user's own choices are an error instead."""
        kept: dict[Value, float] = {}
        for choice, weight in zip(parameter.choices, parameter.weights or (1.0,) * len(parameter.choices), strict=True):
            try:
                kept[choice_of(get_value(with_values(self.spec, {parameter.key: choice}), parameter.key))] = weight
            except SpecError as error:
                if strict:
                    raise SpecError(f"{parameter.key} cannot be {choice}: {error.message}", hint=error.hint) from error
        if not kept:
            raise SpecError(f"this trainer takes none of {', '.join(map(str, parameter.choices))}")
        weights = tuple(kept.values()) if parameter.weights else ()
        return dataclasses.replace(parameter, choices=tuple(kept), weights=weights)

    def _parents(self, key: str) -> list[str]:
        """The keys that the schema's depends_on names; what is not understood or not known names nothing."""
        try:
            names = parse_depends_on(self.schema.leaves[key].depends_on or "").names
        except SpecError:
            return []
        return [found for name in names if (found := self._beside(key, name)) is not None]

    def _beside(self, key: str, name: str) -> str | None:
        """The key that `name` means beside `key`, else anywhere."""
        sibling = f"{key.rpartition('.')[0]}.{name}"
        if sibling in self.schema.leaves:
            return sibling
        try:
            return find_key(name, self.schema.leaves, {})
        except SpecError:
            return None

    def _constraints(self, key: str, parameters: Mapping[str, Parameter]) -> list[Constraint]:
        """The relations of one parameter to its parents: to what is chosen for them, or to what the spec fixes."""
        leaf = self.schema.leaves[key]
        condition = parse_math_cond(leaf.math_cond or "")
        found = [Constraint(key=key, relation="!=", other=number) for relation, number in condition.bounds if relation == "!="]
        parents = self._parents(key)
        relation = parse_depends_on(leaf.depends_on or "").relation if parents else None
        for parent in parents:
            fixed = get_value(self.spec, parent) if parent in all_fields() else None
            other = parent if parent in parameters else fixed
            if isinstance(other, str | int | float) and not isinstance(other, bool):
                relations = (*condition.relations, *((relation,) if relation else ()))
                found += [Constraint(key=key, relation=one, other=other) for one in relations]
        return found

    def _faults(self) -> tuple[str, ...]:
        """What the schema gets wrong about keys that this trainer knows, alike ones together."""
        found: dict[tuple[str, str], list[str]] = {}
        for key, leaf in self.schema.leaves.items():
            info = all_fields().get(key)
            if info is not None:
                for fault in (*faults_of(leaf), *self._unknown_parents(leaf), *_beyond_trainer(leaf, info)):
                    found.setdefault((key.rpartition(".")[2], fault), []).append(key)
        lines = [f"{keys[0]}{f' and {len(keys) - 1} more' if keys[1:] else ''}: {fault}" for (_, fault), keys in found.items()]
        differ = sorted(set(self.schema.listed) ^ set(self.schema.automl_default_parameters))
        if differ:
            lines.append(f"automl_default_parameters and the flags of the parameters differ in {', '.join(differ[:3])}; the flags count")
        return tuple(lines)

    def _unknown_parents(self, leaf: Leaf) -> list[str]:
        try:
            names = parse_depends_on(leaf.depends_on or "").names
        except SpecError:
            return []
        return [f"depends_on names {name}, which the schema does not have" for name in names if self._beside(leaf.key, name) is None]


def _changed(leaf: Leaf, change: RangeChange) -> Leaf:
    """The leaf with the user's bounds or choices; SpecError when the schema does not allow them."""
    count = len(change.choices or leaf.options)
    if change.weights and (len(change.weights) != count or min(change.weights) <= 0):
        raise SpecError(
            f"{leaf.key} needs a weight above 0 for each of its {count} choices, but has {list(change.weights)}",
            hint="give one positive number for each choice, or none at all",
        )
    if change.choices:
        _check_choices(leaf, change.choices)
        overlay: dict[str, Any] = {**leaf.overlay, "choices": list(change.choices)}
        return dataclasses.replace(leaf, overlay=overlay, weights=change.weights)
    if change.weights and change.low is None and change.high is None:
        return dataclasses.replace(leaf, weights=change.weights)
    if leaf.type not in NUMBERS:
        raise SpecError(f"{leaf.key} is a {leaf.type} and has no range", hint=f"name its values: --choices {leaf.key}=A,B")
    low = change.low if change.low is not None else leaf.overlay.get("low", leaf.low)
    high = change.high if change.high is not None else leaf.overlay.get("high", leaf.high)
    for value in (low, high):
        _check_inside(leaf, value)
    if low is not None and high is not None and low >= high:
        raise SpecError(f"low < high must hold for {leaf.key}, but low={low:g}, high={high:g}", hint="swap the two")
    overlay = {**leaf.overlay, "low": low, "high": high}
    overlay |= {"log": change.log} if change.log is not None else {}
    overlay |= {"step": change.step, "log": False} if change.step is not None else {}
    return dataclasses.replace(leaf, overlay=overlay)


def _check_inside(leaf: Leaf, value: Any) -> None:
    low, high = leaf.low, leaf.high
    if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
        ends = f"[{'' if low is None else format(low, 'g')}, {'' if high is None else format(high, 'g')}]"
        raise SpecError(f"{leaf.key} must stay inside {ends}, but {value:g} was asked for", hint="narrow the range")
    if leaf.type == "int" and value is not None and value != int(value):
        raise SpecError(f"{leaf.key} is a whole number, but {value:g} was asked for", hint="give whole ends")


def _check_choices(leaf: Leaf, choices: Collection[Value]) -> None:
    if leaf.type in NUMBERS:
        for value in choices:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SpecError(f"{leaf.key} is a number, but {value!r} was asked for", hint="name numbers")
            _check_inside(leaf, value)
    elif leaf.type in CHOICES and leaf.options:
        words = set(map(str, leaf.options)) | set(_aliases(leaf.key))
        surplus = [str(choice) for choice in choices if str(choice) not in words]
        if surplus:
            listed = ", ".join(map(str, leaf.options))
            raise SpecError(f"{leaf.key} has no option {surplus[0]}", hint=f"its options are {listed}")


def _aliases(key: str) -> Mapping[str, str]:
    info = all_fields().get(key)
    aliases = {} if info is None else info.rule.aliases
    return {**aliases, **{name: name for name in aliases.values()}}


def _within_trainer(parameter: Parameter, info: FieldInfo) -> Parameter:
    """The parameter inside the range that the trainer takes; SpecError when nothing is left."""
    low, high = parameter.low, parameter.high
    assert low is not None
    assert high is not None
    legal_low = low if info.low is None else max(low, info.low)
    legal_high = high if info.high is None else min(high, info.high)
    if legal_low > legal_high:
        raise SpecError(f"the schema's range [{low:g}, {high:g}] lies outside what this trainer takes")
    return parameter if (legal_low, legal_high) == (low, high) else dataclasses.replace(parameter, low=legal_low, high=legal_high)


def _beyond_trainer(leaf: Leaf, info: FieldInfo) -> list[str]:
    """Bounds and options that this trainer does not take."""
    found = []
    if leaf.type in NUMBERS:
        if leaf.low is not None and info.low is not None and leaf.low < info.low and leaf.low != info.rule.off:
            found.append(f"its minimum {leaf.low:g} is below {info.low:g}, the least that this trainer takes")
        if leaf.high is not None and info.high is not None and leaf.high > info.high:
            found.append(f"its maximum {leaf.high:g} is above {info.high:g}, the most that this trainer takes")
    known = {str(option).lower() for option in (*info.options, *info.rule.aliases)}
    surplus = [str(option) for option in leaf.options if known and str(option).lower() not in known]
    if surplus:
        found.append(f"this trainer does not know its option{'s' if surplus[1:] else ''} {', '.join(surplus)}")
    return found
