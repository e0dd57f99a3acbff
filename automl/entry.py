"""The way in and out of both console scripts: process settings, one place for errors, exit codes.

Exit codes: 0 done, 1 failed, 2 misused (anything the user can put right), 130 ended by Ctrl-C or SIGTERM.
The form of an error follows uv's style guide: `error:` line, blank line, `hint:` line, on stderr.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOWrapper

import typer

from automl.caches import usable_caches
from automl.usage import usage_of
from search_spaces.errors import UserError

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

# What torch, ray and mlflow read when they are imported.  A user's own setting wins, except where it would call home.
DEFAULTS: Mapping[str, str] = {
    "OMP_WAIT_POLICY": "PASSIVE",  # libgomp's spinning barriers make small operators tens of times slower beside a busy process
    "AWS_EC2_METADATA_DISABLED": "true",
    "MPLBACKEND": "Agg",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
SILENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime reports home from 1.31 on
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "DO_NOT_TRACK": "true",
}


def set_environment() -> None:
    """Sets what the heavy packages read at import; called once, before any of them is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.update(SILENT)


def quiet_libraries() -> None:
    """Turns down libraries that talk on stderr by default; called by commands that import them."""
    import logging

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in ("pytorch_lightning", "lightning", "mlflow", "alembic", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.WARNING)


def run_app(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> int:
    """The exit code of `name arguments...`; every mistake of the user is told here and nowhere else."""
    set_environment()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows each line when it happens
    try:
        with _sigterm_as_ctrl_c(), usable_caches():
            code = app(args=None if arguments is None else list(arguments), prog_name=name, standalone_mode=False)
    except UserError as error:
        say_error(error.message, error.hint)
        return MISUSED
    except typer.TyperException as error:
        say_error(*usage_of(error, name))
        return MISUSED
    except PermissionError as error:
        say_error(f"no permission for {error.filename}: {error.strerror}", "choose another folder, or change its owner or mode")
        return MISUSED
    except (KeyboardInterrupt, typer.Abort):
        say_error("interrupted", None)
        return INTERRUPTED
    return code if isinstance(code, int) else DONE


def say_error(message: str, hint: str | None) -> None:
    """Writes the two lines of an error to stderr; plain text, so that brackets in paths survive."""
    lines = [f"error: {message}"]
    if hint:
        lines += ["", f"hint: {hint}"]
    sys.stdout.flush()
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201  the error stream of a console script


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, as service managers and `kill` send it, raises KeyboardInterrupt meanwhile; in other threads nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
