"""What MLflow is told about a study: one experiment, one flat run per trial, one run of kind `study`, a registered winner.

The mirror follows events and can be rebuilt from the study folder at any time (`catch_up`): the trials' own metrics
files hold every epoch.  Where it is: MLFLOW_TRACKING_URI if set, else one SQLite file beside the study folders, so that
several studies can be compared in one page.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from automl.board import Board
from automl.config import StudyConfig
from automl.events import StudyEnded, StudyEvent, StudyStarted
from automl.front import values_of
from automl.mirror import Mirror, RunRecord, Tracking, is_sqlite, sqlite_uri, without_credentials
from automl.snapshot import TrialStatus, TrialSummary
from search_spaces.spec import spec_from_dict
from search_spaces.spec.weights import first_weights
from trials.contract import Report, report_from_json

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
# what a reader of the run table wants to see beside the sampled values; never a key that may hold a secret
PARAMS = (
    "model.model_type",
    "model.encoder",
    "model.train_iters",
    "dataset.max_disparity",
    "dataset.max_depth",
    "dataset.train_dataset.batch_size",
    "dataset.train_dataset.augmentation.crop_size",
    "train.precision",
    "train.optim.optimizer",
    "train.optim.lr_scheduler",
    "train.optim.lr",
    "train.optim.weight_decay",
)
RUN_STATUS: Mapping[TrialStatus, str] = {
    TrialStatus.RUNNING: "RUNNING",
    TrialStatus.PAUSED: "SCHEDULED",
    TrialStatus.WAITING: "SCHEDULED",
    TrialStatus.COMPLETE: "FINISHED",
    TrialStatus.STOPPED: "FINISHED",
    TrialStatus.FAILED: "FAILED",
}


def tracking_for(study: Path, name: str, study_id: str) -> Tracking:
    """Where the study in folder `study` is mirrored."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or default_uri(study)
    artifacts = study.resolve().parent / ARTIFACTS if is_sqlite(uri) else None
    return Tracking(uri=uri, experiment=name, study_id=study_id, artifacts=artifacts)


def default_uri(study: Path) -> str:
    """The SQLite database beside the study folder."""
    return sqlite_uri(study.resolve().parent / DATABASE)


def content_hash(data: object) -> str:
    """Twelve hexadecimal digits that stand for JSON-able `data`."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:12]


def read_history(folder: Path) -> list[Report]:
    """Every validated epoch of the trial in `folder`, in order; the last word on an epoch that was trained twice counts."""
    path = folder / "train" / "metrics.jsonl"
    if not path.is_file():
        return []
    reports: dict[int, Report] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            report = report_from_json(json.loads(line))
        except (ValueError, TypeError, KeyError):
            continue  # the torn last line of a killed worker, or what a crash of the machine left
        reports[report.epoch] = report
    return [reports[epoch] for epoch in sorted(reports)]


class StudyMirror:
    """Turns a board into run records, one at a time, as events come; `close` says whether MLflow holds everything.

    `kind` is `trial` for the search and `finalist` for its second study: both lie flat in one experiment.
    """

    def __init__(self, mirror: Mirror, config: StudyConfig, *, kind: str = "trial", data_hash: str = "") -> None:
        self._mirror, self._config, self._kind = mirror, config, kind
        self._data_hash = data_hash
        self._history: dict[int, dict[int, Report]] = {}

    def on_event(self, event: StudyEvent, board: Board) -> None:
        """Mirrors what `event` changed; `board` has already taken note of it.  Begin and end are mirrored whole."""
        if isinstance(event, (StudyStarted, StudyEnded)):
            self.catch_up(event.snapshot.trials)
            return
        number = getattr(event, "number", None)
        if number is not None and number in board.trials:
            self.put(board.trials[number], board.reports.get(number, {}))

    def catch_up(self, trials: Iterable[TrialSummary]) -> None:
        """Mirrors trials from the study folder alone: after a resume, or when MLflow was away."""
        for trial in trials:
            self.put(trial, {})

    def put(self, trial: TrialSummary, reports: Mapping[int, Report]) -> None:
        """Mirrors one trial with the reports of its file and those that have just come."""
        if trial.number not in self._history:
            self._history[trial.number] = {report.epoch: report for report in read_history(trial.folder)}
        history = self._history[trial.number]
        history.update(reports)
        self._mirror.put(self._record(trial, [history[epoch] for epoch in sorted(history)]))

    def _record(self, trial: TrialSummary, history: list[Report]) -> RunRecord:
        tags = {
            "kind": self._kind,
            "trial": str(trial.number),
            "state": trial.status.value,
            "rung": str(trial.rung),
            "skill": self._config.skill,
            "study": self._config.name,
            "seed": str(trial.seed),
            "spec_hash": content_hash({"spec": self._config.spec, "values": dict(trial.values), "seed": trial.seed}),
            "data_hash": self._data_hash,
            "folder": str(trial.folder),
        }
        if trial.parent is not None:
            tags["repeats_trial"] = str(trial.parent)
        if "donor" in trial.origin:
            tags["continues_trial"] = str(trial.origin["donor"])
        if trial.error is not None:
            tags["failure"] = trial.error.cause.value
            tags["failure_message"] = trial.error.message
        metrics = {} if trial.value is None else {"best_value": trial.value}
        if self._config.further:
            metrics |= {f"objective/{name}": value for name, value in values_of(trial, self._config).items() if value is not None}
        return RunRecord(
            key=f"{self._kind}-{trial.number:04d}",
            name=f"{self._kind} {trial.number}",
            status=RUN_STATUS[trial.status],
            tags=tags,
            params=params_of(self._config.spec, trial.values),
            history=history,
            metrics=metrics if trial.status.ended else {},
            started_s=trial.started_at or 0.0,
            ended_s=trial.ended_at,
        )


def params_of(spec: Mapping[str, object], values: Mapping[str, object]) -> dict[str, str]:
    """Sampled values by their dotted names, the spec values that a reader looks for, and what the run starts from."""
    found: dict[str, str] = {}
    for key in PARAMS:
        value: object = spec
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            found[key] = str(value)
    found["first_weights"] = str(first_weights(spec_from_dict(spec)))
    found.update({key: str(value) for key, value in values.items()})
    return {key: without_credentials(value) for key, value in found.items()}
