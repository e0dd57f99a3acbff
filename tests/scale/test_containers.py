"""A container without a container: a user without a name or a home, data that may only be read, one folder to write to.

`docker run --user $(id -u):$(id -g) -v DATA:DATA:ro -v OUT:OUT IMAGE automl ...` gives a process just that.  Of root's rights it keeps the
one to read, since an image lets everybody read it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automl.sample_specs import sample_action

pytestmark = [
    pytest.mark.scale,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user takes root and setpriv"),
]

USER = 54321
SMALL = ("--epochs", "1", "--yes", "automl.finalists=0", "train.optim.lr=1e-4")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="container-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def data(place: Path) -> Path:
    """Sample scenes that belong to root and that nobody may write to."""
    folder = place / "data"
    sample_action(folder, 4, 1)
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(folder)], check=True)
    return folder


@pytest.fixture
def contained(place: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program as the user 54321 in `place`, which belongs to root; `out` and `tmp` below it belong to that user."""
    (place / "out").mkdir()
    (place / "tmp").mkdir()
    for name in ("out", "tmp"):
        os.chown(place / name, USER, USER)
    keep = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *keep]

    def run(program: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1", **settings}
        script = str(Path(sys.executable).with_name(program))
        return subprocess.run([*become, script, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False)

    return run


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*")}


@pytest.mark.parametrize("home", ["/", None])
def test_plain_training_leaves_files_of_the_user_alone(
    place: Path, data: Path, contained: Callable[..., subprocess.CompletedProcess[str]], home: str | None
) -> None:
    settings = {} if home is None else {"HOME": home}
    done = contained("depth_net", "train", "-e", str(data / "mono.yaml"), f"results_dir={place}/out/run", "train.num_epochs=1", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert owners(place / "out") == {USER}
    assert sorted(path.name for path in place.iterdir()) == ["data", "out", "tmp"]
    assert list((place / "tmp").iterdir()) == []


def test_a_search_with_its_caches_in_the_output_folder(
    place: Path, data: Path, contained: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    out = place / "out"
    arguments = ("--skill", "depth_net_mono", "-e", str(data / "mono.yaml"), "--results", str(out / "study"), "--trials", "2", *SMALL)
    done = contained("automl", "run", *arguments, HOME=str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert owners(out) == {USER}
    assert (out / "mlflow.db").is_file()
    assert (out / "study" / "promotion" / "model.onnx").is_file()
    assert sorted(path.name for path in place.iterdir()) == ["data", "out", "tmp"]
