"""TAO AutoML's brains as peers: that each drives a search, and what is told to it."""

from __future__ import annotations

import pytest

pytest.importorskip("tao_automl", reason="TAO AutoML is not installed; pip install -e '.[bench-tao]'")

from bench.search import tao
from bench.search.method import Segment, Setting
from bench.search.methods import find_method
from bench.search.simulator import Outcome, Simulation
from bench.search.spaces import space_of
from bench.search.synthetic import SyntheticTask
from trials.contract import Cause, Decision, State

CURATED = SyntheticTask(0, "dev", kind="curated")
WORKERS = 4


def search(name: str, *, seed: int = 1) -> tao.TaoSearch:
    method = find_method(name)(Setting(task=CURATED, seed=seed, workers=WORKERS), lambda: 0.0)
    assert isinstance(method, tao.TaoSearch)
    return method


def simulated(name: str) -> Outcome:
    deadline_s = 2 * CURATED.typical_s
    setting = Setting(task=CURATED, seed=1, workers=WORKERS)
    return Simulation(find_method(name), setting, deadline_s=deadline_s, checks=[deadline_s]).run()


def asked(method: tao.TaoSearch) -> Segment:
    segment = method.ask()
    assert segment is not None
    return segment


def trained(method: tao.TaoSearch, number: int, cost: float) -> None:
    """One segment of `number`, from epoch to epoch until the method pauses it."""
    for epoch in range(1, CURATED.epochs + 1):
        if method.report(number, epoch, cost, 1.0) is Decision.PAUSE:
            method.tell(number, State.PAUSED, None, 1.0)
            return
    method.tell(number, State.COMPLETE, None, 1.0)


@pytest.mark.parametrize("name", tao.BRAINS)
def test_the_same_seed_gives_the_same_search(name: str) -> None:
    assert simulated(name).log == simulated(name).log


def test_bayesian_waits_for_each_trial() -> None:
    method = search("tao-bayesian")
    first = asked(method)
    assert method.ask() is None
    trained(method, first.number, 0.5)
    assert asked(method).number == 1
    assert method.incumbent() == 0


def test_asha_promotes_the_lowest_cost_from_its_first_rung() -> None:
    method = search("tao-asha")
    numbers = [asked(method).number for _ in range(WORKERS)]
    for number, cost in zip(numbers, (0.9, 0.2, 0.7), strict=False):
        trained(method, number, cost)
    assert asked(method).number == 1


def test_a_failed_trial_that_hyperband_promotes_fails_again_at_once() -> None:
    method = search("tao-hyperband")
    numbers = [asked(method).number for _ in range(27)]
    assert method.ask() is None  # the rung is full
    method.tell(numbers[5], State.FAILED, Cause.NAN, 1.0)
    for number in numbers:
        if number != 5:
            trained(method, number, 0.5 + 0.01 * number)
    promoted = [asked(method).number for _ in range(8)]
    assert promoted == [0, 1, 2, 3, 4, 6, 7, 8]
    assert method.ask() is None


def test_bohb_that_breaks_off_is_started_again() -> None:
    method = search("tao-bohb")
    for number in range(27):
        assert asked(method).number == number
        method.tell(number, State.FAILED, Cause.NAN, 1.0) if number else trained(method, number, 0.5)
    assert asked(method).number == 27
    assert method.incumbent() == 0


def test_a_schema_nests_the_parameters_and_keeps_their_ranges() -> None:
    schema = tao.schema_of(space_of("wide"))
    optim = schema["properties"]["train"]["properties"]["optim"]["properties"]
    assert optim["lr"] == {"default": 1e-4, "automl_enabled": True, "type": "number", "minimum": 1e-6, "maximum": 1e-2}
    assert optim["optimizer"]["enum"] == ["AdamW", "SGD"]
