"""Why a run ended badly: our own run-time failures, and the one place where foreign exceptions get their cause.

TrialFailure
├── NonFiniteError  a loss or a prediction is NaN or infinite
└── CollapseError   every predicted map is constant

UserError (search_spaces.errors) is a mistake of the spec, the data or the weights; everything else is sorted by
`failure_of` into out of memory, infrastructure or crash.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from typing import Any

import torch

from search_spaces.errors import DataError, UserError
from trials.contract import Cause, Failure

# cuBLAS and cuDNN say ALLOC_FAILED where torch left them no memory for their own use
OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "status_alloc_failed")
# torch's words about a loader process that ended without a Python exception, and about one with
LOADER_DIED, LOADER_RAISED = "DataLoader worker (pid", "in DataLoader worker process"
# CUDA's words about a card that is broken or that somebody else holds
GPU_FAILED_WORDS = ("uncorrectable ecc error", "uncorrectable nvlink error", "devices are busy or unavailable")
TAIL_LINES = 12


class TrialFailure(RuntimeError):
    """Training cannot go on: `message` for people, `details` for programs (sample paths, step, last finite step)."""

    cause = Cause.CRASH

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})


class NonFiniteError(TrialFailure):
    """A loss or a prediction is NaN or infinite."""

    cause = Cause.NAN


class CollapseError(TrialFailure):
    """Every predicted map is constant: the network has died."""

    cause = Cause.COLLAPSE


class Interrupted(Exception):
    """Ctrl-C or a termination signal; the full state has been saved."""


class RankFailed(Exception):
    """One process of a run on several devices has failed: `failure` says why, `story` is its traceback."""

    def __init__(self, failure: Failure, *, story: str = "") -> None:
        super().__init__(f"{failure.message}\n\n{story}")
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """The Failure that a caught exception stands for: cause, one line for people, short traceback for programs."""
    match error:
        case TrialFailure():
            return Failure(cause=error.cause, message=error.message, details=_plain(error.details))
        case UserError():
            cause = Cause.DATA if isinstance(error, DataError) else Cause.SPEC
            return Failure(cause=cause, message=error.message, details={"hint": error.hint})
        case RankFailed():
            return error.failure
    cause = _foreign_cause(error)
    details: dict[str, Any] = {"exception": type(error).__name__, "traceback": _tail(error)}
    message = _first_line(error)
    if isinstance(error, OSError) and error.filename is not None:
        details["path"] = str(error.filename)
    return Failure(cause=cause, message=_SENTENCES[cause].format(message=message), details=details)


_SENTENCES = {
    Cause.OOM: "out of memory: {message}",
    Cause.INFRASTRUCTURE: "the machine failed: {message}",
    Cause.CRASH: "{message}",
}


def _plain(details: Mapping[str, Any]) -> dict[str, Any]:
    """`details` as JSON can hold them: what is not finite becomes its name."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return [cleaned(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: cleaned(value) for name, value in details.items()}


def _foreign_cause(error: BaseException) -> Cause:
    text = str(error).lower()
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if out_of_memory or any(words in text for words in OUT_OF_MEMORY_WORDS):
        return Cause.OOM
    if isinstance(error, OSError) or LOADER_DIED in str(error) or any(words in text for words in GPU_FAILED_WORDS):
        return Cause.INFRASTRUCTURE
    return Cause.CRASH


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    lines = str(error).strip().splitlines()
    if lines and LOADER_RAISED in lines[0]:  # its traceback follows, with what it said at the end
        return next(line for line in reversed(lines) if line.partition(":")[0].rpartition(".")[2] == type(error).__name__)
    if LOADER_DIED in str(error):
        return f"a process that loads data was killed; when memory ran out, fewer dataset.<split>.workers help ({lines[0]})"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _tail(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    return "\n".join(lines[-TAIL_LINES:])
