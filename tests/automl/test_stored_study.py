"""Studies in an S3 store: another machine goes on from the store alone, looking takes no weights, and one drives."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from automl.cli import app
from automl.engine import run_inline
from automl.entry import ActionFailed, run_app
from automl.look import show_status
from automl.reader import read_snapshot
from automl.requests import STOP_FILE
from automl.snapshot import StudySnapshot
from automl.stored_study import kept, new_study_copy, older_states, seen
from automl.study import Study
from search_spaces.errors import DataError, StudyError
from search_spaces.spec import spec_from_dict
from tests.automl.test_resume import outcome
from tests.automl.toy import ToyRun, toy_config
from tests.s3_server import S3Server
from trials.stored_folder import StoredFolder
from trials.writer_mark import MARK, WriterMark

ROOT = Path(__file__).resolve().parents[2]
URL = "s3://data/studies/toy"
TYPED = Path(URL)  # what a command line makes of it


def lose_a_machine(folder: Path, reports: int) -> None:
    command = [sys.executable, "-m", "tests.automl.lost_machine", URL, str(folder), str(reports)]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=240).returncode == -signal.SIGKILL
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudySnapshot:
    """The same search, never disturbed."""
    study = Study.create(tmp_path_factory.mktemp("whole") / "toy", toy_config())
    snapshot = run_inline(study, run=ToyRun())
    study.close()
    return snapshot


def finish(folder: Path) -> int:
    """Goes on with the toy study in `folder` to its end."""
    study = Study.open(folder)
    run_inline(study, run=ToyRun())
    study.close()
    return 7


@pytest.fixture
def study(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A toy study of three trials that ended, in the store alone."""
    del s3
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with StoredFolder(tmp_path / "first", URL) as one:
        made = Study.create(one.folder, toy_config(trials=3))
        run_inline(made, run=ToyRun())
        made.close()
    shutil.rmtree(tmp_path / "first")
    return URL


def test_another_machine_goes_on_when_the_first_ones_are_lost(s3: S3Server, tmp_path: Path, whole: StudySnapshot) -> None:
    lose_a_machine(tmp_path / "first", 7)
    lose_a_machine(tmp_path / "second", 12)
    with StoredFolder(tmp_path / "third", URL) as third:
        finish(third.folder)
    there = [name for name in s3.client.find("data/studies/toy") if "/trials/" in name]
    shutil.rmtree(tmp_path / "third")
    with StoredFolder(tmp_path / "fourth", URL) as fourth:
        assert outcome(read_snapshot(fourth.folder)) == outcome(whole)
        here = [path for path in (fourth.folder / "trials").rglob("*") if path.is_file()]
    assert len(there) == len(here)  # what retention removed is not in the store either


def test_status_takes_the_records_alone_and_speaks_of_the_store(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    def look(folder: Path) -> int:
        assert not list(folder.rglob("*.pth"))
        return show_status(folder, as_json=True)

    assert seen(TYPED, look) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["folder"], told["state"]) == (study, "exhausted")
    assert told["trials"][2]["folder"] == f"{study}/trials/0002"


def test_a_study_that_is_driven_elsewhere_looks_so_and_is_stopped_by_a_file(study: str, s3: S3Server) -> None:
    s3.client.pipe_file(f"data/studies/toy/{MARK}", b'{"host": "elsewhere", "process": 7, "copy": "theirs"}')
    assert seen(TYPED, lambda folder: int(read_snapshot(folder).active)) == 1
    with pytest.raises(StudyError, match=r"elsewhere \(process 7\) writes to s3://data/studies/toy, last seen \d+ s ago"):
        kept(TYPED, finish)
    s3.client.pipe_file(f"data/studies/toy/{STOP_FILE}", b'{"trials": [1]}')
    assert run_app(app, "automl", ["stop", study, "--trial", "5"]) == 2
    assert s3.client.cat_file(f"data/studies/toy/{STOP_FILE}") == b'{"trials": [1]}'


def test_a_request_to_stop_goes_to_the_store(study: str, s3: S3Server) -> None:
    del study

    def ask(folder: Path) -> int:
        (folder / STOP_FILE).write_text('{"study": true}')
        return 0

    seen(TYPED, ask, leaves=STOP_FILE)
    assert s3.client.cat_file(f"data/studies/toy/{STOP_FILE}") == b'{"study": true}'


def test_what_a_store_that_went_away_lacks_follows_with_the_command_that_is_named(
    study: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(folder: Path) -> int:
        (folder / "late.json").write_text("{}")
        away.setattr(s3.client, "pipe_file", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("slow")))
        return 0

    with (
        monkeypatch.context() as away,
        pytest.raises(ActionFailed, match="not everything is in s3://data/studies/toy: the S3 store") as caught,
    ):
        kept(TYPED, lose)
    assert caught.value.hint.endswith("`automl resume s3://data/studies/toy` on this machine puts it there")
    assert not s3.client.exists("data/studies/toy/late.json")
    assert kept(TYPED, finish) == 7
    assert s3.client.exists("data/studies/toy/late.json")


def test_what_the_settings_alone_refuse_fetches_nothing(study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, "automl", ["extend", study, "--trials", "5"]) == 2
    assert run_app(app, "automl", ["promote", study, "--height", "33"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
    assert not (tmp_path / "cache" / "depth-automl").exists()


def test_a_driver_that_lost_the_store_is_asked_to_stop(study: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    marks: list[WriterMark] = []
    inner = WriterMark.take

    def taken(self: WriterMark, copy: str) -> None:
        marks.append(self)
        inner(self, copy)

    monkeypatch.setattr(WriterMark, "take", taken)

    def lose(folder: Path) -> int:
        s3.client.pipe_file(f"data/studies/toy/{MARK}", b'{"host": "elsewhere", "process": 7, "copy": "theirs"}')
        marks[0]._beat()
        assert json.loads((folder / STOP_FILE).read_text()) == {"study": True, "trials": []}
        return 0

    with pytest.raises(StudyError, match=rf"elsewhere \(process 7\) has taken {study} over"):
        kept(TYPED, lose)


def test_paths_that_began_on_another_machine_begin_here(study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.yaml"
    with StoredFolder(tmp_path / "there", study) as there:
        file = there.folder / "study.yaml"
        file.write_text(file.read_text().replace(f"working_folder: {Path.cwd()}", "working_folder: /of/another/machine"))
    kept(TYPED, finish)
    assert "begin at" in capsys.readouterr().out


def test_states_that_never_came_are_told(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "toy", toy_config())
    run = ToyRun()
    first = study.ask()
    assert first is not None
    run(first, study.report)
    study.close()
    (state,) = (first.folder / "train").glob("model_epoch_*")
    state.rename(state.with_name("model_epoch_002_step_00003.pth"))
    assert list(older_states(study.snapshot())) == [
        "trial 0 has reported 9 epochs, but its state of then never came to the store: it goes on after epoch 3"
    ]


def test_a_folder_of_this_machine_passes_through(tmp_path: Path) -> None:
    assert seen(tmp_path, lambda folder: len(folder.parts)) == kept(tmp_path, lambda folder: len(folder.parts)) == len(tmp_path.parts)


def test_a_working_copy_is_no_study_of_its_own(tmp_path: Path, s3: S3Server) -> None:
    del s3
    with StoredFolder(tmp_path / "copy", URL):
        pass
    with pytest.raises(StudyError, match="is a working copy of s3://data/studies/toy"):
        kept(tmp_path / "copy", finish)


def test_a_url_that_holds_something_is_refused(study: str, s3: S3Server) -> None:
    spec = spec_from_dict(toy_config().spec)
    with pytest.raises(StudyError, match="s3://data/studies/toy already holds a study"):
        new_study_copy(spec, study, resumes=True)
    s3.client.pipe_file("data/run/train/best.pth", b"w")
    with pytest.raises(StudyError, match="s3://data/run already holds a training run"):
        new_study_copy(spec, "s3://data/run", resumes=False)
    with pytest.raises(StudyError, match="there is no study at s3://data/none"):
        seen(Path("s3://data/none"), finish)
    with pytest.raises(DataError, match="there is no bucket nowhere"):
        seen(Path("s3://nowhere/x"), finish)


def test_an_interrupted_last_round_says_what_is_missing(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(folder: Path) -> int:
        del folder
        monkeypatch.setattr(StoredFolder, "sync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        return 0

    with pytest.raises(ActionFailed, match=f"not everything is in {study}: interrupted"):
        kept(TYPED, interrupt)
