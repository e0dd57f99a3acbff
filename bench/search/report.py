"""The figures of a comparison: Markdown tables, CSV files and one plot."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.search.measures import MOMENTS, Curve, Run, mean_curves, mean_ranks, overall, speed_up


def write_report(runs: Sequence[Run], folder: Path, *, ours: str) -> str:
    """Writes report.md, regret.csv, summary.csv and regret.png into `folder`; gives the Markdown text."""
    curves = mean_curves(runs)
    text = "\n".join([_table_of_methods(runs, curves), "", _table_of_speed_ups(curves, ours), ""])
    (folder / "report.md").write_text(text, encoding="utf-8")
    _write_csv(runs, curves, folder)
    _plot(curves, folder / "regret.png")
    return text


def _table_of_methods(runs: Sequence[Run], curves: Mapping[str, Mapping[str, Curve]]) -> str:
    ranks = mean_ranks(runs)
    shares = " / ".join(f"{moment:.0%}" for moment in MOMENTS)
    lines = [
        f"| method | regret at {shares} of the budget | rank at {shares} | trials | failed | busy | CPU s a search |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, tasks in sorted(curves.items(), key=lambda item: float(overall(item[1])[-1])):
        own = [run for run in runs if run.method == method]
        mean = overall(tasks)
        regrets = " / ".join(f"{mean[max(0, round(moment * len(mean)) - 1)]:.3f}" for moment in MOMENTS)
        rank = " / ".join(f"{value:.1f}" for value in ranks[method])
        numbers = (np.mean([run.trials for run in own]), np.mean([run.failures / run.trials for run in own]))
        busy, cpu_s = np.mean([run.utilisation for run in own]), np.mean([run.cpu_s for run in own])
        lines.append(f"| {method} | {regrets} | {rank} | {numbers[0]:.0f} | {numbers[1]:.0%} | {busy:.1%} | {cpu_s:.2f} |")
    return "\n".join(lines)


def _table_of_speed_ups(curves: Mapping[str, Mapping[str, Curve]], ours: str) -> str:
    if ours not in curves:
        return ""
    lines = [f"| {ours} against | speed-up, median | quartiles | tasks lost |", "|---|---|---|---|"]
    for method in curves:
        if method != ours:
            found = speed_up(curves[ours], curves[method])
            low, middle, high = found.quartiles
            lines.append(f"| {method} | {middle:.2f} | {low:.2f} .. {high:.2f} | {found.lost:.0%} |")
    return "\n".join(lines)


def _write_csv(runs: Sequence[Run], curves: Mapping[str, Mapping[str, Curve]], folder: Path) -> None:
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["task", "method", "seed", "final_regret", "trials", "epochs", "failures", "utilisation", "cpu_s"])
        for run in runs:
            row = (run.task, run.method, run.seed, run.regrets[-1], run.trials, run.epochs, run.failures, run.utilisation, run.cpu_s)
            writer.writerow(row)
    with (folder / "regret.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["method", "task", "share_of_budget", "regret"])
        for method, tasks in curves.items():
            for task, curve in tasks.items():
                writer.writerows((method, task, (index + 1) / len(curve), float(regret)) for index, regret in enumerate(curve))


def _plot(curves: Mapping[str, Mapping[str, Curve]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, tasks in curves.items():
        mean = overall(tasks)
        axes.plot(np.arange(1, len(mean) + 1) / len(mean), mean, label=method)
    axes.set(xlabel="share of the budget", ylabel="normalised regret (mean over tasks and seeds)", yscale="log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
