"""A state that passes from one run to another."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pytest

from trials.states import LATEST, hand_over


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
