"""The table of algorithms: every name leads to a searcher and a rule that exist, settings are checked and kept complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.algorithms import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    FIDELITY_SETTINGS,
    SEARCHER_SETTINGS,
    check_settings,
    complete_settings,
    find_algorithm,
    study_fields,
    usual_lowest,
)
from automl.config import load_config
from automl.fidelity import RULES, make_rule
from automl.searchers import SEARCHERS
from automl.snapshot import TrialStatus
from automl.sources import usual_trials
from automl.study import Study
from search_spaces.errors import UserError
from tests.automl.toy import toy_config
from tests.automl.virtual import Workers, algorithm_config, study_in_memory


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_a_searcher_and_a_rule(name: str) -> None:
    algorithm = ALGORITHMS[name]
    assert algorithm.searcher in SEARCHERS
    assert make_rule(algorithm.fidelity, epochs=9).name == algorithm.fidelity


def test_the_tables_of_settings_know_every_searcher_and_every_rule() -> None:
    assert set(SEARCHER_SETTINGS) == set(SEARCHERS)
    assert set(FIDELITY_SETTINGS) == set(RULES)
    assert DEFAULT_ALGORITHM in ALGORITHMS


@pytest.mark.parametrize(("alias", "name"), [("b", "bayesian"), ("h", "hyperband"), ("hes", "hyperband_es")])
def test_short_names_of_tao_are_understood(alias: str, name: str) -> None:
    assert find_algorithm(alias).name == name


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("bayesain", "unknown algorithm 'bayesain'", "did you mean bayesian?"),
        ("hybrid", "hybrid is not in this release", "use mfgp or bayesian"),
        ("autoresearch", "none for depth", "use mfgp or bayesian"),
    ],
)
def test_a_name_that_is_not_here_is_refused_with_a_way_out(name: str, message: str, hint: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find_algorithm(name)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kde_sample": 3}, "unknown setting 'kde_sample'"),
        ({"mutation_factor": 0.5}, "mutation_factor is read by dehb, but not by bohb with hyperband"),
        ({"kde_samples": 0}, r"kde_samples must be a whole number >= 1, but got 0"),
        ({"kde_samples": True}, "but got True"),
        ({"top_n_percent": 101}, r"in \[1, 50\], but got 101"),
        ({"automl_reduction_factor": 1}, ">= 2, but got 1"),
        ({"automl_max_epochs": 1}, ">= 2, but got 1"),
    ],
)
def test_a_setting_is_refused_when_nobody_reads_it_or_it_is_out_of_bounds(given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_settings(given, searcher="bohb", fidelity="hyperband")


def test_settings_of_tao_become_fields_of_the_study() -> None:
    given = {"automl_max_epochs": 27, "epoch_multiplier": 2, "automl_reduction_factor": 3, "automl_max_concurrent": 4}
    fields = study_fields(given, searcher="random", fidelity="hyperband")
    assert fields == {"epochs": 54, "min_epochs": 2, "reduction_factor": 3, "parallel": 4}
    assert complete_settings(given, searcher="random", fidelity="hyperband") == {}


def test_generations_are_another_way_to_say_the_epochs() -> None:
    pbt = {"searcher": "pbt", "fidelity": "population"}
    given = {"automl_max_generations": 6, "automl_eval_interval": 4, "automl_population_size": 8}
    assert study_fields(given, **pbt) == {"epochs": 24, "trials": 8}
    with pytest.raises(UserError, match="says nothing without"):
        study_fields({"automl_max_generations": 6}, **pbt)
    with pytest.raises(UserError, match="6 generations of 4 epochs are 24 epochs, but automl_max_epochs is 27"):
        study_fields({**given, "automl_max_epochs": 27}, **pbt)


def test_a_study_keeps_its_settings_complete(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(searcher="bohb", fidelity="hyperband", settings={"kde_samples": 5}))
    kept = load_config(study.folder).settings
    assert kept == {"kde_samples": 5, "top_n_percent": 15.0, "min_points_in_model": 10, "random_share": 0.1}


@pytest.mark.parametrize(
    ("searcher", "fidelity", "trials"), [("tpe", "asha", None), ("random", "hyperband", 9 + 5 + 3), ("grid", "full", 1 + 3 * (1 + 3))]
)
def test_some_searches_have_a_usual_number_of_trials(searcher: str, fidelity: str, trials: int | None) -> None:
    assert usual_trials(toy_config(searcher=searcher, fidelity=fidelity)) == trials


def test_as_many_trials_as_are_asked_for_reach_the_full_budget() -> None:
    for wanted in (1, 4):
        snapshot = Workers(count=3).run(study_in_memory(algorithm_config("asha", settings={"min_top_configs": wanted})))
        assert sum(trial.status is TrialStatus.COMPLETE for trial in snapshot.trials) >= wanted
    assert sum(trial.status is TrialStatus.COMPLETE for trial in snapshot.trials) == 4


@pytest.mark.parametrize(("epochs", "eta", "lowest"), [(27, 3, 3), (81, 3, 9), (10, 3, 1), (4, 3, 1), (32, 4, 2)])
def test_the_default_search_has_three_rungs_where_the_budget_allows(epochs: int, eta: int, lowest: int) -> None:
    assert usual_lowest("mfgp", "asha", epochs=epochs, eta=eta) == lowest
    assert usual_lowest("random", "asha", epochs=epochs, eta=eta) == 1
