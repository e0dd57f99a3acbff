"""Between the driver of a search and its Ray workers: specs go out, reports come in, answers go back.

It decides nothing.  A report waits here until the driver has answered it.  This file imports little, so that the actor
is up at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trials.contract import ProgressEvent

if TYPE_CHECKING:
    from automl.engine import RunTrial


@dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What all segments of a search share: the runner (None = `trials.run.run_trial`), whose code it is, where paths start."""

    run: RunTrial | None
    install: Path
    working_folder: Path


class Mailbox:
    """Carries specs, reports and answers; an asyncio actor, so a waiting report blocks nobody else."""

    def __init__(self, order: WorkOrder) -> None:
        self._order = order
        self._specs: dict[int, Mapping[str, Any]] = {}
        self._workers: dict[int, int] = {}
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._inbox: list[tuple[int | None, Any]] = []
        self._arrived = asyncio.Event()
        self._next = 0

    async def order(self) -> WorkOrder:
        """What all segments share."""
        return self._order

    async def put_spec(self, ticket: int, spec: Mapping[str, Any]) -> None:
        """Lay a segment's spec ready; `ticket` is its number among all segments of this driver."""
        self._specs[ticket] = spec

    async def take_spec(self, ticket: int, process: int) -> Mapping[str, Any]:
        """The spec of a segment, for the worker of that `process` id."""
        self._workers[ticket] = process
        return self._specs.pop(ticket)

    async def worker_of(self, ticket: int) -> int | None:
        """The process id of the worker that took a segment, None before one did."""
        return self._workers.get(ticket)

    async def report(self, data: Mapping[str, Any]) -> str:
        """Hand in a report and wait for the driver's answer."""
        letter = self._next
        self._next += 1
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
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

    async def answer(self, letter: int, decision: str) -> None:
        """Answer a report."""
        waiting = self._waiting.pop(letter, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(decision)
