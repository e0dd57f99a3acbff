"""A results folder in an S3 store is what its working folder is, and never speaks of weights that are not there."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import DataError, StudyError
from tests.s3_server import S3Server
from trials import stored_folder
from trials.data.s3 import store
from trials.remote_folder import RemoteFolder
from trials.stored_folder import StoredFolder
from trials.writer_mark import MARK

URL = "s3://data/runs/one"


def stored(s3: S3Server) -> dict[str, bytes]:
    """Names and contents of the objects below URL, but for the writer's mark."""
    found = s3.client.find("data/runs/one", detail=False, refresh=True)
    return {name.removeprefix("data/runs/one/"): s3.client.cat_file(name) for name in found if not name.endswith(MARK)}


def write(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        place = folder / name.replace("__", "/").replace("_DOT_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_what_is_written_is_in_the_store_at_the_end(s3: S3Server, tmp_path: Path) -> None:
    with StoredFolder(tmp_path / "work", URL) as run:
        write(run.folder, train__result_DOT_json="{}", train___DOT_half_DOT_tmp="no")
        (run.folder / "train" / "model_epoch_000_step_00001.pth").write_bytes(b"weights")
        (run.folder / "train" / "dn_model_latest.pth").symlink_to("model_epoch_000_step_00001.pth")
    found = stored(s3)
    assert sorted(found) == ["train/dn_model_latest.pth", "train/model_epoch_000_step_00001.pth", "train/result.json"]
    assert found["train/dn_model_latest.pth"] == b"weights"


def test_the_next_process_starts_from_what_the_store_holds(s3: S3Server, tmp_path: Path) -> None:
    with StoredFolder(tmp_path / "one", URL) as run:
        write(run.folder, a="1", deep__b="2")
    write(tmp_path / "two", left_over="of a machine that died")
    with StoredFolder(tmp_path / "two", URL) as run:
        assert {path.name: path.read_text() for path in run.folder.rglob("[!.]*") if path.is_file()} == {"a": "1", "b": "2"}
        (run.folder / "a").unlink()
        write(run.folder, deep__b="22")
    assert stored(s3) == {"deep/b": b"22"}


def test_a_round_puts_what_changed_alone(s3: S3Server, tmp_path: Path) -> None:
    with StoredFolder(tmp_path / "work", URL) as run:
        write(run.folder, a="1", b="2")
        assert run.sync() == 2
        write(run.folder, b="changed")
        assert run.sync() == 1
        assert stored(s3)["b"] == b"changed"


def test_models_go_first_then_records_then_states(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[str] = []
    inner = RemoteFolder.put
    with StoredFolder(tmp_path / "work", URL) as run:
        write(run.folder, study_DOT_journal="j", study_DOT_yaml="y", t__0__best_DOT_pth="w", t__0__model_epoch_000_step_00001_DOT_pth="s")

        def told(self: RemoteFolder, name: str, *more: Any, **options: Any) -> None:
            put.append(name)
            inner(self, name, *more, **options)

        monkeypatch.setattr(RemoteFolder, "put", told)
        run.sync()
    assert put == ["t/0/best.pth", "study.yaml", "study.journal", "t/0/model_epoch_000_step_00001.pth"]


def test_text_names_the_url_in_the_store_and_the_copy_beside_it(s3: S3Server, tmp_path: Path) -> None:
    with StoredFolder(tmp_path / "ä", URL) as run:
        write(run.folder, raw_DOT_yaml=f"at: {run.folder}/x\nnot: {run.folder}2", quoted_DOT_json=json.dumps({"at": str(run.folder)}))
    assert stored(s3) == {"raw.yaml": f"at: {URL}/x\nnot: {tmp_path}/ä2".encode(), "quoted.json": b'{"at": "s3://data/runs/one"}'}
    with StoredFolder(tmp_path / "b", URL) as run:
        assert (run.folder / "raw.yaml").read_text().splitlines()[0] == f"at: {tmp_path}/b/x"
    assert stored(s3)["raw.yaml"].startswith(b"at: s3://data/runs/one/x")


def test_a_copy_that_wrote_last_is_kept_with_what_never_arrived(s3: S3Server, tmp_path: Path) -> None:
    with StoredFolder(tmp_path / "work", URL) as run:
        write(run.folder, old="1", removed="2")
    write(tmp_path / "work", late="3")
    (tmp_path / "work" / "removed").unlink()
    with StoredFolder(tmp_path / "work", URL):
        pass
    assert stored(s3) == {"old": b"1", "late": b"3"}


def test_a_copy_that_another_one_has_overtaken_is_made_anew(s3: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with StoredFolder(tmp_path / "work", URL):
        pass
    with StoredFolder(tmp_path / "other", URL) as run:
        write(run.folder, a="theirs")
    write(tmp_path / "work", a="ours")
    with StoredFolder(tmp_path / "work", URL) as run:
        assert (run.folder / "a").read_text() == "theirs"
    assert stored(s3) == {"a": b"theirs"}
    assert f"what never came there from {tmp_path}/work is dropped, a for instance" in caplog.text


def test_the_newest_state_has_its_link_again(s3: S3Server, tmp_path: Path) -> None:
    del s3
    with StoredFolder(tmp_path / "one", URL) as run:
        write(run.folder, t__model_epoch_009_step_00010_DOT_pth="old", t__model_epoch_010_step_00011_DOT_pth="new")
        (run.folder / "t" / "dn_model_latest.pth").symlink_to("model_epoch_010_step_00011.pth")
    with StoredFolder(tmp_path / "two", URL) as run:
        assert (run.folder / "t" / "dn_model_latest.pth").readlink() == Path("model_epoch_010_step_00011.pth")
        assert run.sync() == 0


def test_what_others_leave_comes_down_and_what_is_taken_goes(s3: S3Server, tmp_path: Path) -> None:
    with StoredFolder(tmp_path / "work", URL, inbox="stop.json") as run:
        s3.client.pipe_file("data/runs/one/stop.json", b"{}")
        run._look_into_inbox()
        assert (run.folder / "stop.json").read_text() == "{}"
        (run.folder / "stop.json").unlink()
        run._look_into_inbox()
        assert not (run.folder / "stop.json").exists()
        run.sync()
        s3.client.pipe_file("data/runs/one/stop.json", b"{}")
        run._look_into_inbox()
        assert (run.folder / "stop.json").exists()


def test_who_was_overtaken_writes_no_more(s3: S3Server, tmp_path: Path) -> None:
    lost: list[bool] = []
    run = StoredFolder(tmp_path / "work", URL, on_lost=lambda: lost.append(True))
    run.__enter__()
    s3.client.pipe_file(f"data/runs/one/{MARK}", b'{"host": "elsewhere", "process": 7, "copy": "another"}')
    write(run.folder, late="1")
    run._mark._beat()
    with pytest.raises(StudyError, match=r"elsewhere \(process 7\) has taken s3://data/runs/one over"):
        run.__exit__(None, None, None)
    assert lost == [True]
    assert stored(s3) == {}


def test_results_of_a_failure_are_in_the_store_too(s3: S3Server, tmp_path: Path) -> None:
    def fail() -> None:
        with StoredFolder(tmp_path / "work", URL) as run:
            write(run.folder, status="FAILURE")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert stored(s3) == {"status": b"FAILURE"}


def test_a_second_writer_of_this_machine_is_refused(s3: S3Server, tmp_path: Path) -> None:
    del s3
    second = StoredFolder(tmp_path / "work", URL)
    with (
        StoredFolder(tmp_path / "work", URL),
        pytest.raises(StudyError, match="another process of this machine writes to s3://data/runs/one"),
    ):
        second.__enter__()


def test_a_writer_elsewhere_is_refused_while_it_is_alive(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.client.pipe_file(f"data/runs/one/{MARK}", b'{"host": "elsewhere", "process": 7}')
    with pytest.raises(StudyError, match=r"elsewhere \(process 7\) writes to s3://data/runs/one, last seen \d+ s ago"):
        StoredFolder(tmp_path / "work", URL).__enter__()
    monkeypatch.setattr(stored_folder, "LEASE_S", 0.0)
    with StoredFolder(tmp_path / "work", URL):
        pass


def test_the_mark_of_a_process_that_was_killed_here_does_not_hold(s3: S3Server, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    s3.client.pipe_file(f"data/runs/one/{MARK}", f'{{"host": "{os.uname().nodename}", "process": {gone.pid}}}'.encode())
    with StoredFolder(tmp_path / "work", URL):
        pass


def test_a_bucket_that_is_not_there_is_refused_at_once(s3: S3Server, tmp_path: Path) -> None:
    del s3
    with pytest.raises(DataError, match="there is no bucket nowhere"):
        StoredFolder(tmp_path / "work", "s3://nowhere/runs").__enter__()


def test_a_store_that_is_lost_at_the_end_says_where_the_files_are(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del s3
    run = StoredFolder(tmp_path / "work", URL)
    run.__enter__()
    write(run.folder, a="1")
    monkeypatch.setattr(store(), "put_file", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("slow")))
    with pytest.raises(ConnectionError, match="cannot be reached"):
        run.__exit__(None, None, None)
    assert (tmp_path / "work" / "a").read_text() == "1"


def test_a_store_that_goes_away_is_told_once_and_caught_up_with(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stored_folder, "EVERY_S", 0.01)
    with StoredFolder(tmp_path / "work", URL) as run:
        with monkeypatch.context() as away:
            away.setattr(RemoteFolder, "put", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("gone")))
            write(run.folder, a="1")
            wait_for(lambda: "is not up to date: gone; the work goes on" in caplog.text)
        wait_for(lambda: "is up to date again" in caplog.text)
        assert stored(s3) == {"a": b"1"}
    assert caplog.text.count("is not up to date") == 1


def test_a_file_that_arrives_cut_off_is_not_taken(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.client.pipe_file("data/runs/one/best.pth", b"0123456789")
    monkeypatch.setattr(s3.client, "get_file", lambda _, target, **__: Path(target).write_bytes(b"01234"))
    with pytest.raises(ConnectionError, match="5 of 10 bytes arrived"):
        StoredFolder(tmp_path / "work", URL).__enter__()
    assert not list((tmp_path / "work").rglob("*best*"))
