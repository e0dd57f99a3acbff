"""What an action leaves behind when it ends badly: the FAILURE line of status.json, and error.log for what nobody foresaw."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from automl.entry import ActionFailed
from automl.summary import shown_path
from search_spaces.errors import UserError
from trials.contract import Cause
from trials.status import StatusWriter

ERROR_LOG = "error.log"
# what has helped others, before the whole story
REMEDIES: Mapping[Cause, str] = {
    Cause.OOM: "a smaller batch_size of the split takes less, and so do smaller images (evaluation=resize with a crop_size); ",
    Cause.INFRASTRUCTURE: "look for free space, then give the same command again; ",
}


@contextlib.contextmanager
def failures_recorded(folder: Path, action: str) -> Iterator[StatusWriter]:
    """The status.json of `folder`; whatever is raised inside becomes its FAILURE line.

    Mistakes of the user and Ctrl-C are raised on; before the first line they leave no trace, for nothing was started.  Everything else
    becomes ActionFailed, with its traceback in error.log where the disk still takes it.
    """
    status = StatusWriter(folder / "status.json")
    try:
        yield status
    except KeyboardInterrupt:
        if status.begun:
            status.write("FAILURE", f"User/System interruption: {action} was interrupted.")
        raise
    except Exception as error:
        if isinstance(error, UserError) and not status.begun:
            raise
        from trials.failures import failure_of

        failure = failure_of(error)
        with contextlib.suppress(OSError):
            status.failure(failure)
        if isinstance(error, UserError | PermissionError):
            raise
        with contextlib.suppress(OSError):
            (folder / ERROR_LOG).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        story = f"the whole story is in {shown_path(folder / ERROR_LOG)}"
        raise ActionFailed(failure.message, hint=f"{REMEDIES.get(failure.cause, '')}{story}") from error
