"""What happens in a search, as values: the console draws them, the tracking mirrors them, tests read them.

An engine calls `on_event` from one thread at a time, in the order in which things happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from automl.config import StudyConfig
from automl.snapshot import StudyEnd, StudySnapshot, TrialStatus
from search_spaces.space import Value
from trials.contract import Decision, ProgressEvent, TrialResult


@dataclass(frozen=True, kw_only=True)
class StudyStarted:
    """The engine is up.  `resumed` is True when the study already held trials."""

    config: StudyConfig
    snapshot: StudySnapshot
    resumed: bool


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A segment of a trial begins: from `from_epoch` (0 = from scratch), granted until `until_epoch`.  `segment` counts from 1.

    A new trial with a `donor` goes on from that trial's state.
    """

    number: int
    values: Mapping[str, Value]
    seed: int
    folder: Path
    segment: int
    from_epoch: int
    until_epoch: int
    max_epochs: int
    parent: int | None = None
    donor: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrialReported:
    """Metrics after the validation of `epoch`, the objective among them (`value`), and what the study answered."""

    number: int
    epoch: int
    step: int
    metrics: Mapping[str, float | None]
    value: float | None
    elapsed_s: float
    decision: Decision
    until_epoch: int


@dataclass(frozen=True, kw_only=True)
class TrialPromoted:
    """A paused trial was chosen to go on; TrialStarted follows."""

    number: int
    from_epoch: int
    to_epoch: int


@dataclass(frozen=True, kw_only=True)
class TrialEnded:
    """A segment ended and the study took note: `status` is where the trial stands now (paused, complete, failed, ...).

    `retry` is True when the machine failed and the trial will be run again without charge.
    """

    number: int
    status: TrialStatus
    result: TrialResult
    value: float | None
    segment: int
    retry: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialProgress:
    """How far a running trial is inside its epoch, a few times a second at most."""

    progress: ProgressEvent


@dataclass(frozen=True, kw_only=True)
class NodeAvoided:
    """The node at `host` cannot work on this study (`message`, and in `hint` what mends it): it gets no trial any more.  Said once."""

    host: str
    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class RoomChanged:
    """The cluster has no room for a trial any more (said again now and then), or has some again: `message` tells which, and what to do."""

    message: str


@dataclass(frozen=True, kw_only=True)
class StudyStopping:
    """A stop was asked for; running trials save themselves at their next validation."""

    message: str


@dataclass(frozen=True, kw_only=True)
class StudyEnded:
    """The engine is down; nothing runs any more.  `snapshot.end` carries the same reason."""

    end: StudyEnd
    snapshot: StudySnapshot


StudyEvent = (
    StudyStarted
    | TrialStarted
    | TrialProgress
    | TrialReported
    | TrialPromoted
    | TrialEnded
    | NodeAvoided
    | RoomChanged
    | StudyStopping
    | StudyEnded
)
OnEvent = Callable[[StudyEvent], None]


def ignore(event: StudyEvent) -> None:
    """Take no notice of `event`."""
    del event
