"""States that pass from one run to another, and those that go."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pytest

from trials.states import BEST, LATEST, drop_full_states, hand_over


def test_a_state_that_another_disk_did_not_take_whole_is_not_there(tmp_path: Path) -> None:
    state = tmp_path / "model_epoch_001_step_00010.pth"
    state.write_bytes(bytes(2**17))
    (tmp_path / LATEST).symlink_to(state.name)
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other_disk:  # no hard link leads there
        heir = Path(other_disk)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                hand_over(tmp_path, heir)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        assert list(heir.iterdir()) == []
        assert hand_over(tmp_path, heir)
        assert (heir / LATEST).read_bytes() == bytes(2**17)


def test_half_a_state_of_a_killed_run_goes_with_the_others(tmp_path: Path) -> None:
    for name in (".model_epoch_001_step_00010.pth.tmp", "model_epoch_000_step_00005.pth", LATEST, BEST, "metrics.jsonl"):
        (tmp_path / name).write_text("x")
    drop_full_states(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, "metrics.jsonl"]
