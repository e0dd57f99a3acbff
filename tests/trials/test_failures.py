"""Causes of failure; signals; checkpoints on a disk that refuses."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._utils import ExceptionWrapper

from search_spaces.errors import CheckpointError, DataError, SpecError
from tests.trials.small import always_continue, parts, status_lines, stereo_spec, trial
from trials.checkpoints import read_resume, write_state
from trials.contract import Cause, State
from trials.data.sample import SampleSet
from trials.failures import CollapseError, NonFiniteError, failure_of
from trials.interruption import StopRequest
from trials.run import run_trial


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NonFiniteError("x"), Cause.NAN),
        (CollapseError("x"), Cause.COLLAPSE),
        (DataError("x"), Cause.DATA),
        (SpecError("x"), Cause.SPEC),
        (CheckpointError("x"), Cause.SPEC),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Cause.OOM),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), Cause.OOM),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Cause.OOM),
        (MemoryError(), Cause.OOM),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Cause.OOM),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x.pth"), Cause.INFRASTRUCTURE),
        (RuntimeError("DataLoader worker (pid(s) 4711) exited unexpectedly"), Cause.INFRASTRUCTURE),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Cause.INFRASTRUCTURE),
        (RuntimeError("CUDA error: device-side assert triggered"), Cause.CRASH),
        (RuntimeError("shape mismatch"), Cause.CRASH),
        (KeyError("image"), Cause.CRASH),
    ],
)
def test_causes(error: Exception, cause: Cause) -> None:
    assert failure_of(error).cause is cause


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (ValueError("bad shape\nand more"), Cause.CRASH, "ValueError: bad shape"),
        (KeyError("image"), Cause.CRASH, "KeyError: 'image'"),
        (AssertionError(), Cause.CRASH, "AssertionError"),
        (MemoryError("no more"), Cause.OOM, "out of memory: MemoryError: no more"),
        (OSError(errno.EIO, "Input/output error"), Cause.INFRASTRUCTURE, "the machine failed: OSError: [Errno 5] Input/output error"),
    ],
)
def test_an_error_of_a_loader_process_is_told_as_it_was(error: Exception, cause: Cause, message: str) -> None:
    with pytest.raises(type(error)) as again:
        through_a_loader_process(error)
    failure = failure_of(again.value)
    assert (failure.cause, failure.message) == (cause, message)


def through_a_loader_process(error: Exception) -> None:
    """Raises what torch makes of an error that a loader process raised."""
    try:
        raise error
    except type(error):
        caught = ExceptionWrapper(where="in DataLoader worker process 0")  # type: ignore[no-untyped-call]
    caught.reraise()  # type: ignore[no-untyped-call]


def test_a_full_disk_names_the_path() -> None:
    failure = failure_of(OSError(errno.ENOSPC, "No space left on device", "/data/x.pth"))
    assert failure.details["path"] == "/data/x.pth"
    assert "/data/x.pth" in failure.message


def test_a_mistake_of_the_user_keeps_its_hint() -> None:
    assert failure_of(DataError("no list", hint="give one")).details == {"hint": "give one"}


def test_details_are_fit_for_json() -> None:
    failure = failure_of(NonFiniteError("x", details={"target_range": [0.5, float("inf")], "step": 3}))
    assert failure.details == {"target_range": [0.5, "inf"], "step": 3}


def test_a_crash_keeps_the_tail_of_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 // 0
    failure = failure_of(caught.value)
    assert failure.message.startswith("ZeroDivisionError:")
    assert "1 // 0" in failure.details["traceback"]


def test_a_checkpoint_that_cannot_be_written_is_the_machines_failure(scenes: SampleSet, tmp_path: Path) -> None:
    (tmp_path / "train" / "best.pth" / "in the way").mkdir(parents=True)
    result = run_trial(trial(tmp_path, stereo_spec(scenes)), always_continue, parts=parts())
    assert result.error is not None
    assert result.error.cause is Cause.INFRASTRUCTURE
    assert result.error.details["path"] == str(tmp_path / "train" / "best.pth")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    write_state({"a": torch.ones(1)}, path)
    with pytest.raises(AttributeError):
        write_state({"a": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"a": torch.ones(1)}


def test_a_checkpoint_that_met_a_full_disk_gives_its_room_back_before_the_error_is_told(tmp_path: Path) -> None:
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(OSError, match="is the disk full") as error:  # it lives on, and torch's open file with it
            write_state({"a": torch.zeros(2**16)}, tmp_path / "x.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    assert (error.value.filename, bytes_held_open(tmp_path), list(tmp_path.iterdir())) == (str(tmp_path / "x.pth"), 0, [])


def bytes_held_open(folder: Path) -> int:
    """The sizes of this process's open files below `folder`, those without a name too."""
    held = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            held += file.stat().st_size if str(folder) in str(file.readlink()) else 0
    return held


def test_a_disk_that_takes_no_traceback_changes_nothing_else(scenes: SampleSet, tmp_path: Path) -> None:
    def network() -> nn.Module:
        raise RuntimeError("too bad")

    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "error.log").symlink_to("/dev/full")
    result = run_trial(trial(tmp_path, stereo_spec(scenes)), always_continue, parts=parts(network))
    assert result.error is not None
    assert result.error.message == "RuntimeError: too bad"
    assert status_lines(tmp_path)[-1]["message"] == "Unexpected error: RuntimeError: too bad"


def test_a_disk_that_takes_no_log_costs_no_run(scenes: SampleSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "train.log").symlink_to("/dev/full")
    result = run_trial(trial(tmp_path, stereo_spec(scenes), epochs=1), always_continue, parts=parts())
    assert (result.state, result.error) == (State.COMPLETE, None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_a_damaged_state_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        read_resume(path, objective="val/loss")


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), KeyError("x"), MemoryError(), AssertionError("x"), IndexError("x"), NotImplementedError(), SystemExit(1)]
)
def test_whatever_breaks_a_run_is_recorded(scenes: SampleSet, tmp_path: Path, error: BaseException) -> None:
    def network() -> nn.Module:
        raise error

    result = run_trial(trial(tmp_path, stereo_spec(scenes)), always_continue, parts=parts(network))
    assert result.state is State.FAILED
    last = (tmp_path / "train" / "status.json").read_text().splitlines()[-1]
    assert json.loads(last)["status"] == "FAILURE"
    assert type(error).__name__ in (tmp_path / "train" / "error.log").read_text()


def test_the_first_signal_is_a_request_the_second_an_interrupt() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_in_another_thread_leaves_signals_alone(scenes: SampleSet, tmp_path: Path) -> None:
    states: list[State] = []
    before = signal.getsignal(signal.SIGINT)
    work = trial(tmp_path, stereo_spec(scenes), epochs=1)
    thread = threading.Thread(target=lambda: states.append(run_trial(work, always_continue, parts=parts()).state))
    thread.start()
    assert signal.getsignal(signal.SIGINT) is before
    thread.join()
    assert states == [State.COMPLETE]
