"""The parity command, on the published answers and on a case made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.layers.imagenet import normalise
from models.mono.depth_anything import DepthAnything
from models.parity import image, main, read_case, run_case, weight
from models.weights import load_weights
from search_spaces.errors import UserError

NAME = "dav2_metric10_vitt_28x42"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one case of the small encoder, answered by our own network through an ordinary weight file."""
    network = DepthAnything("vitt", max_depth=10.0, relative=False).eval()
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    tensors = {name: torch.from_numpy(weight(name, tuple(shape))) for name, shape in shapes.items()}
    torch.save(tensors, tmp_path / "weights.pth")
    load_weights(network, tmp_path / "weights.pth")
    with torch.no_grad():
        depth = network(normalise(torch.from_numpy(image(NAME, (2, 28, 42)))))
    np.savez(tmp_path / f"{NAME}.npz", depth=depth.numpy())
    (tmp_path / f"{NAME}.keys.json").write_text(json.dumps(shapes))
    return tmp_path


def published() -> list[str]:
    found = Path(__file__).resolve().parents[2] / ".." / "shared" / "parity"
    return sorted(path.name.removesuffix(".npz") for path in found.glob("*.npz")) or ["none"]


@pytest.mark.parametrize("name", published())
def test_published_answers(parity_folder: Path, name: str) -> None:
    outcome = run_case(read_case(parity_folder, name))
    assert outcome.passed, str(outcome)


def test_agreement_is_exit_code_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out.startswith(f"ok   {NAME}: 127 tensors, largest error depth 0.0e+00 of the range")


def test_a_changed_answer_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = np.load(folder / f"{NAME}.npz")["depth"]
    depth[0, 3, 4] += 0.01 * (depth.max() - depth.min())
    np.savez(folder / f"{NAME}.npz", depth=depth)
    assert main([str(folder)]) == 1
    assert capsys.readouterr().out.startswith(f"FAIL {NAME}")


def test_a_differing_key_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = folder / f"{NAME}.keys.json"
    keys.write_text(keys.read_text().replace("pretrained.norm.weight", "pretrained.norm.scale"))
    assert main([str(folder)]) == 1
    assert "1 missing: pretrained.norm.weight; 1 unexpected: pretrained.norm.scale" in capsys.readouterr().out


def test_nan_does_not_pass(folder: Path) -> None:
    np.savez(folder / f"{NAME}.npz", depth=np.full((2, 28, 42), np.nan, np.float32))
    assert not run_case(read_case(folder, NAME)).passed


def test_an_empty_folder_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no case" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["resnet_28x42", "dav2_relative_vitx_28x42", "foundation_stereo_vits_128x160", "dav2_relative_vits_28x42_d64"]
)
def test_a_name_that_says_no_network(folder: Path, name: str) -> None:
    for end in (".npz", ".keys.json"):
        (folder / f"{NAME}{end}").rename(folder / f"{name}{end}")
    with pytest.raises(UserError):
        read_case(folder, name)


def test_a_stereo_size_without_a_known_shift_says_so(tmp_path: Path) -> None:
    name = "foundation_stereo_vits_64x64_d64"
    np.savez(
        tmp_path / f"{name}.npz", initial=np.zeros((1, 1, 16, 16)), sequence=np.zeros((1, 1, 1, 64, 64)), final=np.zeros((1, 1, 64, 64))
    )
    (tmp_path / f"{name}.keys.json").write_text("{}")
    with pytest.raises(UserError, match="the shift of the right image is not known for 64x64"):
        run_case(read_case(tmp_path, name))


def test_nothing_in_the_folder_is_executed(folder: Path) -> None:
    (folder / "fill.py").write_text("raise SystemExit('executed')")
    assert main([str(folder)]) == 0


def test_a_tensor_depends_on_its_name_alone() -> None:
    assert np.array_equal(weight("a.bias", (4,)), weight("a.bias", (4,)))
    assert not np.array_equal(weight("a.bias", (4,)), weight("b.bias", (4,)))
    assert weight("a.running_var", (50,)).min() >= 1


def test_a_shift_moves_the_picture_left() -> None:
    left, right = image("scene", (1, 8, 64)), image("scene", (1, 8, 64), shift=5.0)
    slope, offset = np.polyfit(right[0, 0, :, :-5].ravel(), left[0, 0, :, 5:].ravel(), 1)
    assert np.abs(slope * right[0, 0, :, :-5] + offset - left[0, 0, :, 5:]).max() < 1e-2


def test_the_mean_colour_becomes_zero() -> None:
    grey = torch.full((1, 3, 2, 2), 255 * 0.485)
    assert normalise(grey)[0, 0].abs().max() < 1e-6
