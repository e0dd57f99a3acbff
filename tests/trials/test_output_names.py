"""Names of outputs: they mirror the inputs and never collide."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.output_names import output_names, with_ending


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["/data/a/im0.png", "/data/b/im0.png"], ["a/im0", "b/im0"]),
        (["/data/a/im0.png", "/data/a/im0.jpg"], ["im0_png", "im0_jpg"]),
        (["/data/a/im0.png", "/data/a/im0.png"], ["im0", "im0_2"]),
        (["/data/a/im0.png", "/data/a/im0.jpg", "/data/a/im0_png.bmp"], ["im0_png", "im0_jpg", "im0_png_2"]),
        (["/data/only.png"], ["only"]),
        (["/d/frame.0.color.jpg", "/d/frame.1.color.jpg"], ["frame.0.color", "frame.1.color"]),
        (["/d/zwei Bäume/für dich.png", "/d/木/1.PNG"], ["zwei Bäume/für dich", "木/1"]),
        (["/d/x/../y/1.png", "/d/y/2.png"], ["1", "2"]),
        ([], []),
    ],
)
def test_names_mirror_the_inputs_and_are_unique(inputs: list[str], names: list[str]) -> None:
    assert [str(name) for name in output_names([Path(each) for each in inputs])] == names


def test_an_ending_leaves_the_dots_of_a_name() -> None:
    assert with_ending(Path("a/frame.0.color_disp"), ".pfm") == Path("a/frame.0.color_disp.pfm")
