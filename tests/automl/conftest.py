"""What the tests of the command lines share: a run that must be refused and leave everything as it was; a closed folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automl import cli, depth_net
from automl.entry import MISUSED, run_app


def state_of(folder: Path) -> dict[Path, bytes | None]:
    """Every file below `folder` with its content, and every folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `program arguments...` in the test's folder; expects exit code 2, one error with its hint, no change; gives stderr."""
    monkeypatch.chdir(tmp_path)
    apps = {"automl": cli.app, "depth_net": depth_net.app}

    def run(program: str, *arguments: str) -> str:
        before = state_of(tmp_path)
        assert run_app(apps[program], program, arguments) == MISUSED
        assert state_of(tmp_path) == before
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert (err.count("error: "), err.count("\n\nhint: ")) == (1, 1)
        return err

    return run


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that everybody may read and nobody write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders may be entered by their owner alone
    (folder / "closed").mkdir()
    for path in (folder / "closed", folder):
        path.chmod(0o555)
    yield folder / "closed"
    folder.chmod(0o755)
    shutil.rmtree(folder)
