"""Ctrl-C and termination signals, turned into a request that training honours between two steps.

A state saved at a step's end continues exactly; one saved wherever a signal happens to strike would not.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Protocol

logger = logging.getLogger(__name__)


class Stop(Protocol):
    """Whether a run was asked to end."""

    @property
    def requested(self) -> bool:
        """True from the first request on."""


class StopRequest:
    """Context in which the first SIGINT or SIGTERM only sets `requested`; a second one raises KeyboardInterrupt at once.

    Signals can be caught in the main thread alone: elsewhere nothing is installed and nothing is ever requested.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: list[tuple[signal.Signals, object]] = []

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = [(number, signal.signal(number, self._handle)) for number in self.SIGNALS]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before:
            # None stands for a handler that was not installed from Python; the default is the nearest there is
            signal.signal(number, handler if callable(handler) or isinstance(handler, signal.Handlers) else signal.SIG_DFL)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        logger.info("signal %d: the state is saved after this step; once more ends the run at once", number)
