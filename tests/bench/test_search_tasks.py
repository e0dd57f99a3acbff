"""The tasks of the search benchmark: reproducible, scaled, and indifferent to parameters that change nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.search.recorded import TABLES, RecordedTask
from bench.search.spaces import LR, NOOPS, space_of
from bench.search.suites import find_tasks
from bench.search.synthetic import FAMILIES, SyntheticTask, values_at
from search_spaces.space import Value
from search_spaces.spec import spec_from_dict, with_values


def own_values(task: SyntheticTask) -> dict[str, Value]:
    return task.space.values_of(spec_from_dict(task.spec))


def test_a_task_is_drawn_from_its_number_alone() -> None:
    first, again = SyntheticTask(3, "dev"), SyntheticTask(3, "dev")
    values = own_values(first)
    assert first.train(values, 7) == again.train(values, 7)
    assert first.train(values, 7) != first.train(values, 8)


def test_held_out_tasks_are_other_tasks() -> None:
    assert SyntheticTask(3, "dev").land != SyntheticTask(3, "heldout").land


@pytest.mark.parametrize("number", range(4))
def test_regret_is_one_for_the_default_and_zero_for_the_best(number: int) -> None:
    task = SyntheticTask(number, "dev")
    assert task.scale.regret(task.scale.best) == 0.0
    assert task.scale.regret(task.value(own_values(task))) == pytest.approx(1.0)
    assert all(task.scale.regret(task.value(values_at(task.space, point))) > 0 for point in task.probes[:100])


def test_no_ops_change_nothing() -> None:
    bare, padded = SyntheticTask(0, "dev"), SyntheticTask(0, "dev", noops=35)
    point = values_at(padded.space, padded.probes[0])
    acting = {key: value for key, value in point.items() if key not in NOOPS}
    assert len(padded.space.parameters) == len(bare.space.parameters) + 35
    assert padded.train(point, 1) == bare.train(acting, 1)
    assert padded.scale == bare.scale


@pytest.mark.parametrize("kind", ["curated", "wide", "mono"])
def test_every_point_is_a_spec_that_the_product_takes(kind: str) -> None:
    task = SyntheticTask(0, "dev", kind=kind, noops=35)  # type: ignore[arg-type]
    base = spec_from_dict(task.spec)
    for point in task.probes[:5]:
        with_values(base, values_at(task.space, point))


def test_a_rate_far_above_the_stable_one_diverges_sooner() -> None:
    task = SyntheticTask(0, "dev")
    own = own_values(task)
    first_nan = [
        [math.isnan(loss) for loss in task.train({**own, LR: rate}, 1).losses].index(True)
        for rate in (10 ** (task.land.rate + task.land.margin + excess) for excess in (0.1, 0.8))
    ]
    assert first_nan[0] > first_nan[1]
    assert task.value({**own, LR: 10 ** (task.land.rate + task.land.margin + 0.1)}) == math.inf


@pytest.mark.parametrize("number", range(len(FAMILIES)))
def test_curves_fall(number: int) -> None:
    task = SyntheticTask(number, "dev")
    curve = task.curve(task.place(own_values(task)))
    assert task.land.family == FAMILIES[number]
    assert curve[-1] < curve[0]
    assert np.isfinite(curve).all()


def test_too_many_no_ops_are_refused() -> None:
    with pytest.raises(ValueError, match="36"):
        space_of("mono", noops=36)


def test_suites_by_name() -> None:
    assert [task.name for task in find_tasks("synthetic+35:2", "dev")] == ["dev-00-curated+35", "dev-01-wide+35"]
    with pytest.raises(ValueError, match="unknown tasks"):
        find_tasks("synthtic", "dev")


@pytest.fixture(scope="module")
def recorded() -> RecordedTask:
    return RecordedTask("samples", TABLES / "samples.csv")


def test_tables_hold_the_default_and_three_hundred_trainings_in_all() -> None:
    lines = [path.read_text(encoding="utf-8").splitlines() for path in sorted(TABLES.glob("*.csv"))]
    assert sum(len(table) - 1 for table in lines) >= 300
    for path in sorted(TABLES.glob("*.csv")):
        task = RecordedTask(path.stem, path)
        assert task.rows[0][0] == {parameter.key: parameter.default for parameter in task.space.parameters}


def test_a_recorded_configuration_ends_about_where_it_was_recorded(recorded: RecordedTask) -> None:
    ratios = [recorded.value(values) / min(curve) for values, _, curve in recorded.rows[:40]]
    assert np.median(ratios) == pytest.approx(1.0, abs=0.1)


def test_a_recorded_training_is_one_by_its_seed(recorded: RecordedTask) -> None:
    values = recorded.rows[5][0]
    assert recorded.train(values, 3) == recorded.train(values, 3)
    assert len({recorded.train(values, seed).losses for seed in range(8)}) > 1


def test_a_recorded_task_is_scaled_by_its_default(recorded: RecordedTask) -> None:
    assert recorded.scale.regret(recorded.scale.best) == 0.0
    assert recorded.scale.regret(recorded.value(recorded.rows[0][0])) == pytest.approx(1.0)
