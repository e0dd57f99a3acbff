"""A study's record in PostgreSQL, for drivers and watchers on many machines: Optuna's own tables, and a lease beside them.

Optuna: https://optuna.readthedocs.io (RDBStorage).  The address never holds a password: libpq takes it from PGPASSWORD, PGPASSFILE or
~/.pgpass, so that it stands in no command, no file of the study and no log.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces.errors import StudyError, UnsupportedError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.orm import Session

SCHEME = "postgresql"
PATIENCE_S = 60.0  # how long a database may be away before a search gives up
LEASE_S = 60.0  # after so long without a sign of life the next driver may take over
BEATS = 6  # signs of life in that time
_TABLE = "depth_automl_drivers"
_OPTIONS = {"connect_timeout": 10, "application_name": "depth-automl", "keepalives_idle": 30, "keepalives_interval": 10}

Given = TypeVar("Given")


class LeaseLost(StudyError):
    """Another driver has taken the study over: nothing may be written to it any more."""


def check_url(url: str) -> None:
    """StudyError or UnsupportedError for a storage address that cannot be used, or that holds a password."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  looked at, because that is when it is checked
    except ValueError as error:  # whose text may hold a part of a password
        raise StudyError(
            "--storage holds no host or no port that can be read", hint="write postgresql://USER@HOST:PORT/DATABASE"
        ) from error
    if parts.scheme != SCHEME:
        raise UnsupportedError(
            f"--storage takes postgresql://USER@HOST:PORT/DATABASE, but its kind is {parts.scheme or 'not said'}",
            hint="leave it out for a journal file in the study folder",
        )
    secret = parts.password is not None or any("password" in key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True))
    if secret:
        raise StudyError(
            "--storage holds a password, which others on this machine could read in the list of processes",
            hint="leave it out: it is taken from PGPASSWORD, or from ~/.pgpass (one line HOST:PORT:DATABASE:USER:PASSWORD, mode 600)",
        )
    if not parts.path.strip("/"):
        raise StudyError(f"{url} names no database", hint="write postgresql://USER@HOST:PORT/DATABASE")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        hint = "pip install -e '.[postgresql]' in the folder of this program"
        raise UnsupportedError("the package psycopg is not installed", hint=hint) from error


@lru_cache(maxsize=4)  # connections are kept and shared
def open_database(url: str) -> PatientStorage:
    """The storage at `url`, its tables made where they are missing; StudyError when it cannot be reached."""
    from sqlalchemy.exc import SQLAlchemyError

    check_url(url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings speak of samplers that no user named
    try:
        settings = {"pool_pre_ping": True, "connect_args": dict(_OPTIONS)}
        storage = PatientStorage(url.replace(f"{SCHEME}://", f"{SCHEME}+psycopg://", 1), settings)
        with storage.engine.begin() as connection:
            _make_table(connection)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StudyError(
            f"the database {url} cannot be used: {_reason(error)}", hint="the password is taken from PGPASSWORD or ~/.pgpass"
        ) from error
    except RuntimeError as error:  # Optuna found a version of the tables that it does not know
        raise StudyError(
            f"the database {url} holds tables of another program or release: MLflow's, for instance, which Optuna's cannot lie beside",
            hint="make a database for studies alone, `createdb studies`",
        ) from error
    storage.shown = url
    return storage


class PatientStorage(RDBStorage):
    """Optuna's storage that waits for a database that is away for a moment (a restart, a failover); StudyError after a minute.

    What is repeated does no harm when it had been done.  A new trial is not: it could be there twice.
    """

    shown = ""

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See Optuna."""
        self._patiently(lambda: super(PatientStorage, self).set_trial_user_attr(trial_id, key, value))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """See Optuna."""
        self._patiently(lambda: super(PatientStorage, self).set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See Optuna; a trial that was ended in an attempt whose answer got lost stays ended."""
        tried = 0

        def end() -> bool:
            nonlocal tried
            tried += 1
            try:
                return super(PatientStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if tried == 1:
                    raise
                return True

        return self._patiently(end)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """See Optuna."""
        self._patiently(lambda: super(PatientStorage, self).set_study_user_attr(study_id, key, value))

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """What Optuna's own cache calls for a new trial."""
        with _told(self.shown):
            return super()._create_new_trial(study_id, template_trial)

    def _set_trial_param_without_commit(
        self,
        session: Session,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None = None,
    ) -> None:
        """What Optuna calls for each parameter of a new trial: written by one statement for all, where its own asks thrice for each.

        What it asks, whether this distribution goes with those of earlier trials, is true here: all are of the study's one space.
        """
        from optuna.storages._rdb.models import TrialParamModel

        del previous_distribution
        session.add(
            TrialParamModel(
                trial_id=trial_id,
                param_name=param_name,
                param_value=param_value_internal,
                distribution_json=distribution_to_json(distribution),
            )
        )

    def _patiently(self, write: Callable[[], Given]) -> Given:
        deadline, pause_s = time.monotonic() + PATIENCE_S, 0.1
        while True:
            try:
                return write()
            except StorageInternalError as error:
                if not _is_away(error) or time.monotonic() + pause_s > deadline:
                    with _told(self.shown):
                        raise
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 5.0)


class DriverLease:
    """The right to change one study, for one driver of many machines: kept alive by a thread, free a minute after its holder died.

    The database's clock alone counts.  `check` is asked before every write, so that a driver that was stopped for longer than the lease
    (a machine that slept) finds out before it writes.
    """

    def __init__(self, storage: PatientStorage, study: str, *, lease_s: float = LEASE_S) -> None:
        self._engine: Engine = storage.engine
        self._shown, self._study, self._lease_s = storage.shown, study, lease_s
        self._token = uuid.uuid4().hex
        self._over = threading.Event()
        self._lost = False
        self._alive_at = 0.0
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> None:
        """Take the lease; StudyError names who holds it."""
        told = (
            f"INSERT INTO {_TABLE} AS held (study, token, owner, beat) VALUES (:study, :token, :owner, clock_timestamp()) "
            "ON CONFLICT (study) DO UPDATE SET token = :token, owner = :owner, beat = clock_timestamp() "
            f"WHERE {_AGE} > :lease_s RETURNING token"
        )
        owner = f"process {os.getpid()} on {os.uname().nodename}"
        with _told(self._shown), self._engine.begin() as connection:
            asked_at = time.monotonic()
            taken = _first(connection, told, study=self._study, token=self._token, owner=owner, lease_s=self._lease_s)
            holder = (
                None if taken else _first(connection, f"SELECT owner, {_AGE} FROM {_TABLE} AS held WHERE study = :study", study=self._study)
            )
        if taken is None:
            who, age_s = holder or ("another process", 0.0)
            raise StudyError(
                f"the study is being run by {who}, last heard of {age_s:.0f} s ago",
                hint=f"end it with `automl stop`; a driver that died is replaced {self._lease_s:g} s after its last sign of life",
            )
        self._alive_at = asked_at
        self._thread.start()

    def check(self) -> None:
        """LeaseLost when another driver took the study over; StudyError when the database is away for too long."""
        if not self._lost and time.monotonic() - self._alive_at > self._lease_s / 2:
            with _told(self._shown):
                self._renew()
        if self._lost:
            raise LeaseLost(
                "another driver has taken this study over, because this one gave no sign of life",
                hint="watch it with `automl status`; its trials go on there",
            )

    def release(self) -> None:
        """Give the lease back; harmless when it is not held."""
        if not self._thread.is_alive():
            return
        self._over.set()
        self._thread.join(timeout=10.0)
        from sqlalchemy.exc import SQLAlchemyError

        with contextlib.suppress(SQLAlchemyError), self._engine.begin() as connection:
            _run(connection, f"DELETE FROM {_TABLE} WHERE study = :study AND token = :token", study=self._study, token=self._token)

    def _keep(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        while not self._over.wait(self._lease_s / BEATS) and not self._lost:
            with contextlib.suppress(SQLAlchemyError):  # the next beat tries again; `check` says when it is too late
                self._renew()

    def _renew(self) -> None:
        renewed = f"UPDATE {_TABLE} SET beat = clock_timestamp() WHERE study = :study AND token = :token RETURNING token"
        asked_at = time.monotonic()
        with self._engine.begin() as connection:
            self._lost = _first(connection, renewed, study=self._study, token=self._token) is None
        self._alive_at = asked_at


def is_leased(storage: PatientStorage, study: str, *, lease_s: float = LEASE_S) -> bool:
    """True while some driver holds the lease of `study`."""
    held = f"SELECT owner FROM {_TABLE} AS held WHERE study = :study AND {_AGE} <= :lease_s"
    with _told(storage.shown), storage.engine.begin() as connection:
        return _first(connection, held, study=study, lease_s=lease_s) is not None


_AGE = "extract(epoch FROM clock_timestamp() - held.beat)::float8"


def _make_table(connection: Connection) -> None:
    columns = "study text PRIMARY KEY, token text NOT NULL, owner text NOT NULL, beat timestamptz NOT NULL"
    if _first(connection, "SELECT to_regclass(:name)", name=_TABLE) == (None,):
        _run(connection, f"CREATE TABLE IF NOT EXISTS {_TABLE} ({columns})")


def _run(connection: Connection, statement: str, **values: Any) -> Any:
    from sqlalchemy import text

    return connection.execute(text(statement), values)


def _first(connection: Connection, statement: str, **values: Any) -> tuple[Any, ...] | None:
    row = _run(connection, statement, **values).first()
    return None if row is None else tuple(row)


def _is_away(error: BaseException) -> bool:
    from sqlalchemy.exc import InterfaceError, OperationalError

    return isinstance(error.__cause__, (OperationalError, InterfaceError))


@contextlib.contextmanager
def _told(shown: str) -> Iterator[None]:
    """Errors of the database become a StudyError that names it."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        hint = "`automl resume` goes on when it is back: everything that was reported is kept"
        raise StudyError(f"the database {shown} failed: {_reason(error)}", hint=hint) from error


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
