"""Each key of TAO's spec against ours: accepted, of its type, with its default, its range and its options enforced."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces.errors import SpecError
from search_spaces.spec import Spec, all_fields, get_value, read_spec
from search_spaces.spec.values import build
from tests.search_spaces.tao_keys import DIFFERENT, MORE_BOUNDS, OFF, OPEN, UNSET, Fact, all_facts

FACTS = {fact.key: fact for fact in all_facts()}
NUMBERS = [fact for fact in FACTS.values() if fact.type in ("int", "float")]
CHOICES = [fact for fact in FACTS.values() if fact.options]
FAMILIES = ("FoundationStereo", "MetricDepthAnything", "RelativeDepthAnything")
NOT_A = {"int": 1.5, "float": "0.1", "bool": "h", "string": True, "list": "a", "collection": [1], "categorical": 3, "ordered_int": "x"}


def here(fact: Fact, what: str, theirs: Any) -> Any:
    """Our default, low, high or options of the key: TAO's unless the table says otherwise; a key of a split is looked up by its end."""
    named = {fact.key, fact.key.partition("_dataset.")[2]}
    return next((value for key, kind, value, _ in DIFFERENT if key in named and kind == what), theirs)


def bounds(fact: Fact) -> tuple[float | None, float | None]:
    return MORE_BOUNDS.get(fact.key) or (here(fact, "low", fact.low), here(fact, "high", fact.high))


def set_to(fact: Fact, value: Any) -> Any:
    """The value that a spec with the key set to `value` has; rules between keys are left out."""
    data: Any = value
    for part in reversed(fact.key.split(".")):
        data = {part: data}
    return get_value(build(Spec, data, {fact.key: "spec.yaml:7"}), fact.key)


def refused(fact: Fact, value: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        set_to(fact, value)
    assert caught.value.message.startswith(fact.key)
    assert caught.value.message.endswith("(spec.yaml:7)")
    assert caught.value.hint
    return caught.value


def test_the_table_holds_what_tao_flags() -> None:
    assert len(FACTS) == len(list(all_facts())) == 233  # of the 256 nodes of its schema 23 are groups
    flagged = {key for key, info in all_fields().items() if info.automl}
    assert flagged <= set(FACTS)


@pytest.mark.parametrize("fact", FACTS.values(), ids=lambda fact: fact.key)
def test_type_default_and_wrong_type(fact: Fact) -> None:
    info = all_fields()[fact.key]
    assert info.type == fact.type
    default = here(fact, "default", fact.default)
    ours = list(info.default) if isinstance(info.default, tuple) else info.default
    assert ours == default or (ours, default) == ("", UNSET)
    refused(fact, NOT_A[fact.type])


@pytest.mark.parametrize("fact", NUMBERS, ids=lambda fact: fact.key)
def test_bounds_are_legal_and_what_lies_beyond_is_not(fact: Fact) -> None:
    info = all_fields()[fact.key]
    low, high = bounds(fact)
    assert (info.low, info.high) == (low, high)
    step = 1 if fact.type == "int" else 1e-9
    if low is not None:
        if fact.key not in OPEN:
            assert set_to(fact, low) == low
        error = refused(fact, OFF.get(fact.key, low) - step)
        assert ("above" if fact.key in OPEN else "at least") in error.message
    if high is not None:
        assert set_to(fact, high) == high
        error = refused(fact, high + 1)
        assert f"at most {high:g}" in error.message
        assert f"but is {high + 1:g}" in error.message
        assert error.hint == f"the nearest legal value is {high:g}"


def test_zero_is_off_and_open_ends_are_shut() -> None:
    assert [set_to(FACTS[key], off) for key, off in OFF.items()] == [0.0, 0.0]
    assert ["above 0" in refused(FACTS[key], 0).message for key in OPEN] == [True, True]


@pytest.mark.parametrize("fact", CHOICES, ids=lambda fact: fact.key)
def test_options_are_taken_in_any_case_and_others_are_not(fact: Fact) -> None:
    options = here(fact, "options", fact.options)
    assert sorted(map(str, all_fields()[fact.key].options)) == sorted(map(str, options))
    for option in options:
        assert set_to(fact, option) == option
        assert set_to(fact, option.upper() if isinstance(option, str) else option) == option
    wrong = "int3" if fact.type == "categorical" else 2
    error = refused(fact, wrong)
    assert all(str(option) in error.message for option in options)
    assert repr(wrong) in error.message


@pytest.mark.parametrize("model_type", FAMILIES)
def test_each_key_that_does_nothing_is_accepted_with_one_line_and_no_other_is(model_type: str) -> None:
    family = "stereo" if model_type == "FoundationStereo" else "mono"
    # these choose the family, and its crop
    own = {"model.model_type", "dataset.dataset_name", "dataset.train_dataset.augmentation.crop_size"}
    infos = [info for key, info in all_fields().items() if key in FACTS and key not in own]
    warnings = read_spec(None, [f"model.model_type={model_type}", *(f"{info.key}={written(info.default)}" for info in infos)]).warnings
    lines = [line for line in warnings if " has no effect: " in line]
    waiting = {info.key for info in infos if info.rule.when and get_value(Spec(), info.rule.when[0]) not in info.rule.when[1]}
    expected = [info.key for info in infos if not info.read_by(family) or info.key in waiting]
    assert [line.partition(" ")[0] for line in lines] == expected
    assert all(len(line.partition(" has no effect: ")[2]) > 15 for line in lines)


def written(value: Any) -> str:
    """A value as an override says it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    words = {None: "null", True: "true", False: "false", "": "''"}
    return "{}" if value == {} else words[value] if value is None or isinstance(value, bool) or value == "" else str(value)
