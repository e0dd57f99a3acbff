"""The log file of a run: what our code, Lightning and Python's warnings say goes there and not to the console."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from typing_extensions import override

LOG = "train.log"
OURS = ("trials", "models")
LIGHTNING = ("pytorch_lightning", "lightning_fabric", "lightning", "lightning.pytorch", "lightning.fabric")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def run_log(folder: Path) -> Iterator[None]:
    """Appends to `<folder>/train.log` for the length of the context; loggers and warning filters are then as before."""
    handler = _Log(folder / LOG, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(FORMAT))
    with ExitStack() as stack:
        stack.callback(handler.close)
        for name in OURS:
            stack.enter_context(_redirected(name, handler, logging.INFO))
        for name in LIGHTNING:
            stack.enter_context(_redirected(name, handler, logging.WARNING))
        stack.enter_context(_logged_warnings())
        yield


class _Log(logging.FileHandler):
    """Writes for as long as the disk takes it: a log that is cut short is no reason to lose a run, or to say so at every line."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    @override
    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def _redirected(name: str, handler: logging.Handler, level: int) -> Iterator[None]:
    target = logging.getLogger(name)
    before = target.level, target.handlers, target.propagate
    target.handlers, target.propagate = [handler], False
    target.setLevel(level)
    try:
        yield
    finally:
        level_before, target.handlers, target.propagate = before
        target.setLevel(level_before)


@contextmanager
def _logged_warnings() -> Iterator[None]:
    logger = logging.getLogger(__name__)

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
    ) -> None:
        del file, line
        logger.info("%s: %s (%s:%d)", category.__name__, message, filename, lineno)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        # Lightning 2.6 asks torch for names that are on their way out; nobody who runs this can mend it
        warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # nothing writes into what a network gives
        warnings.showwarning = show
        yield
