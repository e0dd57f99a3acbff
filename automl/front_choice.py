"""Which configurations of a front are shipped: those that no other candidate beats when all are measured once more.

Candidates are the finalists (or, where none was trained again, the whole front of the search), each judged by the means over its runs.  Of
each configuration that stays, the best checkpoint by the first objective is shipped.  The one that is best by the first objective is the
champion; the others stand beside it, and the best by another objective carries its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from automl.console import and_text, number_text
from automl.front import turned
from automl.pareto import nondominated
from automl.status import CHOICE_FILE, PROMOTION_FILE, read_json
from automl.winner import Candidate, Choice, Configuration, Judge, Judged, best_run, by_configuration, configuration_of
from search_spaces.objective import Objective

FRONT = "front"
CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A shipped configuration as the files tell it: the entry of `choice.json`, where its model lies, and its `promotion.json`, if any."""

    entry: Mapping[str, Any]
    folder: Path
    promotion: Mapping[str, Any] | None

    @property
    def promoted(self) -> bool:
        """Whether the gate let this very checkpoint through."""
        promotion = self.promotion or {}
        return bool(promotion.get("promoted")) and promotion.get("checkpoint") == self.entry.get("checkpoint")


def choose_front(candidates: Sequence[Candidate], judge: Judge, objectives: Sequence[Objective]) -> Choice:
    """Judges every candidate; the winner is the best of the front by the first objective."""
    judged = tuple(judge(candidate) for candidate in candidates)
    sign = objectives[0].sign
    groups = by_configuration(judged)
    found = [replace(configuration_of(number, runs, sign), further=_further(runs, objectives)) for number, runs in groups.items()]
    points = {one.trial: turned(means_of(one), objectives) or () for one in found}
    configurations = tuple(sorted(found, key=lambda one: (points[one.trial], one.trial)))
    kept = [configurations[place] for place in nondominated([points[one.trial] for one in configurations])]
    front = tuple(best_run(groups[one.trial], sign) for one in kept)
    reason = _reason(kept, configurations, objectives)
    return Choice(winner=front[0], judged=judged, configurations=configurations, reason=reason, gap=kept[0].gap, front=front)


def means_of(configuration: Configuration) -> tuple[float, ...]:
    """What a configuration counts with in each objective."""
    return (configuration.mean, *configuration.further)


def _further(runs: Sequence[Judged], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The mean of each objective beside the first; of a cost the least: the runs are of one network, and the machine only adds to it."""
    columns = zip(objectives[1:], zip(*(one.further for one in runs), strict=True), strict=True)
    return tuple(min(values) if objective.is_cost else fmean(values) for objective, values in columns)


def front_data(choice: Choice, objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """What `choice.json` says of each member of the front, the champion first; empty with one objective.

    `folder` is relative to the study; `aliases` are the names that the registered version gets.
    """
    means = {one.trial: one for one in choice.configurations}
    rows = [means_of(means[one.candidate.configuration]) for one in choice.front]
    points = [turned(row, objectives) or () for row in rows]
    best = (
        [min(range(len(points)), key=lambda place: (points[place][column], place)) for column in range(len(objectives))] if points else []
    )
    return [
        {
            "trial": one.candidate.configuration,
            "chosen": one.candidate.name,
            "seed": one.candidate.seed,
            "values": dict(one.candidate.values),
            "checkpoint": str(one.candidate.checkpoint),
            "value": row[0],
            "objectives": {objective.metric: value for objective, value in zip(objectives, row, strict=True)},
            "runs": means[one.candidate.configuration].runs,
            "folder": str(PROMOTION_FILE.parent if place == 0 else Path(FRONT) / f"{one.candidate.configuration:04d}"),
            "aliases": [alias_of(objectives[column], column) for column in range(len(objectives)) if best[column] == place],
        }
        for place, (one, row) in enumerate(zip(choice.front, rows, strict=True))
    ]


def alias_of(objective: Objective, column: int) -> str:
    """`champion` for the best by the first objective, `best-latency_ms` for that by another one."""
    return CHAMPION if column == 0 else f"best-{objective.metric.replace('/', '-')}"


def members_of(folder: Path) -> list[Member]:
    """What was shipped of the study in `folder`, the champion first: one member with one objective, none before a choice."""
    choice = read_json(folder / CHOICE_FILE)
    if choice is None:
        return []
    entries = choice.get("front") or [{**choice, "folder": str(PROMOTION_FILE.parent), "aliases": [CHAMPION]}]
    places = [folder / entry["folder"] for entry in entries]
    return [
        Member(entry=entry, folder=place, promotion=read_json(place / PROMOTION_FILE.name))
        for entry, place in zip(entries, places, strict=True)
    ]


def _reason(kept: Sequence[Configuration], among: Sequence[Configuration], objectives: Sequence[Objective]) -> str:
    names = and_text([objective.metric for objective in objectives])
    winner = kept[0]
    told = f"trial {winner.trial} has the best {objectives[0].metric} of the front, {number_text(winner.mean)}"
    others = and_text([str(one.trial) for one in kept[1:]]) if len(kept) > 1 else ""
    if not others:
        beaten = "the other one" if len(among) == 2 else f"the {len(among) - 1} others"
        return f"{told}; it is nowhere worse than {beaten}" if len(among) > 1 else f"{told}, and is alone on it"
    return f"{told}; {f'trial {others} is' if len(kept) == 2 else f'trials {others} are'} not beaten in {names} either"
