"""Sample scenes shared by the tests of trials.data."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.data.sample import SampleSet, write_samples


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    """Five scenes of 96x128 pixels, disparity below 32 px."""
    folder: Path = tmp_path_factory.mktemp("scenes")
    return write_samples(folder, scenes=5, seed=3, height=96, width=128, max_disparity=32)
