"""What status.json says when an action ends badly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trials.status import StatusWriter


@contextmanager
def failures_recorded(status: StatusWriter, action: str) -> Iterator[None]:
    """Whatever is raised inside becomes the FAILURE line of `status`, and is raised on."""
    try:
        yield
    except KeyboardInterrupt:
        status.write("FAILURE", f"User/System interruption: {action} was interrupted.")
        raise
    except Exception as error:
        from trials.failures import failure_of

        status.failure(failure_of(error))
        raise
