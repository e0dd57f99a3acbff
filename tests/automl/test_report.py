"""What the head of the report says of a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.reader import read_snapshot
from automl.report import write_report
from automl.study import Study
from search_spaces.spec import spec_from_dict, spec_to_dict
from tests.automl.toy import toy_config

RELATIVE = spec_to_dict(spec_from_dict({"model": {"model_type": "RelativeDepthAnything"}}))


def head(folder: Path, **changes: object) -> str:
    Study.create(folder, toy_config(**changes)).close()
    return write_report(read_snapshot(folder)).read_text().partition("<section")[0]


def test_the_loss_of_a_relative_network_is_its_own(tmp_path: Path) -> None:
    text = head(tmp_path / "s", spec=RELATIVE)
    assert "val/loss (lower is better): scale-and-shift-invariant loss" in text
    assert "SiLog" not in text


@pytest.mark.parametrize(
    ("fidelity", "searcher", "told"),
    [
        ("asha", "tpe", "tpe proposes, asha stops early, seed 1 "),
        ("full", "random", "random proposes, every trial to the end, seed 1 "),
        ("population", "pbt", "pbt proposes, the worst give way to children of the best, seed 1 "),
    ],
)
def test_who_searches_and_what_becomes_of_poor_trials(tmp_path: Path, fidelity: str, searcher: str, told: str) -> None:
    assert told in head(tmp_path / "s", fidelity=fidelity, searcher=searcher)
