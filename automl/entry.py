"""The way in and out of both console scripts: process settings, one place for errors, exit codes.

Exit codes: 0 done, 1 failed, 2 misused (anything the user can put right), 130 ended by Ctrl-C or SIGTERM.
The form of an error follows uv's style guide: `error:` line, blank line, `hint:` line, on stderr.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
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
from trials.transfer import Show, shown_by

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

# What torch, ray and mlflow read when they are imported.  A user's own setting wins, except where it would call home.
DEFAULTS: Mapping[str, str] = {
    "OMP_WAIT_POLICY": "PASSIVE",  # libgomp's spinning barriers make small operators tens of times slower beside a busy process
    "AWS_EC2_METADATA_DISABLED": "true",
    "MPLBACKEND": "Agg",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
SILENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime reports home from 1.31 on
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "DO_NOT_TRACK": "true",
}


# what a disk or a kernel says that has no room or is broken, and what we say of a store that cannot be reached
REFUSALS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EHOSTUNREACH}
)


class ActionFailed(Exception):
    """An action broke off through no mistake of the user: `message` says why, `hint` where to look.  Its records are written."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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
    # it logs a page of traceback before it raises; the mirror says in one line what it could not write
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def run_app(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> int:
    """The exit code of `name arguments...`; every mistake of the user is told here and nowhere else."""
    set_environment()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows each line when it happens
    command, given = typer.main.get_command(app), list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_words((name, *given))
        # not `app(...)`, which turns Ctrl-C into an exit code without a word
        with _sigterm_as_ctrl_c(), usable_caches(), shown_by(_transferred), command.make_context(name, given) as context:
            code = command.invoke(context)
    except (KeyboardInterrupt, typer.Abort):
        say_error("interrupted", None)
        return INTERRUPTED
    except typer.Exit as end:  # --help
        return end.exit_code
    except BrokenPipeError:  # nobody reads any more, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        told = _told(error, name)
        if told is None:
            raise
        message, hint, code = told
        if message:  # a command without arguments has shown its help already
            say_error(message, hint)
        return code
    return code if isinstance(code, int) else DONE


def _check_words(words: Sequence[str]) -> None:
    """UserError for a word of a command line that is empty, as `--results "$UNSET"` leaves it, or that no record could hold.

    As a path the former would be the current folder.
    """
    for before, word in itertools.pairwise(words):
        if any("\udc80" <= letter <= "\udcff" for letter in word):  # how Python keeps a byte that is no text
            raise UserError(f"an argument after {before} is not text in UTF-8: {word!r}", hint="give the folder or file another name")
        if word == "" or (word.startswith("--") and word.endswith("=")):
            place = (word or before).removesuffix("=")
            raise UserError(
                f"there is an empty value after {place}", hint="is a variable of the shell not set? give a value, or leave it out"
            )


def _told(error: Exception, program: str) -> tuple[str, str | None, int] | None:
    """Message, hint and exit code for what a user can put right and for a machine that refuses; None for a defect of ours."""
    match error:
        case UserError() | ActionFailed():
            return error.message, error.hint, MISUSED if isinstance(error, UserError) else FAILED
        case typer.TyperException():
            return *usage_of(error, program), MISUSED
        case PermissionError():
            return f"no permission for {error.filename}: {error.strerror}", "choose another folder, or change its owner or mode", MISUSED
        case MemoryError():
            return "the machine failed: out of memory", "end other programs, or give this one more memory", FAILED
        case OSError():
            return _told_of_system(error)
    return None


def _told_of_system(error: OSError) -> tuple[str, str, int] | None:
    """As `_told`, of what the operating system says."""
    if error.errno == errno.ENAMETOOLONG:
        return f"a name is longer than a file system takes: {error.filename}", "choose a shorter one", MISUSED
    if error.errno not in REFUSALS:
        return None
    place = f": {error.filename}" if error.filename else ""
    look = "check the network and AWS_ENDPOINT_URL" if isinstance(error, ConnectionError) else "look for free space"
    look = "mount it for writing" if error.errno == errno.EROFS else look
    return f"the machine failed: {error.strerror}{place}", f"{look}, then give the same command again", FAILED


def _transferred(doing: str) -> contextlib.AbstractContextManager[Show]:
    from automl.console import transferred  # brings rich, which most commands want later

    return transferred(doing)


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
