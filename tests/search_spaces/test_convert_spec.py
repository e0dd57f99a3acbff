"""The convert spec: its keys, what they may say, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.errors import SpecError
from search_spaces.spec import load_spec
from search_spaces.spec.convert import Convert, load_convert

Load = Callable[..., Convert]
PLACES = ("data_root=data", "results_dir=lists")
STEREO = (*PLACES, "image_dir_pattern=[im0]", "right_dir_pattern=[im1]", "depth_dir_pattern=[disp0]")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "convert.yaml").write_text("split_ratio: 0.8\n")
    return tmp_path / "convert.yaml"


@pytest.fixture
def load(file: Path) -> Load:
    return lambda *overrides: load_convert(file, overrides).spec


@pytest.fixture
def refused(file: Path) -> Callable[..., SpecError]:
    def run(*overrides: str) -> SpecError:
        with pytest.raises(SpecError) as caught:
            load_convert(file, overrides)
        return caught.value

    return run


def test_what_nobody_set_keeps_the_default_of_tao(load: Load):
    spec = load(*PLACES)
    assert (spec.image_extension, spec.depth_extension, spec.nocc_extension) == (".jpg", ".png", ".png")
    assert (spec.split_ratio, spec.image_dir_pattern) == (0.8, ())


@pytest.mark.parametrize(
    ("written", "read"), [("png", ".png"), (".png", ".png"), ("", None), ("null", None), (".color.jpg", ".color.jpg"), ("_l.png", "_l.png")]
)
def test_the_dot_of_an_ending_may_be_left_out(written: str, read: str | None, load: Load):
    assert load(*PLACES, f"image_extension={written}").image_extension == read


def test_empty_texts_of_a_template_are_no_patterns(load: Load):
    assert load(*PLACES, "image_dir_pattern=[rgb]", "right_dir_pattern=['']", "depth_dir_pattern=null").columns == ("image",)


@pytest.mark.parametrize(
    ("patterns", "family", "columns"),
    [
        ([], "mono", "image"),
        (["depth_dir_pattern=[d]"], "mono", "image depth"),
        (["right_dir_pattern=[r]"], "stereo", "left right"),
        (["right_dir_pattern=[r]", "depth_dir_pattern=[d]"], "stereo", "left right disparity"),
        (["right_dir_pattern=[r]", "depth_dir_pattern=[d]", "nocc_dir_pattern=[n]"], "stereo", "left right disparity mask"),
    ],
)
def test_the_right_pattern_alone_makes_it_stereo(patterns: list[str], family: str, columns: str, load: Load):
    spec = load(*PLACES, "image_dir_pattern=[im0]", *patterns)
    assert (spec.family, " ".join(spec.columns)) == (family, columns)


@pytest.mark.parametrize("others", [[], ["right_dir_pattern=[r]"], ["depth_dir_pattern=[d]"]])
def test_a_mask_without_its_neighbours_is_refused(others: list[str], refused: Callable[..., SpecError]):
    error = refused(*PLACES, "image_dir_pattern=[im0]", "nocc_dir_pattern=[n]", *others)
    assert "asks for a mask, the column after right and disparity" in error.message
    assert "left right disparity mask" in str(error.hint)


def test_a_pattern_with_nothing_to_replace_is_refused(refused: Callable[..., SpecError]):
    assert "image_dir_pattern is empty" in refused(*PLACES, "right_dir_pattern=[im1]").message


def test_an_image_is_not_its_own_ground_truth(refused: Callable[..., SpecError]):
    error = refused(*PLACES, "image_dir_pattern=[f]", "depth_dir_pattern=[f]", "image_extension=png", "depth_extension=.png")
    assert "the image itself would be listed again" in error.message


def test_ground_truth_may_differ_by_its_ending_alone(load: Load):
    assert load(*PLACES, "image_dir_pattern=[f]", "depth_dir_pattern=[f]").columns == ("image", "depth")


@pytest.mark.parametrize("name", ["data_root", "results_dir"])
def test_a_folder_that_is_not_set(name: str, refused: Callable[..., SpecError]):
    error = refused(*PLACES, f"{name}=???")
    assert error.message.startswith(f"depth_net convert needs {name}")


@pytest.mark.parametrize(
    ("typed", "meant"), [("split_ration", "split_ratio"), ("left_dir_pattern", "image_dir_pattern"), ("depth_ext", "depth_extension")]
)
def test_an_unknown_key_gets_the_nearest_one(typed: str, meant: str, file: Path, refused: Callable[..., SpecError]):
    file.write_text(f"data_root: x\n{typed}: 1\n")
    error = refused()
    assert error.message == f"unknown key {typed} ({file}:2)"
    assert error.hint == f"did you mean {meant}?"


def test_a_training_spec_is_told_the_keys_of_convert(refused: Callable[..., SpecError], file: Path):
    file.write_text("model: {encoder: vits}\n")
    assert "the keys of a convert spec are data_root, results_dir" in str(refused().hint)


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("split_ratio=1.5", "split_ratio must be at least 0 and at most 1, but is 1.5", "the nearest legal value is 1"),
        ("image_dir_pattern=im0", "image_dir_pattern must be a list, but is 'im0'", "write image_dir_pattern=[im0]"),
        ("seed=none", "seed must be a whole number, but is null", "leave the key out to take its default"),
        ("allow_missing=perhaps", "allow_missing must be true or false, but is 'perhaps'", "allow_missing: leave out rows"),
    ],
)
def test_a_wrong_value(override: str, message: str, hint: str, refused: Callable[..., SpecError]):
    error = refused(*PLACES, override)
    assert (error.message, str(error.hint)[: len(hint)]) == (f"{message} (command line: {override})", hint)


def test_a_deleted_key_goes_back_to_its_default(load: Load):
    assert load(*PLACES, "~split_ratio").split_ratio == 0.0


def test_one_key_may_refer_to_another(load: Load):
    assert load("data_root=data", "results_dir=${data_root}/lists").results_dir == "data/lists"


def test_keys_that_do_nothing_say_so(file: Path):
    lines = load_convert(file, [*STEREO, "nocc_mask_dir_name=mask", "right_dir_pattern=[im1,b]"]).warnings
    assert lines[0] == "nocc_mask_dir_name does nothing: nocc_dir_pattern says it"
    assert "only its first text, 'im1'" in lines[1]


def test_another_action_says_whose_key_it_is():
    with pytest.raises(SpecError, match="unknown key image_dir_pattern") as caught:
        load_spec(None, ["image_dir_pattern=[im0]"])
    assert "`depth_net convert -e` reads" in str(caught.value.hint)
