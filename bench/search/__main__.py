"""Compares search methods in the simulator: tables on stdout and in --out, a plot, every run in a CSV file.

python -m bench.search --tasks synthetic --methods mfgp random ray-asha --seeds dev --repeats 5 --out results/search
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from automl.algorithms import DEFAULT_ALGORITHM
from bench.search.compare import Plan, compare
from bench.search.method import MakeMethod, NotInstalled
from bench.search.methods import PEERS, find_method
from bench.search.report import write_report
from bench.search.suites import find_tasks
from search_spaces.errors import SpecError, StudyError

SEEDS = {"dev": 0, "heldout": 1000}
DEFAULT_METHODS = (DEFAULT_ALGORITHM, "random", "ray-asha", "optuna-tpe-hyperband", "optuna-tpe-median")


def main() -> int:
    """0 when the figures are written, 2 when something asked for is unknown."""
    args = _arguments()
    methods: list[tuple[str, MakeMethod]] = []
    try:
        tasks = [task for suite in args.tasks for task in find_tasks(suite, args.seeds)]
        for name in args.methods:
            try:
                methods.append((name, find_method(name)))
            except NotInstalled as absent:
                print(f"skipped {name}: {absent}", file=sys.stderr)
    except (ValueError, SpecError, StudyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    first = SEEDS[args.seeds]
    plan = Plan(
        tasks=tasks,
        methods=methods,
        seeds=range(first, first + args.repeats),
        budget=args.budget,
        workers=args.workers,
        eta=args.eta,
    )
    started = time.monotonic()
    runs = compare(plan, args.out)
    print(write_report(runs, args.out, ours=args.methods[0]))
    print(f"{len(runs)} runs, {time.monotonic() - started:.0f} s; tables, plot and runs in {args.out}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.search", description="search methods against each other under a virtual clock")
    parser.add_argument("--tasks", nargs="+", default=["synthetic"], help="synthetic[+NOOPS][:COUNT], recorded[:TABLE]")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(DEFAULT_METHODS),
        help=f"SEARCHER+RULE[@VIEW], {', '.join(PEERS)}; speed-ups are of the first over each other one",
    )
    parser.add_argument("--seeds", choices=sorted(SEEDS), default="dev", help="development or held-out tasks and seeds")
    parser.add_argument("--repeats", type=int, default=5, help="seeds per task")
    parser.add_argument("--budget", type=float, default=40.0, help="trainings of the median configuration, over all workers")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--eta", type=int, default=3, help="reduction factor of every method's rungs")
    parser.add_argument("--out", type=Path, required=True, help="folder; runs that it holds are not made again")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
