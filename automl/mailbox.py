"""Between the driver of a search and its Ray workers: specs go out, reports come in, answers go back.

It decides nothing.  A report waits here until the driver has answered it.  This file imports little, so that the actor
is up at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trials.contract import ProgressEvent

if TYPE_CHECKING:
    from automl.engine import RunTrial


@dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What all segments of a search share: the runner (None = `trials.run.run_trial`), whose code it is, where paths start.

    `root` is the folder of the driver's packages and `code` their hash; `study_file` is the study.yaml that every worker must see, with
    `study_digest` for its content.  `gpus` is what each trial has, below 1 a share of one.
    """

    run: RunTrial | None
    root: Path
    code: str
    study_file: Path
    study_digest: str | None
    working_folder: Path
    gpus: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A worker has taken a segment of trial `number`."""

    number: int


class Mailbox:
    """Carries specs, reports and answers; an asyncio actor, so a waiting report blocks nobody else.

    A segment whose machine was given up may still run there, cut off from everybody.  Its ticket is retired: nothing that it says
    counts any more, and it is told so.
    """

    def __init__(self, order: WorkOrder) -> None:
        self._order = order
        self._specs: dict[int, Mapping[str, Any]] = {}
        self._workers: dict[int, Any] = {}
        self._nodes: dict[int, str] = {}
        self._retired: set[int] = set()
        self._waiting: dict[int, asyncio.Future[str | None]] = {}
        self._inbox: list[tuple[int | None, Any]] = []
        self._arrived = asyncio.Event()
        self._next = 0

    async def order(self) -> WorkOrder:
        """What all segments share."""
        return self._order

    async def put_spec(self, ticket: int, spec: Mapping[str, Any]) -> None:
        """Lay a segment's spec ready; `ticket` is its number among all segments of this driver."""
        self._specs[ticket] = spec

    async def take_spec(self, ticket: int, worker: Any, node_id: str) -> Mapping[str, Any]:
        """The spec of a segment, for `worker`, the actor that runs it on that node; the driver hears of it."""
        self._workers[ticket], self._nodes[ticket] = worker, node_id
        spec = self._specs.pop(ticket)
        self._inbox.append((None, Begun(number=spec["number"])))
        self._arrived.set()
        return spec

    async def worker_of(self, ticket: int) -> Any | None:
        """The actor that took a segment, None before one did."""
        return self._workers.get(ticket)

    async def node_of(self, ticket: int) -> str | None:
        """The node on which a segment was taken, None before it was."""
        return self._nodes.get(ticket)

    async def any_begun(self, tickets: Sequence[int]) -> bool:
        """Whether a worker took any of these segments."""
        return any(ticket in self._workers for ticket in tickets)

    async def retire(self, ticket: int) -> None:
        """The driver counts this segment as ended."""
        self._retired.add(ticket)
        self._workers.pop(ticket, None)
        self._nodes.pop(ticket, None)

    async def report(self, ticket: int, data: Mapping[str, Any]) -> str | None:
        """Hand in a report and wait for the driver's answer; None for a segment that was retired."""
        if ticket in self._retired:
            return None
        letter = self._next
        self._next += 1
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting[letter] = answer
        self._inbox.append((letter, data))
        self._arrived.set()
        return await answer

    async def progress(self, event: ProgressEvent) -> None:
        """Hand in how far a trial is; nobody answers."""
        self._inbox.append((None, event))
        self._arrived.set()

    async def collect(self, patience_s: float) -> list[tuple[int | None, Any]]:
        """Everything handed in since the last call, in order; waits up to `patience_s` for the first."""
        if not self._inbox:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), patience_s)
        self._arrived.clear()
        letters, self._inbox = self._inbox, []
        return letters

    async def answer(self, letter: int, decision: str | None) -> None:
        """Answer a report; None: the segment is retired."""
        waiting = self._waiting.pop(letter, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(decision)
