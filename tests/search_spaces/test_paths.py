"""Where actions write, and what is said when a file that an action needs is not named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search_spaces.errors import SpecError
from search_spaces.spec import load_spec, require, results_folder


def test_an_action_s_own_folder_is_taken_as_it_stands() -> None:
    spec = load_spec(None, ["results_dir=out", "evaluate.results_dir=here/it/is"])
    assert results_folder(spec, "evaluate") == Path("here/it/is")
    assert results_folder(spec, "train") == Path("out/train")


def test_no_folder_at_all_names_both_keys() -> None:
    with pytest.raises(SpecError, match=r"neither results_dir nor train\.results_dir is set") as caught:
        results_folder(load_spec(None), "train")
    assert caught.value.hint == "add results_dir=results to the command"


def hint(root: Path | None, key: str, action: str) -> str:
    with pytest.raises(SpecError, match=rf"missing mandatory value: depth_net {action} needs {key.replace('.', '[.]')}$") as caught:
        require(load_spec(None, [f"results_dir={root}"] if root else []), key, action=action)
    return caught.value.hint or ""


def test_what_is_named_is_given_back() -> None:
    assert require(load_spec(None, ["export.checkpoint=a.pth"]), "export.checkpoint", action="export") == "a.pth"


def test_a_missing_file_says_how_to_name_it(tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "none"):
        assert hint(root, "evaluate.checkpoint", "evaluate") == "add evaluate.checkpoint=... to the command or set it in the spec"


def test_files_that_would_do_are_named_best_weights_first_then_the_newest(tmp_path: Path) -> None:
    names = ("train/best.pth", "train/model_epoch_000_step_00010.pth", "train/model_epoch_001_step_00020.pth", "promotion/model.onnx")
    for age, name in enumerate(("trials/0003/train/best.pth", *names, "train/train.log", "a/b/c/d/best.pth")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1000 + age, 1000 + age))
    assert hint(tmp_path, "export.checkpoint", "export") == (
        f"add export.checkpoint={tmp_path}/train/best.pth to the command; "
        f"also there: {tmp_path}/trials/0003/train/best.pth, {tmp_path}/train/model_epoch_001_step_00020.pth, "
        f"{tmp_path}/train/model_epoch_000_step_00010.pth"
    )
    assert f"evaluate.checkpoint={tmp_path}/promotion/model.onnx" in hint(tmp_path, "evaluate.checkpoint", "evaluate")
    assert f"gen_trt_engine.onnx_file={tmp_path}/promotion/model.onnx" in hint(tmp_path, "gen_trt_engine.onnx_file", "gen_trt_engine")
