"""Sample scenes that all runs of this folder share."""

from __future__ import annotations

import pytest

from trials.data.sample import SampleSet, write_samples


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    return write_samples(tmp_path_factory.mktemp("scenes"), scenes=9, seed=1, height=64, width=96, max_disparity=32)
