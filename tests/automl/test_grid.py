"""The grid: which points there are, how many, in which order, and that a search over them comes to an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.engine import run_inline
from automl.grid import Grid, values_of
from automl.snapshot import EndReason, StudySnapshot
from automl.study import Study
from search_spaces.errors import StudyError
from search_spaces.space import Parameter, SearchSpace
from search_spaces.spec import spec_from_dict, spec_to_dict
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE, ToyRun, toy_config


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        (Parameter(key="k", kind="float", low=1e-6, high=1e-2, log=True), (1e-6, 1e-4, 1e-2)),
        (Parameter(key="k", kind="float", low=0, high=1), (0.0, 0.5, 1.0)),
        (Parameter(key="k", kind="float", low=0, high=1, step=0.25), (0.0, 0.25, 0.5, 0.75, 1.0)),
        (Parameter(key="k", kind="int", low=2, high=9), (2, 6, 9)),
        (Parameter(key="k", kind="int", low=1, high=2), (1, 2)),
        (Parameter(key="k", kind="int", low=1, high=9, step=4), (1, 5, 9)),
        (Parameter(key="k", kind="bool"), (False, True)),
        (Parameter(key="k", kind="categorical", choices=("a", "b")), ("a", "b")),
        (Parameter(key="k", kind="float", low=3, high=3), (3.0,)),
    ],
)
def test_values_of_a_parameter(parameter: Parameter, values: tuple[object, ...]) -> None:
    assert values_of(parameter, 3) == pytest.approx(values)


def test_only_active_parameters_are_combined() -> None:
    grid = Grid(SPACE, 3)
    points = [grid.point(index) for index in range(grid.size)]
    assert grid.size == 3 * (1 + 3)  # learning rates x (AdamW, or SGD with one of three momenta)
    assert len({tuple(sorted(point.items())) for point in points}) == 12
    assert all((MOMENTUM in point) == (point[OPTIMIZER] == "SGD") for point in points)


def search(folder: Path, **changes: object) -> StudySnapshot:
    study = Study.create(folder, toy_config(searcher="grid", fidelity="full", epochs=1, **changes))
    try:
        return run_inline(study, run=ToyRun())
    finally:
        study.close()


def test_a_search_ends_with_its_last_point_and_repeats_no_baseline(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", trials=100)
    assert snapshot.end is not None
    assert snapshot.end.reason is EndReason.EXHAUSTED
    points = [tuple(sorted(trial.values.items())) for trial in snapshot.trials]
    assert len(points) == len(set(points)) == 12  # the baseline, lr 1e-4 with AdamW, is a point of the grid


def test_a_short_search_takes_a_shuffled_part(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", trials=7)
    assert len(snapshot.trials) == 7
    assert len({trial.values[LR] for trial in snapshot.trials}) == 3


def test_points_that_the_spec_forbids_are_passed_over(tmp_path: Path) -> None:
    spec = spec_to_dict(spec_from_dict({"model": {"model_type": "MetricDepthAnything"}}))
    snapshot = search(tmp_path / "s", trials=100, spec=spec)
    assert {trial.values[OPTIMIZER] for trial in snapshot.trials} == {"AdamW"}  # SGD is for FoundationStereo alone
    assert len(snapshot.trials) == 3


def test_an_absurd_grid_is_refused_with_its_size_before_anything_is_written(tmp_path: Path) -> None:
    space = SearchSpace(skill="toy", parameters=tuple(Parameter(key=f"k{n}", kind="float", low=0, high=1) for n in range(45)))
    with pytest.raises(StudyError, match=r"grid_levels=3 has 2.95e\+21 points"):
        search(tmp_path / "s", space=space)
    assert not (tmp_path / "s").exists()
