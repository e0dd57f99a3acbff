"""What a search may use: hours, GPU hours, a deadline, disk, and how long a trial may say nothing.

Hours count while a driver runs, not the nights between two resumes.  A part of every time limit is kept for what follows the search:
the finalists, the fixed evaluation and the promotion.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from search_spaces.errors import StudyError

HOUR_S = 3600.0
GIB = 1 << 30
AFTERWARDS = 0.05  # share of a time limit for evaluation and promotion
LEAST_AFTERWARDS_S, MOST_AFTERWARDS = 60.0, 0.2  # a short limit keeps a minute, but never more than this share of itself
MOST_RESERVED = 0.5  # finalists that would take more of a time limit than this are left out


OPTIONS = {  # the words of users for the fields of Limits
    "max_hours": "--max-hours",
    "gpu_hours": "--gpu-hours",
    "deadline": "--deadline",
    "disk_budget_gib": "--disk-budget",
    "trial_timeout_s": "--trial-timeout",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None: no limit.  `deadline` is in seconds since 1970, `trial_timeout_s` from one report of a trial to the next."""

    max_hours: float | None = None
    gpu_hours: float | None = None
    deadline: float | None = None
    disk_budget_gib: float | None = None
    trial_timeout_s: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            usable = value is None or (
                isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
            )
            if not usable:
                option = OPTIONS[item.name]
                raise StudyError(f"{option} must be a number above 0, but got {value!r}", hint=f"leave {option} out for no limit")

    @property
    def timed(self) -> bool:
        """Whether the search ends at some time whatever it found by then."""
        return not (self.max_hours is None and self.gpu_hours is None and self.deadline is None)

    def to_data(self) -> dict[str, Any]:
        """Plain data; only the limits that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def over(self, other: Limits) -> Limits:
        """These limits, and those of `other` that are not set here."""
        return Limits(**{**other.to_data(), **self.to_data()})

    def describe(self) -> list[str]:
        """Each limit in words."""
        told = []
        if self.max_hours is not None:
            told.append(f"{self.max_hours:g} h")
        if self.gpu_hours is not None:
            told.append(f"{self.gpu_hours:g} GPU hours")
        if self.deadline is not None:
            told.append(f"until {moment_text(self.deadline)}")
        if self.disk_budget_gib is not None:
            told.append(f"{self.disk_budget_gib:g} GiB of checkpoints")
        if self.trial_timeout_s is not None:
            told.append(f"{self.trial_timeout_s / 60:g} min from one report of a trial to the next")
        return told


def limits_from_data(data: Mapping[str, Any]) -> Limits:
    """The limits that `to_data` wrote."""
    return Limits(**data)


def limits_of(
    *,
    max_hours: float | None = None,
    gpu_hours: float | None = None,
    deadline: str | datetime.datetime | None = None,
    disk_budget: float | None = None,
    trial_timeout: float | None = None,
) -> Limits:
    """Limits as they are typed, the disk budget in GiB and the timeout in minutes; StudyError for one that cannot be."""
    minutes = Limits(trial_timeout_s=trial_timeout).trial_timeout_s
    return Limits(
        max_hours=max_hours,
        gpu_hours=gpu_hours,
        deadline=None if deadline is None else parse_deadline(str(deadline), now=time.time()),
        disk_budget_gib=disk_budget,
        trial_timeout_s=None if minutes is None else 60.0 * minutes,
    )


def parse_deadline(text: str, *, now: float) -> float:
    """Seconds since 1970 of an ISO 8601 time such as 2026-05-04T08:00; without a zone it is local time.  StudyError when it is past."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        message = f"--deadline must be a time in ISO 8601, but got {text!r}"
        raise StudyError(message, hint="write 2026-05-04T08:00 (local time) or 2026-05-04T08:00+00:00") from error
    found = moment.timestamp()
    if found <= now:
        raise StudyError(f"--deadline {text} is over: it is {moment_text(now)}", hint="name a time in the future")
    return found


def moment_text(moment: float) -> str:
    """A time of day with its date, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a search has used: seconds of its drivers, seconds of its trials times their GPUs, when it began and what time it is."""

    driver_s: float
    gpu_s: float
    begun: float
    now: float


@dataclass(frozen=True, kw_only=True)
class FinalNeed:
    """What the finalists will probably need: seconds of the driver, and seconds of GPUs."""

    driver_s: float = 0.0
    gpu_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _TimeLimit:
    name: str
    allowed_s: float
    used_s: float
    final_s: float


def limit_reached(limits: Limits, spent: Spent, need: FinalNeed) -> str | None:
    """The limit that ends the search, in words, because what is left is for its finalists and the promotion; None while there is none.

    Finalists for whom more than half of a limit would have to be kept get nothing: they are left out.
    """
    for one in _time_limits(limits, spent, need):
        final_s = one.final_s if one.final_s <= MOST_RESERVED * one.allowed_s else 0.0
        if one.used_s + final_s + _afterwards_s(one.allowed_s) >= one.allowed_s:
            return one.name
    return None


def finalists_fit(limits: Limits, spent: Spent, need: FinalNeed) -> bool:
    """Whether what is left of every time limit is enough for the finalists."""
    return all(one.used_s + one.final_s <= one.allowed_s for one in _time_limits(limits, spent, need))


def _afterwards_s(allowed_s: float) -> float:
    return max(AFTERWARDS * allowed_s, min(LEAST_AFTERWARDS_S, MOST_AFTERWARDS * allowed_s))


def _time_limits(limits: Limits, spent: Spent, need: FinalNeed) -> list[_TimeLimit]:
    found = []
    if limits.max_hours is not None:
        told, allowed_s = f"{limits.max_hours:g} h", limits.max_hours * HOUR_S
        found.append(_TimeLimit(name=told, allowed_s=allowed_s, used_s=spent.driver_s, final_s=need.driver_s))
    if limits.gpu_hours is not None:
        told, allowed_s = f"{limits.gpu_hours:g} GPU hours", limits.gpu_hours * HOUR_S
        found.append(_TimeLimit(name=told, allowed_s=allowed_s, used_s=spent.gpu_s, final_s=need.gpu_s))
    if limits.deadline is not None:
        told, allowed_s = f"the deadline {moment_text(limits.deadline)}", limits.deadline - spent.begun
        found.append(_TimeLimit(name=told, allowed_s=allowed_s, used_s=spent.now - spent.begun, final_s=need.driver_s))
    return found
