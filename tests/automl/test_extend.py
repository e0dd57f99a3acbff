"""Extending a study that nobody runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import typer

from automl.config import load_config
from automl.extend import Extension, extend_study, extended
from automl.limits import Limits
from automl.study import Study
from search_spaces.errors import StudyError
from search_spaces.spec import load_spec, spec_to_dict
from tests.automl.samples import small_stereo_spec
from tests.automl.toy import toy_config


class Terminal(io.StringIO):
    """A terminal at which somebody has typed."""

    def isatty(self) -> bool:
        return True


def test_who_says_no_has_extended_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Study.create(tmp_path / "s", toy_config(trials=2)).close()
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    with pytest.raises(typer.Abort):
        extend_study(tmp_path / "s", Extension(trials="+3"), yes=False)
    assert load_config(tmp_path / "s").trials == 2


def test_what_cannot_go_on_is_not_extended(tmp_path: Path) -> None:
    spec = small_stereo_spec(tmp_path)
    config = toy_config(trials=2, spec=spec_to_dict(load_spec(spec)), notes={"data": {"train": "another list"}})
    Study.create(tmp_path / "s", config).close()
    with pytest.raises(StudyError, match="the training data and the validation data"):
        extend_study(tmp_path / "s", Extension(trials="+3"), yes=True)
    assert load_config(tmp_path / "s").trials == 2


@pytest.mark.parametrize("text", ["2", "+0", "+0.0", "more"])
def test_what_adds_nothing_is_no_extension(text: str) -> None:
    with pytest.raises(StudyError, match="--max-hours says how much is added, with a plus"):
        extended(toy_config(limits=Limits(max_hours=1.0)), Extension(max_hours=text))


@pytest.mark.parametrize(("before", "after"), [(0, 2), (1, 1)])
def test_finalists_that_were_asked_for_stay(before: int, after: int) -> None:
    assert extended(toy_config(trials=3, finalists=before), Extension(trials="+9")).finalists == after
