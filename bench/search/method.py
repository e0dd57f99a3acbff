"""What the simulator asks of a search method, ours or a peer's: propose, judge, take note, and name what it would return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bench.search.task import Task
from search_spaces.space import Value
from trials.contract import Cause, Decision, State


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One stretch of training: trial `number` with `values`, from its last epoch on.  `seed` fixes its noise.

    A trial that takes over the state of another one begins after epoch `start`; it is taken to follow the curve of its own values.
    """

    number: int
    values: Mapping[str, Value]
    seed: int
    start: int = 0


class Method(Protocol):
    """One search under way.  Costs are to be minimised; epochs count from 1."""

    def ask(self) -> Segment | None:
        """The next segment for a free worker; None when nothing can start before another segment ends."""

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """Whether trial `number` goes on after `epoch`; `elapsed_s` counts from the start of the segment."""

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """A segment ended: complete, paused or stopped as decided, or failed for `cause`."""

    def incumbent(self) -> int | None:
        """The number of the trial whose configuration the method would return now; None when it has no answer yet."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every method is given: the task, a seed, the number of workers and the reduction factor of its rungs."""

    task: Task
    seed: int
    workers: int
    eta: int = 3


class NotInstalled(Exception):
    """A peer's package is not there; the message names the extra that brings it."""


Clock = Callable[[], float]
MakeMethod = Callable[[Setting, Clock], Method]
