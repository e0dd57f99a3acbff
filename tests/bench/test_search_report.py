"""Speed-ups, ranks and tables, against numbers worked out by hand."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.search.measures import Run, mean_curves, mean_ranks, speed_up
from bench.search.report import write_report


def run(method: str, regrets: tuple[float, ...], *, task: str = "t", seed: int = 0) -> Run:
    return Run(task=task, method=method, seed=seed, regrets=regrets, trials=5, epochs=50, failures=1, utilisation=1.0, cpu_s=0.1)


def test_a_speed_up_is_the_time_to_the_others_final_regret() -> None:
    ours, theirs = {"t": np.array([1.0, 0.4, 0.3, 0.3])}, {"t": np.array([1.0, 0.8, 0.5, 0.4])}
    assert speed_up(ours, theirs).by_task["t"] == 2.0  # they need 4 quarters, we need 2
    assert speed_up(theirs, ours).by_task["t"] == 0.0  # they never come to 0.3
    assert speed_up(theirs, ours).lost == 1.0


def test_quartiles_are_over_tasks() -> None:
    theirs = {str(n): np.array([1.0, 1.0, 1.0, 0.5]) for n in range(3)}
    ours = {"0": np.array([0.5] * 4), "1": np.array([1.0, 0.5, 0.5, 0.5]), "2": np.array([1.0] * 4)}
    found = speed_up(ours, theirs)
    assert found.quartiles == (1.0, 2.0, 3.0)
    assert found.lost == pytest.approx(1 / 3)


def test_curves_are_means_over_seeds() -> None:
    curves = mean_curves([run("a", (1.0, 0.5)), run("a", (0.0, 0.1), seed=1)])
    assert curves["a"]["t"].tolist() == [0.5, 0.3]


def test_ranks_share_ties_and_leave_out_cases_that_not_all_ran() -> None:
    regrets = tuple(1.0 for _ in range(10))
    runs = [run("a", regrets), run("b", regrets), run("a", regrets, seed=1)]
    assert mean_ranks(runs)["a"] == (1.5, 1.5, 1.5, 1.5)


def test_the_report_has_every_method_and_run(tmp_path: Path) -> None:
    text = write_report([run("a", (1.0, 0.2)), run("b", (1.0, 0.4))], tmp_path, ours="a")
    assert text.index("| a |") < text.index("| b |")  # the best first
    with (tmp_path / "summary.csv").open() as stream:
        assert [row["final_regret"] for row in csv.DictReader(stream)] == ["0.2", "0.4"]
    assert (tmp_path / "regret.png").stat().st_size > 1000


def test_one_command_compares_and_a_second_one_makes_no_run_again(tmp_path: Path) -> None:
    arguments = ["--tasks", "synthetic:1", "--methods", "random+asha", "random", "--repeats", "1", "--budget", "2", "--out", str(tmp_path)]
    for _ in range(2):
        done = subprocess.run([sys.executable, "-m", "bench.search", *arguments], capture_output=True, text=True, check=True)
        assert "| random+asha against |" in done.stdout
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2


def test_an_unknown_method_is_misuse(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.search", "--methods", "rnadom", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown")
