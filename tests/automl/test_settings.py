"""Settings by TAO's names: where they stand, who wins, what is refused, what is told to have no effect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from automl.resolve import RunRequest, resolve
from automl.setting_values import ranges_of
from automl.settings import Given, SearchSettings, all_names, checked_budget, read_settings, understood
from search_spaces.errors import UserError
from search_spaces.space_request import RangeChange
from tests.automl.samples import small_stereo_spec


def given(**values: Any) -> Given:
    return Given(values=values, places={name: f"spec.yaml:{line}" for line, name in enumerate(values, start=1)})


def meant(**values: Any) -> SearchSettings:
    return understood(given(**values))


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return small_stereo_spec(tmp_path)


def with_block(spec: Path, **block: Any) -> RunRequest:
    data = yaml.safe_load(spec.read_text())
    spec.write_text(yaml.safe_dump({**data, "automl": block}))
    return RunRequest(skill="depth_net_stereo", spec_file=spec)


def test_an_algorithm_is_a_searcher_and_a_rule_with_its_settings() -> None:
    settings = meant(algorithm="bohb", automl_max_epochs=9, epoch_multiplier=2, automl_reduction_factor=3, kde_samples=5)
    assert (settings.algorithm, settings.searcher, settings.fidelity) == ("bohb", "bohb", "hyperband")
    assert settings.fields == {"epochs": 18, "min_epochs": 2, "reduction_factor": 3}
    assert settings.own == {"kde_samples": 5}


def test_names_of_the_command_line_win() -> None:
    settings = understood(given(algorithm="bohb", searcher="qmc"), algorithm="asha")
    assert (settings.algorithm, settings.searcher, settings.fidelity) == ("asha", "random", "asha")


def test_what_is_said_of_the_space() -> None:
    space = meant(
        automl_hyperparameters="[train.optim.lr, train.optim.optimizer]",
        custom_param_ranges={"train.optim.lr": {"valid_min": 1e-5, "valid_max": 1e-3}},
        priors={"train.optim.lr": 3e-4},
        override_automl_disabled_params=True,
    ).space
    assert space.names == ("train.optim.lr", "train.optim.optimizer")
    assert space.changes == {"train.optim.lr": RangeChange(low=1e-5, high=1e-3)}
    assert space.priors == {"train.optim.lr": 3e-4}
    assert space.disabled_too


@pytest.mark.parametrize("empty", ["[]", [], None])
def test_an_empty_list_of_parameters_is_the_skills_own_choice(empty: object) -> None:
    assert meant(automl_hyperparameters=empty).space.names == ()


def test_ranges_as_a_list_of_entries() -> None:
    found = ranges_of(
        [
            {"parameter": "a", "valid_options": ["x", "y"], "option_weights": [1, 3]},
            {"parameter": "b", "disable_list": True},
            {"parameter": "c", "valid_min": 1, "math_cond": "> 0"},
        ]
    )
    assert found.changes == {"a": RangeChange(choices=("x", "y"), weights=(1.0, 3.0)), "c": RangeChange(low=1)}
    assert found.without == ("b",)
    assert found.notes == ("math_cond of c has no effect: the skill's schema says it",)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"automl_max_epochs": 1}, r"automl_max_epochs must be a whole number >= 2, but got 1 \(spec\.yaml:1\)"),
        ({"automl_reduction_factor": 1}, ">= 2, but got 1"),
        ({"epoch_multiplier": 0}, ">= 1, but got 0"),
        ({"automl_max_concurrent": 0}, ">= 1, but got 0"),
        ({"algorithm": "dehb", "mutation_factor": 2.5}, r"in \[0, 2\], but got 2\.5"),
        ({"algorithm": "dehb", "crossover_prob": 2}, r"in \[0, 1\]"),
        ({"algorithm": "hyperband_es", "early_stop_threshold": 2}, r"in \[0, 1\]"),
        ({"algorithm": "pbt", "perturbation_factor": 11}, r"in \[1, 10\]"),
        ({"mutation_factor": 0.5}, "is read by dehb, but not by mfgp with asha"),
        ({"algorithm": "bayesain"}, r"unknown algorithm 'bayesain'.*\(spec\.yaml:1\)"),
        ({"automl_hyperparameters": "x" * 5001}, "at most 5000 characters"),
        ({"automl_hyperparameters": 3}, "must be a list of names"),
        ({"custom_param_ranges": {"lr": {"valid_min": 2, "valid_max": 1}}}, "valid_min < valid_max must hold"),
        ({"custom_param_ranges": {"lr": {"valid_mim": 2}}}, "unknown valid_mim"),
        ({"custom_param_ranges": {"lr": {"valid_min": "a"}}}, "must be a number"),
        ({"custom_param_ranges": [{"valid_min": 2}]}, "names no parameter"),
        ({"override_automl_disabled_params": "yes"}, "must be true or false"),
        ({"direction": "up"}, "minimize or maximize, but is 'up'"),
        ({"objectives": [{"direction": "minimize"}]}, "entries with a metric"),
        ({"objectives": [{"metric": "epe", "wait": 1}]}, "unknown wait"),
        ({"metric": "epe", "objectives": [{"metric": "d1"}]}, "none of the objectives"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        meant(**values)


def test_settings_without_effect_are_told_and_their_values_are_not() -> None:
    settings = meant(session_id="x", llm_api_key="secret", automl_delete_intermediate_ckpt=True)
    assert settings.notes[0] == "session_id has no effect: a study is known by its folder (spec.yaml:1)"
    assert len(settings.notes) == 3
    assert "secret" not in " ".join(settings.notes)
    assert settings.own == {}


@pytest.mark.parametrize(
    ("fields", "more", "epochs", "words"),
    [
        ({"reduction_factor": 4}, {}, 3, "automl_reduction_factor <= automl_max_epochs must hold, but 4 > 3"),
        ({"min_epochs": 5}, {}, 3, "epoch_multiplier <= epochs must hold, but 5 > 3"),
        ({"trials": 3}, {"searcher": "dehb", "fidelity": "hyperband"}, 9, "dehb needs at least 4 trials, but got 3"),
    ],
)
def test_budgets_that_cannot_be_divided(fields: dict[str, int], more: dict[str, str], epochs: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        checked_budget(SearchSettings(fields=fields, **more), epochs=epochs)


def test_a_budget_that_is_no_power_of_the_factor_is_told() -> None:
    settings = SearchSettings(fields={"reduction_factor": 3})
    assert checked_budget(settings, epochs=10) == ["10 epochs are no power of 3 times 1: rungs are rounded to whole epochs"]
    assert checked_budget(settings, epochs=27) == []


def test_the_block_of_a_spec_a_file_and_the_command_line_in_this_order(spec: Path, tmp_path: Path) -> None:
    request = with_block(spec, algorithm="bohb", automl_max_recommendations=5, automl_max_epochs=3, metric="epe")
    (tmp_path / "more.yaml").write_text("automl_max_recommendations: 6\nautoml_max_epochs: 9\n")
    given, rest = read_settings(spec, tmp_path / "more.yaml", ("automl.automl_max_epochs=27", "train.optim.lr=0.001"))
    assert given.values == {"algorithm": "bohb", "automl_max_recommendations": 6, "automl_max_epochs": 27, "metric": "epe"}
    assert given.places["automl_max_epochs"] == "command line: automl.automl_max_epochs=27"
    assert rest == ("train.optim.lr=0.001",)
    resolved = resolve(request)
    assert (resolved.settings.algorithm, resolved.settings.fields["trials"]) == ("bohb", 5)
    assert (resolved.spec.train.num_epochs, resolved.objective.metric) == (3, "val/epe")


def test_options_win_over_the_block(spec: Path) -> None:
    request = with_block(spec, automl_max_recommendations=5, automl_max_epochs=3, metric="epe", automl_hyperparameters=["lr"])
    resolved = resolve(replace(request, trials=7, epochs=4, metrics=("val/d1",), params="weight_decay"))
    assert (resolved.settings.fields["trials"], resolved.spec.train.num_epochs, resolved.objective.metric) == (7, 4, "val/d1")
    assert resolved.settings.space.names == ("weight_decay",)


def test_a_misspelt_setting_gets_the_nearest_name_and_its_line(spec: Path) -> None:
    with pytest.raises(UserError, match=r"unknown setting automl_max_epoch \(.*stereo\.yaml:\d+\)") as caught:
        resolve(with_block(spec, automl_max_epoch=3))
    assert caught.value.hint == "did you mean automl_max_epochs?"


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"metric": "epe", "direction": "maximize"}, "direction maximize is wrong for val/epe: lower is better"),
        ({"metric": "map"}, "stereo networks have no metric map"),
    ],
)
def test_the_table_of_metrics_decides(spec: Path, block: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolve(with_block(spec, **block))


def test_kpi_is_the_error_that_papers_report(spec: Path) -> None:
    assert resolve(with_block(spec, metric="kpi", direction="minimize")).objective.metric == "val/epe"


def test_several_objectives_by_the_names_of_tao(spec: Path) -> None:
    objectives = [{"metric": "kpi", "direction": "minimize"}, {"metric": "latency_ms"}, {"metric": "parameters"}]
    resolved = resolve(with_block(spec, objectives=objectives, direction="minimize"))
    assert [one.metric for one in resolved.objectives] == ["val/epe", "latency_ms", "parameters"]
    over = resolve(replace(with_block(spec, objectives=objectives), metrics=("val/d1", "peak_memory_mib")))
    assert [one.metric for one in over.objectives] == ["val/d1", "peak_memory_mib"]


def test_a_direction_belongs_to_the_first_objective_or_to_the_one_it_stands_with(spec: Path) -> None:
    with pytest.raises(UserError, match="direction maximize is wrong for latency_ms"):
        resolve(with_block(spec, objectives=[{"metric": "val/epe"}, {"metric": "latency_ms", "direction": "maximize"}]))
    with pytest.raises(UserError, match="direction maximize is wrong for val/epe"):
        resolve(with_block(spec, objectives=[{"metric": "val/epe"}, {"metric": "latency_ms"}], direction="maximize"))


def test_plain_training_takes_the_first_of_the_objectives(spec: Path) -> None:
    resolved = resolve(with_block(spec, automl_policy=False, objectives=[{"metric": "val/epe"}, {"metric": "latency_ms"}]))
    assert [one.metric for one in resolved.objectives] == ["val/epe"]


def test_a_policy_in_the_block_and_a_search_that_is_off(spec: Path) -> None:
    resolved = resolve(with_block(spec, automl_policy=False, automl_max_epochs=3))
    assert not resolved.route.search
    assert resolved.spec.train.num_epochs == 1
    assert "without effect in plain training: the settings of a search" in resolved.notes


def test_every_setting_has_one_name() -> None:
    assert len(all_names()) == len(set(all_names()))
    assert {"automl_population_size", "kde_samples", "metric", "session_id"} <= set(all_names())
