"""`depth_net ... results_dir=s3://...`: the store holds the results, whichever way the action ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from automl.entry import ActionFailed
from automl.stored import stored
from search_spaces.errors import DataError
from search_spaces.spec import read_spec, results_folder
from tests.s3_server import S3Server
from trials.stored_folder import StoredFolder

SPEC = "model: {model_type: FoundationStereo}\ndataset: {dataset_name: StereoDataset, cache_dir: CACHE}\nresults_dir: RESULTS\n"


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC.replace("CACHE", str(tmp_path / "cache")).replace("RESULTS", "s3://data/runs/one"))
    return file


def act(spec_file: Path, overrides: Sequence[str]) -> int:
    folder = results_folder(read_spec(spec_file, overrides, action="evaluate").spec, "evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text("{}")
    return 7


def test_an_action_works_in_a_folder_of_this_machine(spec_file: Path, s3: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert stored("evaluate", spec_file, (), act) == 7
    assert s3.client.find("data/runs")[1:] == ["data/runs/one/evaluate/results.json"]  # the first says who wrote last
    assert "Everything is in s3://data/runs/one/evaluate; the working folder was" in capsys.readouterr().out


def test_results_that_a_store_did_not_take_are_named(
    spec_file: Path, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(spec: Path, overrides: Sequence[str]) -> int:
        away.setattr(s3.client, "pipe_file", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("slow")))
        return act(spec, overrides)

    with monkeypatch.context() as away, pytest.raises(ActionFailed, match="not everything is in s3://data/runs/one/evaluate") as caught:
        stored("evaluate", spec_file, (), lose)
    assert caught.value.hint.startswith(f"what is missing is in {tmp_path / 'cache'}")
    assert caught.value.hint.endswith("; the same command on this machine puts it there")


def test_the_action_s_own_key_wins(spec_file: Path, s3: S3Server) -> None:
    stored("evaluate", spec_file, ("evaluate.results_dir=s3://data/other/",), act)
    assert s3.client.find("data")[1:] == ["data/other/results.json"]


def test_a_folder_of_this_machine_is_left_alone(spec_file: Path, tmp_path: Path) -> None:
    assert stored("evaluate", spec_file, (f"results_dir={tmp_path}",), act) == 7
    assert (tmp_path / "evaluate" / "results.json").is_file()


def test_an_action_brings_and_holds_its_own_folder_alone(spec_file: Path, s3: S3Server, tmp_path: Path) -> None:
    s3.client.pipe_file("data/runs/one/train/best.pth", b"weights")
    with StoredFolder(tmp_path / "driver", "s3://data/runs/one"):  # a study that is being run, for instance
        assert stored("evaluate", spec_file, (), act) == 7
    assert not list((tmp_path / "cache").rglob("best.pth"))


def test_a_spec_may_be_in_the_store(spec_file: Path, s3: S3Server) -> None:
    s3.client.pipe_file("data/runs/one/train/experiment.yaml", spec_file.read_bytes())
    assert stored("evaluate", Path("s3://data/runs/one/train/experiment.yaml"), (), act) == 7
    assert s3.client.exists("data/runs/one/evaluate/results.json")
    with pytest.raises(DataError, match=r"s3://data/none\.yaml does not exist"):
        stored("evaluate", Path("s3://data/none.yaml"), (), act)
