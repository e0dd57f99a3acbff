"""What is known of a cluster before a search starts on it: addresses, room, what a trial takes, whose code its workers run."""

from __future__ import annotations

import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from automl.carry import carry_out
from automl.cluster import LOOK_S, HeadWatch, Node, anywhere_but, check_address, describe_nodes, room, trial_resources
from automl.entry import FAILED
from automl.mailbox import WorkOrder
from automl.own_code import PACKAGES, code_hash, code_root, copy_code
from automl.placement import device_text, slots_here
from automl.resolve import whole_gpus
from automl.study import Study
from automl.worksite import digest_of, training_fault, worksite_fault
from search_spaces.errors import StudyError, UnsupportedError
from tests.automl.toy import toy_config

LARGE = Node(host="a", node_id="1", cpus=64.0, gpus=8.0)
SMALL = Node(host="b", node_id="2", cpus=6.0, gpus=1.0)
PLAIN = Node(host="c", node_id="3", cpus=16.0, gpus=0.0)


@pytest.mark.parametrize(
    ("gpus", "cpus", "resources", "fits"),
    [
        (1, None, {"CPU": 6.0, "GPU": 1.0}, 9),  # the small node has 6 cores a GPU
        (2, None, {"CPU": 12.0, "GPU": 2.0}, 4),
        (0.5, None, {"CPU": 3.0, "GPU": 0.5}, 18),
        (1, 16, {"CPU": 16.0, "GPU": 1.0}, 4),
        (0, None, {"CPU": 2.0, "GPU": 0.0}, 43),
        (0, 4, {"CPU": 4.0, "GPU": 0.0}, 21),
    ],
)
def test_what_a_trial_takes_and_how_many_fit(gpus: float, cpus: float | None, resources: dict[str, float], fits: int) -> None:
    present = [LARGE, SMALL, PLAIN]
    assert trial_resources(present, gpus=gpus, cpus=cpus) == resources
    assert room(present, resources) == fits


def test_a_trial_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"no node .* 2 GPUs and 2 cores: it has 2 nodes: 1 x 6 cores, 1 GPUs; 1 x 16 cores"):
        trial_resources([SMALL, PLAIN], gpus=2, cpus=2)


def test_nodes_in_words() -> None:
    assert describe_nodes([PLAIN, PLAIN, LARGE]) == "3 nodes: 2 x 16 cores; 1 x 64 cores, 8 GPUs"


@pytest.mark.parametrize(("asked", "whole"), [(None, 0), (0.0, 0), (0.25, 1), (1.0, 1), (2.0, 2)])
def test_a_share_of_a_gpu_is_one_device(asked: float | None, whole: int) -> None:
    assert whole_gpus(asked) == whole


@pytest.mark.parametrize("asked", [1.5, -1.0, 2.25, float("inf"), float("nan")])
def test_shares_that_cannot_be(asked: float) -> None:
    with pytest.raises(StudyError, match="a whole number, or a share of one GPU"):
        whole_gpus(asked)


@pytest.mark.parametrize(("gpus", "share", "slots"), [(2, 0.5, 4), (2, 0.4, 4), (2, 0.1, 20), (8, 2.0, 4), (1, 1.0, 1)])
def test_trials_at_once_on_shared_gpus(gpus: int, share: float, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert slots_here(share) == slots


def test_trials_at_once_on_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)  # of the machine, as in a container or a job with six of them
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    assert (slots_here(0), device_text(0)) == (3, "CPU (6 cores)")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost", "must be HOST:PORT"),
        ("host:", "must be HOST:PORT"),
        ("127.0.0.1:1", "no Ray cluster answers"),
        ("127.0.0.1:99999", "no Ray"),
    ],
)
def test_addresses_where_no_cluster_is(address: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        check_address(address)


def test_a_search_that_finds_no_cluster_ends_with_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = Study.create(tmp_path / "results" / "s", toy_config(engine="ray", address="127.0.0.1:1", cpus_per_trial=1.0))
    assert carry_out(study) == FAILED
    assert capsys.readouterr().err.startswith("error: no Ray cluster answers at 127.0.0.1:1")
    study.close()


@pytest.fixture
def order(tmp_path: Path) -> WorkOrder:
    study_file = tmp_path / "s" / "study.yaml"
    study_file.parent.mkdir()
    study_file.write_text("name: s\n")
    return WorkOrder(
        run=None, root=code_root(), code="", study_file=study_file, study_digest=digest_of(study_file), working_folder=tmp_path
    )


def test_a_copy_of_the_code_is_as_good_and_another_state_is_not(tmp_path: Path, order: WorkOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = copy_code(code_root(), tmp_path / "code")
    assert {path.name for path in copy.iterdir()} == set(PACKAGES)
    assert code_hash(copy) == code_hash(code_root())
    (copy / "trials" / "run.py").write_text("")
    code_hash.cache_clear()
    assert code_hash(copy) != code_hash(code_root())
    assert worksite_fault(order) is None
    shutil.rmtree(copy)


def test_packages_of_two_folders_are_not_mixed(tmp_path: Path, order: WorkOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.own_code.import_root", lambda package="models": tmp_path if package == "models" else code_root())
    fault = worksite_fault(order)
    assert fault is not None
    assert fault.message.endswith("another folder on its path holds a package named models")


def test_a_folder_that_is_not_shared_is_told(order: WorkOrder) -> None:
    order.study_file.unlink()
    fault = worksite_fault(order)
    assert fault is not None
    assert "the study folder is not shared with" in fault.message
    order.study_file.write_text("name: another\n")
    fault = worksite_fault(order)
    assert fault is not None
    assert fault.message.endswith("is another study's folder")


def test_a_machine_that_lacks_what_training_takes_is_told(order: WorkOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_fault(order) is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    fault = training_fault(replace(order, gpus=0.5))
    assert fault is not None
    assert fault.message.endswith("but torch finds none")
    monkeypatch.setitem(sys.modules, "trials.run", None)
    fault = training_fault(order)
    assert fault is not None
    assert "trials cannot be run on" in fault.message
    assert fault.hint == "install this project there as it is installed here"


def test_nodes_are_avoided_by_their_names() -> None:
    assert anywhere_but([]) == [{}]
    assert anywhere_but(["b", "a"]) == [{"ray.io/node-id": "!in(a,b)"}]


def test_a_head_that_goes_away_is_told_once() -> None:
    now = 0.0
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        watch = HeadWatch(address, clock=lambda: now)
        now += LOOK_S
        assert watch.lost() is None
    assert watch.lost() is None  # it looks now and then
    now += LOOK_S
    assert watch.lost() == f"no Ray cluster answers at {address}: Connection refused"
    now += LOOK_S
    assert watch.lost() is None
    assert HeadWatch(None, clock=lambda: now).lost() is None
