"""One PostgreSQL for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scale.services import PASSWORD, Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server with an empty database; its password stands in PGPASSWORD."""
    with Postgres() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        yield server
