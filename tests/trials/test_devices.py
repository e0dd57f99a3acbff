"""What a container allows counts as the memory of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.devices import container_limit_mib, keep_to_share


@pytest.mark.parametrize(("name", "text", "limit"), [("memory.max", "2147483648\n", 2048.0), ("memory.max", "max\n", None)])
def test_the_limit_of_a_control_group(tmp_path: Path, name: str, text: str, limit: float | None) -> None:
    (tmp_path / name).write_text(text)
    assert container_limit_mib(tmp_path) == limit


def test_the_limit_of_an_older_control_group(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("1048576")
    assert container_limit_mib(tmp_path) == 1.0


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    assert container_limit_mib(tmp_path) is None


def test_a_share_of_a_gpu_bounds_the_memory_of_each_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: dict[int, float] = {}
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda share, device: bounds.__setitem__(device, share))
    keep_to_share(0.25)
    assert bounds == {0: 0.25, 1: 0.25}
