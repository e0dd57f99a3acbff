"""Files to arrays and back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from search_spaces.errors import DataError
from trials.data.decoders import image_size, read_npy, read_pfm, read_png, read_rgb, write_atomically, write_pfm, write_png

GRID = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("values", [GRID, np.stack([GRID, GRID + 10, GRID + 20], axis=-1)], ids=["one channel", "three channels"])
def test_pfm_round_trip(tmp_path: Path, values: np.ndarray) -> None:
    write_pfm(tmp_path / "a.pfm", values)
    np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), values)


def test_pfm_stores_the_bottom_row_first(tmp_path: Path) -> None:
    write_pfm(tmp_path / "a.pfm", GRID)
    assert (tmp_path / "a.pfm").read_bytes() == b"Pf\n3 2\n-1\n" + np.array([3, 4, 5, 0, 1, 2], "<f4").tobytes()


def test_a_positive_scale_is_big_endian(tmp_path: Path) -> None:
    (tmp_path / "a.pfm").write_bytes(b"Pf\n3 2\n1.0\n" + np.array([3, 4, 5, 0, 1, 2], ">f4").tobytes())
    np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), GRID)


def test_a_first_value_that_looks_like_white_space_survives(tmp_path: Path) -> None:
    odd = np.frombuffer(b"\n\n\n\n", "<f4").reshape(1, 1)
    write_pfm(tmp_path / "a.pfm", odd)
    np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), odd)


@pytest.mark.parametrize(
    "content", [b"P6\n1 1\n255\n", b"Pf\n3 2\n-1\n1234", b"Pf\n1 1\n1.2.3\n1234"], ids=["not a PFM", "cut off", "scale"]
)
def test_a_broken_pfm_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pfm").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.pfm is"):
        read_pfm(tmp_path / "a.pfm")


def test_png_keeps_sixteen_bits(tmp_path: Path) -> None:
    values = np.array([[0, 256, 65535]], np.uint16)
    write_png(tmp_path / "a.png", values)
    stored = read_png(tmp_path / "a.png")
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, values)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.ppm"])
def test_colour_is_red_green_blue(tmp_path: Path, name: str) -> None:
    image = np.array([[[250, 10, 0], [0, 20, 240]]], np.uint8)
    cv2.imwrite(str(tmp_path / name), image[:, :, ::-1])
    np.testing.assert_array_equal(read_rgb(tmp_path / name), image)


def test_grey_becomes_three_channels(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.full((2, 2), 7, np.uint8))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.full((2, 2, 3), 7))


def test_a_cut_off_image_names_its_path_and_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cannot decode .*a\.png"):
        read_rgb(tmp_path / "a.png")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "content", "says"), [("a.png", b"", "empty"), ("a.png", b"hello", "cannot decode"), ("a.txt", b"x", "no image")]
)
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_rgb(tmp_path / name)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a NumPy array"):
        read_npy(tmp_path / "a.npy")


def test_texts_are_no_map(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([["1", "x"]]))
    with pytest.raises(DataError, match="of numbers"):
        read_npy(tmp_path / "a.npy")


def test_a_size_beyond_all_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    write_png(tmp_path / "a.png", np.zeros((5, 7), np.uint8))
    with pytest.raises(DataError, match=r"cannot read the size of .*a\.png: .*35 pixels"):
        image_size(tmp_path / "a.png")


def test_sizes_come_from_headers(tmp_path: Path) -> None:
    write_pfm(tmp_path / "a.pfm", GRID)
    write_png(tmp_path / "a.png", np.zeros((5, 7), np.uint16))
    np.save(tmp_path / "a.npy", GRID)
    assert [image_size(tmp_path / name) for name in ("a.pfm", "a.png", "a.npy")] == [(2, 3), (5, 7), (2, 3)]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(DataError, match="cannot write"):
        write_atomically(target, b"x")
    assert list(tmp_path.iterdir()) == [target]
