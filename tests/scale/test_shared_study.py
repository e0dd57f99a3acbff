"""A study whose record is in PostgreSQL: the same search as with a journal, watched from elsewhere, taken over, through a restart."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from automl.config import load_config
from automl.database import LeaseLost, open_database
from automl.engine import run_inline
from automl.reader import read_snapshot
from automl.snapshot import StudySnapshot, TrialStatus
from automl.study import Study
from search_spaces.errors import StudyError
from tests.automl.toy import ToyRun, result_of, toy_config
from tests.scale.services import PASSWORD, Postgres
from trials.contract import Report, State

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]


def decisions(snapshot: StudySnapshot) -> list[tuple[object, ...]]:
    return [(t.number, t.status, dict(t.values), t.seed, t.curve, t.rung, t.segments, t.value, t.stopped_by) for t in snapshot.trials]


def test_the_same_search_as_with_a_journal(tmp_path: Path, postgres: Postgres) -> None:
    expected = run_inline(Study.create(tmp_path / "journal", toy_config()), run=ToyRun())
    study = Study.create(tmp_path / "database", toy_config(storage=postgres.url))
    found = run_inline(study, run=ToyRun())
    assert decisions(found) == decisions(expected)
    study.close()
    assert decisions(read_snapshot(tmp_path / "database")) == decisions(expected)
    assert not (tmp_path / "database" / "study.journal").exists()
    assert not any(PASSWORD.encode() in path.read_bytes() for path in (tmp_path / "database").rglob("*") if path.is_file())


def test_two_studies_of_one_name_keep_apart(tmp_path: Path, postgres: Postgres) -> None:
    for place in ("a", "b"):
        study = Study.create(tmp_path / place / "same", toy_config(name="same", trials=2, storage=postgres.url))
        assert len(run_inline(study, run=ToyRun()).trials) == 2
        study.close()


def test_many_watch_and_one_drives(tmp_path: Path, postgres: Postgres) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=3, storage=postgres.url))
    trial = study.ask()
    assert trial is not None
    study.report(Report(number=0, epoch=1, step=1, metrics={"val/loss": 1.0}, elapsed_s=1.0))
    seen = read_snapshot(tmp_path / "s")
    assert seen.active
    assert seen.trial(0).status is TrialStatus.RUNNING
    assert seen.trial(0).curve == ((1, 1.0),)
    with pytest.raises(StudyError, match="is being run by process"):
        Study.open(tmp_path / "s")
    study.close()
    assert not read_snapshot(tmp_path / "s").active


def test_a_study_that_was_taken_over_takes_no_more_from_its_old_driver(tmp_path: Path, postgres: Postgres) -> None:
    old = Study.create(tmp_path / "s", toy_config(trials=3, storage=postgres.url))
    assert old.ask() is not None
    with open_database(postgres.url).engine.begin() as connection:
        told = "UPDATE depth_automl_drivers SET beat = beat - interval '2 minutes' WHERE study = :study"
        connection.execute(text(told), {"study": load_config(tmp_path / "s").record_name})
    new = Study.open(tmp_path / "s")
    assert old._right is not None
    old._right._renew()  # type: ignore[attr-defined]  # what its thread does every ten seconds
    with pytest.raises(LeaseLost):
        old.report(Report(number=0, epoch=1, step=1, metrics={"val/loss": 0.0}, elapsed_s=1.0))
    with pytest.raises(LeaseLost):
        old.tell(result_of(0, State.COMPLETE))
    snapshot = run_inline(new, run=ToyRun())
    assert [trial.status.ended for trial in snapshot.trials] == [True] * 3
    assert snapshot.trial(0).segments == 2
    new.close()


def test_a_restart_of_the_server_is_sat_out(tmp_path: Path) -> None:
    with Postgres() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        study = Study.create(tmp_path / "s", toy_config(trials=1, fidelity="full", storage=server.url))
        assert study.ask() is not None
        server.stop()
        back = threading.Thread(target=lambda: (time.sleep(2), server.start()))
        back.start()
        study.report(Report(number=0, epoch=1, step=1, metrics={"val/loss": 1.0}, elapsed_s=1.0))
        back.join()
        assert read_snapshot(tmp_path / "s").trial(0).curve == ((1, 1.0),)
        study.close()


def test_another_database_is_told(tmp_path: Path, postgres: Postgres) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=1, storage=postgres.url))
    run_inline(study, run=ToyRun())
    study.close()
    config = tmp_path / "s" / "study.yaml"
    config.write_text(config.read_text().replace("/studies", "/postgres"))
    with pytest.raises(StudyError, match="holds no record of the study"):
        Study.open(tmp_path / "s")
