"""The lease on a study in PostgreSQL: one driver at a time, freed by its release, its expiry, never by anybody's clock but the server's."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from automl.database import DriverLease, LeaseLost, check_url, is_leased, open_database
from search_spaces.errors import StudyError, UnsupportedError
from tests.scale.processes import wait_for
from tests.scale.services import PASSWORD, Postgres

pytestmark = pytest.mark.scale


def beat(server: Postgres, study: str) -> None:
    """Make the holder of `study` look as if it had died two minutes ago."""
    with open_database(server.url).engine.begin() as connection:
        told = "UPDATE depth_automl_drivers SET beat = beat - interval '2 minutes' WHERE study = :study"
        connection.execute(text(told), {"study": study})


def test_one_driver_at_a_time(postgres: Postgres) -> None:
    first, second = (DriverLease(open_database(postgres.url), "one") for _ in range(2))
    first.take()
    with pytest.raises(StudyError, match=r"is being run by process \d+ on .*, last heard of \d+ s ago"):
        second.take()
    assert is_leased(open_database(postgres.url), "one")
    first.release()
    assert not is_leased(open_database(postgres.url), "one")
    second.take()
    second.check()
    second.release()


def test_a_dead_driver_is_replaced_and_finds_out(postgres: Postgres) -> None:
    dead, alive = (DriverLease(open_database(postgres.url), "two") for _ in range(2))
    dead.take()
    beat(postgres, "two")
    alive.take()
    dead._renew()
    with pytest.raises(LeaseLost, match="another driver has taken this study over"):
        dead.check()
    alive.check()
    dead.release()  # harms nobody
    alive.check()
    assert is_leased(open_database(postgres.url), "two")
    alive.release()


def test_a_driver_that_slept_is_told_before_it_writes(postgres: Postgres) -> None:
    asleep = DriverLease(open_database(postgres.url), "three", lease_s=0.4)
    asleep._keep = lambda: None  # type: ignore[method-assign]  # no sign of life, as in a machine that is suspended
    asleep._thread._target = asleep._keep  # type: ignore[attr-defined]
    asleep.take()
    time.sleep(0.5)
    other = DriverLease(open_database(postgres.url), "three", lease_s=0.4)
    other.take()
    with pytest.raises(LeaseLost):
        asleep.check()
    other.release()


def test_signs_of_life_keep_it(postgres: Postgres) -> None:
    storage = open_database(postgres.url)
    lease = DriverLease(storage, "four", lease_s=3.0)
    lease.take()
    beat(postgres, "four")
    wait_for(lambda: is_leased(storage, "four"))  # the next sign of life, half a second later
    with pytest.raises(StudyError, match="is being run by"):
        DriverLease(storage, "four").take()
    lease.release()


def test_a_wrong_password_is_told_without_it(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-one")
    open_database.cache_clear()
    with pytest.raises(StudyError, match="password authentication failed") as caught:
        open_database(postgres.url)
    assert "wrong-one" not in f"{caught.value.message}{caught.value.hint}"


def test_tables_of_another_program_are_told(postgres: Postgres) -> None:
    url = postgres.create("taken")
    storage = open_database(url)
    with storage.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of another program'"))
    open_database.cache_clear()
    with pytest.raises(StudyError, match="holds tables of another program"):
        open_database(url)


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        (f"postgresql://a:{PASSWORD}@host/d", StudyError, "holds a password"),
        (f"postgresql://a@host/d?password={PASSWORD}", StudyError, "holds a password"),
        (f"postgresql://a:{PASSWORD}/x@host/d", StudyError, "no host or no port that can be read"),
        ("postgresql://a@host:port/d", StudyError, "no host or no port that can be read"),
        ("postgresql://a@[::1/d", StudyError, "no host or no port that can be read"),
        ("postgresql://a@host", StudyError, "names no database"),
        ("sqlite:///study.db", UnsupportedError, "its kind is sqlite"),
        ("study.db", UnsupportedError, "its kind is not said"),
    ],
)
def test_addresses_that_are_refused(url: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        check_url(url)
    assert PASSWORD not in str(caught.value)
