"""The journal file: torn records, stale locks, one driver at a time."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path

import pytest

from automl.engine import run_inline
from automl.journal import JOURNAL_FILE, DriverLock, clear_stale_lock, cut_torn_line, is_driven
from automl.reader import read_snapshot
from automl.study import Study
from search_spaces.errors import StudyError
from tests.automl.toy import ToyRun, toy_config


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b'{"a":1}\n{"b":2}\n', b'{"a":1}\n{"b":2}\n'),
        (b'{"a":1}\n{"b":', b'{"a":1}\n'),
        (b'{"a":1}\n{"b":\n', b'{"a":1}\n'),
        (b'{"a":1}\n\x00\x00\x00\n', b'{"a":1}\n'),
        (b'{"a"', b""),
        (b"", b""),
    ],
)
def test_only_half_a_record_is_cut(tmp_path: Path, content: bytes, kept: bytes) -> None:
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(content)
    assert cut_torn_line(path) == len(content) - len(kept)
    assert path.read_bytes() == kept


def test_a_long_torn_record_is_cut(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(b'{"a":1}\n' + b"x" * 200_000)
    cut_torn_line(path)
    assert path.read_bytes() == b'{"a":1}\n'


def test_a_stale_writer_lock_is_removed(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_FILE
    path.touch()
    Path(f"{path}.lock").symlink_to(path)
    assert clear_stale_lock(path)
    assert not clear_stale_lock(path)


def test_a_torn_study_goes_on_and_stays_readable(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    study = Study.create(folder, toy_config(trials=6))
    study.ask()
    study.close()
    with (folder / JOURNAL_FILE).open("ab") as stream:
        stream.write(b'{"op_code":8,"worker_id":"')
    study = Study.open(folder)
    run_inline(study, run=ToyRun())
    study.close()
    assert {trial.status.ended for trial in read_snapshot(folder).trials} == {True}


def test_a_second_driver_is_refused_by_name(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config())
    with pytest.raises(StudyError, match="is being run by process"):
        Study.open(tmp_path / "s")
    study.close()
    Study.open(tmp_path / "s").close()


def test_readers_see_whether_a_driver_is_there(tmp_path: Path) -> None:
    lock = DriverLock(tmp_path)
    assert not is_driven(tmp_path)
    lock.take()
    assert is_driven(tmp_path)
    lock.release()
    assert not is_driven(tmp_path)


def test_a_driver_waits_for_a_reader_that_is_just_asking(tmp_path: Path) -> None:
    lock = DriverLock(tmp_path)
    with lock.path.open("a+") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)  # as `is_driven` does for a moment
        done = threading.Timer(0.05, lambda: fcntl.flock(reader, fcntl.LOCK_UN))
        done.start()
        lock.take()
        done.join()
    assert is_driven(tmp_path)
    lock.release()


def test_a_folder_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StudyError, match=r"driver\.lock cannot be locked: No locks available"):
        DriverLock(tmp_path).take()


def test_reading_leaves_a_torn_record_to_its_owner(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config())
    study.ask()
    study.close()
    path = tmp_path / "s" / JOURNAL_FILE
    with path.open("ab") as stream:
        stream.write(b'{"op')
    assert len(read_snapshot(tmp_path / "s").trials) == 1
    assert path.read_bytes().endswith(b'{"op')
