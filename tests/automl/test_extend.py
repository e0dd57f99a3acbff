"""Extending a study that nobody runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import typer

from automl.config import load_config
from automl.extend import Extension, extend_study, extended
from automl.study import Study
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


@pytest.mark.parametrize(("before", "after"), [(0, 2), (1, 1)])
def test_finalists_that_were_asked_for_stay(before: int, after: int) -> None:
    assert extended(toy_config(trials=3, finalists=before), Extension(trials="+9")).finalists == after
