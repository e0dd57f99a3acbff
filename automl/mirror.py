"""Writes runs into MLflow and keeps what could not be written: a mirror of the study, never asked by the search.

A `RunRecord` is the whole truth about one run so far, so a lost write costs nothing: the next one carries it, and
writing the same record twice changes nothing (runs are found again by their `automl.key` tag, metrics by step).
MLflow: https://mlflow.org, Apache-2.0.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trials.contract import Report

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

KEY_TAG = "automl.key"
STUDY_TAG = "automl.study_id"
KEY_SHOWN = 8  # of a checkpoint's hash, in the name of the folder that holds its model
# a server that is gone must cost seconds, not MLflow's own half hour of retries
REMOTE_LIMITS: Mapping[str, str] = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
# how long a mirror that failed is left alone
RETRY_AFTER_S = 30.0
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")  # up to the last @: passwords hold some


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where a study is mirrored: the tracking URI (may hold credentials: never shown), experiment, artifact folder.

    `artifacts` is None for a server, which decides itself where artifacts lie.
    """

    uri: str
    experiment: str
    study_id: str
    artifacts: Path | None

    @property
    def is_local(self) -> bool:
        """Whether the database is a file of this machine."""
        return is_sqlite(self.uri)

    @property
    def file(self) -> Path:
        """The file of a local database."""
        from sqlalchemy.engine import make_url

        return Path(make_url(self.uri).database or "")

    @property
    def shown(self) -> str:
        """The URI as people read it, without credentials and codes."""
        return f"sqlite:///{self.file}" if self.is_local else without_credentials(self.uri)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything known about one run: `status` is MLflow's (RUNNING, SCHEDULED, FINISHED, FAILED, KILLED).

    `params` must not change between two records of one key; `history` is in order of epochs; `started_s` and
    `ended_s` are seconds since 1970; `artifacts` are files to keep beside the run.
    """

    key: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Report] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    started_s: float = 0.0
    ended_s: float | None = None
    artifacts: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A winner to register: the run it came from, the folder that holds it, tags that lead back, and the aliases that it gets."""

    name: str
    key: str
    run_key: str
    folder: Path
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ("champion",)


def is_sqlite(uri: str) -> bool:
    """Whether a tracking URI is that of a file of this machine."""
    return uri.startswith(("sqlite:", "sqlite+"))


def sqlite_uri(file: Path) -> str:
    """The URI of a database in `file`; what means something in an address, `?` for instance, stands in it as a code."""
    from sqlalchemy.engine import URL, make_url

    plain = f"sqlite:///{file}"
    if make_url(plain).database == str(file):
        return plain
    # with the driver's name: below "sqlite:///" MLflow makes the file's folder, and would name it by its codes
    return URL.create("sqlite+pysqlite", database=str(file)).render_as_string()


def without_credentials(text: str) -> str:
    """`text` with the user part of every URL removed."""
    return _CREDENTIALS.sub("", text)


def limit_retries() -> None:
    """Sets how long MLflow's client tries a server, unless the user did; before its first request."""
    for name, value in REMOTE_LIMITS.items():
        os.environ.setdefault(name, value)


def prepare_database(tracking: Tracking) -> None:
    """Creates the tables of a local database once, before any second process opens it; nothing for a server."""
    if tracking.is_local:
        from mlflow.tracking import MlflowClient

        tracking.file.parent.mkdir(parents=True, exist_ok=True)
        _check_file(tracking)
        # MLflow sets its level when it is imported, and tells of each table that it makes
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        MlflowClient(tracking_uri=tracking.uri).search_experiments(max_results=1)


def _check_file(tracking: Tracking) -> None:
    """sqlite3.Error at once for a database that cannot be opened: MLflow itself would try for a minute."""
    if tracking.is_local:
        with closing(sqlite3.connect(tracking.file)) as connection:
            connection.execute("PRAGMA schema_version")


class MlflowWriter:
    """Synchronous writes to one experiment; every method may raise whatever MLflow raises.  For one thread."""

    def __init__(self, tracking: Tracking) -> None:
        limit_retries()
        _check_file(tracking)
        from mlflow.tracking import MlflowClient

        self._client: MlflowClient = MlflowClient(tracking_uri=tracking.uri)
        self._tracking = tracking
        self.experiment_id = self._find_experiment()
        self._runs: dict[str, str] = {}
        self._logged: dict[str, set[tuple[str, int]]] = {}

    def write(self, record: RunRecord) -> str:
        """The id of the run that now shows `record`; found by its key or created."""
        from mlflow.entities import Metric, Param, RunTag

        run_id = self._runs.get(record.key) or self._attach(record)
        logged = self._logged[record.key]
        metrics = [metric for metric in _metrics(record, Metric) if (metric.key, metric.step) not in logged]
        tags = [RunTag(key, without_credentials(value)[:5000]) for key, value in {**record.tags, KEY_TAG: record.key}.items()]
        params = [Param(key, without_credentials(value)[:6000]) for key, value in record.params.items()]
        for start in range(0, max(len(metrics), 1), 900):  # the API takes 1000 entities at once
            first = start == 0
            self._client.log_batch(run_id, metrics=metrics[start : start + 900], params=params if first else [], tags=tags if first else [])
        logged.update((metric.key, metric.step) for metric in metrics)
        for path in record.artifacts:
            if path.is_file():
                self._client.log_artifact(run_id, str(path))
        end = None if record.ended_s is None else int(record.ended_s * 1000)
        if record.status in {"RUNNING", "SCHEDULED"}:
            self._client.update_run(run_id, status=record.status)
        else:
            self._client.set_terminated(run_id, status=record.status, end_time=end)
        return run_id

    def register(self, record: ModelRecord) -> int:
        """The version of the registered model that holds the winner, under its aliases; the same record gives the same version."""
        from mlflow.exceptions import MlflowException

        run_id = self._runs.get(record.run_key) or self._find_run(record.run_key)
        try:
            self._client.create_registered_model(record.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = self._client.search_model_versions(f"name = '{record.name}'")
        version = next((one for one in known if one.tags.get(KEY_TAG) == record.key), None)
        source = self._source(record, run_id)  # also of a version that is known: its files may be new
        if version is None:
            version = self._client.create_model_version(record.name, source=source, run_id=run_id)
        for key, value in {**record.tags, KEY_TAG: record.key}.items():
            self._client.set_model_version_tag(record.name, version.version, key, without_credentials(value))
        for alias in record.aliases:
            self._client.set_registered_model_alias(record.name, alias, version.version)
        return int(version.version)

    def _source(self, record: ModelRecord, run_id: str | None) -> str:
        """A copy under the run's artifacts, of this model alone: the folder itself holds another one after the next promotion.

        The folder stands in where MLflow does not know the run.
        """
        if run_id is None:
            return record.folder.resolve().as_uri()
        place = f"promotion-{record.key[-KEY_SHOWN:]}"
        self._client.log_artifacts(run_id, str(record.folder), artifact_path=place)
        return f"runs:/{run_id}/{place}"

    def _find_experiment(self) -> str:
        """The experiment of this study, by its tag; another study's name is never taken over."""
        from mlflow.entities import ViewType

        tracking = self._tracking
        taken = set()
        for experiment in self._client.search_experiments(view_type=ViewType.ALL, max_results=1000):
            if experiment.tags.get(STUDY_TAG) == tracking.study_id and experiment.lifecycle_stage == "active":
                return str(experiment.experiment_id)
            taken.add(experiment.name)
        name, number = tracking.experiment, 2
        while name in taken:
            name, number = f"{tracking.experiment} ({number})", number + 1
        location = None if tracking.artifacts is None else (tracking.artifacts / tracking.study_id).resolve().as_uri()
        # the kind keeps MLflow's page on runs and charts instead of its start page for language models
        tags = {STUDY_TAG: tracking.study_id, "mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(name, artifact_location=location, tags=tags))

    def _find_run(self, key: str) -> str | None:
        found = self._client.search_runs([self.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _attach(self, record: RunRecord) -> str:
        """The run of `record`, with what it already holds remembered."""
        run_id = self._find_run(record.key)
        logged: set[tuple[str, int]] = set()
        if run_id is None:
            created = self._client.create_run(
                self.experiment_id, start_time=int(record.started_s * 1000) or None, run_name=record.name, tags={KEY_TAG: record.key}
            )
            run_id = str(created.info.run_id)
        else:
            for name in self._client.get_run(run_id).data.metrics:
                logged.update((name, entry.step) for entry in self._client.get_metric_history(run_id, name))
        self._runs[record.key], self._logged[record.key] = run_id, logged
        return run_id


def _metrics(record: RunRecord, build: type) -> list:  # type: ignore[type-arg]
    """MLflow metrics of the history (step = epoch) and of the run as a whole (step 0), finite numbers only."""
    start = record.started_s
    found = [
        build(name, value, int((start + report.elapsed_s) * 1000), report.epoch)
        for report in record.history
        for name, value in report.metrics.items()
        if value is not None
    ]
    return found + [build(name, value, int((record.ended_s or start) * 1000), 0) for name, value in record.metrics.items()]


class Mirror:
    """Records go in without waiting; a thread writes them.  After a failure the newest record of each run is kept.

    `warn` is called once when writing fails for the first time.  `close` tries what is left and says whether all is written.
    """

    def __init__(self, tracking: Tracking, warn: Callable[[str], None]) -> None:
        self.tracking = tracking
        self._warn = warn
        self._queue: queue.SimpleQueue[RunRecord | None] = queue.SimpleQueue()
        self._left: dict[str, RunRecord] = {}
        self._writer: MlflowWriter | None = None
        self._warned = False
        self._rest_until = 0.0
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def put(self, record: RunRecord) -> None:
        """Hands over a record; returns at once."""
        self._queue.put(record)

    def close(self) -> bool:
        """Waits for the thread, tries once more what could not be written; True when the mirror is complete."""
        self._queue.put(None)
        self._thread.join()
        if self._left:
            self._flush()
        return not self._left

    def register(self, record: ModelRecord) -> int | None:
        """The registered version, or None (with the warning) when MLflow cannot be reached; call after `close`."""
        try:
            return self._open().register(record)
        except Exception as error:  # noqa: BLE001  a mirror never fails the study
            self._say(error)
            return None

    def experiment_id(self) -> str | None:
        """The experiment's id, once something was written."""
        return None if self._writer is None else self._writer.experiment_id

    def _work(self) -> None:
        while (record := self._queue.get()) is not None:
            self._left[record.key] = record
            if self._queue.empty() and time.monotonic() >= self._rest_until:
                self._flush()

    def _flush(self) -> None:
        try:
            writer = self._open()
            for key in list(self._left):
                writer.write(self._left[key])
                del self._left[key]
        except Exception as error:  # noqa: BLE001  a mirror never fails the study
            self._say(error)

    def _open(self) -> MlflowWriter:
        if self._writer is None:
            self._writer = MlflowWriter(self.tracking)
        return self._writer

    def _say(self, error: Exception) -> None:
        self._rest_until = time.monotonic() + RETRY_AFTER_S
        if not self._warned:
            self._warned = True
            reason = without_credentials(" ".join(str(error).split()))[:200]
            shown = f"MLflow at {self.tracking.shown} cannot be written ({type(error).__name__}: {reason})"
            self._warn(f"{shown}; the study goes on and the mirror catches up later")
