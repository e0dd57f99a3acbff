"""What a run starts from, told from its spec alone."""

from __future__ import annotations

import pytest

from search_spaces.spec import load_spec
from search_spaces.spec.weights import MONO, RESUME, SIDE, TRUNK, WHOLE, FirstWeights, first_weights, weight_files


def first(*overrides: str) -> FirstWeights:
    return first_weights(load_spec(None, overrides))


STEREO = ("model.model_type=FoundationStereo", "model.encoder=vits")
METRIC = ("model.model_type=MetricDepthAnything",)


@pytest.mark.parametrize(
    ("given", "random", "keys"),
    [
        (METRIC, ("the encoder", "the head"), f"set {WHOLE} or {MONO}"),
        ((*METRIC, f"{MONO}=a.pth"), ("the head",), None),
        ((*METRIC, f"{WHOLE}=a.pth"), (), None),
        ((*STEREO, f"{TRUNK}=a.pth"), ("the side network (frozen, so it never learns)", "the stereo layers"), f"set {SIDE}"),
        ((*STEREO, f"{SIDE}=a.pth"), ("the EdgeNeXt trunk", "the stereo layers"), f"set {TRUNK}"),
        ((*STEREO, f"{SIDE}=a.pth", f"{TRUNK}=b.pth"), ("the stereo layers",), None),
        ((*STEREO, f"{WHOLE}=a.pth"), (), None),
        ((*STEREO, f"{RESUME}=a.pth"), (), None),
    ],
)
def test_random_parts_and_the_keys_that_fill_them(given: tuple[str, ...], random: tuple[str, ...], keys: str | None) -> None:
    found = first(*given)
    assert found.random == random
    assert (found.warning is None) if keys is None else (found.warning or "").endswith(f"; {keys}")


def test_the_smoke_encoder_has_nothing_to_set() -> None:
    warning = first(*METRIC, "model.encoder=vitt").warning or ""
    assert warning.endswith("encoder vitt has no published weights, it is for smoke runs")


def test_one_line_for_records() -> None:
    assert str(first(*METRIC, f"{MONO}=a.pth")) == f"{MONO}=a.pth; random: the head"
    assert str(first(*METRIC, f"{RESUME}=last.pth")) == f"{RESUME}=last.pth"


def test_files_of_the_other_family_and_empty_paths_are_not_read() -> None:
    spec = load_spec(None, [*STEREO, f"{MONO}=a.pth", f"{SIDE}=", f"{TRUNK}=null", f"{WHOLE}=b.pth"])
    assert [(file.key, file.part) for file in weight_files(spec)] == [(WHOLE, "all")]
