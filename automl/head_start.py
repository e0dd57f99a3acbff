"""What a search knows before its first trial: points to try first, and what trials of earlier studies taught.

Earlier trials are observations for the searcher, never results: nothing of another study is ranked or promoted.  All of it is copied
into `study.yaml` when the study begins, so that it goes on alike when the earlier study is gone.  `automl.earlier` gathers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl.view import Observation
from search_spaces.space import Value

LEARNERS = frozenset({"mfgp", "tpe", "gp", "bohb", "bfbo", "dehb"})  # searchers that can learn from trials they did not propose


@dataclass(frozen=True, kw_only=True)
class Point:
    """Values of the active parameters, and where they come from in a few words."""

    values: Mapping[str, Value]
    source: str


@dataclass(frozen=True, kw_only=True)
class EarlierTrial:
    """A trial of another study: its values, the best objective up to each rung that it reached, and how it ended.

    `beside` are its further objectives as `Observation` has them.
    """

    values: Mapping[str, Value]
    by_rung: tuple[tuple[int, float], ...]
    complete: bool
    infeasible: bool
    beside: tuple[float, ...] | None = ()


@dataclass(frozen=True, kw_only=True)
class HeadStart:
    """`points` are tried right after the baseline, in order; `trials` are shown to the searcher."""

    points: tuple[Point, ...] = ()
    trials: tuple[EarlierTrial, ...] = ()

    def observations(self) -> list[Observation]:
        """The earlier trials as a searcher sees them, under numbers below zero."""
        return [
            Observation(
                number=place - len(self.trials),
                params=trial.values,
                best_by_rung={} if trial.infeasible else dict(trial.by_rung),
                complete=trial.complete,
                infeasible=trial.infeasible,
                beside=trial.beside,
            )
            for place, trial in enumerate(self.trials)
        ]

    def to_data(self) -> dict[str, Any]:
        """Plain data."""
        points = [{"values": dict(point.values), "source": point.source} for point in self.points]
        trials = [
            {
                "values": dict(trial.values),
                "by_rung": [list(entry) for entry in trial.by_rung],
                "complete": trial.complete,
                "infeasible": trial.infeasible,
                # studies of one objective stay as they were written: their hash is kept
                **({} if trial.beside == () else {"beside": None if trial.beside is None else list(trial.beside)}),
            }
            for trial in self.trials
        ]
        return {"points": points, "trials": trials}


def head_start_from_data(data: Mapping[str, Any]) -> HeadStart:
    """The head start that `to_data` wrote."""
    return HeadStart(
        points=tuple(Point(**point) for point in data["points"]),
        trials=tuple(
            EarlierTrial(
                **{
                    **trial,
                    "by_rung": tuple((int(rung), float(value)) for rung, value in trial["by_rung"]),
                    "beside": None if trial.get("beside", ()) is None else tuple(trial.get("beside", ())),
                }
            )
            for trial in data["trials"]
        ),
    )
